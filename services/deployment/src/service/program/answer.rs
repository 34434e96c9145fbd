//! A request to a program: routed, recorded and counted like one to a model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fishy_contracts::deployment::PredictionRecord;
use fishy_core::{Error, Result, TraceContext};
use http::{Response, request};

use super::{Answered, Program};
use crate::domain::{RequestMeta, recorded_body};
use crate::service::Service;
use crate::service::live::{Live, Slot};
use crate::service::statistics::Took;
use crate::spool::{Appended, key_of, push_frame};

/// A label of a record has at most so many bytes.
const MAX_LABEL_BYTES: usize = 256;

/// What a program is asked.
pub(crate) struct ProgramRequest {
    /// Method, path and headers, as the program gets them.
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
    pub(crate) meta: RequestMeta,
}

impl Service {
    /// Whether a deployment is a program, in memory or not.
    pub(crate) fn is_program(&self, name: &str) -> bool {
        self.slot(name).is_some_and(|slot| slot.is_program())
    }

    /// Asks a program. The work goes on when the caller goes away: what the program did is recorded.
    pub(crate) async fn ask_program(
        self: &Arc<Self>,
        name: &str,
        request: ProgramRequest,
    ) -> Result<(String, Response<Bytes>)> {
        let started = Instant::now();
        let deadline = started + self.patience;
        let (slot, live) = self.serving_any(name, deadline).await?;
        if live.program.is_none() {
            return Err(Error::not_found(format!(
                "deployment {name} is a model and no program: ask it at /v2/models/{name}/infer or \
                 /deployments/{name}/invocations"
            )));
        }
        self.memory.touch(&live);
        let service = Arc::clone(self);
        let work = async move { service.answer_program(&slot, &live, request, (started, deadline)).await };
        let trace = TraceContext::current().unwrap_or_else(TraceContext::new_root);
        let task = self.background.spawn(trace.scope(work));
        task.await.map_err(|error| Error::internal("asking a program failed").with_source(error))?
    }

    async fn answer_program(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        champion: &Arc<Live>,
        request: ProgramRequest,
        (started, deadline): (Instant, Instant),
    ) -> Result<(String, Response<Bytes>)> {
        let _permit = self.admit()?;
        let received_ms = self.env.now_ms();
        let (live, answered) = match self.route_program(slot, champion, &request, deadline).await {
            Ok(answered) => answered,
            Err(error) => {
                champion.statistics.fail.add(started.elapsed());
                return Err(error);
            }
        };
        let Answered { response, queued, computed } = answered;
        let ProgramRequest { head, body, meta } = request;
        let key = meta.id.as_deref().map(|id| key_of(slot.name(), id));
        let id = meta.id.clone().unwrap_or_else(|| self.env.new_id());
        let program = program_of(&live)?.parts();
        if program.spec.records(head.method.as_str()) {
            let max_bytes = program.settings.max_recorded_bytes;
            let mut inputs = recorded_body("request", &body, max_bytes);
            if let Some(query) = head.uri.query() {
                inputs.extend(recorded_body("query", query.as_bytes(), max_bytes));
            }
            let record = PredictionRecord {
                id: id.clone(),
                deployment: slot.name().to_owned(),
                revision: live.revision.number,
                version: live.revision.version.clone(),
                is_shadow: false,
                time_ms: meta.time_ms.unwrap_or(received_ms),
                received_ms,
                latency_us: computed.as_micros() as u64,
                inputs,
                outputs: recorded_body("answer", response.body(), max_bytes),
                labels: labels(&head, &response),
            };
            let mut frames = Vec::new();
            push_frame(&mut frames, &record)?;
            if self.spool.append(key, &frames, 1)? == Appended::Recorded {
                slot.recorded.increment(1);
            }
        }
        let took = Took {
            total: started.elapsed(),
            queue: queued,
            input: Duration::ZERO,
            infer: computed,
            output: Duration::ZERO,
            rows: 1,
            batch_rows: Some(1),
        };
        live.statistics.add(&took, self.env.now_ms());
        slot.queued.record(queued);
        slot.duration.record(started.elapsed());
        match response.status().as_u16() {
            200 => slot.answered.increment(1),
            status => {
                let labels = [("deployment", slot.name().to_owned()), ("status", status.to_string())];
                metrics::counter!("fishy_inference_requests_total", &labels).increment(1);
            }
        }
        Ok((id, response))
    }

    /// Asks the revision that serves, or a candidate where that has a share; where the candidate fails, the revision answers.
    async fn route_program(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        champion: &Arc<Live>,
        request: &ProgramRequest,
        deadline: Instant,
    ) -> Result<(Arc<Live>, Answered)> {
        let is_well = |answered: &Result<Answered>| {
            answered.as_ref().is_ok_and(|answered| !answered.response.status().is_server_error())
        };
        let Some(traffic) = slot.traffic() else {
            return Ok((Arc::clone(champion), ask(champion, request, deadline).await?));
        };
        let begun = Instant::now();
        let Some(candidate) = traffic.choose(slot.name(), request.meta.sticky_key.as_deref()) else {
            let answered = ask(champion, request, deadline).await;
            if is_well(&answered) {
                traffic.champion.succeeded(begun.elapsed());
            } else {
                traffic.champion.failed();
            }
            return Ok((Arc::clone(champion), answered?));
        };
        let answered = ask(&candidate.live, request, deadline).await;
        let is_well = is_well(&answered);
        if is_well {
            candidate.meter.succeeded(begun.elapsed());
        } else {
            candidate.meter.failed();
        }
        self.judge(slot, &traffic, candidate);
        match answered {
            Ok(answered) if is_well => Ok((Arc::clone(&candidate.live), answered)),
            _ => Ok((Arc::clone(champion), ask(champion, request, deadline).await?)),
        }
    }
}

async fn ask(live: &Live, request: &ProgramRequest, deadline: Instant) -> Result<Answered> {
    program_of(live)?.ask(&request.head, &request.body, deadline).await
}

fn program_of(live: &Live) -> Result<&Program> {
    live.program.as_deref().ok_or_else(|| Error::internal("a program was expected and a model is there"))
}

/// What was asked, and how it ended.
fn labels(head: &request::Parts, response: &Response<Bytes>) -> BTreeMap<String, String> {
    let path = head.uri.path();
    // A path of a request is ASCII.
    let path = path.get(..MAX_LABEL_BYTES).unwrap_or(path);
    BTreeMap::from([
        ("http.method".to_owned(), head.method.to_string()),
        ("http.path".to_owned(), path.to_owned()),
        ("http.status".to_owned(), response.status().as_u16().to_string()),
    ])
}

/// What a caller hears who asks a program as if it were a model.
pub(crate) fn is_a_program(name: &str) -> Error {
    Error::precondition(format!("{name:?} is a program, and this is for models: ask it below /deployments/{name}/"))
}
