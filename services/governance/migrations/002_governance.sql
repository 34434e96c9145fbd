create table promotions (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    reasons TEXT NOT NULL,
    approver TEXT,
    created_ms BIGINT NOT NULL,
    decided_ms BIGINT
);
create index promotions_by_target on promotions (model, alias, version);
create table policy_bundles (
    version BIGINT PRIMARY KEY,
    issued_ms BIGINT NOT NULL,
    policies TEXT NOT NULL,
    issued_by TEXT NOT NULL
);
create table tokens (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT
);
create table audit_entries (
    idx BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    leaf TEXT NOT NULL,
    entry TEXT NOT NULL,
    service TEXT NOT NULL,
    action TEXT NOT NULL,
    received_ms BIGINT NOT NULL
);
create index audit_entries_by_action on audit_entries (service, action);
create table audit_state (
    id BIGINT PRIMARY KEY,
    log TEXT NOT NULL
);
create table audit_checkpoints (
    size BIGINT PRIMARY KEY,
    note TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
