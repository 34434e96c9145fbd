use crate::{Model, Params, Tensor, TensorSpec, check_inputs, golden, rows};
use fishy_core::{Error, ErrorCode, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bounds of a [`Batcher`].
#[derive(Debug, Clone, Copy)]
pub struct BatcherOptions {
    /// So many rows are run at once at most; 1 turns batching off.
    pub max_batch_rows: usize,
    /// So many bytes of inputs wait at most.
    pub max_queue_bytes: usize,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        Self { max_batch_rows: 64, max_queue_bytes: 64 * 1024 * 1024 }
    }
}

/// Runs requests on a model. While a session is free, a request runs at once and alone; while all are busy, requests wait,
/// and whatever waits when a session comes free runs as one batch. So a batch forms only under load and never adds delay.
pub struct Batcher {
    model: Arc<dyn Model>,
    options: BatcherOptions,
    is_batchable: AtomicBool,
    /// Moving average of the time of a row, in nanoseconds; 0 before the first run.
    row_ns: AtomicU64,
    state: Mutex<State>,
}

/// What a request got.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// The inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// The parameters that it was asked with.
    pub params: Option<Arc<Params>>,
    /// The outputs, in the model's order.
    pub outputs: Vec<Tensor>,
    /// How long it waited for a session.
    pub queued: Duration,
    /// How long the model ran.
    pub computed: Duration,
    /// Rows that ran together with it, its own included.
    pub batch_rows: usize,
    /// Whether this is the first request of its batch.
    pub is_first: bool,
}

#[derive(Default)]
struct State {
    running: usize,
    queue: VecDeque<Job>,
    queued_bytes: usize,
    queued_rows: usize,
}

struct Job {
    inputs: Vec<Tensor>,
    params: Option<Arc<Params>>,
    rows: usize,
    bytes: usize,
    deadline: Instant,
    since: Instant,
    answer: oneshot::Sender<Result<Ran>>,
}

/// The right to use one of the sessions; goes back also when the model panicked.
struct Turn(Option<Arc<Batcher>>);

