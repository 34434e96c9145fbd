//! The expert queue: what is worth a look, who looks at it, and what was said.

use std::collections::{BTreeMap, HashMap};

use fishy_authz::Identity;
use fishy_contracts::List;
use fishy_contracts::monitoring::{
    Agreement, AgreementQuery, ComparedPair, Judgement, NewOpinion, Opinion, QueueAnswer, QueueItem, QueueReason,
    QueueReceipt, QueueRelease, QueueRequest,
};
use fishy_core::time::{DAY_MS, HOUR_MS};
use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::json;

use super::{Monitoring, blocking, gauges};
use crate::domain::experts::{self, Candidate, Evidence, Placed};
use crate::domain::opinions;
use crate::store;
use crate::store::experts::{Asked, LeaseRow, OtherAnswer};
use crate::store::monitors::MonitorRow;
use crate::store::predictions::LabelledPage;

/// Answers that are ranked, the newest.
const CANDIDATES: usize = 2_000;
/// Labelled answers that errors are estimated from, the newest.
const LABELLED: usize = 500;
/// Answers of other models that are looked at.
const OTHERS: usize = 20_000;
/// Items given out before that what is like them comes behind.
const SEEN: usize = 1_000;
/// Answers among which a repeat is chosen, the newest.
const REPEATABLE: usize = 2_000;
/// Answers that agreement is computed from, the newest.
const RATINGS: usize = 20_000;
/// How often the order is made anew because others took the items.
const ROUNDS: usize = 5;
/// Opinions that pairs are read from, and pairs of one comparison.
const COMPARED: (usize, usize) = (20_000, fishy_drift::MAX_COMPARED_PAIRS);

impl Monitoring {
    /// What should be looked at next, the most useful first. Nothing is given out.
    pub async fn queue(&self, name: &str, limit: u32, caller: &Identity) -> Result<List<QueueItem>> {
        let count = experts::check_count(limit)?;
        let monitor = self.monitor(name).await?;
        let actor = caller.to_string();
        let items = self.ranked(&monitor, &self.asked(&monitor, &actor), count).await?;
        Ok(List { items, next_page_token: None })
    }

    /// Gives items out: those that the caller holds already, then new ones, and a share of those that were answered before.
    pub async fn next_items(&self, name: &str, request: QueueRequest, caller: &Identity) -> Result<List<QueueItem>> {
        let count = experts::check_count(request.count)?;
        let monitor = self.monitor(name).await?;
        let actor = caller.to_string();
        let mut rounds = 1;
        loop {
            let (items, is_contended) = self.try_next(&monitor, &self.asked(&monitor, &actor), count).await?;
            if items.len() == count || !is_contended || rounds == ROUNDS {
                return Ok(List { items, next_page_token: None });
            }
            rounds += 1;
        }
    }

    /// Items that the expert holds in the end, and whether others were quicker to take some.
    async fn try_next(&self, monitor: &MonitorRow, asked: &Asked<'_>, count: usize) -> Result<(Vec<QueueItem>, bool)> {
        let mut ranked = self.ranked(monitor, asked, count).await?.into_iter();
        let spec = &monitor.spec.experts;
        let until_ms = asked.now_ms + spec.lease_minutes * 60_000;
        let own_before_ms = asked.now_ms - (spec.repeat_after_hours * HOUR_MS as f64) as i64;
        let mut is_contended = false;
        let mut tx = self.db.begin().await?;
        store::take_turn(&mut tx).await?;
        let held = store::experts::held(&mut tx, asked, count).await?.len();
        let mut given_out = 0;
        for _ in held..count {
            let lease = self.env.new_id();
            let mut given = None;
            if experts::is_repeat(&lease, spec.repeat_percent) {
                let answered = store::experts::answered(&mut tx, asked, REPEATABLE).await?;
                if let Some(item) = experts::choose_repeat(&answered, asked.actor, own_before_ms) {
                    let reasons = store::experts::first_reasons(&mut tx, asked.monitor, &item.prediction_id).await?;
                    given = Some((item.prediction_id.clone(), reasons));
                }
            }
            while given.is_none() {
                let Some(item) = ranked.next() else { break };
                if store::experts::is_free(&mut tx, asked, &item.prediction_id).await? {
                    given = Some((item.prediction_id, item.reasons));
                } else {
                    is_contended = true;
                }
            }
            let Some((prediction_id, reasons)) = given else { break };
            store::experts::lease(&mut tx, asked, &lease, &prediction_id, until_ms, &reasons).await?;
            given_out += 1;
        }
        let items = store::experts::held(&mut tx, asked, count).await?;
        tx.commit().await?;
        gauges::queue_items(asked.monitor, "given_out", given_out);
        Ok((items, is_contended))
    }

