use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fishy_core::{Error, Result};
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Process;

/// The first pause before a process is started again; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// What has been up for so long is healthy: its next failure is a first one.
const STEADY: Duration = Duration::from_mins(1);
/// What a process is given to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// A process whose checks fail so often in a row is replaced.
const FAILED_CHECKS: u32 = 3;

/// How the processes of a fleet are started and looked after.
pub trait Staff: Send + Sync + 'static {
    /// What requests need of a process that is up.
    type Up: Send + Sync + 'static;

    /// Starts one process, and waits until it can be asked.
    fn start(&self, index: usize) -> BoxFuture<'_, Result<(Process, Self::Up)>>;

    /// Whether it can still be asked.
    fn check<'a>(&'a self, up: &'a Self::Up) -> BoxFuture<'a, Result<()>>;
}

/// Bounds of a [`Fleet`].
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The deployment, for logs and metrics.
    pub name: String,
    /// How many processes there are.
    pub processes: usize,
    /// Requests that one process takes at once.
    pub lanes: usize,
    /// Requests that wait for a process, at most.
    pub max_waiting: usize,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// How often a process is checked.
    pub check_every: Duration,
}

/// Processes that are kept running. Dropping it ends them.
pub struct Fleet<S: Staff> {
    shared: Arc<Shared<S>>,
    stop: CancellationToken,
}

/// The right to ask one process; it goes back when this is dropped.
pub struct Lease<S: Staff> {
    shared: Arc<Shared<S>>,
    up: Arc<S::Up>,
    index: usize,
    life: u64,
    /// Whether the process is still at work on it.
    is_stuck: bool,
}

struct Shared<S: Staff> {
    staff: S,
    options: FleetOptions,
    state: Mutex<State<S::Up>>,
    changed: Notify,
}

struct State<U> {
    members: Vec<Member<U>>,
    waiting: usize,
    is_stopped: bool,
}

struct Member<U> {
    up: Option<Arc<U>>,
    /// Which of its processes that is: leases of an earlier one mean nothing any more.
    life: u64,
    busy: usize,
    /// Of these, how many got no answer in time.
    stuck: usize,
    condemned: CancellationToken,
    /// Why it could not be started when it was tried last.
    failure: Option<String>,
}

/// What a request finds.
enum Found<S: Staff> {
    Free(Lease<S>),
    Busy,
    /// Nothing is up, and nothing could be started.
    Down(String),
}

impl<S: Staff> Fleet<S> {
    /// Starts the processes; on the tasks of `tasks`, until this is dropped or `stop` cancelled. Must be called on a Tokio
    /// runtime.
    pub fn start(staff: S, options: FleetOptions, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let member =
            || Member { up: None, life: 0, busy: 0, stuck: 0, condemned: CancellationToken::new(), failure: None };
        let count = options.processes.max(1);
        let members = (0..count).map(|_| member()).collect();
        let state = Mutex::new(State { members, waiting: 0, is_stopped: false });
        let shared = Arc::new(Shared { staff, options, state, changed: Notify::new() });
        let stop = stop.child_token();
        for index in 0..count {
            tasks.spawn(keep(Arc::clone(&shared), index, stop.clone()));
        }
        Self { shared, stop }
    }

    /// How it is started.
    pub fn staff(&self) -> &S {
        &self.shared.staff
    }

