//! Searches for runs. What such a search costs is decided by the rows that it begins with, so these are chosen first.

use fishy_core::{Error, Result};
use fishy_db::{Db, Engine, Row, args};
use serde_json::{Value, json};

use super::super::{Sql, runs as store};
use super::{Question, RUNS, View, condition_text, fetch, lifecycle, order_by, test};
use crate::domain::filter::Operator;
use crate::domain::order::OrderBy;
use crate::domain::page::{Page, PageStart};
use crate::domain::records::Run;
use crate::domain::search::{Condition, Target, Test};

/// Rows are counted up to here. Fewer than this can be looked at, each of them, in some milliseconds.
const FEW: u64 = 5_000;
/// So many values of a metric are looked at in their order before a page that is not full by then is read otherwise.
const WALKED: u64 = 30_000;
/// So many conditions are counted.
const COUNTED: usize = 8;
/// So many conditions on parameters become joins.
const JOINED: usize = 4;
/// The characters of a parameter's value that are in its index.
const INDEXED_CHARS: usize = 200;

/// Runs of some experiments.
pub(crate) async fn runs(db: &Db, experiment_ids: &[i64], view: View, question: &Question) -> Result<Page<Run>> {
    let search = Search { db, experiment_ids, view, question, is_keyed: is_keyed(&question.order) };
    let mut rows = search.page().await?;
    let next = if rows.len() as u64 > question.limit {
        rows.truncate(question.limit as usize);
        Some(match rows.last().filter(|_| search.is_keyed) {
            Some(last) => PageStart::After {
                after: vec![json!(last.get::<i64>("start_time")?), json!(last.get::<String>("run_id")?)],
            },
            None => PageStart::Offset { offset: question.start.offset() + question.limit },
        })
    } else {
        None
    };
    Ok(Page { rows: store::from_rows(&mut &*db, rows).await?, next })
}

/// In the order that everybody asks for, a page is found by the last run before it, however far down it is.
fn is_keyed(order: &[OrderBy]) -> bool {
    match order {
        [] => true,
        [only] => matches!(&only.target, Target::Attribute(a) if a.order == "r.start_time") && !only.is_ascending,
        _ => false,
    }
}

/// The rows that a search begins with.
#[derive(Debug, Clone, Copy)]
enum First<'a> {
    /// The runs of the experiments, newest first.
    Runs,
    /// What meets this condition.
    Condition(usize),
    /// The values of a metric in this order; up to one of them, where there are many.
    Values { by: &'a OrderBy, key: &'a str, up_to: Option<f64> },
}

struct Search<'a> {
    db: &'a Db,
    experiment_ids: &'a [i64],
    view: View,
    question: &'a Question,
    is_keyed: bool,
}

impl<'a> Search<'a> {
    /// The rows of the page, and one more where another page follows.
    async fn page(&self) -> Result<Vec<Row>> {
        let walked = match self.question.order.first() {
            Some(by @ OrderBy { target: Target::Metric(key), .. }) => Some((by, key.as_str())),
            _ => None,
        };
        let counted = counted(&self.question.conditions);
        if counted.is_empty() && walked.is_none() {
            return self.rows(First::Runs).await;
        }
        let (first, is_few) = self.narrowest(&counted).await?;
        if let (Some((by, key)), false) = (walked, is_few)
            && let Some(rows) = self.walk(by, key).await?
        {
            return Ok(rows);
        }
        self.rows(first).await
    }

