//! What the registry keeps. One SQL text for both databases; every statement is in the modules below.

pub(crate) mod aliases;
pub(crate) mod arrivals;
pub(crate) mod artifacts;
pub(crate) mod chart;
pub(crate) mod experiments;
pub(crate) mod history;
pub(crate) mod holds;
pub(crate) mod imports;
pub(crate) mod inputs;
pub(crate) mod logged_models;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod purge;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod uploads;
pub(crate) mod versions;
pub(crate) mod webhooks;
pub(crate) mod workspaces;

use std::collections::BTreeMap;

use fishy_core::Result;
use fishy_db::{Db, Row, Tx, Value};

use crate::domain::records::Pair;

/// How many ids stand in one `IN` list.
const IDS_IN_ONE_LIST: usize = 500;

/// Reads, inside a transaction or outside of one.
pub(crate) trait Read: Send {
    /// All rows.
    fn rows(&mut self, sql: &str, args: Vec<Value>) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// The first row.
    fn row(&mut self, sql: &str, args: Vec<Value>) -> impl Future<Output = Result<Option<Row>>> + Send;
}

impl Read for &Db {
    async fn rows(&mut self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>> {
        self.query(sql, args).await
    }

    async fn row(&mut self, sql: &str, args: Vec<Value>) -> Result<Option<Row>> {
        self.query_opt(sql, args).await
    }
}

impl Read for Tx {
    async fn rows(&mut self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>> {
        self.query(sql, args).await
    }

    async fn row(&mut self, sql: &str, args: Vec<Value>) -> Result<Option<Row>> {
        self.query_opt(sql, args).await
    }
}

/// A statement that is put together, with its arguments.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    /// The text so far.
    pub text: String,
    /// The arguments so far.
    pub args: Vec<Value>,
}

impl Sql {
    /// Begins with a text.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), args: Vec::new() }
    }

    /// Adds an argument; answers its placeholder.
    pub fn arg(&mut self, value: impl Into<Value>) -> String {
        self.args.push(value.into());
        format!("${}", self.args.len())
    }

    /// Adds arguments; answers a list of placeholders for `IN`, `(NULL)` for none.
    pub fn list<T: Into<Value>>(&mut self, values: impl IntoIterator<Item = T>) -> String {
        let places: Vec<String> = values.into_iter().map(|value| self.arg(value)).collect();
        if places.is_empty() { "(NULL)".to_owned() } else { format!("({})", places.join(", ")) }
    }

    /// Adds text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

/// Reads the rows that belong to many things, by the id of each. `select` ends before the list of ids, and `order`
/// comes after it.
async fn rows_by_id(
    read: &mut impl Read,
    select: &str,
    order: &str,
    id_column: &str,
    ids: &[String],
) -> Result<BTreeMap<String, Vec<Row>>> {
    let mut found = BTreeMap::<String, Vec<Row>>::new();
    for ids in ids.chunks(IDS_IN_ONE_LIST) {
        let mut sql = Sql::new(select);
        let list = sql.list(ids.iter());
        sql.push(&list);
        sql.push(order);
        for row in read.rows(&sql.text, sql.args).await? {
            found.entry(row.get(id_column)?).or_default().push(row);
        }
    }
    Ok(found)
}

/// A key and a value out of a row.
fn pair(row: &Row) -> Result<Pair> {
    Ok(Pair { key: row.get("key")?, value: row.get("value")? })
}

fn pairs(rows: Option<Vec<Row>>) -> Result<Vec<Pair>> {
    rows.unwrap_or_default().iter().map(pair).collect()
}

/// The last value of each key: one statement must not touch a row twice.
fn last_of_each(pairs: &[Pair]) -> Vec<&Pair> {
    pairs.iter().map(|pair| (pair.key.as_str(), pair)).collect::<BTreeMap<_, _>>().into_values().collect()
}