impl Turn {
    /// Gives the session back when nothing waits for it; else the turn remains. Under one lock, so that no request can
    /// begin to wait in between.
    fn give_back(mut self) -> Option<Self> {
        let batcher = self.0.take()?;
        let mut state = batcher.lock();
        if state.queue.is_empty() {
            state.running -= 1;
            return None;
        }
        drop(state);
        Some(Self(Some(batcher)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(batcher) = self.0.take() {
            batcher.lock().running -= 1;
        }
    }
}

impl Batcher {
    /// A batcher for a model. `example` is inputs that the model takes; with it and zeros it is found out whether rows
    /// are independent of each other, and a model whose rows are not is never given rows of several requests at once.
    pub fn new(model: Arc<dyn Model>, options: BatcherOptions, example: Option<Vec<Tensor>>) -> Arc<Self> {
        let is_batchable = options.max_batch_rows > 1 && are_rows_independent(&*model, example);
        tracing::debug!(is_batchable, options.max_batch_rows, "a batcher is ready");
        Arc::new(Self {
            model,
            options,
            is_batchable: AtomicBool::new(is_batchable),
            row_ns: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// The model that runs.
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }

    /// Its bounds.
    pub const fn options(&self) -> &BatcherOptions {
        &self.options
    }

    /// Whether rows of several requests may run at once.
    pub fn is_batchable(&self) -> bool {
        self.is_batchable.load(Ordering::Relaxed)
    }

    /// How many requests wait for a session.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request; must be called on a Tokio runtime.
    ///
    /// `InvalidArgument` for inputs that do not fit; `ResourceExhausted` when the queue is full, or the deadline cannot be
    /// met or has passed. A request whose caller went away, or whose deadline passed while it waited, is not computed.
    pub async fn run(self: &Arc<Self>, inputs: Vec<Tensor>, deadline: Instant) -> Result<Ran> {
        self.run_with(inputs, None, deadline).await
    }

    /// The same with parameters for the model; only requests with the same ones are put together.
    pub async fn run_with(
        self: &Arc<Self>,
        inputs: Vec<Tensor>,
        params: Option<Arc<Params>>,
        deadline: Instant,
    ) -> Result<Ran> {
        let inputs = check_inputs(self.model.inputs(), inputs)?;
        let rows = inputs.first().and_then(|tensor| tensor.shape.first()).map_or(1, |rows| (*rows).max(1) as usize);
        let (job, answer) = {
            let mut state = self.lock();
            let is_free = state.running < self.model.sessions();
            if is_free && state.queue.is_empty() && self.model.is_fast_for(&inputs) {
                state.running += 1;
                drop(state);
                return self.run_here(inputs, params, rows);
            }
            let (sender, answer) = oneshot::channel();
            let bytes = inputs.iter().map(|input| input.data.size_bytes()).sum();
            let job = Job { inputs, params, rows, bytes, deadline, since: Instant::now(), answer: sender };
            if !is_free {
                self.admit(&state, &job)?;
            }
            if is_free && state.queue.is_empty() {
                state.running += 1;
                (Some(job), answer)
            } else {
                state.queued_bytes += job.bytes;
                state.queued_rows += job.rows;
                state.queue.push_back(job);
                if is_free {
                    state.running += 1;
                    drop(state);
                    self.drain(self.turn(), Vec::new());
                }
                (None, answer)
            }
        };
        if let Some(job) = job {
            self.drain(self.turn(), vec![job]);
        }
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(ran)) => ran,
            Ok(Err(_)) => Err(Error::internal("the model panicked")),
            Err(_) => Err(expired()),
        }
    }

    /// A call of a few microseconds: handing it over would cost more than it.
    fn run_here(self: &Arc<Self>, inputs: Vec<Tensor>, params: Option<Arc<Params>>, rows: usize) -> Result<Ran> {
        let turn = self.turn();
        let started = Instant::now();
        let outputs = self.call(&inputs, params.as_deref());
        let computed = started.elapsed();
        if let Some(turn) = turn.give_back() {
            self.drain(turn, Vec::new());
        }
        let outputs = outputs?;
        Ok(Ran { inputs, params, outputs, queued: Duration::ZERO, computed, batch_rows: rows, is_first: true })
    }

    fn call(&self, inputs: &[Tensor], params: Option<&Params>) -> Result<Vec<Tensor>> {
        match params {
            None => self.model.run_ordered(inputs),
            Some(params) => self.model.run_with(inputs, params),
        }
    }

    /// Refuses what there is no room or no time for.
    fn admit(&self, state: &State, job: &Job) -> Result<()> {
        if state.queued_bytes.saturating_add(job.bytes) > self.options.max_queue_bytes {
            return Err(Error::exhausted(format!(
                "{} requests of {} bytes wait for the model, and this one of {} bytes finds no room: send it again later",
                state.queue.len(),
                state.queued_bytes,
                job.bytes
            )));
        }
        let sessions = self.model.sessions().max(1) as u64;
        let wait = Duration::from_nanos(self.row_ns.load(Ordering::Relaxed) * state.queued_rows as u64 / sessions);
        if job.since + wait > job.deadline {
            return Err(Error::exhausted(format!(
                "{} requests wait for the model, and its deadline would pass before this one's turn in about {} ms",
                state.queue.len(),
                wait.as_millis()
            )));
        }
        Ok(())
    }

    /// A turn that was counted under the lock already.
    fn turn(self: &Arc<Self>) -> Turn {
        Turn(Some(Arc::clone(self)))
    }

    /// Works `first` and then whatever waits.
    fn drain(self: &Arc<Self>, turn: Turn, first: Vec<Job>) {
        let batcher = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let (mut turn, mut batch) = (turn, first);
            loop {
                if !batch.is_empty() {
                    batcher.work(std::mem::take(&mut batch));
                }
                batch = batcher.next_batch();
                if batch.is_empty() {
                    match turn.give_back() {
                        None => return,
                        Some(kept) => turn = kept,
                    }
                }
            }
        });
    }

    /// The requests that run next: the one that waits longest, and those behind it that fit together with it.
    fn next_batch(&self) -> Vec<Job> {
        let mut state = self.lock();
        let now = Instant::now();
        let mut batch: Vec<Job> = Vec::new();
        let mut kept = VecDeque::new();
        let (mut rows, mut deadline) = (0, now + Duration::from_hours(1));
        let (is_batchable, row_ns) = (self.is_batchable(), self.row_ns.load(Ordering::Relaxed));
        while let Some(job) = state.queue.pop_front() {
            if job.answer.is_closed() || job.deadline <= now {
                state.queued_bytes -= job.bytes;
                state.queued_rows -= job.rows;
                let _ = job.answer.send(Err(expired()));
                continue;
            }
            let fits = match batch.first() {
                None => true,
                Some(first) => {
                    let all = rows + job.rows;
                    is_batchable
                        && all <= self.options.max_batch_rows
                        && first.params == job.params
                        && is_alike(&first.inputs, &job.inputs)
                        && now + Duration::from_nanos(row_ns * all as u64) <= deadline.min(job.deadline)
                }
            };
            if fits {
                state.queued_bytes -= job.bytes;
                state.queued_rows -= job.rows;
                rows += job.rows;
                deadline = deadline.min(job.deadline);
                batch.push(job);
            } else {
                kept.push_back(job);
            }
            if rows >= self.options.max_batch_rows || !is_batchable {
                break;
            }
        }
        kept.append(&mut state.queue);
        state.queue = kept;
        batch
    }

