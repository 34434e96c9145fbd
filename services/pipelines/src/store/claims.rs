//! Which process works on a run. A claim is a lease: it ends by itself when its process is gone.

use fishy_core::{Event, Result};
use fishy_db::args;

use super::Store;

/// What renewing a claim told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It still holds.
    Held,
    /// It still holds, and somebody wants the run stopped.
    CancelRequested,
    /// Another process has the run now, or it has ended.
    Lost,
}

impl Store {
    /// Ends all claims: for a database that only one process uses, when that process starts.
    pub async fn forget_claims(&self) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.execute("UPDATE runs SET owner = NULL WHERE owner IS NOT NULL", args![]).await?;
        tx.commit().await
    }

    /// Takes a run; `false` when another process has it, or it has ended.
    pub async fn claim(&self, id: &str, owner: &str, now_ms: i64, until_ms: i64) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE runs SET owner = $1, lease_until_ms = $2
                   WHERE id = $3 AND status IN ('queued', 'running', 'waiting') AND (owner IS NULL OR lease_until_ms < $4)";
        let taken = tx.execute(sql, args![owner, until_ms, id, now_ms]).await? == 1;
        tx.commit().await?;
        Ok(taken)
    }

    /// Makes a claim last longer.
    pub async fn renew(&self, id: &str, owner: &str, until_ms: i64) -> Result<Renewal> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE runs SET lease_until_ms = $1 WHERE id = $2 AND owner = $3";
        let is_held = tx.execute(sql, args![until_ms, id, owner]).await? == 1;
        let wanted = tx.query_opt("SELECT is_cancel_requested FROM runs WHERE id = $1", args![id]).await?;
        tx.commit().await?;
        Ok(match wanted {
            Some(row) if is_held && row.get::<bool>("is_cancel_requested")? => Renewal::CancelRequested,
            Some(_) if is_held => Renewal::Held,
            _ => Renewal::Lost,
        })
    }

    /// Gives a run back, to be taken up again by whoever looks next.
    pub async fn release(&self, id: &str, owner: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.execute("UPDATE runs SET owner = NULL WHERE id = $1 AND owner = $2", args![id, owner]).await?;
        tx.commit().await
    }

    /// Says that a run should be stopped, and who said it; `false` when it has ended, or somebody has said so before.
    pub async fn request_cancel(&self, id: &str, entry: &Event) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE runs SET is_cancel_requested = 1
                   WHERE id = $1 AND is_cancel_requested = 0 AND status IN ('queued', 'running', 'waiting')";
        let is_new = tx.execute(sql, args![id]).await? == 1;
        if is_new {
            tx.emit(entry).await?;
        }
        tx.commit().await?;
        Ok(is_new)
    }
}
