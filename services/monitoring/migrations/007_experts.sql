-- Items of the expert queue that were given out. What was said is in `opinions`; a correction is a further opinion.
create table queue_leases(
  seq SERIAL_KEY,
  id TEXT NOT NULL UNIQUE,
  monitor TEXT NOT NULL,
  prediction_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  -- leased, answered, skipped or returned; one that is leased and past its time counts no more.
  state TEXT NOT NULL,
  until_ms BIGINT NOT NULL,
  answered_ms BIGINT,
  -- The newest opinion.
  opinion_id TEXT,
  reasons TEXT NOT NULL
);
create index queue_leases_of on queue_leases(prediction_id);
create index queue_leases_by_state on queue_leases(monitor, state, seq);