    /// Where there are fewest rows to look at, and whether they are few. Nothing is counted further than that.
    async fn narrowest(&self, conditions: &[usize]) -> Result<(First<'a>, bool)> {
        let mut sql = Sql::new("SELECT ");
        for at in conditions {
            let (table, condition) = self.begin_with(&mut sql, *at)?;
            sql.push(&format!(
                "(SELECT COUNT(*) FROM (SELECT 1 FROM {table} d WHERE {condition} LIMIT {FEW}) c) AS n{at}, "
            ));
        }
        let list = sql.list(self.experiment_ids.iter().copied());
        sql.push(&format!("(SELECT COUNT(*) FROM (SELECT 1 FROM runs r WHERE r.experiment_id IN {list}"));
        lifecycle(&mut sql, "r", self.view);
        sql.push(&format!(" LIMIT {FEW}) c) AS runs"));
        let Some(row) = self.db.query_opt(&sql.text, sql.args).await? else { return Ok((First::Runs, false)) };
        let count = |name: &str| row.get::<i64>(name).map(|count| count as u64);
        let runs = count("runs")?;
        let mut narrowest = (runs, First::Runs);
        for at in conditions {
            let found = count(&format!("n{at}"))?;
            // In their own order, runs need be looked at only until the page is full, which is soon where many match.
            let is_soon_full = self.is_keyed && runs < FEW && found * found >= (self.question.limit + 1) * runs;
            if found < narrowest.0 && !is_soon_full {
                narrowest = (found, First::Condition(*at));
            }
        }
        Ok((narrowest.1, narrowest.0 < FEW))
    }

    /// The page out of the values of the metric that it is ordered by; `None` where it is not full after many of them,
    /// or reaches the runs that have no value.
    async fn walk(&self, by: &'a OrderBy, key: &'a str) -> Result<Option<Vec<Row>>> {
        let needed = self.question.start.offset().saturating_add(self.question.limit).saturating_add(1);
        if needed > WALKED {
            return Ok(None);
        }
        let direction = if by.is_ascending { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT value FROM latest_metrics WHERE key = $1 ORDER BY value {direction} LIMIT 1 OFFSET {WALKED}"
        );
        let up_to = self.db.query_opt(&sql, args![key]).await?.map(|row| row.get("value")).transpose()?;
        let rows = self.rows(First::Values { by, key, up_to }).await?;
        Ok(Some(rows).filter(|rows| rows.len() as u64 > self.question.limit))
    }

    async fn rows(&self, first: First<'_>) -> Result<Vec<Row>> {
        fetch(self.db, self.statement(first)?, self.question).await
    }

    /// A table, and the condition that its rows `d` meet, both in one index; of metrics also those that are NaN may.
    fn begin_with(&self, sql: &mut Sql, at: usize) -> Result<(&'static str, String)> {
        let Condition { target, test: tested } = &self.question.conditions[at];
        match (target, tested) {
            (Target::Metric(key), tested) => {
                let key = sql.arg(key);
                let tested = test(sql, "d.value", tested)?;
                Ok((RUNS.metrics, format!("d.key = {key} AND {tested}")))
            }
            (Target::Param(key), Test::Text(Operator::Equal, value)) => {
                Ok((RUNS.params, param_is(sql, "d", key, value)))
            }
            _ => Err(Error::internal("no index for this condition")),
        }
    }