    fn work(&self, batch: Vec<Job>) {
        let alone = if batch.len() > 1 { self.work_together(batch) } else { Some(batch) };
        for job in alone.into_iter().flatten() {
            self.work_alone(job);
        }
    }

    fn work_alone(&self, job: Job) {
        let Job { inputs, params, rows, since, answer, .. } = job;
        let started = Instant::now();
        let outputs = self.call(&inputs, params.as_deref());
        let computed = started.elapsed();
        self.learn(computed, rows);
        let queued = started - since;
        let _ = answer.send(outputs.map(|outputs| Ran {
            inputs,
            params,
            outputs,
            queued,
            computed,
            batch_rows: rows,
            is_first: true,
        }));
    }

    /// Gives the batch back when it has to be run one by one.
    fn work_together(&self, batch: Vec<Job>) -> Option<Vec<Job>> {
        let joined = rows::join(batch.iter().map(|job| job.inputs.as_slice()));
        let all: usize = batch.iter().map(|job| job.rows).sum();
        let started = Instant::now();
        let params = batch.first().and_then(|job| job.params.as_deref());
        let outputs = match self.call(&joined, params) {
            Ok(outputs) => outputs,
            // A value of one request that the model cannot take must not fail the others.
            Err(error) if error.code() == ErrorCode::InvalidArgument => return Some(batch),
            Err(error) => {
                for job in batch {
                    let _ = job.answer.send(Err(Error::new(error.code(), error.message().to_owned())));
                }
                return None;
            }
        };
        let computed = started.elapsed();
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(batch.len());
        for job in &batch {
            let begin = ranges.last().map_or(0, |range| range.end);
            ranges.push(begin..begin + job.rows);
        }
        let parts: Option<Vec<Vec<Tensor>>> = ranges.iter().map(|range| rows::part(&outputs, all, range)).collect();
        let Some(parts) = parts else {
            tracing::info!("the model does not give a row for each row: its requests run one by one from now on");
            self.is_batchable.store(false, Ordering::Relaxed);
            return Some(batch);
        };
        self.learn(computed, all);
        for (index, (job, outputs)) in batch.into_iter().zip(parts).enumerate() {
            let Job { inputs, params, since, answer, .. } = job;
            let (queued, is_first) = (started - since, index == 0);
            let _ = answer.send(Ok(Ran { inputs, params, outputs, queued, computed, batch_rows: all, is_first }));
        }
        None
    }

    fn learn(&self, computed: Duration, rows: usize) {
        let one = computed.as_nanos() as u64 / rows.max(1) as u64;
        let before = self.row_ns.load(Ordering::Relaxed);
        self.row_ns.store(if before == 0 { one } else { (before * 7 + one) / 8 }, Ordering::Relaxed);
    }
}

fn expired() -> Error {
    Error::exhausted("the request's deadline passed before it was computed: send fewer at once, or give it more time")
}

/// Whether requests may be put together: the same sizes but for the first dimension.
fn is_alike(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.shape.get(1..) == b.shape.get(1..))
}

/// Runs an example and zeros alone and together, and compares. Outputs that depend on the rows beside them differ.
fn are_rows_independent(model: &dyn Model, example: Option<Vec<Tensor>>) -> bool {
    let is_open = |spec: &TensorSpec| spec.shape.first() == Some(&-1);
    if model.inputs().is_empty() || !model.inputs().iter().all(is_open) || !model.outputs().iter().all(is_open) {
        return false;
    }
    let Some(example) = example.or_else(|| crate::engine::zeros(model.inputs())) else { return false };
    let Ok(example) = check_inputs(model.inputs(), example) else { return false };
    let mut zeros = example.clone();
    for tensor in &mut zeros {
        tensor.data = crate::TensorData::zeros(tensor.data.datatype(), tensor.data.len());
    }
    let rows = example.first().and_then(|tensor| tensor.shape.first()).map_or(0, |rows| *rows as usize);
    let both = rows::join([example.as_slice(), zeros.as_slice()]);
    let runs = (model.run_ordered(&example), model.run_ordered(&zeros), model.run_ordered(&both));
    let (Ok(alone), Ok(of_zeros), Ok(together)) = runs else { return false };
    let parts = (rows::part(&together, 2 * rows, &(0..rows)), rows::part(&together, 2 * rows, &(rows..2 * rows)));
    let (Some(first), Some(second)) = parts else { return false };
    let is_same = |a: &[Tensor], b: &[Tensor]| golden::compare(a, b, 1e-4, 1e-5).is_ok();
    is_same(&first, &alone) && is_same(&second, &of_zeros)
}
