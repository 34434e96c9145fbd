//! Predictions, and the place in their stream.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use fishy_contracts::monitoring::{LoggedPrediction, ServedPrediction, VersionAnswers};
use fishy_core::Result;
use fishy_core::time::HOUR_MS;
use fishy_db::{Db, Row as DbRow, Tx, args};

use super::{from_json, from_json_or_default, id_chunks, to_json};
use crate::domain::dataset::KeptRow;
use crate::domain::record::Prediction;
use crate::domain::trigger::Rolling;
use crate::domain::truth::Truth;
use crate::domain::window::Row;

/// A prediction and its output that truth is compared with.
pub struct NewPrediction<'a> {
    pub prediction: &'a Prediction,
    pub output: Option<f64>,
}

/// What a true value is kept with of its prediction.
pub struct Found {
    pub deployment: String,
    pub version: String,
    pub time_ms: i64,
    pub output: Option<f64>,
}

/// Rows as text: what a page of a window is made of, parsed off the async threads.
pub struct RawRow {
    pub id: String,
    pub time_ms: i64,
    inputs: String,
    labels: String,
    output: Option<f64>,
    value: Option<f64>,
    arrived_ms: Option<i64>,
    version: Option<String>,
    pub is_corrected: bool,
}

/// Those of these ids that are there.
pub async fn known(db: &Db, ids: impl IntoIterator<Item = &str>) -> Result<HashSet<String>> {
    let mut known = HashSet::new();
    for (places, args) in id_chunks(ids, 1) {
        let sql = format!("select prediction_id from predictions where prediction_id in ({places})");
        for row in db.query(&sql, args).await? {
            known.insert(row.get("prediction_id")?);
        }
    }
    Ok(known)
}

