//! The expert queue.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{ComparedPair, Judgement, Opinion, QueueItem, QueueReason};
use fishy_core::Result;
use fishy_db::{Db, Row, Tx, args};

use super::predictions::{ROW_COLUMNS, RawRow, WITH_TRUTH, raw_of};
use super::{from_json, from_json_or_default, to_json};
use crate::domain::experts::{Answered, Rating};

/// A lease as it stands.
pub struct LeaseRow {
    pub id: String,
    pub prediction_id: String,
    pub actor: String,
    pub state: String,
    pub until_ms: i64,
    pub opinion_id: Option<String>,
}

/// Whose queue is looked at, and when.
pub struct Asked<'a> {
    pub monitor: &'a str,
    pub deployment: &'a str,
    pub actor: &'a str,
    pub now_ms: i64,
}

/// The newest answers from a time on that no expert has judged, without a true value: those that nobody holds, and that
/// this expert has not skipped.
pub async fn candidates(db: &Db, asked: &Asked<'_>, from_ms: i64, limit: usize) -> Result<Vec<RawRow>> {
    let sql = format!(
        "select {ROW_COLUMNS} from {WITH_TRUTH}
         where p.deployment = $1 and p.time_ms >= $2 and g.prediction_id is null
           and not exists (select 1 from opinions o
                           where o.prediction_id = p.prediction_id and o.by_whom = 'expert')
           and not exists (select 1 from queue_leases l
                           where l.prediction_id = p.prediction_id and l.monitor = $3
                             and (l.state = 'answered' or (l.state = 'leased' and l.until_ms > $4)
                                  or (l.state = 'skipped' and l.actor = $5)))
         order by p.time_ms desc, p.prediction_id desc limit $6"
    );
    let args = args![asked.deployment, from_ms, asked.monitor, asked.now_ms, asked.actor, limit];
    db.query(&sql, args).await?.iter().map(raw_of).collect()
}

/// An answer of some model.
pub struct OtherAnswer {
    pub version: String,
    pub time_ms: i64,
    pub labels: BTreeMap<String, String>,
    pub output: f64,
}

/// The newest answers of a deployment in a span, its ends included.
pub async fn answers(db: &Db, deployment: &str, span: (i64, i64), limit: usize) -> Result<Vec<OtherAnswer>> {
    let sql = "select version, time_ms, labels, output from predictions
               where deployment = $1 and time_ms >= $2 and time_ms <= $3 and output is not null
               order by time_ms desc limit $4";
    let rows = db.query(sql, args![deployment, span.0, span.1, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(OtherAnswer {
                version: row.get("version")?,
                time_ms: row.get("time_ms")?,
                labels: from_json_or_default(&row.get::<String>("labels")?)?,
                output: row.get("output")?,
            })
        })
        .collect()
}

/// Time and labels of what was given out last, and is answered or held.
pub async fn seen(db: &Db, asked: &Asked<'_>, limit: usize) -> Result<Vec<(i64, BTreeMap<String, String>)>> {
    let sql = "select p.time_ms, p.labels from queue_leases l join predictions p on p.prediction_id = l.prediction_id
               where l.monitor = $1 and (l.state = 'answered' or (l.state = 'leased' and l.until_ms > $2))
               order by l.seq desc limit $3";
    let rows = db.query(sql, args![asked.monitor, asked.now_ms, limit]).await?;
    rows.iter().map(|row| Ok((row.get("time_ms")?, from_json_or_default(&row.get::<String>("labels")?)?))).collect()
}

/// What an expert holds, oldest first.
pub async fn held(tx: &mut Tx, asked: &Asked<'_>, limit: usize) -> Result<Vec<QueueItem>> {
    let sql = "select l.id, l.until_ms, l.reasons, p.prediction_id, p.time_ms, p.labels, p.inputs, p.output
               from queue_leases l join predictions p on p.prediction_id = l.prediction_id
               where l.monitor = $1 and l.actor = $2 and l.state = 'leased' and l.until_ms > $3
               order by l.seq limit $4";
    let rows = tx.query(sql, args![asked.monitor, asked.actor, asked.now_ms, limit]).await?;
    rows.iter().map(item_of).collect()
}

fn item_of(row: &Row) -> Result<QueueItem> {
    Ok(QueueItem {
        lease: row.get("id")?,
        until_ms: Some(row.get("until_ms")?),
        prediction_id: row.get("prediction_id")?,
        time_ms: row.get("time_ms")?,
        labels: from_json_or_default(&row.get::<String>("labels")?)?,
        inputs: from_json(&row.get::<String>("inputs")?)?,
        output: row.get("output")?,
        reasons: from_json(&row.get::<String>("reasons")?)?,
    })
}

/// Whether an answer is kept and nobody has it, or has judged it, in the queue.
pub async fn is_free(tx: &mut Tx, asked: &Asked<'_>, prediction_id: &str) -> Result<bool> {
    let sql = "select 1 as one from predictions p where p.prediction_id = $2
                 and not exists (select 1 from queue_leases l where l.prediction_id = $2 and l.monitor = $1
                                   and (l.state = 'answered' or (l.state = 'leased' and l.until_ms > $3)))";
    Ok(tx.query_opt(sql, args![asked.monitor, prediction_id, asked.now_ms]).await?.is_some())
}

/// Gives an item out.
pub async fn lease(
    tx: &mut Tx,
    asked: &Asked<'_>,
    id: &str,
    prediction_id: &str,
    until_ms: i64,
    reasons: &[QueueReason],
) -> Result<()> {
    let sql = "insert into queue_leases(id, monitor, prediction_id, actor, state, until_ms, reasons)
               values ($1, $2, $3, $4, 'leased', $5, $6)";
    let args = args![id, asked.monitor, prediction_id, asked.actor, until_ms, to_json(&reasons)?];
    tx.execute(sql, args).await.map(drop)
}

