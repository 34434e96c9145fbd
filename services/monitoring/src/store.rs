//! What monitoring keeps, in one SQL text for SQLite and PostgreSQL.

pub mod alerts;
pub mod checks;
pub mod decisions;
pub mod experts;
pub mod faults;
pub mod feedback;
pub mod monitors;
pub mod opinions;
pub mod predictions;
pub mod retention;
pub mod windows;

use fishy_core::{Error, Result};
use fishy_db::{Db, Migration, Tx, Value, args};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The service's own migrations; 1 is the outbox.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 2, name: "monitoring", sql: include_str!("../migrations/002_monitoring.sql") },
    Migration { version: 3, name: "checks", sql: include_str!("../migrations/003_checks.sql") },
    Migration { version: 4, name: "alerts", sql: include_str!("../migrations/004_alerts.sql") },
    Migration { version: 5, name: "opinions", sql: include_str!("../migrations/005_opinions.sql") },
    Migration { version: 6, name: "neighbours", sql: include_str!("../migrations/006_neighbours.sql") },
    Migration { version: 7, name: "experts", sql: include_str!("../migrations/007_experts.sql") },
    Migration { version: 8, name: "old_alerts", sql: include_str!("../migrations/008_old_alerts.sql") },
    Migration { version: 9, name: "truth_apart", sql: include_str!("../migrations/009_truth_apart.sql") },
];

/// Most ids in one statement.
const MAX_IDS: usize = 512;

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("cannot write a row").with_source(error))
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal("a row that cannot be read").with_source(error))
}

/// A JSON object that is empty more often than not: then it is kept as an empty text.
pub(crate) fn from_json_or_default<T: DeserializeOwned + Default>(text: &str) -> Result<T> {
    if text.is_empty() { Ok(T::default()) } else { from_json(text) }
}

/// Takes the turn to write data, until the transaction ends; gives the number of this turn.
pub async fn take_turn(tx: &mut Tx) -> Result<i64> {
    let row = tx.query_opt("update data_clock set n = n + 1 where id = 1 returning n", args![]).await?;
    row.ok_or_else(|| Error::internal("the data clock is gone"))?.get("n")
}

/// The number of the newest turn that ended: all its marks can be seen.
pub async fn turn(db: &Db) -> Result<i64> {
    let row = db.query_opt("select n from data_clock where id = 1", args![]).await?;
    row.ok_or_else(|| Error::internal("the data clock is gone"))?.get("n")
}

/// Ids in pieces: the places for `in (…)`, numbered from `first`, and the arguments. The number of places is a power of
/// two, the last id repeated, so that there are few different texts.
fn id_chunks<'a, I>(ids: I, first: usize) -> Vec<(String, Vec<Value>)>
where
    I: IntoIterator<Item = &'a str>,
{
    let ids: Vec<&str> = ids.into_iter().collect();
    let chunk = |ids: &[&str]| {
        let places = ids.len().next_power_of_two();
        let text: Vec<String> = (first..first + places).map(|place| format!("${place}")).collect();
        let args = (0..places).map(|place| Value::from(ids[place.min(ids.len() - 1)])).collect();
        (text.join(", "), args)
    };
    ids.chunks(MAX_IDS).map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_few_sizes() {
        assert!(id_chunks([], 1).is_empty());
        let chunks = id_chunks(["a", "b", "c"], 2);
        assert_eq!(chunks, [("$2, $3, $4, $5".to_owned(), args!["a", "b", "c", "c"])]);
        let many: Vec<String> = (0..1_100).map(|i| i.to_string()).collect();
        let sizes: Vec<usize> =
            id_chunks(many.iter().map(String::as_str), 1).iter().map(|chunk| chunk.1.len()).collect();
        assert_eq!(sizes, [512, 512, 128]);
    }
}
