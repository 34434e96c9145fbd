use fishy_contracts::pipelines::PipelineSpec;
use fishy_core::Result;
use fishy_db::{Row, Tx, args};

use super::Store;

/// A pipeline as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPipeline {
    /// What was applied.
    pub spec: PipelineSpec,
    /// When it is due by its schedule (wall clock).
    pub next_due_ms: Option<i64>,
}

const COLUMNS: &str = "SELECT name, definition, folder, next_due_ms FROM pipelines";

impl Store {
    /// Makes or replaces a pipeline.
    pub async fn put_pipeline(
        &self,
        tx: &mut Tx,
        spec: &PipelineSpec,
        next_due_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<()> {
        tx.execute(
            "INSERT INTO pipelines (name, definition, folder, next_due_ms, updated_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, folder = excluded.folder,
                next_due_ms = excluded.next_due_ms, updated_ms = excluded.updated_ms",
            args![&spec.name, &spec.definition, &spec.folder, next_due_ms, now_ms],
        )
        .await?;
        Ok(())
    }

    /// One pipeline.
    pub async fn pipeline(&self, name: &str) -> Result<Option<StoredPipeline>> {
        let row = self.db.query_opt(&format!("{COLUMNS} WHERE name = $1"), args![name]).await?;
        row.as_ref().map(pipeline_of).transpose()
    }

    /// Pipelines behind a name, by name.
    pub async fn pipelines(&self, after: &str, limit: usize) -> Result<Vec<StoredPipeline>> {
        let sql = format!("{COLUMNS} WHERE name > $1 ORDER BY name LIMIT $2");
        self.db.query(&sql, args![after, limit]).await?.iter().map(pipeline_of).collect()
    }

    /// Pipelines whose schedule says that they are due.
    pub async fn due_pipelines(&self, now_ms: i64) -> Result<Vec<StoredPipeline>> {
        let sql = format!("{COLUMNS} WHERE next_due_ms <= $1 ORDER BY next_due_ms");
        self.db.query(&sql, args![now_ms]).await?.iter().map(pipeline_of).collect()
    }

    /// Takes one due time, so that it is run once however many processes look; `false` when another has it.
    pub async fn take_due(&self, tx: &mut Tx, name: &str, due_ms: i64, next_ms: Option<i64>) -> Result<bool> {
        let sql = "UPDATE pipelines SET next_due_ms = $1 WHERE name = $2 AND next_due_ms = $3";
        Ok(tx.execute(sql, args![next_ms, name, due_ms]).await? == 1)
    }

    /// What is wrong with pipelines, in words: a failed last run, or a step that waits for something that is away.
    pub async fn problems(&self) -> Result<Vec<String>> {
        let failed = "SELECT name, problem FROM pipelines WHERE problem IS NOT NULL ORDER BY name";
        let mut problems = Vec::new();
        for row in self.db.query(failed, args![]).await? {
            problems.push(format!("pipeline {:?}: {}", row.get::<String>("name")?, row.get::<String>("problem")?));
        }
        let waiting = "SELECT r.pipeline, r.id, s.name, s.error FROM runs r JOIN steps s ON s.run_id = r.id
                       WHERE r.status = 'waiting' AND s.status = 'waiting' AND s.error IS NOT NULL ORDER BY r.seq";
        for row in self.db.query(waiting, args![]).await? {
            problems.push(format!(
                "pipeline {:?}: run {} waits at step {:?}: {}",
                row.get::<String>("pipeline")?,
                row.get::<String>("id")?,
                row.get::<String>("name")?,
                row.get::<String>("error")?
            ));
        }
        Ok(problems)
    }
}

fn pipeline_of(row: &Row) -> Result<StoredPipeline> {
    Ok(StoredPipeline {
        spec: PipelineSpec { name: row.get("name")?, definition: row.get("definition")?, folder: row.get("folder")? },
        next_due_ms: row.get("next_due_ms")?,
    })
}
