use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishy_core::{Error, ErrorCode, Result};
use fishy_inference::{AnswerForm, Ran, Tensor};
use tokio::sync::SemaphorePermit;

use super::Service;
use super::live::{Live, Slot};
use super::program::is_a_program;
use super::statistics::Took;
use super::traffic::{Candidate, Traffic};
use crate::domain::{Layout, Prepared, Recorded, RequestMeta, RowOf};
use crate::spool::{Appended, key_of, push_frame};

/// What a request is answered with.
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) served: Served,
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) rows: usize,
}

/// What a shadow's answer is recorded with.
pub(super) struct Kept {
    id: String,
    time_ms: i64,
    received_ms: i64,
    labels: BTreeMap<String, String>,
    rows: usize,
}

/// Who answered.
pub(crate) enum Served {
    Model(Arc<Live>),
    /// A graph, by its version.
    Graph(String),
}

impl Answer {
    /// The version that answered.
    pub(crate) fn version(&self) -> &str {
        match &self.served {
            Served::Model(live) => &live.revision.version,
            Served::Graph(version) => version,
        }
    }

    /// How MLflow's scoring protocol tells it.
    pub(crate) fn form(&self) -> AnswerForm {
        match &self.served {
            Served::Model(live) => live.batcher.model().answer_form(),
            Served::Graph(_) => AnswerForm::AsAsked,
        }
    }

    /// What the columns of an output stand for, where a model gives maps.
    pub(crate) fn map_keys(&self, output: usize) -> Option<&[String]> {
        match &self.served {
            Served::Model(live) => live.batcher.model().map_keys(output),
            Served::Graph(_) => None,
        }
    }
}

impl Service {
    /// The revision that serves a deployment now, or the candidate of the version that is asked for; loaded first when it is
    /// not in memory. `Unavailable` with the reason when none does.
    pub(crate) async fn serving(self: &Arc<Self>, name: &str, version: Option<&str>) -> Result<(Arc<Slot>, Arc<Live>)> {
        self.serving_until(name, version, Instant::now() + self.patience).await
    }

    pub(super) async fn serving_until(
        self: &Arc<Self>,
        name: &str,
        version: Option<&str>,
        deadline: Instant,
    ) -> Result<(Arc<Slot>, Arc<Live>)> {
        let (slot, live) = match self.known(name, version)? {
            (slot, Some(live)) => (slot, live),
            (slot, None) => {
                let live = self.wake(&slot, deadline).await?;
                (slot, live)
            }
        };
        if live.program.is_some() { Err(is_a_program(name)) } else { Ok((slot, live)) }
    }

    /// What serves, whether it is a model or a program.
    pub(super) async fn serving_any(self: &Arc<Self>, name: &str, deadline: Instant) -> Result<(Arc<Slot>, Arc<Live>)> {
        let (slot, live) = self.known(name, None)?;
        let live = match live {
            Some(live) => live,
            None => self.wake(&slot, deadline).await?,
        };
        Ok((slot, live))
    }

    /// The same without loading: no revision when it is not in memory.
    pub(crate) fn known(&self, name: &str, version: Option<&str>) -> Result<(Arc<Slot>, Option<Arc<Live>>)> {
        let slot = self.slot(name).ok_or_else(|| self.missing(name))?;
        let Some(live) = slot.live() else {
            let Some(revision) = slot.revision() else { return Err(slot.not_serving()) };
            return match version.filter(|version| *version != revision.version) {
                None => Ok((slot, None)),
                Some(version) => Err(other_version(name, &revision.version, version)),
            };
        };
        let Some(version) = version.filter(|version| *version != live.revision.version) else {
            return Ok((slot, Some(live)));
        };
        let candidate = slot.traffic().and_then(|traffic| traffic.of_version(version).cloned());
        let live = candidate.ok_or_else(|| other_version(name, &live.revision.version, version))?;
        Ok((slot, Some(live)))
    }

