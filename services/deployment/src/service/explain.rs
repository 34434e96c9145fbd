use std::sync::Arc;
use std::time::{Duration, Instant};

use fishy_core::{Error, Result};
use fishy_explain::{Choice, Coalition, Explanation, Options, shapley};
use fishy_inference::Tensor;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::{Service, blocking};
use crate::domain::{Layout, Mixer, Prepared, Scalars};

/// So many explanations are made at once.
pub(crate) const MAX_EXPLANATIONS: usize = 2;
/// So many rows of one request are explained at most.
const MAX_ROWS: usize = 64;
/// One request may ask the model for so many rows at most.
const MAX_EVALUATIONS: usize = 2_000_000;
/// Rows that are run at once, where the model takes several.
const BATCH_ROWS: usize = 256;

/// How a request wants to be explained.
#[derive(Debug, Clone)]
pub(crate) struct ExplainSettings {
    /// For each row.
    pub(crate) max_evaluations: usize,
    /// More rows of background are thinned out to so many.
    pub(crate) max_background: usize,
    pub(crate) choice: Choice,
    pub(crate) seed: u64,
    pub(crate) timeout: Option<Duration>,
}

/// The rows of a request, explained.
pub(crate) struct Explained {
    pub(crate) live: Arc<Live>,
    pub(crate) rows: Vec<Explanation>,
    /// What the numbers of an answer are: output, and element where it has several.
    pub(crate) outputs: Vec<(String, Option<String>)>,
    pub(crate) background_rows: usize,
}

impl Service {
    /// Explains the rows of a request. `prepare` gives its inputs and its background, if it brings one; else the example
    /// that came with the model is the background.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        name: &str,
        version: Option<&str>,
        settings: ExplainSettings,
        wanted: &[String],
        prepare: impl FnOnce(&Layout) -> Result<(Prepared, Option<Prepared>)>,
    ) -> Result<Explained> {
        let (_, live) = self.serving(name, version).await?;
        self.memory.touch(&live);
        let Ok(_permit) = self.explaining.try_acquire() else {
            return Err(Error::exhausted(format!(
                "{MAX_EXPLANATIONS} explanations are under way, which is the limit: ask again later"
            )));
        };
        let (asked, background) = prepare(&live.layout)?;
        if asked.rows > MAX_ROWS || settings.max_evaluations.saturating_mul(asked.rows) > MAX_EVALUATIONS {
            return Err(Error::invalid(format!(
                "{} rows with {} evaluations each: at most {MAX_ROWS} rows and {MAX_EVALUATIONS} evaluations in all",
                asked.rows, settings.max_evaluations
            )));
        }
        let background = match background {
            Some(background) => background,
            None => stored(&live)?,
        };
        let background = thinned(background, &live.layout, &settings);
        let scalars = Scalars::choose(live.layout.outputs(), wanted)?;
        let deadline = Instant::now() + settings.timeout.map_or(self.patience, |timeout| timeout.min(self.patience));
        // A caller that goes away ends the work.
        let gone = CancellationToken::new();
        let work = Work { live, asked, background, scalars, deadline, gone: gone.clone(), runtime: Handle::current() };
        let _guard = gone.drop_guard();
        blocking(move || work.run(&settings)).await
    }
}

/// The inputs that came with the model.
fn stored(live: &Live) -> Result<Prepared> {
    let Some(tensors) = live.example.clone() else {
        return Err(Error::invalid(
            "the model has no input example to be explained against: send a background, or log the model with one",
        ));
    };
    let rows = if live.layout.is_batched() { tensors.first().and_then(|tensor| tensor.shape.first()) } else { None };
    let rows = rows.map_or(1, |rows| (*rows).max(1) as usize);
    Ok(Prepared { tensors, rows })
}

fn thinned(background: Prepared, layout: &Layout, settings: &ExplainSettings) -> Prepared {
    let count = settings.max_background.max(1);
    if background.rows <= count || !layout.is_batched() {
        return background;
    }
    let rows = fishy_explain::sample(background.rows, count, settings.seed);
    let tensors = background.tensors.into_iter().map(|tensor| {
        let stride = tensor.data.len() / background.rows;
        let picks = rows.iter().map(|row| (false, row * stride..(row + 1) * stride));
        let data = tensor.data.mixed(&tensor.data, picks);
        let mut shape = tensor.shape;
        shape[0] = count as i64;
        Tensor { name: tensor.name, shape, data: data.unwrap_or(tensor.data) }
    });
    Prepared { tensors: tensors.collect(), rows: count }
}

/// What is done away from the async threads.
struct Work {
    live: Arc<Live>,
    asked: Prepared,
    background: Prepared,
    scalars: Scalars,
    deadline: Instant,
    gone: CancellationToken,
    runtime: Handle,
}

impl Work {
    fn run(self, settings: &ExplainSettings) -> Result<Explained> {
        let layout = &self.live.layout;
        let is_batched = layout.is_batched();
        let options = Options {
            max_evaluations: settings.max_evaluations,
            // Where rows of one run have to do with each other, each runs alone.
            batch_rows: if is_batched && self.live.batcher.is_batchable() { BATCH_ROWS } else { 1 },
            seed: settings.seed,
            choice: settings.choice,
        };
        let mut outputs = Vec::new();
        let mut rows = Vec::with_capacity(self.asked.rows);
        for row in 0..self.asked.rows {
            let mixer = Mixer::new(layout, &self.asked, row, &self.background)?;
            let mut model = |asked: &[Coalition<'_>]| {
                if self.gone.is_cancelled() {
                    return Err(Error::unavailable("the caller went away"));
                }
                let ran = self.runtime.block_on(self.live.batcher.run(mixer.mix(asked)?, self.deadline))?;
                if outputs.is_empty() {
                    let keys = |output| self.live.batcher.model().map_keys(output);
                    outputs = self.scalars.names(&ran.outputs, asked.len(), keys);
                }
                self.scalars.read(&ran.outputs, asked.len(), is_batched)
            };
            let features = layout.features().len();
            rows.push(shapley(features, self.background.rows, &options, &mut model)?);
            if Instant::now() > self.deadline && row + 1 < self.asked.rows {
                return Err(Error::exhausted(format!(
                    "the deadline passed after {} of {} rows: send fewer, or lower max_evaluations",
                    row + 1,
                    self.asked.rows
                )));
            }
        }
        Ok(Explained { background_rows: self.background.rows, live: self.live, rows, outputs })
    }
}
