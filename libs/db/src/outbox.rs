use fishy_core::{Error, Event, Result};

use crate::args;
use crate::migrate::Migration;
use crate::value::Value;

/// The tables of outbox and inbox: version 1 of every service.
pub const OUTBOX: Migration = Migration {
    version: 1,
    name: "outbox",
    sql: "\
create table outbox(
  seq SERIAL_KEY,
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  event TEXT NOT NULL,
  attempts BIGINT NOT NULL DEFAULT 0
);
create table outbox_dead(
  seq BIGINT PRIMARY KEY,
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  event TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  error TEXT NOT NULL,
  dead_ms BIGINT NOT NULL
);
create table inbox(
  consumer TEXT NOT NULL,
  event_id TEXT NOT NULL,
  received_ms BIGINT NOT NULL,
  PRIMARY KEY(consumer, event_id)
);
create index inbox_received on inbox(received_ms);
",
};

/// Writes an event into the outbox.
pub(crate) fn statement(event: &Event) -> Result<(&'static str, Vec<Value>)> {
    let text =
        serde_json::to_string(event).map_err(|error| Error::internal("an event is not JSON").with_source(error))?;
    let sql = "insert into outbox(id, kind, event, attempts) values ($1, $2, $3, 0)";
    Ok((sql, args![&event.id, &event.kind, text]))
}