    /// The right to be one of the predictions in flight.
    pub(super) fn admit(&self) -> Result<SemaphorePermit<'_>> {
        self.permits.try_acquire().map_err(|_| {
            Error::exhausted(format!(
                "{} predictions are in flight, which is the limit (deployment.max_concurrent_predictions)",
                self.max_concurrent
            ))
        })
    }

    /// Answers one request, and records every row of it before that.
    pub(crate) async fn predict(
        self: &Arc<Self>,
        name: &str,
        version: Option<&str>,
        meta: RequestMeta,
        prepare: impl FnOnce(&Layout) -> Result<Prepared>,
    ) -> Result<Answer> {
        if let Some(graph) = self.graph(name) {
            return self.predict_graph(&graph, version, meta, prepare).await;
        }
        let started = Instant::now();
        let patience = meta.timeout.map_or(self.patience, |timeout| timeout.min(self.patience));
        let deadline = started + patience;
        let (slot, live) = self.serving_until(name, version, deadline).await?;
        self.memory.touch(&live);
        let answered = self.answer(&slot, &live, version.is_none(), meta, prepare, (started, deadline)).await;
        match &answered {
            Ok(_) => {
                slot.answered.increment(1);
                slot.duration.record(started.elapsed());
            }
            Err(_) => live.statistics.fail.add(started.elapsed()),
        }
        answered
    }

    /// Counts a prediction request that is answered with an error. Names that are no deployment's are counted as one.
    pub(crate) fn count_refused(&self, name: &str, error: &Error) {
        let is_known = self.slot(name).is_some() || self.graph(name).is_some();
        let deployment = if is_known { name } else { "unknown" };
        let labels = [("deployment", deployment.to_owned()), ("status", error.code().http_status().to_string())];
        metrics::counter!("fishy_inference_requests_total", &labels).increment(1);
    }

    async fn answer(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        champion: &Arc<Live>,
        may_split: bool,
        meta: RequestMeta,
        prepare: impl FnOnce(&Layout) -> Result<Prepared>,
        (started, deadline): (Instant, Instant),
    ) -> Result<Answer> {
        let _permit = self.admit()?;
        let received_ms = self.env.now_ms();
        let traffic = slot.traffic().filter(|_| may_split);
        let Prepared { tensors, rows } = prepare(&champion.layout)?;
        let prepared = started.elapsed();
        let (live, ran) = self.compute(slot, traffic.as_ref(), champion, &meta, tensors, deadline).await?;
        let computed = started.elapsed();
        let (key, is_unrecorded) = (meta.id.as_deref().map(|id| key_of(slot.name(), id)), meta.is_unrecorded);
        let id = meta.id.unwrap_or_else(|| self.env.new_id());
        let recorded = Recorded {
            is_shadow: false,
            id: &id,
            deployment: slot.name(),
            revision: live.revision.number,
            version: &live.revision.version,
            time_ms: meta.time_ms.unwrap_or(received_ms),
            received_ms,
            latency_us: ran.computed.as_micros() as u64,
            layout: &live.layout,
            inputs: &ran.inputs,
            outputs: &ran.outputs,
            labels: &meta.labels,
            paths: &[],
            rows,
        };
        let is_new = !is_unrecorded && self.record(slot, key, &recorded)? == Appended::Recorded;
        let took = Took {
            total: started.elapsed(),
            queue: ran.queued,
            input: prepared,
            infer: ran.computed,
            output: started.elapsed().saturating_sub(computed),
            rows,
            batch_rows: ran.is_first.then_some(ran.batch_rows),
        };
        slot.queued.record(took.queue);
        live.statistics.add(&took, self.env.now_ms());
        if let Some(traffic) = traffic {
            let time_ms = meta.time_ms.unwrap_or(received_ms);
            let keep = is_new.then(|| Kept { id: id.clone(), time_ms, received_ms, labels: meta.labels, rows });
            self.mirror(slot, &traffic, &ran, keep);
        }
        Ok(Answer { id, served: Served::Model(live), outputs: ran.outputs, rows })
    }

    /// Runs the revision that serves, or a candidate where that has a share.
    pub(super) async fn compute(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        traffic: Option<&Arc<Traffic>>,
        champion: &Arc<Live>,
        meta: &RequestMeta,
        tensors: Vec<Tensor>,
        deadline: Instant,
    ) -> Result<(Arc<Live>, Ran)> {
        match traffic {
            None => {
                let params = champion.layout.declared(&meta.params);
                Ok((Arc::clone(champion), champion.batcher.run_with(tensors, params, deadline).await?))
            }
            Some(traffic) => self.route(slot, traffic, champion, meta, tensors, deadline).await,
        }
    }

    /// Puts every row into the spool: one write.
    pub(super) fn record(&self, slot: &Slot, key: Option<u128>, recorded: &Recorded<'_>) -> Result<Appended> {
        let rows = recorded.rows;
        let mut frames = Vec::with_capacity(512 * rows.min(1024));
        for row in 0..rows {
            push_frame(&mut frames, &RowOf(recorded, row))?;
        }
        let appended = self.spool.append(key, &frames, rows as u64)?;
        if appended == Appended::Recorded {
            slot.recorded.increment(rows as u64);
        }
        Ok(appended)
    }

    /// The same for a shadow's answer, which nobody waits for.
    fn record_shadow(&self, slot: &Slot, live: &Live, ran: &Ran, kept: &Kept) {
        let recorded = Recorded {
            is_shadow: true,
            id: &kept.id,
            deployment: slot.name(),
            revision: live.revision.number,
            version: &live.revision.version,
            time_ms: kept.time_ms,
            received_ms: kept.received_ms,
            latency_us: ran.computed.as_micros() as u64,
            layout: &live.layout,
            inputs: &ran.inputs,
            outputs: &ran.outputs,
            labels: &kept.labels,
            paths: &[],
            rows: kept.rows,
        };
        // Its request is in the spool: the id is known there, and says nothing of this one.
        if let Err(error) = self.record(slot, None, &recorded) {
            tracing::debug!(error = error.chain(), deployment = slot.name(), "a shadow's answer is not recorded");
        }
    }

    /// Lets a candidate answer when it is its share. Where it fails of itself, the revision that serves answers instead: no
    /// caller pays for a canary.
    async fn route(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        traffic: &Arc<Traffic>,
        champion: &Arc<Live>,
        meta: &RequestMeta,
        tensors: Vec<Tensor>,
        deadline: Instant,
    ) -> Result<(Arc<Live>, Ran)> {
        let begun = Instant::now();
        let params = champion.layout.declared(&meta.params);
        let Some(candidate) = traffic.choose(slot.name(), meta.sticky_key.as_deref()) else {
            let ran = champion.batcher.run_with(tensors, params, deadline).await;
            match &ran {
                Ok(_) => traffic.champion.succeeded(begun.elapsed()),
                Err(error) if error.code() == ErrorCode::InvalidArgument => {}
                Err(_) => traffic.champion.failed(),
            }
            return Ok((Arc::clone(champion), ran?));
        };
        let kept = tensors.clone();
        let own = candidate.live.layout.declared(&meta.params);
        let ran = match candidate.live.batcher.run_with(tensors, own, deadline).await {
            Ok(ran) => {
                candidate.meter.succeeded(begun.elapsed());
                Some(ran)
            }
            // What the caller did wrong is wrong for every version; asking the other one tells which it is.
            Err(error) => {
                tracing::debug!(error = error.chain(), version = candidate.live.revision.version, "a candidate failed");
                None
            }
        };
        if let Some(ran) = ran {
            self.judge(slot, traffic, candidate);
            return Ok((Arc::clone(&candidate.live), ran));
        }
        let ran = champion.batcher.run_with(kept, params, deadline).await?;
        candidate.meter.failed();
        self.judge(slot, traffic, candidate);
        Ok((Arc::clone(champion), ran))
    }

    pub(super) fn judge(self: &Arc<Self>, slot: &Arc<Slot>, traffic: &Traffic, candidate: &Candidate) {
        if let Some(reason) = traffic.judge(candidate) {
            let (service, slot) = (Arc::clone(self), Arc::clone(slot));
            self.background.spawn(async move { service.take_back(&slot, &reason).await });
        }
    }

    /// Asks the shadow as well, in the background; `kept` is what its answer is recorded with, where the request was.
    pub(super) fn mirror(self: &Arc<Self>, slot: &Arc<Slot>, traffic: &Arc<Traffic>, ran: &Ran, kept: Option<Kept>) {
        let Some(mirror) = &traffic.shadow else { return };
        let Some(permit) = mirror.admit(traffic) else { return };
        let mirror = Arc::clone(mirror);
        let (inputs, params) = (ran.inputs.clone(), ran.params.clone());
        let answered: Vec<_> = ran.outputs.iter().map(|output| (output.name.clone(), output.data.clone())).collect();
        let kept = kept.filter(|_| mirror.is_recorded()).map(|kept| (kept, Arc::clone(self), Arc::clone(slot)));
        self.background.spawn(async move {
            let ran = mirror.ask(inputs, params, &answered, SHADOW_PATIENCE).await;
            if let (Some(ran), Some((kept, service, slot))) = (ran, kept) {
                service.record_shadow(&slot, &mirror.live, &ran, &kept);
            }
            drop(permit);
        });
    }
}

fn other_version(name: &str, serves: &str, asked: &str) -> Error {
    Error::not_found(format!("deployment {name} serves version {serves}, not {asked:?}"))
}

/// A shadow that takes longer has failed.
const SHADOW_PATIENCE: Duration = Duration::from_secs(10);