    /// Waits until one process is up. An error when one could not be started before that.
    pub async fn ready(&self) -> Result<()> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.shared.lock();
                if state.is_stopped {
                    return Err(stopped());
                }
                if state.members.iter().any(|member| member.up.is_some()) {
                    return Ok(());
                }
                if let Some(failure) = state.members.iter().find_map(|member| member.failure.clone()) {
                    return Err(Error::precondition(failure));
                }
            }
            changed.await;
        }
    }

    /// The process with the fewest requests; waits for one until `deadline` when all are busy or being started.
    ///
    /// `ResourceExhausted` when too many wait, or none came free; `Unavailable` when none is up.
    pub async fn acquire(&self, deadline: Instant) -> Result<Lease<S>> {
        let mut waiting = None;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.shared.find()? {
                Found::Free(lease) => return Ok(lease),
                Found::Down(why) => return Err(Error::unavailable(why)),
                Found::Busy => {}
            }
            if waiting.is_none() {
                waiting = Some(Waiting::join(&self.shared)?);
            }
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return Err(self.shared.nothing_came_free());
            }
        }
    }

    /// How many processes are up.
    pub fn count_up(&self) -> usize {
        self.shared.lock().members.iter().filter(|member| member.up.is_some()).count()
    }
}

impl<S: Staff> Drop for Fleet<S> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<S: Staff> Lease<S> {
    /// What is asked.
    pub fn up(&self) -> &S::Up {
        &self.up
    }

    /// The process is broken: it is replaced.
    pub fn condemn(self) {
        let mut state = self.shared.lock();
        if let Some(member) = state.members.get_mut(self.index).filter(|member| member.life == self.life) {
            member.up = None;
            member.condemned.cancel();
        }
    }

    /// It gave no answer in time. Its place stays taken, since the process may be at work on it for ever; when all places
    /// of the process are taken so, it is replaced.
    pub fn give_up(mut self) {
        self.is_stuck = true;
        let lanes = self.shared.options.lanes.max(1);
        let mut state = self.shared.lock();
        if let Some(member) = state.members.get_mut(self.index).filter(|member| member.life == self.life) {
            member.stuck += 1;
            if member.stuck >= lanes {
                member.up = None;
                member.condemned.cancel();
            }
        }
    }
}