/// The newest items that were answered, which nobody holds and this expert has not skipped, with those who answered.
pub async fn answered(tx: &mut Tx, asked: &Asked<'_>, limit: usize) -> Result<Vec<Answered>> {
    let sql = "select l.prediction_id, l.actor, l.answered_ms from queue_leases l
               where l.monitor = $1 and l.state = 'answered'
                 and not exists (select 1 from queue_leases o
                                 where o.prediction_id = l.prediction_id and o.monitor = $1
                                   and ((o.state = 'leased' and o.until_ms > $2)
                                        or (o.state = 'skipped' and o.actor = $3)))
               order by l.seq desc limit $4";
    let mut items: BTreeMap<String, Answered> = BTreeMap::new();
    for row in tx.query(sql, args![asked.monitor, asked.now_ms, asked.actor, limit]).await? {
        let prediction_id: String = row.get("prediction_id")?;
        let item = items.entry(prediction_id.clone()).or_insert(Answered {
            prediction_id,
            actors: Vec::new(),
            last_ms: i64::MIN,
        });
        item.actors.push(row.get("actor")?);
        item.last_ms = item.last_ms.max(row.get::<Option<i64>>("answered_ms")?.unwrap_or(i64::MAX));
    }
    Ok(items.into_values().collect())
}

/// Why an item was shown the first time.
pub async fn first_reasons(tx: &mut Tx, monitor: &str, prediction_id: &str) -> Result<Vec<QueueReason>> {
    let sql = "select reasons from queue_leases where monitor = $1 and prediction_id = $2 order by seq limit 1";
    let row = tx.query_opt(sql, args![monitor, prediction_id]).await?;
    row.map_or(Ok(Vec::new()), |row| from_json(&row.get::<String>("reasons")?))
}

pub async fn find(tx: &mut Tx, monitor: &str, id: &str) -> Result<Option<LeaseRow>> {
    let sql = "select id, prediction_id, actor, state, until_ms, opinion_id from queue_leases
               where monitor = $1 and id = $2";
    let Some(row) = tx.query_opt(sql, args![monitor, id]).await? else { return Ok(None) };
    Ok(Some(LeaseRow {
        id: row.get("id")?,
        prediction_id: row.get("prediction_id")?,
        actor: row.get("actor")?,
        state: row.get("state")?,
        until_ms: row.get("until_ms")?,
        opinion_id: row.get("opinion_id")?,
    }))
}

/// The lease is answered by an opinion; of a correction the time of the first answer stays.
pub async fn set_answered(tx: &mut Tx, id: &str, opinion_id: &str, now_ms: i64) -> Result<()> {
    let sql = "update queue_leases set state = 'answered', opinion_id = $2, answered_ms = coalesce(answered_ms, $3)
               where id = $1";
    tx.execute(sql, args![id, opinion_id, now_ms]).await.map(drop)
}

pub async fn set_state(tx: &mut Tx, id: &str, state: &str) -> Result<()> {
    tx.execute("update queue_leases set state = $2 where id = $1", args![id, state]).await.map(drop)
}

pub async fn opinion(tx: &mut Tx, id: &str) -> Result<Option<Opinion>> {
    let row = tx.query_opt("select opinion from opinions where id = $1", args![id]).await?;
    row.map(|row| from_json(&row.get::<String>("opinion")?)).transpose()
}

/// What was said of items with two answers at least: the newest ones, in the order they were given out.
pub async fn ratings(db: &Db, monitor: &str, limit: usize) -> Result<Vec<Rating>> {
    let sql = "select l.prediction_id, l.actor, o.opinion from queue_leases l join opinions o on o.id = l.opinion_id
               where l.monitor = $1 and l.state = 'answered'
                 and l.prediction_id in (select prediction_id from queue_leases
                                         where monitor = $1 and state = 'answered'
                                         group by prediction_id having count(*) > 1)
               order by l.seq desc limit $2";
    let mut ratings = Vec::new();
    for row in db.query(sql, args![monitor, limit]).await? {
        let opinion: Opinion = from_json(&row.get::<String>("opinion")?)?;
        if let Judgement::Expert { label, severity } = opinion.opinion {
            let (prediction_id, actor) = (row.get("prediction_id")?, row.get("actor")?);
            ratings.push(Rating { prediction_id, actor, label, severity });
        }
    }
    ratings.reverse();
    Ok(ratings)
}

/// Answers of a deployment beside the newest number that an expert gave for each, newest first.
pub async fn compared(db: &Db, deployment: &str, looked_at: usize, limit: usize) -> Result<Vec<ComparedPair>> {
    let sql = "select o.prediction_id, o.opinion, p.output from opinions o
               join predictions p on p.prediction_id = o.prediction_id
               where p.deployment = $1 and o.by_whom = 'expert' and p.output is not null
               order by o.seq desc limit $2";
    let mut known = std::collections::HashSet::new();
    let mut pairs = Vec::new();
    for row in db.query(sql, args![deployment, looked_at]).await? {
        let id: String = row.get("prediction_id")?;
        let opinion: Opinion = from_json(&row.get::<String>("opinion")?)?;
        let Judgement::Expert { label, .. } = opinion.opinion else { continue };
        let manual = label.trim().parse::<f64>().ok().filter(|manual| manual.is_finite());
        if let (true, Some(manual)) = (known.insert(id.clone()), manual) {
            pairs.push(ComparedPair { id, automatic: row.get("output")?, manual });
            if pairs.len() == limit {
                break;
            }
        }
    }
    Ok(pairs)
}
