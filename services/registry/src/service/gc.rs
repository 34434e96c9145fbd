//! Deletion that deletes: what was deleted long enough ago goes for good, with its files.
//!
//! Each thing goes in a transaction of its own, in which its files become garbage; the files themselves are removed after
//! that, and what could not be removed is tried again by the next step or the next start. So nothing refers to a file
//! that is gone, and no file stays that nothing refers to, wherever it is interrupted.
//!
//! Logged models go first, then runs, then experiments, then the orphans of the object store: what is written by an
//! upload that was interrupted. What something that lives refers to stays whole, and so does what is held.

use std::time::Duration;

use fishy_contracts::registry::{GcReport, GcRequest, HoldKind, Kept, Purged};
use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::json;

use super::holds::held;
use super::{Asker, Registry};
use crate::domain::artifact;
use crate::events;
use crate::store::purge::{self as store, Candidate};
use crate::store::{Read, holds};

/// How many things are looked at in one step when nobody says how many.
const DEFAULT: u32 = 100;
/// The most things of one step.
const MOST: u32 = 1_000;
/// Uploads do not last so long: a file that is older and has no row never gets one.
const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// The kinds, in the order in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    LoggedModels,
    Runs,
    Experiments,
    Orphans,
}

impl Phase {
    const ALL: [Self; 4] = [Self::LoggedModels, Self::Runs, Self::Experiments, Self::Orphans];

    const fn name(self) -> &'static str {
        match self {
            Self::LoggedModels => "logged_model",
            Self::Runs => "run",
            Self::Experiments => "experiment",
            Self::Orphans => "orphan",
        }
    }

    fn next(self) -> Option<Self> {
        Self::ALL.into_iter().skip_while(|phase| *phase != self).nth(1)
    }
}

/// Where a step begins: a kind, and the last id that was looked at.
fn start(next: Option<&str>) -> Result<(Phase, String)> {
    let Some(next) = next else { return Ok((Phase::LoggedModels, String::new())) };
    let wrong = || Error::invalid(format!("{next:?} is not where a step ended"));
    let (name, after) = next.split_once(':').ok_or_else(wrong)?;
    let phase = Phase::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(wrong)?;
    Ok((phase, after.to_owned()))
}

/// The files of a thing that goes: their folder, if it is one of our own store.
fn own_root(phase: Phase, candidate: &Candidate) -> Option<String> {
    let root = artifact::path_of(&candidate.artifact_uri)?;
    // A place that was chosen by hand may be that of others too: what runs and models had in it went with them.
    (phase != Phase::Experiments || root == candidate.id).then(|| root.to_owned())
}

/// Why a thing stays; `None` when it can go.
async fn why_kept(read: &mut impl Read, phase: Phase, candidate: &Candidate) -> Result<Option<String>> {
    let Candidate { id, experiment_id, source_run_id, .. } = candidate;
    let own = match phase {
        Phase::LoggedModels => HoldKind::LoggedModel,
        Phase::Runs => HoldKind::Run,
        Phase::Experiments | Phase::Orphans => HoldKind::Experiment,
    };
    let mut looked_at = vec![(own, id.clone()), (HoldKind::Experiment, experiment_id.to_string())];
    looked_at.extend(source_run_id.clone().map(|run| (HoldKind::Run, run)));
    for (kind, id) in looked_at {
        if let Some(hold) = holds::get(read, kind, &id).await? {
            return Ok(Some(held(&hold)));
        }
    }
    if phase == Phase::Experiments {
        return Ok((*experiment_id == 0).then(|| "runs without an experiment belong to it".to_owned()));
    }
    let root = own_root(phase, candidate);
    if let Some((name, version)) = store::version_of(read, id, root.as_deref()).await? {
        return Ok(Some(format!("it is version {version} of the registered model {name}")));
    }
    if phase == Phase::Runs {
        if let Some(model) = store::model_of_run(read, id).await? {
            return Ok(Some(format!("the logged model {model} refers to it")));
        }
        if let Some(model) = store::held_model_of_run(read, id).await? {
            return Ok(Some(format!("the logged model {model} of it is held")));
        }
    }
    Ok(None)
}

