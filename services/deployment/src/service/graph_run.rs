//! The way of a request through an inference graph.

use std::sync::Arc;
use std::time::Instant;

use fishy_core::{Error, Result};
use fishy_inference::Tensor;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use super::Service;
use super::graph::{Graph, Members};
use super::predict::{Answer, Served};
use super::statistics::Took;
use super::traffic::ticket;
use crate::domain::graph::{Flow, Plan, Step, choose_cases, combine, merge, told};
use crate::domain::{Elements, Layout, NamedInput, Prepared, Recorded, RequestMeta};
use crate::spool::key_of;

/// One request on its way.
struct Run<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    members: &'a Members,
    meta: &'a RequestMeta,
    deadline: Instant,
}

/// What a node answers.
struct Done {
    outputs: Vec<Tensor>,
    /// For each row, the nodes that answered.
    paths: Vec<String>,
}

impl Service {
    /// Answers a request to a graph, and records it as one prediction a row.
    pub(super) async fn predict_graph(
        self: &Arc<Self>,
        graph: &Graph,
        version: Option<&str>,
        meta: RequestMeta,
        prepare: impl FnOnce(&Layout) -> Result<Prepared>,
    ) -> Result<Answer> {
        let started = Instant::now();
        let deadline = started + meta.timeout.map_or(self.patience, |timeout| timeout.min(self.patience));
        let _permit = self.admit()?;
        let received_ms = self.env.now_ms();
        let (plan, members) = self.planned(graph, version, deadline).await?;
        let Prepared { tensors, rows } = prepare(&plan.layout)?;
        let inputs: Vec<Arc<Tensor>> = tensors.into_iter().map(Arc::new).collect();
        let flow = Flow { inputs: inputs.clone(), earlier: Vec::new(), rows };
        let run = Run { graph, plan: &plan, members: &members, meta: &meta, deadline };
        let begun = Instant::now();
        let Done { outputs, paths } = self.step(&run, &plan.step, flow).await?;
        let computed = begun.elapsed();
        let (key, is_unrecorded) = (meta.id.as_deref().map(|id| key_of(graph.slot.name(), id)), meta.is_unrecorded);
        let id = meta.id.unwrap_or_else(|| self.env.new_id());
        let version = graph.version();
        if !is_unrecorded {
            let inputs: Vec<Tensor> = inputs.iter().map(|tensor| Tensor::clone(tensor)).collect();
            let recorded = Recorded {
                is_shadow: false,
                id: &id,
                deployment: graph.slot.name(),
                revision: graph.row.number,
                version: &version,
                time_ms: meta.time_ms.unwrap_or(received_ms),
                received_ms,
                latency_us: computed.as_micros() as u64,
                layout: &plan.layout,
                inputs: &inputs,
                outputs: &outputs,
                labels: &meta.labels,
                paths: &paths,
                rows,
            };
            self.record(&graph.slot, key, &recorded)?;
        }
        graph.slot.answered.increment(1);
        graph.slot.duration.record(started.elapsed());
        Ok(Answer { id, served: Served::Graph(version), outputs, rows })
    }

    fn step<'a>(self: &'a Arc<Self>, run: &'a Run<'a>, step: &'a Step, flow: Flow) -> BoxFuture<'a, Result<Done>> {
        async move {
            match step {
                Step::Model { place, deployment, .. } => {
                    let done = self.ask_member(run, step, &flow).await;
                    done.map_err(|error| error.context(format_args!("{} (deployment {deployment:?})", told(place))))
                }
                Step::Sequence(steps) => self.sequence(run, steps, flow).await,
                Step::Switch { place, cases, default } => {
                    let conditions = cases.iter().map(|(condition, _)| condition);
                    let chosen = choose_cases(conditions, &run.plan.layout, &flow)
                        .map_err(|error| error.context(told(place)))?;
                    let ways: Vec<&Step> =
                        cases.iter().map(|(_, step)| step).chain(std::iter::once(&**default)).collect();
                    self.switch(run, place, &ways, &chosen, flow).await
                }
                Step::Ensemble { place, combine: how, outputs, steps } => {
                    let rows = flow.rows;
                    let done = try_join_all(steps.iter().map(|step| self.step(run, step, flow.clone()))).await?;
                    let (answers, paths): (Vec<_>, Vec<_>) =
                        done.into_iter().map(|done| (done.outputs, done.paths)).unzip();
                    let outputs = combine(*how, outputs, &answers, rows).map_err(|error| error.context(told(place)))?;
                    let path_of = |row: usize| {
                        let ways: Vec<&str> =
                            paths.iter().filter_map(|paths| paths.get(row)).map(String::as_str).collect();
                        format!("({})", ways.join(" + "))
                    };
                    Ok(Done { outputs, paths: (0..rows).map(path_of).collect() })
                }
                Step::Splitter { place, routes, seen } => {
                    let salt = format!("{}/{place}", run.graph.slot.name());
                    let ticket = ticket(seen, &salt, run.meta.sticky_key.as_deref());
                    let mut until = 0.0;
                    let chosen = routes.iter().position(|(weight, _)| {
                        until += weight;
                        ticket < until
                    });
                    let chosen = chosen.unwrap_or(routes.len().saturating_sub(1));
                    let Some((_, step)) = routes.get(chosen) else {
                        return Err(Error::internal("a splitter without routes"));
                    };
                    let mut done = self.step(run, step, flow).await?;
                    for path in &mut done.paths {
                        *path = format!("[route {}] {path}", chosen + 1);
                    }
                    Ok(done)
                }
            }
        }
        .boxed()
    }

