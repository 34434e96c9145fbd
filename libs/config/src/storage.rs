use crate::Secret;
use serde::{Deserialize, Serialize};

/// `[storage]`: where state lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The folder of everything that is kept locally: databases, artifacts, spool, keys.
    pub data_dir: String,
    /// `postgres://…`, one schema a service; empty: SQLite files below `data_dir`.
    pub database: Secret,
    /// Connections of each service to the database.
    pub database_connections: u32,
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///dir`; empty: a folder below `data_dir`.
    pub artifacts: String,
    /// Another address of the object store, for S3 and GCS servers that are not the public ones.
    pub endpoint: String,
    /// The region of the S3 bucket.
    pub region: String,
    /// The S3 access key, or the bearer token of GCS.
    pub access_key: Secret,
    /// The S3 secret key.
    pub secret_key: Secret,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            data_dir: ".fishy/data".to_owned(),
            database: Secret::default(),
            database_connections: 8,
            artifacts: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            access_key: Secret::default(),
            secret_key: Secret::default(),
        }
    }
}