impl Registry {
    /// One step. Ask again with `next` until there is none.
    pub async fn gc(&self, asker: &Asker, request: &GcRequest) -> Result<GcReport> {
        let limit = request.limit.unwrap_or(DEFAULT);
        if limit == 0 || limit > MOST {
            return Err(Error::invalid(format!("limit must be between 1 and {MOST}, got {limit}")));
        }
        if request.older_than_ms < 0 {
            return Err(Error::invalid("older_than_ms must not be negative"));
        }
        let (phase, after) = start(request.next.as_deref())?;
        let before_ms = self.env.now_ms().saturating_sub(request.older_than_ms);
        let mut report = GcReport::default();
        let last = if phase == Phase::Orphans {
            self.gc_orphans(asker, request.dry_run, &after, limit, &mut report).await?
        } else {
            let candidates = self.candidates(phase, before_ms, &after, i64::from(limit)).await?;
            let last = candidates.last().filter(|_| candidates.len() as u32 == limit).map(|last| last.id.clone());
            for candidate in candidates {
                self.gc_one(asker, phase, &candidate, request.dry_run, &mut report).await?;
            }
            last
        };
        report.next = match last {
            Some(id) => Some(format!("{}:{id}", phase.name())),
            None => phase.next().map(|next| format!("{}:", next.name())),
        };
        if !request.dry_run && report.next.is_none() {
            self.sweep().await?;
        }
        report.files_left = store::garbage_count(&mut &self.db).await?;
        Ok(report)
    }

    async fn candidates(&self, phase: Phase, before_ms: i64, after: &str, limit: i64) -> Result<Vec<Candidate>> {
        let read = &mut &self.db;
        match phase {
            Phase::LoggedModels => store::logged_models(read, before_ms, after, limit).await,
            Phase::Runs => store::runs(read, before_ms, after, limit).await,
            Phase::Experiments => {
                let wrong = |_| Error::invalid(format!("{after:?} is no id of an experiment"));
                let number = if after.is_empty() { -1 } else { after.parse::<i64>().map_err(wrong)? };
                store::experiments(read, before_ms, number, limit).await
            }
            Phase::Orphans => Ok(Vec::new()),
        }
    }