    async fn sequence(self: &Arc<Self>, run: &Run<'_>, steps: &[Step], mut flow: Flow) -> Result<Done> {
        let mut last = Done { outputs: Vec::new(), paths: vec![String::new(); flow.rows] };
        for (index, step) in steps.iter().enumerate() {
            let Done { outputs, paths } = self.step(run, step, flow.clone()).await?;
            for (path, more) in last.paths.iter_mut().zip(paths) {
                if index > 0 {
                    path.push_str(" > ");
                }
                path.push_str(&more);
            }
            flow.earlier.extend(outputs.iter().cloned().map(Arc::new));
            last.outputs = outputs;
        }
        Ok(last)
    }

    /// Each row goes the way that was chosen for it; rows of one way go together.
    async fn switch(
        self: &Arc<Self>,
        run: &Run<'_>,
        place: &str,
        ways: &[&Step],
        chosen: &[usize],
        flow: Flow,
    ) -> Result<Done> {
        let named = |way: usize| match way {
            way if way + 1 == ways.len() => "default".to_owned(),
            way => format!("case {}", way + 1),
        };
        let mut parts = Vec::new();
        for (way, step) in ways.iter().enumerate() {
            let rows: Vec<usize> = (0..flow.rows).filter(|row| chosen.get(*row) == Some(&way)).collect();
            if !rows.is_empty() {
                parts.push((way, *step, rows));
            }
        }
        let asked = parts.into_iter().map(|(way, step, rows)| {
            // Most requests are one row, and most go one way: these are not copied.
            let part = if rows.len() == flow.rows { flow.clone() } else { flow.pick(&rows) };
            async move { Ok::<_, Error>((way, rows, self.step(run, step, part).await?)) }
        });
        let mut paths = vec![String::new(); flow.rows];
        let mut answers = Vec::new();
        for (way, rows, done) in try_join_all(asked).await? {
            for (row, path) in rows.iter().zip(done.paths) {
                paths[*row] = format!("[{}] {path}", named(way));
            }
            answers.push((rows, done.outputs));
        }
        let outputs = match <[_; 1]>::try_from(answers) {
            Ok([(_, outputs)]) => outputs,
            Err(answers) => merge(answers, flow.rows).map_err(|error| error.context(told(place)))?,
        };
        Ok(Done { outputs, paths })
    }

    /// Asks a deployment as a request to it would, with its splits and its shadow; only the record is the graph's.
    async fn ask_member(self: &Arc<Self>, run: &Run<'_>, step: &Step, flow: &Flow) -> Result<Done> {
        let Step::Model { deployment, wires, outputs: renamed, .. } = step else {
            return Err(Error::internal("a node that is no deployment"));
        };
        let begun = Instant::now();
        let (slot, champion) =
            run.members.get(deployment).ok_or_else(|| Error::unavailable("it does not serve any more"))?;
        self.memory.touch(champion);
        let inputs = wires.iter().map(|wire| {
            let missing = || Error::invalid(format!("there is no {:?}, which it takes as {:?}", wire.from, wire.to));
            let Tensor { shape, data, .. } = flow.find(&run.plan.layout, &wire.from).ok_or_else(missing)?;
            Ok(NamedInput { name: wire.to.clone(), shape, elements: Elements::Typed(data) })
        });
        let prepared = champion.layout.prepare(inputs.collect::<Result<_>>()?)?;
        if prepared.rows != flow.rows {
            let (rows, takes) = (flow.rows, prepared.rows);
            return Err(Error::invalid(format!("it takes {takes} rows of a request of {rows}: send them one by one")));
        }
        let input = begun.elapsed();
        let traffic = slot.traffic();
        let asked = self.compute(slot, traffic.as_ref(), champion, run.meta, prepared.tensors, run.deadline).await;
        let (live, ran) = asked.inspect_err(|_| champion.statistics.fail.add(begun.elapsed()))?;
        let took = Took {
            total: begun.elapsed(),
            queue: ran.queued,
            input,
            infer: ran.computed,
            output: std::time::Duration::ZERO,
            rows: flow.rows,
            batch_rows: ran.is_first.then_some(ran.batch_rows),
        };
        slot.queued.record(took.queue);
        live.statistics.add(&took, self.env.now_ms());
        if let Some(traffic) = &traffic {
            self.mirror(slot, traffic, &ran, None);
        }
        let mut outputs = ran.outputs;
        for tensor in &mut outputs {
            if let Some(name) = renamed.get(&tensor.name) {
                tensor.name.clone_from(name);
            }
        }
        Ok(Done { outputs, paths: vec![format!("{deployment}@{}", live.revision.version); flow.rows] })
    }
}
