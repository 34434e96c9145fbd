//! The tables.

use fishy_db::Migration;

/// The migrations of the registry; version 1 is the outbox.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 2, name: "registry", sql: REGISTRY },
    Migration { version: 3, name: "history of tags and stages", sql: HISTORY },
    Migration { version: 4, name: "webhooks", sql: WEBHOOKS },
    Migration { version: 5, name: "holds, and what deletion looks things up by", sql: DELETION },
    Migration { version: 14, name: "uploads under way", sql: UPLOADS },
    Migration { version: 16, name: "imports from other servers", sql: IMPORTS },
    Migration { version: 19, name: "workspaces", sql: WORKSPACES },
    Migration { version: 20, name: "runs by the values of their parameters", sql: PARAMS_BY_VALUE },
    Migration { version: 22, name: "arrivals of metrics", sql: ARRIVALS },
];

const REGISTRY: &str = "
CREATE TABLE experiments (
  id SERIAL_KEY,
  name TEXT NOT NULL UNIQUE,
  artifact_location TEXT NOT NULL,
  lifecycle_stage TEXT NOT NULL,
  creation_time BIGINT NOT NULL,
  last_update_time BIGINT NOT NULL
);
CREATE TABLE experiment_tags (
  experiment_id BIGINT NOT NULL REFERENCES experiments(id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (experiment_id, key)
);
CREATE TABLE runs (
  run_id TEXT NOT NULL PRIMARY KEY,
  experiment_id BIGINT NOT NULL REFERENCES experiments(id),
  name TEXT NOT NULL,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,
  start_time BIGINT NOT NULL,
  end_time BIGINT,
  artifact_uri TEXT NOT NULL,
  lifecycle_stage TEXT NOT NULL,
  deleted_time BIGINT
);
CREATE INDEX runs_in_order ON runs (experiment_id, lifecycle_stage, start_time DESC, run_id);
CREATE TABLE run_tags (
  run_id TEXT NOT NULL REFERENCES runs(run_id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run_id, key)
);
CREATE TABLE params (
  run_id TEXT NOT NULL REFERENCES runs(run_id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run_id, key)
);
CREATE TABLE metrics (
  run_id TEXT NOT NULL REFERENCES runs(run_id),
  key TEXT NOT NULL,
  timestamp BIGINT NOT NULL,
  step BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  is_nan BIGINT NOT NULL,
  PRIMARY KEY (run_id, key, timestamp, step, value, is_nan)
);
CREATE INDEX metrics_by_step ON metrics (run_id, key, step);
CREATE TABLE latest_metrics (
  run_id TEXT NOT NULL REFERENCES runs(run_id),
  key TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  timestamp BIGINT NOT NULL,
  step BIGINT NOT NULL,
  is_nan BIGINT NOT NULL,
  PRIMARY KEY (run_id, key)
);
CREATE INDEX latest_metrics_by_value ON latest_metrics (key, value, run_id);
CREATE TABLE datasets (
  dataset_id TEXT NOT NULL PRIMARY KEY,
  experiment_id BIGINT NOT NULL REFERENCES experiments(id),
  name TEXT NOT NULL,
  digest TEXT NOT NULL,
  source_type TEXT NOT NULL,
  source TEXT NOT NULL,
  schema TEXT,
  profile TEXT
);
CREATE INDEX datasets_by_name ON datasets (experiment_id, name, digest);
CREATE TABLE run_datasets (
  run_id TEXT NOT NULL REFERENCES runs(run_id),
  dataset_id TEXT NOT NULL REFERENCES datasets(dataset_id),
  PRIMARY KEY (run_id, dataset_id)
);
CREATE TABLE run_dataset_tags (
  run_id TEXT NOT NULL,
  dataset_id TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run_id, dataset_id, key),
  FOREIGN KEY (run_id, dataset_id) REFERENCES run_datasets(run_id, dataset_id)
);
CREATE TABLE logged_models (
  model_id TEXT NOT NULL PRIMARY KEY,
  experiment_id BIGINT NOT NULL REFERENCES experiments(id),
  name TEXT NOT NULL,
  artifact_uri TEXT NOT NULL,
  status TEXT NOT NULL,
  model_type TEXT,
  source_run_id TEXT,
  creation_time BIGINT NOT NULL,
  last_updated_time BIGINT NOT NULL,
  lifecycle_stage TEXT NOT NULL
);
CREATE INDEX logged_models_in_order ON logged_models (experiment_id, lifecycle_stage, creation_time DESC, model_id);
CREATE INDEX logged_models_by_run ON logged_models (source_run_id, name);
CREATE TABLE logged_model_params (
  model_id TEXT NOT NULL REFERENCES logged_models(model_id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (model_id, key)
);
CREATE TABLE logged_model_tags (
  model_id TEXT NOT NULL REFERENCES logged_models(model_id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (model_id, key)
);
CREATE TABLE logged_model_metrics (
  model_id TEXT NOT NULL REFERENCES logged_models(model_id),
  key TEXT NOT NULL,
  timestamp BIGINT NOT NULL,
  step BIGINT NOT NULL,
  run_id TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  is_nan BIGINT NOT NULL,
  dataset_name TEXT,
  dataset_digest TEXT,
  PRIMARY KEY (model_id, key, timestamp, step, run_id)
);
CREATE TABLE run_models (
  run_id TEXT NOT NULL REFERENCES runs(run_id),
  role TEXT NOT NULL,
  model_id TEXT NOT NULL REFERENCES logged_models(model_id),
  step BIGINT NOT NULL,
  PRIMARY KEY (run_id, role, model_id)
);
CREATE TABLE registered_models (
  name TEXT NOT NULL PRIMARY KEY,
  description TEXT,
  user_id TEXT NOT NULL,
  creation_time BIGINT NOT NULL,
  last_updated_time BIGINT NOT NULL,
  last_version BIGINT NOT NULL
);
CREATE INDEX registered_models_by_time ON registered_models (last_updated_time, name);
CREATE TABLE registered_model_tags (
  name TEXT NOT NULL REFERENCES registered_models(name) ON UPDATE CASCADE ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (name, key)
);
CREATE TABLE model_versions (
  name TEXT NOT NULL REFERENCES registered_models(name) ON UPDATE CASCADE ON DELETE CASCADE,
  version BIGINT NOT NULL,
  stage TEXT NOT NULL,
  description TEXT,
  user_id TEXT NOT NULL,
  source TEXT NOT NULL,
  artifact_path TEXT NOT NULL,
  run_id TEXT,
  run_link TEXT,
  model_id TEXT,
  creation_time BIGINT NOT NULL,
  last_updated_time BIGINT NOT NULL,
  PRIMARY KEY (name, version)
);
CREATE INDEX model_versions_by_stage ON model_versions (name, stage, version);
CREATE INDEX model_versions_by_run ON model_versions (run_id);
CREATE INDEX model_versions_by_path ON model_versions (artifact_path);
CREATE TABLE model_version_tags (
  name TEXT NOT NULL,
  version BIGINT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (name, version, key),
  FOREIGN KEY (name, version) REFERENCES model_versions(name, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE aliases (
  name TEXT NOT NULL,
  alias TEXT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (name, alias),
  FOREIGN KEY (name, version) REFERENCES model_versions(name, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX aliases_by_version ON aliases (name, version);
-- Append-only: nothing refers to models, so that the history outlives them.
CREATE TABLE alias_history (
  seq SERIAL_KEY,
  time_ms BIGINT NOT NULL,
  name TEXT NOT NULL,
  alias TEXT NOT NULL,
  from_version BIGINT,
  to_version BIGINT,
  actor TEXT NOT NULL
);
CREATE INDEX alias_history_by_alias ON alias_history (name, alias, seq);
-- A name can be protected before the model exists.
CREATE TABLE protected_aliases (
  name TEXT NOT NULL,
  alias TEXT NOT NULL,
  deployment TEXT NOT NULL,
  actor TEXT NOT NULL,
  time_ms BIGINT NOT NULL,
  PRIMARY KEY (name, alias, deployment)
);
CREATE TABLE artifacts (
  path TEXT NOT NULL PRIMARY KEY,
  folder TEXT NOT NULL,
  size_bytes BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  blob TEXT NOT NULL,
  modified_time BIGINT NOT NULL
);
CREATE INDEX artifacts_by_folder ON artifacts (folder, path);
CREATE TABLE artifact_folders (
  path TEXT NOT NULL PRIMARY KEY,
  folder TEXT NOT NULL
);
CREATE INDEX artifact_folders_by_folder ON artifact_folders (folder, path);
-- Blobs that nothing refers to any more; a row goes when its blob is gone.
CREATE TABLE blob_garbage (
  blob TEXT NOT NULL PRIMARY KEY
);
";

/// Only columns and tables that were not there before: an older program goes on beside them.
const HISTORY: &str = "
ALTER TABLE alias_history ADD COLUMN reason TEXT;
ALTER TABLE alias_history ADD COLUMN gate TEXT;
ALTER TABLE alias_history ADD COLUMN promotion_id TEXT;
CREATE INDEX alias_history_by_time ON alias_history (name, alias, time_ms, seq);
-- Append-only, as that of aliases: kind is tag or stage, and version is empty for a tag of the model itself.
CREATE TABLE change_history (
  seq SERIAL_KEY,
  time_ms BIGINT NOT NULL,
  name TEXT NOT NULL,
  version BIGINT,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  from_value TEXT,
  to_value TEXT,
  actor TEXT NOT NULL,
  reason TEXT
);
CREATE INDEX change_history_by_name ON change_history (name, time_ms, seq);
";

const WEBHOOKS: &str = "
CREATE TABLE webhooks (
  webhook_id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  url TEXT NOT NULL,
  description TEXT,
  status TEXT NOT NULL,
  -- Encrypted.
  secret TEXT,
  creation_time BIGINT NOT NULL,
  last_updated_time BIGINT NOT NULL
);
CREATE INDEX webhooks_in_order ON webhooks (creation_time DESC, webhook_id);
CREATE TABLE webhook_events (
  event TEXT NOT NULL,
  webhook_id TEXT NOT NULL REFERENCES webhooks(webhook_id) ON DELETE CASCADE,
  PRIMARY KEY (event, webhook_id)
);
CREATE INDEX webhook_events_by_webhook ON webhook_events (webhook_id);
-- What is to be called, written with the change that it tells of, and after that what became of it.
CREATE TABLE webhook_deliveries (
  seq SERIAL_KEY,
  delivery_id TEXT NOT NULL,
  webhook_id TEXT NOT NULL REFERENCES webhooks(webhook_id) ON DELETE CASCADE,
  event TEXT NOT NULL,
  time_ms BIGINT NOT NULL,
  body TEXT NOT NULL,
  -- pending, delivered or failed.
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  next_ms BIGINT NOT NULL,
  last_ms BIGINT,
  response_status BIGINT,
  error TEXT
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, webhook_id, seq);
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, seq);
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (state, time_ms);
";

const DELETION: &str = "
CREATE TABLE holds (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  time_ms BIGINT NOT NULL,
  -- Where its artifacts are, if anywhere.
  root TEXT,
  PRIMARY KEY (kind, id)
);
CREATE INDEX holds_by_root ON holds (root);
CREATE INDEX artifacts_by_blob ON artifacts (blob);
CREATE INDEX run_models_by_model ON run_models (model_id);
CREATE INDEX logged_model_metrics_by_run ON logged_model_metrics (run_id);
CREATE INDEX model_versions_by_model ON model_versions (model_id);
";

const UPLOADS: &str = "
CREATE TABLE artifact_uploads (
  id TEXT NOT NULL PRIMARY KEY,
  path TEXT NOT NULL,
  blob TEXT NOT NULL,
  store_id TEXT NOT NULL,
  started_time BIGINT NOT NULL
);
CREATE INDEX artifact_uploads_by_time ON artifact_uploads (started_time, id);
";

const IMPORTS: &str = "
-- What came from which server, and under which id it is here. The digest is that of what the server told of it, and
-- empty until all that belongs to it is here.
CREATE TABLE imports (
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  source_id TEXT NOT NULL,
  target_id TEXT NOT NULL,
  digest TEXT NOT NULL,
  time_ms BIGINT NOT NULL,
  PRIMARY KEY (source, kind, source_id)
);
CREATE INDEX imports_by_target ON imports (kind, target_id);
";

const WORKSPACES: &str = "
-- Used in the database of the default workspace alone. A number is never given twice, since it names a database.
CREATE TABLE workspaces (
  id SERIAL_KEY,
  name TEXT NOT NULL UNIQUE,
  description TEXT,
  creation_time BIGINT NOT NULL,
  last_updated_time BIGINT NOT NULL
);
-- Those whose databases and files are to go.
CREATE TABLE workspace_garbage (
  id BIGINT PRIMARY KEY,
  deleted_time BIGINT NOT NULL
);
";

/// The first characters alone: a value may be longer than what PostgreSQL takes into an index.
const PARAMS_BY_VALUE: &str = "
CREATE INDEX params_by_value ON params (key, substr(value, 1, 200), run_id);
";

const ARRIVALS: &str = "
-- Batches of measurements that are not in `metrics` yet, as JSON. Stays empty on PostgreSQL. An older program that deletes
-- a run knows nothing of it.
CREATE TABLE metric_arrivals (
  seq SERIAL_KEY,
  run_id TEXT NOT NULL REFERENCES runs(run_id) ON DELETE CASCADE,
  points TEXT NOT NULL
);
CREATE INDEX metric_arrivals_by_run ON metric_arrivals (run_id, seq);
";