impl<S: Staff> Drop for Lease<S> {
    fn drop(&mut self) {
        if self.is_stuck {
            return;
        }
        let mut state = self.shared.lock();
        if let Some(member) = state.members.get_mut(self.index).filter(|member| member.life == self.life) {
            member.busy -= 1;
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

/// One of those that wait.
struct Waiting<S: Staff>(Arc<Shared<S>>);

impl<S: Staff> Waiting<S> {
    fn join(shared: &Arc<Shared<S>>) -> Result<Self> {
        let mut state = shared.lock();
        if state.waiting >= shared.options.max_waiting {
            return Err(Error::exhausted(format!(
                "{} requests wait for the processes of {}, which is the limit: send it again later",
                state.waiting, shared.options.name
            )));
        }
        state.waiting += 1;
        Ok(Self(Arc::clone(shared)))
    }
}

impl<S: Staff> Drop for Waiting<S> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl<S: Staff> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S::Up>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(self: &Arc<Self>) -> Result<Found<S>> {
        let lanes = self.options.lanes.max(1);
        let mut state = self.lock();
        if state.is_stopped {
            return Err(stopped());
        }
        let free =
            state.members.iter_mut().enumerate().filter(|(_, member)| member.up.is_some() && member.busy < lanes);
        if let Some((index, member)) = free.min_by_key(|(_, member)| member.busy)
            && let Some(up) = &member.up
        {
            member.busy += 1;
            let (up, life) = (Arc::clone(up), member.life);
            return Ok(Found::Free(Lease { shared: Arc::clone(self), up, index, life, is_stuck: false }));
        }
        let failures: Option<Vec<&String>> = state.members.iter().map(|member| member.failure.as_ref()).collect();
        Ok(match failures.as_deref().and_then(<[_]>::first) {
            Some(failure) => Found::Down(format!("no process of {} runs: {failure}", self.options.name)),
            None => Found::Busy,
        })
    }

    fn nothing_came_free(&self) -> Error {
        let name = &self.options.name;
        if self.lock().members.iter().all(|member| member.up.is_none()) {
            return Error::unavailable(format!("the processes of {name} are being started: send it again later"));
        }
        Error::exhausted(format!(
            "the processes of {name} were busy until the request's deadline: send fewer at once, or give it more processes"
        ))
    }

    fn came_up(&self, index: usize, up: S::Up) -> (Arc<S::Up>, CancellationToken) {
        let (up, condemned) = (Arc::new(up), CancellationToken::new());
        if let Some(member) = self.lock().members.get_mut(index) {
            *member = Member {
                up: Some(Arc::clone(&up)),
                life: member.life + 1,
                busy: 0,
                stuck: 0,
                condemned: condemned.clone(),
                failure: None,
            };
        }
        self.count_up(1.0);
        self.changed.notify_waiters();
        (up, condemned)
    }

    fn went_down(&self, index: usize) {
        if let Some(member) = self.lock().members.get_mut(index) {
            member.up = None;
        }
        self.count_up(-1.0);
    }

    fn failed(&self, index: usize, error: &Error) {
        let name = &self.options.name;
        tracing::warn!(deployment = name, index, error = error.chain(), "a process cannot be started");
        if let Some(member) = self.lock().members.get_mut(index) {
            member.failure = Some(error.message().to_owned());
        }
        self.changed.notify_waiters();
    }

    fn stopped(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_waiters();
    }

    fn count_up(&self, by: f64) {
        metrics::gauge!("fishy_deployment_processes_up", "deployment" => self.options.name.clone()).increment(by);
    }

    /// Waits until a process has to be replaced, and tells why; `None` when it should stop.
    async fn watch(
        &self,
        process: &mut Process,
        up: &S::Up,
        condemned: &CancellationToken,
        stop: &CancellationToken,
    ) -> Option<String> {
        let mut failed = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                how = process.wait() => return Some(how),
                () = condemned.cancelled() => return Some("it gave no answer, or a broken one".to_owned()),
                () = tokio::time::sleep(self.options.check_every) => {}
            }
            let check = tokio::time::timeout(self.options.check_every, self.staff.check(up));
            let checked = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                checked = check => checked,
            };
            match checked {
                Ok(Ok(())) => failed = 0,
                Ok(Err(error)) => {
                    failed += 1;
                    if failed >= FAILED_CHECKS {
                        return Some(format!("it failed {failed} checks: {}", error.message()));
                    }
                }
                Err(_) => {
                    failed += 1;
                    if failed >= FAILED_CHECKS {
                        return Some(format!("it did not answer {failed} checks"));
                    }
                }
            }
        }
    }
}

/// Keeps one process of a fleet running.
async fn keep<S: Staff>(shared: Arc<Shared<S>>, index: usize, stop: CancellationToken) {
    let options = &shared.options;
    let mut failures = 0_u32;
    loop {
        let start = tokio::time::timeout(options.start_timeout, shared.staff.start(index));
        let started = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            started = start => started.unwrap_or_else(|_| {
                let ms = options.start_timeout.as_millis();
                Err(Error::precondition(format!("a process was not ready within {ms} ms")))
            }),
        };
        match started {
            Err(error) => shared.failed(index, &error),
            Ok((mut process, up)) => {
                let (up, condemned) = shared.came_up(index, up);
                let since = Instant::now();
                let why = shared.watch(&mut process, &up, &condemned, &stop).await;
                shared.went_down(index);
                // Its end of the socket goes with it: the process sees that it should end.
                drop(up);
                process.end(if why.is_some() { Duration::ZERO } else { GRACE }).await;
                let Some(why) = why else { break };
                let words = process.last_words().await;
                metrics::counter!("fishy_deployment_process_restarts_total", "deployment" => options.name.clone())
                    .increment(1);
                tracing::warn!(deployment = options.name, index, why, words, "a process is replaced");
                if since.elapsed() > STEADY {
                    failures = 0;
                }
            }
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(MAX_PAUSE);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    shared.stopped();
}

fn stopped() -> Error {
    Error::unavailable("the processes were stopped")
}
