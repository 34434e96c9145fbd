use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How a store is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlobOptions {
    /// How long a network call may be silent.
    pub timeout_ms: u64,
    /// How much of a blob is held in memory and sent at once; at least 5 MiB for S3.
    pub part_size_bytes: usize,
    /// For `s3://` URLs.
    pub s3: S3Options,
    /// For `gs://` URLs.
    pub gcs: GcsOptions,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self {
            timeout_ms: 30_000,
            part_size_bytes: 8 * 1024 * 1024,
            s3: S3Options::default(),
            gcs: GcsOptions::default(),
        }
    }
}

impl BlobOptions {
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// How S3, or something that speaks its protocol, is reached.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Options {
    /// Another address than AWS's, for example `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` when unset.
    pub region: Option<String>,
    /// The key; without one, the role of the machine is used.
    pub access_key_id: Option<String>,
    /// The secret of the key.
    pub secret_access_key: Option<String>,
    /// The session token of a temporary key.
    pub session_token: Option<String>,
    /// Whether the endpoint may be plain HTTP.
    pub allow_http: bool,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key.as_ref().map(|_| "…"))
            .field("session_token", &self.session_token.as_ref().map(|_| "…"))
            .field("allow_http", &self.allow_http)
            .finish()
    }
}

/// How Google Cloud Storage, or something that speaks its JSON API, is reached.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcsOptions {
    /// Another address than `https://storage.googleapis.com`.
    pub endpoint: Option<String>,
    /// How we sign in.
    pub auth: GcsAuth,
}

/// How we sign in to Google Cloud Storage.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GcsAuth {
    /// Not at all: for public buckets and test servers.
    Anonymous,
    /// With a token that somebody else renews.
    Bearer {
        /// The access token.
        token: String,
    },
    /// With the tokens that the metadata server of a Google machine gives out for its service account.
    MetadataServer {
        /// Where it is.
        #[serde(default = "metadata_server")]
        url: String,
    },
}

fn metadata_server() -> String {
    "http://metadata.google.internal".to_owned()
}

impl Default for GcsAuth {
    fn default() -> Self {
        Self::MetadataServer { url: metadata_server() }
    }
}

impl fmt::Debug for GcsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Bearer { .. } => f.write_str("Bearer { token: … }"),
            Self::MetadataServer { url } => f.debug_struct("MetadataServer").field("url", url).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let s3 = S3Options {
            secret_access_key: Some("hunter2".into()),
            session_token: Some("hunter2".into()),
            ..S3Options::default()
        };
        let gcs = GcsOptions { endpoint: None, auth: GcsAuth::Bearer { token: "hunter2".into() } };
        let shown = format!("{:?}", BlobOptions { s3, gcs, ..BlobOptions::default() });
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn options_read_from_a_configuration_and_unknown_keys_are_errors() {
        let read = |json| serde_json::from_value::<BlobOptions>(json);
        let options = read(serde_json::json!({"gcs": {"auth": {"kind": "metadata_server"}}})).unwrap();
        assert!(matches!(options.gcs.auth, GcsAuth::MetadataServer { url } if url == metadata_server()));
        assert!(read(serde_json::json!({"s3": {"secret": "x"}})).is_err());
    }
}
