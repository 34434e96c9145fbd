//! Fills a registry by bulk SQL, straight into its tables: a million runs over HTTP would take MLflow a day.

use anyhow::{Context, Result};
use sqlx::{Connection, Executor};

use crate::server::{Place, Side};

/// Metrics and parameters of each run.
pub const EACH: u64 = 10;
/// Runs in one transaction.
const CHUNK: u64 = 50_000;
/// Metrics of a wide run, and of how many keys they are.
pub const WIDE: u64 = 200;
pub const WIDE_KEYS: u64 = 12_000;
/// Where the numbers of wide runs begin.
const WIDE_FIRST: u64 = 100_000_000;

/// The id of the seeded run `n`: ours count upwards with time, MLflow's are random.
pub fn run_id(side: Side, n: u64) -> String {
    match side {
        Side::Fishy => format!("{n:032x}"),
        Side::Mlflow | Side::MlflowOneWorker => format!("{:08x}{n:024x}", (n * 2_654_435_761) % 4_294_967_296),
    }
}

/// Texts for one database and one schema.
struct Dialect {
    is_sqlite: bool,
    side: Side,
}

impl Dialect {
    fn id(&self) -> &'static str {
        match (self.is_sqlite, self.side) {
            (true, Side::Fishy) => "printf('%032x', n)",
            (false, Side::Fishy) => "lpad(to_hex(n), 32, '0')",
            (true, _) => "printf('%08x%024x', (n * 2654435761) % 4294967296, n)",
            (false, _) => "lpad(to_hex((n * 2654435761) % 4294967296), 8, '0') || lpad(to_hex(n), 24, '0')",
        }
    }

    /// A table `n` of numbers, and a table `j` of smaller ones.
    fn numbers(&self, from: u64, to: u64, each: u64) -> String {
        if self.is_sqlite {
            format!(
                "WITH RECURSIVE n(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {to}), \
                 j(j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM j WHERE j + 1 < {each})"
            )
        } else {
            format!(
                "WITH n(n) AS (SELECT generate_series({from}::bigint, {to} - 1)), \
                 j(j) AS (SELECT generate_series(0::bigint, {each} - 1))"
            )
        }
    }

    fn run_column(&self) -> &'static str {
        if self.side == Side::Fishy { "run_id" } else { "run_uuid" }
    }

    fn runs(&self, experiment: &str, from: u64, to: u64) -> Vec<String> {
        let (id, numbers) = (self.id(), self.numbers(from, to, 1));
        let (run, tags, more, values) = match self.side {
            Side::Fishy => ("run_id", "run_tags", "", ""),
            _ => ("run_uuid", "tags", ", source_type", ", 'UNKNOWN'"),
        };
        let mut all = vec![format!(
            "INSERT INTO runs({run}, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, \
             lifecycle_stage{more}) {numbers} SELECT {id}, {experiment}, 'run ' || n, 'bench', 'FINISHED', \
             1700000000000 + n * 1000, 1700000000500 + n * 1000, 'mlflow-artifacts:/{experiment}/' || {id} || '/artifacts', \
             'active'{values} FROM n"
        )];
        for (key, value) in [("mlflow.runName", "'run ' || n"), ("mlflow.user", "'bench'")] {
            all.push(format!("INSERT INTO {tags}({run}, key, value) {numbers} SELECT {id}, '{key}', {value} FROM n"));
        }
        all
    }

    fn metrics(&self, table: &str, key: &str, from: u64, to: u64, each: u64) -> String {
        let (id, numbers, run) = (self.id(), self.numbers(from, to, each), self.run_column());
        let is_nan = if self.is_sqlite || self.side == Side::Fishy { "0" } else { "false" };
        format!(
            "INSERT INTO {table}({run}, key, value, timestamp, step, is_nan) {numbers} SELECT {id}, {key}, \
             CAST((n * (2654435761 + j * 97)) % 1000003 AS double precision) / 1000003.0, 1700000000000 + n * 1000, 1, \
             {is_nan} FROM n CROSS JOIN j"
        )
    }

    fn params(&self, from: u64, to: u64) -> String {
        let (id, numbers, run) = (self.id(), self.numbers(from, to, EACH), self.run_column());
        format!(
            "INSERT INTO params({run}, key, value) {numbers} SELECT {id}, 'p' || j, \
             'v' || ((n * 40503 + n / 7 + j) % 50) FROM n CROSS JOIN j"
        )
    }
}

/// Runs number `from` to `to` with ten metrics and ten parameters each. One in fifty has the parameter `p0` = `v3`, and
/// half of them a metric `m0` above 0.5: one in a hundred has both.
pub async fn runs(place: &Place<'_>, experiment: &str, from: u64, to: u64) -> Result<()> {
    let dialect = Dialect { is_sqlite: place.postgres_url().is_none(), side: place.setting.side };
    let mut at = from;
    while at < to {
        let end = (at + CHUNK).min(to);
        let mut all = dialect.runs(experiment, at, end);
        all.push(dialect.params(at, end));
        all.push(dialect.metrics("latest_metrics", "'m' || j", at, end, EACH));
        all.push(dialect.metrics("metrics", "'m' || j", at, end, EACH));
        execute(place, &all).await?;
        at = end;
    }
    analyze(place).await
}