    /// Answers an item, or corrects an answer of the caller; every opinion is kept.
    pub async fn answer_item(
        &self,
        name: &str,
        lease: &str,
        answer: QueueAnswer,
        caller: &Identity,
    ) -> Result<QueueReceipt> {
        let actor = caller.to_string();
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        store::take_turn(&mut tx).await?;
        let lease = own_lease(&mut tx, name, lease, &actor).await?;
        let judgement = Judgement::Expert { label: answer.label, severity: answer.severity };
        let new = NewOpinion {
            id: None,
            prediction_id: lease.prediction_id.clone(),
            opinion: judgement.clone(),
            text: answer.text.clone(),
            time_ms: None,
        };
        opinions::check(std::slice::from_ref(&new))?;
        let state = match lease.state.as_str() {
            "answered" => "corrected",
            "leased" if lease.until_ms > now_ms => "answered",
            _ => return Err(ended(&lease)),
        };
        if let Some(before) = &lease.opinion_id
            && let Some(before) = store::experts::opinion(&mut tx, before).await?
            && before.opinion == judgement
            && before.text == answer.text
        {
            return Ok(QueueReceipt { lease: lease.id, state: "answered".into(), opinion: before.id });
        }
        let opinion = Opinion {
            id: self.env.new_id(),
            prediction_id: lease.prediction_id,
            actor: actor.clone(),
            time_ms: now_ms,
            received_ms: now_ms,
            opinion: judgement,
            text: answer.text,
        };
        store::opinions::insert(&mut tx, std::slice::from_ref(&opinion)).await?;
        store::experts::set_answered(&mut tx, &lease.id, &opinion.id, now_ms).await?;
        let details = json!({"lease": lease.id, "prediction_ids": [opinion.prediction_id], "state": state});
        self.audit(&mut tx, &actor, "feedback:write", &format!("monitor:{name}"), details).await?;
        tx.commit().await?;
        metrics::counter!("fishy_monitoring_opinions_total", "by" => "expert", "says" => "label").increment(1);
        gauges::queue_items(name, state, 1);
        Ok(QueueReceipt { lease: lease.id, state: state.into(), opinion: opinion.id })
    }

    /// Skips an item of the caller, or returns it.
    pub async fn release_item(
        &self,
        name: &str,
        lease: &str,
        release: QueueRelease,
        caller: &Identity,
    ) -> Result<QueueReceipt> {
        let mut tx = self.db.begin().await?;
        store::take_turn(&mut tx).await?;
        let lease = own_lease(&mut tx, name, lease, &caller.to_string()).await?;
        let state = if release.is_skipped { "skipped" } else { "returned" };
        if lease.state != state {
            if lease.state != "leased" {
                return Err(ended(&lease));
            }
            store::experts::set_state(&mut tx, &lease.id, state).await?;
            tx.commit().await?;
            gauges::queue_items(name, state, 1);
        }
        Ok(QueueReceipt { lease: lease.id, state: state.into(), opinion: String::new() })
    }

    /// How far experts agree on what was shown more than once.
    pub async fn agreement(&self, name: &str, query: AgreementQuery) -> Result<Agreement> {
        self.monitor(name).await?;
        let ratings = store::experts::ratings(&self.db, name, RATINGS).await?;
        blocking(move || experts::agreement(&ratings, query)).await
    }

    /// Answers beside the numbers that experts gave.
    pub async fn compared_pairs(&self, name: &str) -> Result<List<ComparedPair>> {
        let monitor = self.monitor(name).await?;
        let (looked_at, limit) = COMPARED;
        let items = store::experts::compared(&self.db, &monitor.spec.deployment, looked_at, limit).await?;
        Ok(List { items, next_page_token: None })
    }

    fn asked<'a>(&self, monitor: &'a MonitorRow, actor: &'a str) -> Asked<'a> {
        let (name, deployment) = (&monitor.spec.name, &monitor.spec.deployment);
        Asked { monitor: name, deployment, actor, now_ms: self.env.now_ms() }
    }