    async fn gc_one(
        &self,
        asker: &Asker,
        phase: Phase,
        candidate: &Candidate,
        is_dry: bool,
        report: &mut GcReport,
    ) -> Result<()> {
        let kind = phase.name().to_owned();
        let id = candidate.id.clone();
        if is_dry {
            let read = &mut &self.db;
            let mut why = why_kept(read, phase, candidate).await?;
            if phase == Phase::Experiments && why.is_none() {
                why = self.inhabitant_kept(candidate.experiment_id).await?;
            }
            if let Some(why) = why {
                report.kept.push(Kept { kind, id, why });
                return Ok(());
            }
            let (files, bytes) = match own_root(phase, candidate) {
                // What the runs and models of an experiment have was counted with them.
                Some(root) if phase != Phase::Experiments => store::size(read, &root).await?,
                _ => (0, 0),
            };
            report.purged.push(Purged { kind, id, files, bytes });
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let is_deleted = match phase {
            Phase::LoggedModels => store::lock_logged_model(&mut tx, &id).await?,
            Phase::Runs => store::lock_run(&mut tx, &id).await?,
            Phase::Experiments | Phase::Orphans => store::lock_experiment(&mut tx, candidate.experiment_id).await?,
        };
        if !is_deleted {
            // It was restored in between.
            tx.rollback().await;
            return Ok(());
        }
        let mut why = why_kept(&mut tx, phase, candidate).await?;
        if phase == Phase::Experiments && why.is_none() {
            let left = store::inhabitants(&mut tx, candidate.experiment_id).await?;
            why = (left > 0).then(|| format!("{left} runs or logged models of it stay"));
        }
        if let Some(why) = why {
            tx.rollback().await;
            report.kept.push(Kept { kind, id, why });
            return Ok(());
        }
        let (bytes, blobs) = match own_root(phase, candidate) {
            Some(root) => store::files(&mut tx, &root).await?,
            None => (0, Vec::new()),
        };
        match phase {
            Phase::LoggedModels => store::logged_model(&mut tx, &id).await?,
            Phase::Runs => store::run(&mut tx, &id).await?,
            Phase::Experiments | Phase::Orphans => store::experiment(&mut tx, candidate.experiment_id).await?,
        }
        let purged = Purged { kind, id, files: blobs.len() as u64, bytes };
        self.audit_purge(&mut tx, asker, &purged).await?;
        tx.commit().await?;
        self.remove_blobs(blobs).await;
        report.purged.push(purged);
        Ok(())
    }

    async fn audit_purge(&self, tx: &mut Tx, asker: &Asker, purged: &Purged) -> Result<()> {
        let Purged { kind, id, files, bytes } = purged;
        let (action, resource) = (format!("{kind}.purge"), format!("{kind}s/{id}"));
        let details = json!({"files": files, "bytes": bytes, "reason": asker.by().reason});
        events::audit(tx, self, asker.by().actor, &action, &resource, details).await
    }

    /// Why a run or a logged model of an experiment would stay, and with it the experiment.
    async fn inhabitant_kept(&self, experiment_id: i64) -> Result<Option<String>> {
        let read = &mut &self.db;
        let models = store::logged_models_of(read, experiment_id).await?;
        let runs = store::runs_of(read, experiment_id).await?;
        for (phase, candidates) in [(Phase::LoggedModels, models), (Phase::Runs, runs)] {
            for candidate in candidates {
                if why_kept(read, phase, &candidate).await?.is_some() {
                    return Ok(Some(format!("{} {} of it stays", phase.name(), candidate.id)));
                }
            }
        }
        Ok(None)
    }

    /// Files of the object store that have no row: an upload was interrupted before its row was written.
    async fn gc_orphans(
        &self,
        asker: &Asker,
        is_dry: bool,
        after: &str,
        limit: u32,
        report: &mut GcReport,
    ) -> Result<Option<String>> {
        let before_ms = self.env.now_ms().saturating_sub(ORPHAN_AGE.as_millis() as i64);
        let mut files = self.blob.list_recursive(&self.folder).await?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files.iter().filter(|file| file.path.as_str() > after && file.modified_ms <= before_ms) {
            if store::is_known(&mut &self.db, &file.path).await? {
                continue;
            }
            let purged = Purged { kind: "orphan".to_owned(), id: file.path.clone(), files: 1, bytes: file.size_bytes };
            if !is_dry {
                let mut tx = self.db.begin().await?;
                store::forsake(&mut tx, &file.path).await?;
                self.audit_purge(&mut tx, asker, &purged).await?;
                tx.commit().await?;
                self.remove_blobs([file.path.clone()]).await;
            }
            report.purged.push(purged);
            if report.purged.len() as u32 == limit {
                return Ok(Some(file.path.clone()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_through_all_kinds() {
        assert_eq!(start(None).unwrap(), (Phase::LoggedModels, String::new()));
        assert_eq!(start(Some("run:a:b")).unwrap(), (Phase::Runs, "a:b".to_owned()));
        for wrong in ["", "run", "walk:a"] {
            assert!(start(Some(wrong)).is_err(), "{wrong}");
        }
        let all: Vec<_> = std::iter::successors(Some(Phase::LoggedModels), |phase| phase.next()).collect();
        assert_eq!(all, Phase::ALL);
    }
}