/// Stores those that are not known; gives how many.
pub async fn insert(tx: &mut Tx, rows: &[NewPrediction<'_>]) -> Result<u64> {
    let mut values = Vec::with_capacity(rows.len());
    for NewPrediction { prediction, output } in rows {
        let outputs = if prediction.outputs.len() > 1 { Some(to_json(&prediction.outputs)?) } else { None };
        values.push(args![
            &prediction.id,
            &prediction.deployment,
            &prediction.version,
            prediction.time_ms,
            &prediction.inputs,
            &prediction.labels,
            *output,
            outputs
        ]);
    }
    let into = "insert into predictions(prediction_id, deployment, version, time_ms, inputs, labels, output, outputs)";
    tx.bulk(into, "on conflict do nothing", values).await
}

/// The predictions of these ids that are there.
pub async fn find(tx: &mut Tx, ids: impl IntoIterator<Item = &str>) -> Result<HashMap<String, Found>> {
    let mut all = HashMap::new();
    for (places, args) in id_chunks(ids, 1) {
        let sql = format!(
            "select prediction_id, deployment, version, time_ms, output from predictions
             where prediction_id in ({places})"
        );
        for row in tx.query(&sql, args).await? {
            let found = Found {
                deployment: row.get("deployment")?,
                version: row.get("version")?,
                time_ms: row.get("time_ms")?,
                output: row.get("output")?,
            };
            all.insert(row.get("prediction_id")?, found);
        }
    }
    Ok(all)
}

/// Marks hours of monitors as changed in this turn.
pub async fn touch(tx: &mut Tx, turn: i64, hours: BTreeSet<(&str, i64)>) -> Result<()> {
    let rows = hours.into_iter().map(|(monitor, hour_ms)| args![monitor, hour_ms, turn]);
    let suffix = "on conflict (monitor, hour_ms) do update set n = excluded.n";
    tx.bulk("insert into touched(monitor, hour_ms, n)", suffix, rows).await.map(drop)
}

/// Marks everything that is kept of a deployment as changed, for a monitor that is new.
pub async fn touch_all(tx: &mut Tx, turn: i64, monitor: &str, deployment: &str) -> Result<()> {
    let sql = "insert into touched(monitor, hour_ms, n)
               select distinct $1, time_ms - time_ms % $4, $2 from predictions where deployment = $3
               on conflict (monitor, hour_ms) do update set n = excluded.n";
    // PostgreSQL takes the type of a parameter from where it stands: here it stands nowhere.
    let sql = sql.replace("distinct $1", "distinct cast($1 as text)").replace(", $2 from", ", cast($2 as bigint) from");
    tx.execute(&sql, args![monitor, turn, deployment, HOUR_MS]).await.map(drop)
}

/// Event time of the first prediction.
pub async fn first_ms(db: &Db, deployment: &str) -> Result<Option<i64>> {
    let sql = "select time_ms from predictions where deployment = $1 order by time_ms limit 1";
    db.query_opt(sql, args![deployment]).await?.map(|row| row.get("time_ms")).transpose()
}

/// Whether a prediction with several outputs is kept of a deployment.
pub async fn has_several_outputs(tx: &mut Tx, deployment: &str) -> Result<bool> {
    let sql = "select 1 as one from predictions where deployment = $1 and outputs is not null limit 1";
    Ok(tx.query_opt(sql, args![deployment]).await?.is_some())
}

/// A page of predictions with several outputs, to choose another one.
pub async fn outputs_after(tx: &mut Tx, deployment: &str, after: &str, limit: usize) -> Result<Vec<(String, String)>> {
    let sql = "select prediction_id, outputs from predictions
               where deployment = $1 and outputs is not null and prediction_id > $2 order by prediction_id limit $3";
    let rows = tx.query(sql, args![deployment, after, limit]).await?;
    rows.iter().map(|row| Ok((row.get("prediction_id")?, row.get("outputs")?))).collect()
}

pub async fn set_output(tx: &mut Tx, id: &str, output: Option<f64>) -> Result<()> {
    tx.execute("update predictions set output = $2 where prediction_id = $1", args![id, output]).await?;
    let sql = "update ground_truth set output = $2 where prediction_id = $1 and deployment is not null";
    tx.execute(sql, args![id, output]).await.map(drop)
}

/// Predictions `p` and their true values `g`, where these are known.
pub(super) const WITH_TRUTH: &str = "predictions p left join ground_truth g on g.prediction_id = p.prediction_id";

pub(super) const ROW_COLUMNS: &str = "p.prediction_id, p.time_ms, p.inputs, p.labels, p.output, g.value, g.arrived_ms, \
                                      p.version, coalesce(g.is_corrected, 0) as is_corrected";

pub(super) fn raw_of(row: &DbRow) -> Result<RawRow> {
    Ok(RawRow {
        id: row.get("prediction_id")?,
        time_ms: row.get("time_ms")?,
        inputs: row.get("inputs")?,
        labels: row.get("labels")?,
        output: row.get("output")?,
        value: row.get("value")?,
        arrived_ms: row.get("arrived_ms")?,
        version: row.get("version")?,
        is_corrected: row.get("is_corrected")?,
    })
}

/// A page of predictions in event-time order, after a time and id, before a time.
pub async fn page(db: &Db, deployment: &str, after: &(i64, String), to_ms: i64, limit: usize) -> Result<Vec<RawRow>> {
    let sql = format!(
        "select {ROW_COLUMNS} from {WITH_TRUTH}
         where p.deployment = $1 and (p.time_ms > $2 or (p.time_ms = $2 and p.prediction_id > $3))
           and p.time_ms >= $2 and p.time_ms < $4
         order by p.time_ms, p.prediction_id limit $5"
    );
    let rows = db.query(&sql, args![deployment, after.0, &after.1, to_ms, limit]).await?;
    rows.iter().map(raw_of).collect()
}

/// Every so manieth prediction of a span, beginning with the first, in event-time order. Which ones is found out in the
/// index alone.
pub async fn every_nth(db: &Db, deployment: &str, from_ms: i64, to_ms: i64, every: u64) -> Result<Vec<RawRow>> {
    let sql = "select prediction_id from (
                 select prediction_id, row_number() over (order by time_ms, prediction_id) as place from predictions
                 where deployment = $1 and time_ms >= $2 and time_ms < $3) placed
               where (place - 1) % $4 = 0";
    let chosen = db.query(sql, args![deployment, from_ms, to_ms, every]).await?;
    let ids = chosen.iter().map(|row| row.get("prediction_id")).collect::<Result<Vec<String>>>()?;
    let mut rows = Vec::with_capacity(ids.len());
    for (places, args) in id_chunks(ids.iter().map(String::as_str), 1) {
        let sql = format!("select {ROW_COLUMNS} from {WITH_TRUTH} where p.prediction_id in ({places})");
        for row in db.query(&sql, args).await? {
            rows.push(raw_of(&row)?);
        }
    }
    rows.sort_unstable_by(|a, b| (a.time_ms, &a.id).cmp(&(b.time_ms, &b.id)));
    Ok(rows)
}