    async fn ranked(&self, monitor: &MonitorRow, asked: &Asked<'_>, count: usize) -> Result<Vec<QueueItem>> {
        let spec = &monitor.spec.experts;
        let counted = store::monitors::deployment(&self.db, asked.deployment).await?;
        let Some(newest_ms) = counted.newest_ms else { return Ok(Vec::new()) };
        let from_ms = newest_ms - (spec.lookback_days * DAY_MS as f64) as i64;
        let raw = store::experts::candidates(&self.db, asked, from_ms, CANDIDATES).await?;
        let (Some(newest), Some(oldest)) = (raw.first(), raw.last()) else { return Ok(Vec::new()) };
        let span = (oldest.time_ms, newest.time_ms);
        let own = store::experts::answers(&self.db, asked.deployment, span, OTHERS).await?;
        let challenger = if spec.challenger.is_empty() {
            Vec::new()
        } else {
            store::experts::answers(&self.db, &spec.challenger, span, OTHERS).await?
        };
        let (labelled, _) = store::predictions::labelled_page(
            &self.db,
            &LabelledPage {
                deployment: asked.deployment,
                monitor: asked.monitor,
                from_ms: 0,
                to_ms: i64::MAX,
                as_of_ms: i64::MAX,
                after: &(i64::MAX, String::new()),
                is_backwards: true,
                limit: LABELLED,
            },
        )
        .await?;
        let seen = store::experts::seen(&self.db, asked, SEEN).await?;
        let task = self.task(monitor).await?;
        let version = task.champion.as_ref().map(|champion| champion.version.as_str());
        let references = self.reference(&task, version).await?;
        let (series_label, is_probability) = (monitor.spec.series_label.clone(), spec.is_probability);
        let alike_ms = (spec.alike_hours * HOUR_MS as f64) as i64;
        blocking(move || {
            let series = |labels: &BTreeMap<String, String>| labels.get(&series_label).cloned().unwrap_or_default();
            let others = others(&own, &challenger, series);
            let mut candidates = Vec::with_capacity(raw.len());
            for raw in raw {
                let row = raw.window_row()?;
                let series = series(&row.labels);
                let answers = others.get(&(row.time_ms, series.clone())).map(Vec::as_slice).unwrap_or_default();
                let answers = answers.iter().filter(|(version, _)| Some(*version) != raw.version());
                let others = answers.map(|(_, output)| *output).collect();
                candidates.push(Candidate { id: raw.id, series, row, others });
            }
            let labelled = labelled.iter().map(store::predictions::RawRow::window_row).collect::<Result<_>>()?;
            let reasons = experts::score(&candidates, &Evidence { is_probability, labelled, references });
            let seen: Vec<Placed> =
                seen.iter().map(|(time_ms, labels)| Placed { series: series(labels), time_ms: *time_ms }).collect();
            Ok(items(&candidates, reasons, &seen, alike_ms, count))
        })
        .await
    }
}

/// Answers by time and series, with the version that gave them; those of the challenger have none.
fn others<'a>(
    own: &'a [OtherAnswer],
    challenger: &'a [OtherAnswer],
    series: impl Fn(&BTreeMap<String, String>) -> String,
) -> HashMap<(i64, String), Vec<(&'a str, f64)>> {
    let mut others: HashMap<_, Vec<_>> = HashMap::new();
    let all = own.iter().map(|answer| (answer.version.as_str(), answer));
    for (version, answer) in all.chain(challenger.iter().map(|answer| ("", answer))) {
        others.entry((answer.time_ms, series(&answer.labels))).or_default().push((version, answer.output));
    }
    others
}

fn items(
    candidates: &[Candidate],
    mut reasons: Vec<Vec<QueueReason>>,
    seen: &[Placed],
    alike_ms: i64,
    count: usize,
) -> Vec<QueueItem> {
    let placed: Vec<(Placed, &[QueueReason])> = candidates
        .iter()
        .zip(&reasons)
        .map(|(one, reasons)| (Placed { series: one.series.clone(), time_ms: one.row.time_ms }, reasons.as_slice()))
        .collect();
    let chosen = experts::rank(&placed, seen, alike_ms, count);
    let item = |at: usize| QueueItem {
        lease: String::new(),
        until_ms: None,
        prediction_id: candidates[at].id.clone(),
        time_ms: candidates[at].row.time_ms,
        labels: candidates[at].row.labels.clone(),
        inputs: candidates[at].row.inputs.clone(),
        output: candidates[at].row.output,
        reasons: std::mem::take(&mut reasons[at]),
    };
    chosen.into_iter().map(item).collect()
}

async fn own_lease(tx: &mut Tx, monitor: &str, lease: &str, actor: &str) -> Result<LeaseRow> {
    let found = store::experts::find(tx, monitor, lease).await?.filter(|lease| lease.actor == actor);
    found.ok_or_else(|| Error::not_found(format!("you hold no lease {lease:?} of monitor {monitor:?}")))
}

fn ended(lease: &LeaseRow) -> Error {
    let how = if lease.state == "leased" { "has run out" } else { &lease.state };
    Error::precondition(format!("lease {} is over ({how}): ask for the next items", lease.id))
}
