-- Event times are milliseconds since the epoch, in UTC.

-- One row. Every transaction that writes predictions, true values or window marks moves `n` first: on PostgreSQL this
-- puts these transactions one after the other, so that a label and its prediction never miss each other, and so that
-- a mark with a number up to one that was read is visible with the data it stands for.
create table data_clock(
  id BIGINT PRIMARY KEY,
  n BIGINT NOT NULL
);
insert into data_clock(id, n) values (1, 0);

create table monitors(
  name TEXT PRIMARY KEY,
  deployment TEXT NOT NULL,
  spec TEXT NOT NULL,
  -- Decisions begin after this time: what was kept before the monitor was made triggers nothing.
  decide_after_ms BIGINT NOT NULL,
  explicit_ms BIGINT,
  closed_ms BIGINT,
  -- State of the trigger, and its newest evaluation.
  state TEXT NOT NULL,
  evaluation TEXT,
  -- Moves with every closing: two replicas never close the same window twice.
  revision BIGINT NOT NULL,
  observations BIGINT NOT NULL,
  created_ms BIGINT NOT NULL
);
create index monitors_by_deployment on monitors(deployment);

create table deployments(
  deployment TEXT PRIMARY KEY,
  newest_ms BIGINT NOT NULL,
  predictions BIGINT NOT NULL,
  labels BIGINT NOT NULL
);

create table champions(
  deployment TEXT PRIMARY KEY,
  revision BIGINT NOT NULL,
  version TEXT NOT NULL,
  features TEXT NOT NULL,
  tags TEXT NOT NULL
);

create table predictions(
  prediction_id TEXT PRIMARY KEY,
  deployment TEXT NOT NULL,
  version TEXT NOT NULL,
  time_ms BIGINT NOT NULL,
  inputs TEXT NOT NULL,
  labels TEXT NOT NULL,
  output DOUBLE PRECISION,
  -- All outputs, where there are several.
  outputs TEXT,
  -- The true value, copied here when both are there.
  value DOUBLE PRECISION,
  arrived_ms BIGINT,
  is_corrected BIGINT NOT NULL
);
create index predictions_by_time on predictions(deployment, time_ms, prediction_id);
create index predictions_by_arrival on predictions(deployment, version, arrived_ms, time_ms) where arrived_ms is not null;
create index predictions_labelled on predictions(deployment, time_ms) where arrived_ms is not null;

create table ground_truth(
  prediction_id TEXT PRIMARY KEY,
  value DOUBLE PRECISION NOT NULL,
  arrived_ms BIGINT NOT NULL,
  received_ms BIGINT NOT NULL,
  actor TEXT NOT NULL,
  is_joined BIGINT NOT NULL
);
create index ground_truth_waiting on ground_truth(received_ms) where is_joined = 0;

-- What a correction replaced.
create table ground_truth_history(
  seq SERIAL_KEY,
  prediction_id TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  arrived_ms BIGINT NOT NULL,
  actor TEXT NOT NULL,
  replaced_ms BIGINT NOT NULL
);
create index ground_truth_history_by_id on ground_truth_history(prediction_id);

create table observations(
  monitor TEXT NOT NULL,
  id TEXT NOT NULL,
  time_ms BIGINT NOT NULL,
  arrived_ms BIGINT NOT NULL,
  inputs TEXT NOT NULL,
  labels TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (monitor, id)
);
create index observations_by_time on observations(monitor, time_ms, id);

-- Hours whose data changed since their windows were computed.
create table touched(
  monitor TEXT NOT NULL,
  hour_ms BIGINT NOT NULL,
  n BIGINT NOT NULL,
  PRIMARY KEY (monitor, hour_ms)
);

create table windows(
  monitor TEXT NOT NULL,
  length TEXT NOT NULL,
  start_ms BIGINT NOT NULL,
  predictions BIGINT NOT NULL,
  labels BIGINT NOT NULL,
  mae DOUBLE PRECISION,
  rmse DOUBLE PRECISION,
  psi TEXT NOT NULL,
  ks TEXT NOT NULL,
  missing TEXT NOT NULL,
  -- The version whose reference the window was compared with.
  reference_version TEXT,
  PRIMARY KEY (monitor, length, start_ms)
);

create table reference_samples(
  monitor TEXT NOT NULL,
  version TEXT NOT NULL,
  features TEXT NOT NULL,
  sampled BIGINT NOT NULL,
  PRIMARY KEY (monitor, version)
);

-- Readings of a day by bin of a reference: days add up to the drift window.
create table drift_counts(
  monitor TEXT NOT NULL,
  day_ms BIGINT NOT NULL,
  version TEXT NOT NULL,
  counts TEXT NOT NULL,
  PRIMARY KEY (monitor, day_ms, version)
);

create table sensor_states(
  monitor TEXT NOT NULL,
  series TEXT NOT NULL,
  feature TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (monitor, series, feature)
);

create table data_faults(
  id TEXT PRIMARY KEY,
  monitor TEXT NOT NULL,
  feature TEXT NOT NULL,
  series TEXT NOT NULL,
  kind TEXT NOT NULL,
  since_ms BIGINT NOT NULL,
  until_ms BIGINT,
  message TEXT NOT NULL,
  UNIQUE (monitor, feature, series, kind, since_ms)
);
create index data_faults_by_time on data_faults(monitor, since_ms);
create index data_faults_open on data_faults(monitor) where until_ms is null;

-- Decisions that fired, and those that a data fault kept from firing.
create table decisions(
  id TEXT PRIMARY KEY,
  monitor TEXT NOT NULL,
  as_of_ms BIGINT NOT NULL,
  has_fired BIGINT NOT NULL,
  pipeline TEXT NOT NULL,
  reason TEXT NOT NULL,
  inputs TEXT NOT NULL,
  -- How the run it started ended; null while it has not, '-' when nothing was started.
  run_status TEXT,
  decided_ms BIGINT NOT NULL,
  UNIQUE (monitor, as_of_ms)
);
create index decisions_fired on decisions(monitor, as_of_ms) where has_fired = 1;
create index decisions_running on decisions(monitor) where has_fired = 1 and run_status is null;

create table stream_offsets(
  consumer TEXT PRIMARY KEY,
  next_offset BIGINT NOT NULL
);
