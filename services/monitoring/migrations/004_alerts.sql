create table alerts(
  id TEXT PRIMARY KEY,
  -- What it came of: a data fault, an alarm, a trigger.
  source TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  starts_ms BIGINT NOT NULL,
  ends_ms BIGINT,
  alert TEXT NOT NULL
);
create index alerts_by_source on alerts(source) where ends_ms is null;
create index alerts_open on alerts(starts_ms) where ends_ms is null;
create index alerts_by_time on alerts(starts_ms);

-- What a receiver still has to be told: written with the finding, deleted when the receiver has it.
create table alert_deliveries(
  seq SERIAL_KEY,
  receiver TEXT NOT NULL,
  alert_id TEXT NOT NULL,
  -- What is told: that it began (0) or ended (1).
  is_resolved BIGINT NOT NULL,
  due_ms BIGINT NOT NULL,
  attempts BIGINT NOT NULL
);
create index alert_deliveries_due on alert_deliveries(receiver, due_ms);
create index alert_deliveries_of on alert_deliveries(alert_id);

create table silences(
  id TEXT PRIMARY KEY,
  starts_ms BIGINT NOT NULL,
  ends_ms BIGINT NOT NULL,
  silence TEXT NOT NULL
);
create index silences_by_end on silences(ends_ms);