/// A page of labelled predictions and of labelled history of a monitor, in event-time order or against it.
pub async fn labelled_page(db: &Db, asked: &LabelledPage<'_>) -> Result<(Vec<RawRow>, Vec<RawRow>)> {
    let LabelledPage { deployment, monitor, from_ms, to_ms, as_of_ms, after, is_backwards, limit } = asked;
    let (sign, bound, order) = if *is_backwards { ("<", "<=", "desc") } else { (">", ">=", "asc") };
    let predictions = format!(
        "select {ROW_COLUMNS} from ground_truth g join predictions p on p.prediction_id = g.prediction_id
         where g.deployment = $1 and (g.time_ms {sign} $2 or (g.time_ms = $2 and g.prediction_id {sign} $3))
           and g.time_ms {bound} $2 and g.time_ms >= $4 and g.time_ms < $5
           and (g.arrived_ms <= $6 or g.is_corrected = 1)
         order by g.time_ms {order}, g.prediction_id {order} limit $7"
    );
    let observations = format!(
        "select id as prediction_id, time_ms, inputs, labels, cast(null as double precision) as output, value, arrived_ms,
           cast(null as text) as version, 0 as is_corrected
         from observations
         where monitor = $1 and (time_ms {sign} $2 or (time_ms = $2 and id {sign} $3))
           and time_ms {bound} $2 and time_ms >= $4 and time_ms < $5 and arrived_ms <= $6
         order by time_ms {order}, id {order} limit $7"
    );
    let args = |key: &str| args![key, after.0, &after.1, *from_ms, *to_ms, *as_of_ms, *limit];
    let predictions = db.query(&predictions, args(deployment)).await?;
    let observations = db.query(&observations, args(monitor)).await?;
    let raw = |rows: Vec<DbRow>| rows.iter().map(raw_of).collect::<Result<Vec<_>>>();
    Ok((raw(predictions)?, raw(observations)?))
}

/// What [`labelled_page`] is asked for.
pub struct LabelledPage<'a> {
    pub deployment: &'a str,
    pub monitor: &'a str,
    pub from_ms: i64,
    pub to_ms: i64,
    pub as_of_ms: i64,
    pub after: &'a (i64, String),
    pub is_backwards: bool,
    pub limit: usize,
}

impl RawRow {
    /// The version that answered.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// As a row of a window.
    pub fn window_row(&self) -> Result<Row> {
        Ok(Row {
            time_ms: self.time_ms,
            inputs: from_json(&self.inputs)?,
            output: self.output,
            value: self.value,
            labels: from_json_or_default(&self.labels)?,
        })
    }

    /// As others see a prediction.
    pub fn logged(self) -> Result<LoggedPrediction> {
        Ok(LoggedPrediction {
            inputs: from_json(&self.inputs)?,
            labels: from_json_or_default(&self.labels)?,
            id: self.id,
            time_ms: self.time_ms,
            version: self.version.unwrap_or_default(),
            answer: self.output,
            value: self.value,
        })
    }

    /// As a row of a dataset.
    pub fn kept_row(self, history: Vec<Truth>) -> Result<KeptRow> {
        let truth = match (self.value, self.arrived_ms) {
            (Some(value), Some(arrived_ms)) => Some(Truth { value, arrived_ms }),
            _ => None,
        };
        Ok(KeptRow {
            inputs: from_json(&self.inputs)?,
            labels: from_json_or_default(&self.labels)?,
            id: self.id,
            time_ms: self.time_ms,
            prediction: self.output,
            version: self.version,
            truth,
            history,
        })
    }
}

