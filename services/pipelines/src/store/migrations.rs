use fishy_db::Migration;

/// The schema from version 2 on; version 1 is the outbox.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 2,
    name: "pipelines",
    sql: "
CREATE TABLE pipelines (
    name TEXT PRIMARY KEY,
    definition TEXT NOT NULL,
    folder TEXT NOT NULL,
    next_due_ms BIGINT,
    problem TEXT,
    updated_ms BIGINT NOT NULL
);
CREATE TABLE runs (
    seq SERIAL_KEY,
    id TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL,
    as_of_ms BIGINT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    trigger_id TEXT UNIQUE,
    definition TEXT NOT NULL,
    folder TEXT NOT NULL,
    params TEXT NOT NULL,
    dataset TEXT,
    actor TEXT NOT NULL,
    traceparent TEXT,
    error TEXT,
    is_cancel_requested BIGINT NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until_ms BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL,
    started_ms BIGINT,
    finished_ms BIGINT
);
CREATE INDEX runs_of_pipeline ON runs (pipeline, seq);
CREATE INDEX runs_by_status ON runs (status, seq);
CREATE TABLE steps (
    run_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    outputs TEXT NOT NULL DEFAULT 'null',
    error TEXT,
    started_ms BIGINT,
    finished_ms BIGINT,
    PRIMARY KEY (run_id, position)
);
",
}];