/// So many runs with two hundred metrics each, out of twelve thousand keys; without histories.
pub async fn wide_runs(place: &Place<'_>, experiment: &str, count: u64) -> Result<()> {
    let dialect = Dialect { is_sqlite: place.postgres_url().is_none(), side: place.setting.side };
    let mut at = 0;
    while at < count {
        let end = (at + CHUNK / 10).min(count);
        let (from, to) = (WIDE_FIRST + at, WIDE_FIRST + end);
        let mut all = dialect.runs(experiment, from, to);
        let key = format!("'w' || ((n * 37 + j * 59) % {WIDE_KEYS})");
        all.push(dialect.metrics("latest_metrics", &key, from, to, WIDE));
        execute(place, &all).await?;
        at = end;
    }
    analyze(place).await
}

/// A history of so many points of the metric `long` of a run.
pub async fn history(place: &Place<'_>, run_id: &str, points: u64) -> Result<()> {
    let dialect = Dialect { is_sqlite: place.postgres_url().is_none(), side: place.setting.side };
    let is_nan = if dialect.is_sqlite || dialect.side == Side::Fishy { "0" } else { "false" };
    let (run, numbers) = (dialect.run_column(), dialect.numbers(0, points, 1));
    let values = format!(
        "SELECT '{run_id}', 'long', CAST(n % 1009 AS double precision) / 1009.0, 1700000000000 + n, n, {is_nan} FROM n"
    );
    let columns = format!("({run}, key, value, timestamp, step, is_nan)");
    let last = format!("{values} WHERE n = {points} - 1");
    let all = [
        format!("INSERT INTO metrics{columns} {numbers} {values}"),
        format!("INSERT INTO latest_metrics{columns} {numbers} {last}"),
    ];
    execute(place, &all).await?;
    analyze(place).await
}

async fn execute(place: &Place<'_>, statements: &[String]) -> Result<()> {
    if let Some(url) = place.postgres_url() {
        let mut connection = postgres(place, &url).await?;
        let mut transaction = connection.begin().await?;
        for sql in statements {
            transaction.execute(sqlx::AssertSqlSafe(sql.clone())).await.with_context(|| sql.clone())?;
        }
        transaction.commit().await?;
        return Ok(connection.close().await?);
    }
    let (file, statements) = (place.sqlite_file(), statements.to_vec());
    tokio::task::spawn_blocking(move || {
        let mut connection = rusqlite::Connection::open(file)?;
        connection.busy_timeout(std::time::Duration::from_mins(1))?;
        // Every row refers to one that was written just before; and nothing here need survive a loss of power.
        connection.execute_batch(
            "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1500000; PRAGMA temp_store = MEMORY;",
        )?;
        let transaction = connection.transaction()?;
        for sql in statements {
            transaction.execute(&sql, []).with_context(|| sql.clone())?;
        }
        Ok(transaction.commit()?)
    })
    .await?
}

async fn postgres(place: &Place<'_>, url: &str) -> Result<sqlx::PgConnection> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    if place.setting.side == Side::Fishy {
        connection.execute("set search_path to registry").await?;
    }
    Ok(connection)
}

/// PostgreSQL would find out by itself after a minute; SQLite plans by its indices alone.
async fn analyze(place: &Place<'_>) -> Result<()> {
    let Some(url) = place.postgres_url() else { return Ok(()) };
    let mut connection = postgres(place, &url).await?;
    connection.execute("vacuum analyze").await?;
    Ok(connection.close().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of both schemas that are written.
    fn tables(run: &str, tags: &str) -> String {
        format!(
            "CREATE TABLE runs({run}, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, \
             lifecycle_stage, source_type); CREATE TABLE {tags}({run}, key, value); CREATE TABLE params({run}, key, value); \
             CREATE TABLE latest_metrics({run}, key, value, timestamp, step, is_nan, UNIQUE ({run}, key));"
        )
    }

    #[test]
    fn one_seeded_run_in_a_hundred_is_found_and_has_the_id_that_is_asked_for() -> Result<()> {
        for (side, run, tags) in [(Side::Fishy, "run_id", "run_tags"), (Side::Mlflow, "run_uuid", "tags")] {
            let dialect = Dialect { is_sqlite: true, side };
            let connection = rusqlite::Connection::open_in_memory()?;
            connection.execute_batch(&tables(run, tags))?;
            let mut all = dialect.runs("1", 0, 10_000);
            all.push(dialect.params(0, 10_000));
            all.push(dialect.metrics("latest_metrics", "'m' || j", 0, 10_000, EACH));
            let key = format!("'w' || ((n * 37 + j * 59) % {WIDE_KEYS})");
            all.push(dialect.metrics("latest_metrics", &key, WIDE_FIRST, WIDE_FIRST + 100, WIDE));
            for sql in all {
                connection.execute(&sql, [])?;
            }
            let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            assert_eq!(count("SELECT COUNT(*) FROM runs")?, 10_000);
            let found = count(&format!(
                "SELECT COUNT(*) FROM params p JOIN latest_metrics m ON m.{run} = p.{run} \
                 WHERE p.key = 'p0' AND p.value = 'v3' AND m.key = 'm0' AND m.value > 0.5"
            ))?;
            assert!((70..=130).contains(&found), "{found} of 10,000");
            for n in [0, 7, 9_999] {
                let id = run_id(side, n);
                assert_eq!(count(&format!("SELECT COUNT(*) FROM runs WHERE {run} = '{id}'"))?, 1, "{id}");
            }
            assert_eq!(
                count("SELECT COUNT(*) FROM latest_metrics WHERE key LIKE 'w%'")?,
                20_000,
                "keys differ in a run"
            );
        }
        Ok(())
    }
}