/// A page of the inputs of labelled history, in event-time order.
pub async fn observed_page(
    db: &Db,
    monitor: &str,
    after: &(i64, String),
    to_ms: i64,
    limit: usize,
) -> Result<Vec<RawRow>> {
    let sql = "select id as prediction_id, time_ms, inputs, labels, cast(null as double precision) as output, value,
                 arrived_ms, cast(null as text) as version, 0 as is_corrected
               from observations
               where monitor = $1 and (time_ms > $2 or (time_ms = $2 and id > $3)) and time_ms >= $2 and time_ms < $4
               order by time_ms, id limit $5";
    let rows = db.query(sql, args![monitor, after.0, &after.1, to_ms, limit]).await?;
    rows.iter().map(raw_of).collect()
}

/// True values that arrived after a time, up to another.
pub async fn count_labels(db: &Db, deployment: &str, after_ms: i64, to_ms: i64) -> Result<u64> {
    let sql = "select count(*) as n from ground_truth
               where deployment = $1 and arrived_ms > $2 and arrived_ms <= $3";
    let row = db.query_opt(sql, args![deployment, after_ms, to_ms]).await?;
    row.map_or(Ok(0), |row| Ok(row.get::<i64>("n")? as u64))
}

/// How many predictions there are in a span.
pub async fn count_predictions(db: &Db, deployment: &str, from_ms: i64, to_ms: i64) -> Result<u64> {
    let sql = "select count(*) as n from predictions where deployment = $1 and time_ms >= $2 and time_ms < $3";
    let row = db.query_opt(sql, args![deployment, from_ms, to_ms]).await?;
    row.map_or(Ok(0), |row| Ok(row.get::<i64>("n")? as u64))
}

/// Who answered in a span, in the order of their first answers.
pub async fn versions(db: &Db, deployment: &str, from_ms: i64, to_ms: i64) -> Result<Vec<VersionAnswers>> {
    let sql = "select version, count(*) as n, min(time_ms) as first_ms, max(time_ms) as last_ms from predictions
               where deployment = $1 and time_ms >= $2 and time_ms < $3 group by version order by min(time_ms), version";
    let rows = db.query(sql, args![deployment, from_ms, to_ms]).await?;
    let one = |row: &DbRow| {
        Ok(VersionAnswers {
            version: row.get("version")?,
            predictions: row.get::<i64>("n")? as u64,
            first_ms: row.get("first_ms")?,
            last_ms: row.get("last_ms")?,
        })
    };
    rows.iter().map(one).collect()
}

/// True values of the predictions of a span by full hours that they took, in order.
pub async fn label_delays(db: &Db, deployment: &str, from_ms: i64, to_ms: i64) -> Result<Vec<(i64, u64)>> {
    let sql = format!(
        "select (arrived_ms - time_ms) / {HOUR_MS} as hours, count(*) as n from ground_truth
         where deployment = $1 and time_ms >= $2 and time_ms < $3
         group by (arrived_ms - time_ms) / {HOUR_MS} order by hours"
    );
    let rows = db.query(&sql, args![deployment, from_ms, to_ms]).await?;
    rows.iter().map(|row| Ok((row.get("hours")?, row.get::<i64>("n")? as u64))).collect()
}

/// How many rows there are for a reference.
pub async fn count_between(db: &Db, deployment: &str, monitor: &str, from_ms: i64, to_ms: i64) -> Result<u64> {
    let sql = "select (select count(*) from predictions where deployment = $1 and time_ms >= $3 and time_ms < $4)
                    + (select count(*) from observations where monitor = $2 and time_ms >= $3 and time_ms < $4) as n";
    let row = db.query_opt(sql, args![deployment, monitor, from_ms, to_ms]).await?;
    row.map_or(Ok(0), |row| Ok(row.get::<i64>("n")? as u64))
}