    fn statement(&self, first: First<'_>) -> Result<Sql> {
        let mut sql = Sql::new(&format!("SELECT {} FROM ", store::COLUMNS));
        let order = &self.question.order[..];
        let mut met = Vec::new();
        let (tables, id, order, mut keys) = match first {
            First::Runs => ("runs r".to_owned(), "r.run_id", order, Vec::new()),
            First::Condition(at) => {
                let (table, condition) = self.begin_with(&mut sql, at)?;
                met.extend([condition, "r.run_id = d.run_id".to_owned()]);
                met.extend((table == RUNS.metrics).then(|| is_number("d")));
                (format!("{table} d"), "d.run_id", order, Vec::new())
            }
            First::Values { by, key, up_to } => {
                met.extend([format!("w.key = {}", sql.arg(key)), is_number("w"), "r.run_id = w.run_id".to_owned()]);
                if let Some(value) = up_to {
                    met.push(format!("w.value {} {}", if by.is_ascending { "<=" } else { ">=" }, sql.arg(value)));
                }
                let key = format!("w.value {}", if by.is_ascending { "ASC" } else { "DESC" });
                ("latest_metrics w".to_owned(), "w.run_id", &order[1..], vec![key])
            }
        };
        sql.push(&tables);
        // SQLite would look a parameter up by run and key, anywhere in a large table, and not in its index by value, where
        // those with this value lie together: as long as it sees an equation. PostgreSQL plans by statistics, and badly by
        // such texts where it has none yet.
        let mut joins = if self.db.engine() == Engine::Sqlite { JOINED } else { 0 };
        for (at, condition) in self.question.conditions.iter().enumerate() {
            match (&condition.target, &condition.test) {
                _ if matches!(first, First::Condition(begun) if begun == at) => {}
                (Target::Param(key), Test::Text(Operator::Equal, value)) if joins > 0 => {
                    joins -= 1;
                    let name = format!("c{at}");
                    met.push(param_is(&mut sql, &name, key, value));
                    met.push(format!("{name}.run_id >= {id} AND {name}.run_id <= {id}"));
                    sql.push(&format!(" CROSS JOIN params {name}"));
                }
                _ => met.push(condition_text(&mut sql, &RUNS, condition, &[])?),
            }
        }
        if !matches!(first, First::Runs) {
            sql.push(" CROSS JOIN runs r");
        }
        keys.extend(order_by(&mut sql, &RUNS, order)?);
        let list = sql.list(self.experiment_ids.iter().copied());
        sql.push(&format!(" WHERE r.experiment_id IN {list}"));
        lifecycle(&mut sql, "r", self.view);
        for condition in met {
            sql.push(&format!(" AND {condition}"));
        }
        self.after(&mut sql)?;
        sql.push(" ORDER BY ");
        for key in keys {
            sql.push(&key);
            sql.push(", ");
        }
        sql.push("r.start_time DESC, r.run_id");
        Ok(sql)
    }

    /// Behind the last run of the page before.
    fn after(&self, sql: &mut Sql) -> Result<()> {
        let PageStart::After { after } = &self.question.start else { return Ok(()) };
        let (Some(time), Some(id), true) =
            (after.first().and_then(Value::as_i64), after.get(1).and_then(Value::as_str), self.is_keyed)
        else {
            return Err(Error::invalid("The page token belongs to a search with another order"));
        };
        let (time, id) = (sql.arg(time), sql.arg(id));
        sql.push(&format!(" AND r.start_time <= {time} AND (r.start_time < {time} OR r.run_id > {id})"));
        Ok(())
    }
}

/// The conditions that a search may begin with: there is an index of what meets them. Where parameters are asked for, those
/// alone, since a value of a parameter is had by fewer runs than half a line of numbers is.
fn counted(conditions: &[Condition]) -> Vec<usize> {
    let is_of_param = |condition: &Condition| {
        matches!(condition.target, Target::Param(_)) && matches!(condition.test, Test::Text(Operator::Equal, _))
    };
    let is_of_metric = |condition: &Condition| {
        matches!(condition.target, Target::Metric(_)) && !matches!(condition.test, Test::Number(Operator::NotEqual, _))
    };
    let has_param = conditions.iter().any(is_of_param);
    let numbered = conditions.iter().enumerate();
    let found = numbered.filter(|(_, one)| if has_param { is_of_param(one) } else { is_of_metric(one) });
    found.map(|(at, _)| at).take(COUNTED).collect()
}

/// That a parameter has a value, so that its index is used.
fn param_is(sql: &mut Sql, table: &str, key: &str, value: &str) -> String {
    let key = sql.arg(key);
    let begin: String = value.chars().take(INDEXED_CHARS).collect();
    let is_whole = begin.chars().count() < INDEXED_CHARS;
    let begins = format!("{table}.key = {key} AND substr({table}.value, 1, {INDEXED_CHARS}) = {}", sql.arg(begin));
    if is_whole { begins } else { format!("{begins} AND {table}.value = {}", sql.arg(value)) }
}

/// That a metric is no NaN. Only those that are have a mark, beside the value 0: the index by value has no marks.
fn is_number(table: &str) -> String {
    format!("({table}.value <> 0 OR {table}.is_nan = 0)")
}
