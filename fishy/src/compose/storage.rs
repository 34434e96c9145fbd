//! Databases and object storage by configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use fishy_blob::{Blob, BlobOptions, GcsAuth};
use fishy_config::Config;
use fishy_core::Env;
use fishy_db::{Db, DbOptions, Migration};

use crate::services::Service;

/// Opens the database of one service.
pub async fn connect(config: &Config, service: Service, env: &Env) -> Result<Db> {
    let url = match config.storage.database.expose() {
        "" => format!("sqlite://{}", absolute(&config.storage.data_dir)?.join("db").display()),
        url => url.to_owned(),
    };
    let options = DbOptions {
        max_connections: config.storage.database_connections,
        acquire_timeout: Duration::from_secs(10),
        env: env.clone(),
    };
    Db::connect(&url, service.name(), options).await.with_context(|| format!("the database of {service}"))
}

/// All migrations of one service, the outbox first.
pub fn migrations(service: Service) -> Vec<Migration> {
    let own = match service {
        Service::Governance => fishy_governance::MIGRATIONS,
        Service::Registry => fishy_registry::MIGRATIONS,
        Service::Deployment => fishy_deployment::MIGRATIONS,
        Service::Monitoring => fishy_monitoring::MIGRATIONS,
        Service::Pipelines => fishy_pipelines::MIGRATIONS,
    };
    std::iter::once(fishy_db::OUTBOX).chain(own.iter().copied()).collect()
}

/// Opens the object store of artifacts, prediction logs and audit heads.
pub fn artifacts(config: &Config) -> Result<Blob> {
    let storage = &config.storage;
    let url = match storage.artifacts.as_str() {
        "" => format!("file://{}", absolute(&storage.data_dir)?.join("artifacts").display()),
        url => url.to_owned(),
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut options = BlobOptions::default();
    options.s3.endpoint = some(&storage.endpoint);
    options.s3.region = some(&storage.region);
    options.s3.access_key_id = some(storage.access_key.expose());
    options.s3.secret_access_key = some(storage.secret_key.expose());
    options.s3.allow_http = storage.endpoint.starts_with("http://");
    options.gcs.endpoint = some(&storage.endpoint);
    if let Some(token) = some(storage.access_key.expose()) {
        options.gcs.auth = GcsAuth::Bearer { token };
    } else if options.gcs.endpoint.is_some() {
        options.gcs.auth = GcsAuth::Anonymous;
    }
    Blob::open(&url, &options).context("the object store (storage.artifacts)")
}

fn absolute(folder: &str) -> Result<PathBuf> {
    std::path::absolute(Path::new(folder)).with_context(|| format!("{folder} (storage.data_dir)"))
}