/// The realised error of a version over the labels that arrived in `(from_ms, to_ms]`, reaching further back for
/// `least` of them; `None` when there are not so many.
pub async fn rolling_error(
    db: &Db,
    deployment: &str,
    version: &str,
    from_ms: i64,
    to_ms: i64,
    least: u64,
) -> Result<Option<Rolling>> {
    let within = "select count(*) as n, sum(abs(output - value)) as total from ground_truth
                  where deployment = $1 and version = $2 and arrived_ms > $3 and arrived_ms <= $4
                    and output is not null";
    let newest = "select count(*) as n, sum(difference) as total from (
                    select abs(output - value) as difference from ground_truth
                    where deployment = $1 and version = $2 and arrived_ms <= $3 and output is not null
                    order by arrived_ms desc, time_ms desc limit $4) newest";
    let mut row = db.query_opt(within, args![deployment, version, from_ms, to_ms]).await?;
    let rows_of = |row: &Option<DbRow>| row.as_ref().map_or(Ok(0), |row| row.get::<i64>("n"));
    if (rows_of(&row)? as u64) < least {
        row = db.query_opt(newest, args![deployment, version, to_ms, least]).await?;
    }
    let rows = rows_of(&row)? as u64;
    let total: Option<f64> = row.map_or(Ok(None), |row| row.get("total"))?;
    Ok(total.filter(|_| rows >= least && rows > 0).map(|total| Rolling { error: total / rows as f64, rows }))
}

/// Event time and label delay of the newest labelled predictions, as far as they were known at a time.
pub async fn newest_labelled(db: &Db, deployment: &str, as_of_ms: i64, limit: usize) -> Result<Vec<(i64, i64)>> {
    let sql = "select time_ms, arrived_ms from ground_truth
               where deployment = $1 and arrived_ms <= $2 and time_ms <= $2
               order by time_ms desc limit $3";
    let rows = db.query(sql, args![deployment, as_of_ms, limit]).await?;
    rows.iter()
        .map(|row| {
            let time_ms: i64 = row.get("time_ms")?;
            Ok((time_ms, row.get::<i64>("arrived_ms")? - time_ms))
        })
        .collect()
}

pub async fn histories(db: &Db, ids: &[&str]) -> Result<HashMap<String, Vec<Truth>>> {
    let mut histories: HashMap<String, Vec<Truth>> = HashMap::new();
    for (places, args) in id_chunks(ids.iter().copied(), 1) {
        let sql = format!(
            "select prediction_id, value, arrived_ms from ground_truth_history
             where prediction_id in ({places}) order by seq"
        );
        for row in db.query(&sql, args).await? {
            let truth = Truth { value: row.get("value")?, arrived_ms: row.get("arrived_ms")? };
            histories.entry(row.get("prediction_id")?).or_default().push(truth);
        }
    }
    Ok(histories)
}

/// The number that the stream goes on after.
pub async fn offset(db: &Db, consumer: &str) -> Result<Option<u64>> {
    let sql = "select next_offset from stream_offsets where consumer = $1";
    let row = db.query_opt(sql, args![consumer]).await?;
    row.map(|row| row.get::<i64>("next_offset").map(|offset| offset as u64)).transpose()
}

pub async fn set_offset(tx: &mut Tx, consumer: &str, offset: u64) -> Result<()> {
    let sql = "insert into stream_offsets(consumer, next_offset) values ($1, $2)
               on conflict (consumer) do update set next_offset = excluded.next_offset";
    tx.execute(sql, args![consumer, offset]).await.map(drop)
}

/// A page of predictions against event-time order, before a time and id, among which are all that carry these labels.
pub async fn page_before(
    db: &Db,
    deployment: &str,
    before: &(i64, String),
    labels: &[(String, String)],
    limit: usize,
) -> Result<Vec<ServedPrediction>> {
    let mut args = args![deployment, before.0, &before.1, limit];
    let mut carrying = String::new();
    for (key, value) in labels {
        // As the labels are written: an object of texts without blanks.
        let text = format!("{}:{}", to_json(key)?, to_json(value)?);
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        args.push(format!("%{escaped}%").into());
        let _ = write!(carrying, " and labels like ${} escape '\\'", args.len());
    }
    let sql = format!(
        "select prediction_id, version, time_ms, labels from predictions
         where deployment = $1 and (time_ms < $2 or (time_ms = $2 and prediction_id < $3)) and time_ms <= $2{carrying}
         order by time_ms desc, prediction_id desc limit $4"
    );
    let rows = db.query(&sql, args).await?;
    rows.iter()
        .map(|row| {
            Ok(ServedPrediction {
                id: row.get("prediction_id")?,
                version: row.get("version")?,
                time_ms: row.get("time_ms")?,
                labels: from_json_or_default(&row.get::<String>("labels")?)?,
            })
        })
        .collect()
}
