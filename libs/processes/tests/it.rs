//! Fleets of real processes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fishy_core::{Error, ErrorCode, Result};
use fishy_processes::{Fleet, FleetOptions, Launch, Process, Staff};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_mins(1);

/// Starts a shell script; it is healthy unless the number of its start says otherwise.
struct Shell {
    script: &'static str,
    starts: AtomicUsize,
    /// The start after which none succeeds.
    last_good_start: Option<usize>,
    is_first_unhealthy: bool,
}

struct Up {
    start: usize,
    id: u32,
    /// Its end tells the process to end.
    _socket: UnixStream,
}

impl Staff for Shell {
    type Up = Up;

    fn start(&self, _index: usize) -> BoxFuture<'_, Result<(Process, Up)>> {
        async move {
            let start = self.starts.fetch_add(1, Ordering::SeqCst);
            if self.last_good_start.is_some_and(|last| start > last) {
                return Err(Error::precondition("the model is gone"));
            }
            let (process, socket) = Process::start(&launch(self.script))?;
            let id = process.id().unwrap();
            Ok((process, Up { start, id, _socket: socket }))
        }
        .boxed()
    }

    fn check<'a>(&'a self, up: &'a Up) -> BoxFuture<'a, Result<()>> {
        async move { if self.is_first_unhealthy && up.start == 0 { Err(Error::internal("it is ill")) } else { Ok(()) } }
            .boxed()
    }
}

fn launch(script: &str) -> Launch {
    Launch {
        program: PathBuf::from("/bin/sh"),
        arguments: vec!["-c".into(), script.into()],
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
        folder: std::env::temp_dir(),
    }
}

fn options(processes: usize, lanes: usize) -> FleetOptions {
    FleetOptions {
        name: "pens".to_owned(),
        processes,
        lanes,
        max_waiting: 1,
        start_timeout: PATIENCE,
        check_every: Duration::from_millis(20),
    }
}

struct Rig {
    fleet: Fleet<Shell>,
    tasks: TaskTracker,
}

fn fleet(staff: Shell, options: FleetOptions) -> Rig {
    let tasks = TaskTracker::new();
    let fleet = Fleet::start(staff, options, &tasks, &CancellationToken::new());
    Rig { fleet, tasks }
}

fn later() -> Instant {
    Instant::now() + PATIENCE
}

fn is_alive(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/{id}")).exists()
}

/// One that stays until its standard input ends.
fn stays() -> Shell {
    Shell { script: "cat", starts: AtomicUsize::new(0), last_good_start: None, is_first_unhealthy: false }
}

#[tokio::test]
async fn a_process_that_is_killed_is_started_again_and_the_last_ends_with_its_fleet() {
    let Rig { fleet, tasks } = fleet(stays(), options(1, 1));
    fleet.ready().await.unwrap();
    let lease = fleet.acquire(later()).await.unwrap();
    let (first, start) = (lease.up().id, lease.up().start);
    kill_process(Pid::from_raw(first as i32).unwrap(), Signal::KILL).unwrap();
    lease.condemn();
    let again = fleet.acquire(later()).await.unwrap();
    assert_eq!(again.up().start, start + 1);
    let second = again.up().id;
    drop(again);
    drop(fleet);
    tasks.close();
    tasks.wait().await;
    assert!(!is_alive(first) && !is_alive(second));
}

#[tokio::test]
async fn what_a_process_started_goes_with_it() {
    // The shell does not end with its standard input, and neither does its child.
    let script = "sleep 1000 & echo $! >&2; exec sleep 1000";
    let (mut process, _socket) = Process::start(&launch(script)).unwrap();
    let child = loop {
        match process.last_words().await {
            Some(words) => break words.parse::<u32>().unwrap(),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(is_alive(child));
    assert_eq!(process.end(Duration::ZERO).await, "it was ended by signal 9");
    for _ in 0..1000 {
        // A zombie has no command line any more.
        if std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("process {child} is still there");
}

#[tokio::test]
async fn requests_go_to_the_process_with_the_fewest_and_wait_within_a_bound() {
    let Rig { fleet, .. } = fleet(stays(), options(2, 2));
    while fleet.count_up() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(fleet.acquire(later()).await.unwrap());
    }
    let of_first = leases.iter().filter(|lease| lease.up().id == leases[0].up().id).count();
    assert_eq!(of_first, 2);
    let busy = fleet.acquire(Instant::now() + Duration::from_millis(1)).await.err().unwrap();
    assert_eq!(busy.code(), ErrorCode::ResourceExhausted, "{busy}");
    // One may wait: the next one is refused at once, and the one that waits gets what comes free.
    let waits = fleet.acquire(later());
    tokio::pin!(waits);
    assert!(futures::poll!(waits.as_mut()).is_pending());
    let refused = fleet.acquire(later()).await.err().unwrap();
    assert!(refused.code() == ErrorCode::ResourceExhausted && refused.message().contains("which is the limit"));
    let freed = leases.pop().unwrap();
    let id = freed.up().id;
    drop(freed);
    assert_eq!(waits.await.unwrap().up().id, id);
}

#[tokio::test]
async fn a_process_whose_every_place_got_no_answer_is_replaced() {
    let Rig { fleet, .. } = fleet(stays(), options(1, 2));
    let (one, two) = (fleet.acquire(later()).await.unwrap(), fleet.acquire(later()).await.unwrap());
    let first = one.up().id;
    one.give_up();
    assert!(is_alive(first), "the other place may still be answered");
    two.give_up();
    let next = fleet.acquire(later()).await.unwrap();
    assert_ne!(next.up().id, first);
    assert!(!is_alive(first));
}

#[tokio::test]
async fn a_process_that_fails_its_checks_is_replaced() {
    let Rig { fleet, .. } = fleet(Shell { is_first_unhealthy: true, ..stays() }, options(1, 1));
    loop {
        let lease = fleet.acquire(later()).await.unwrap();
        if lease.up().start > 0 {
            break;
        }
        drop(lease);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_asks_what_cannot_be_started_hears_why() {
    let never = Shell { script: "exit 0", starts: AtomicUsize::new(1), last_good_start: Some(0), ..stays() };
    let Rig { fleet: broken, .. } = fleet(never, options(1, 1));
    let error = broken.ready().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (ErrorCode::FailedPrecondition, "the model is gone"));
    let error = broken.acquire(later()).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("no process of pens runs: the model is gone"), "{error}");
}

#[tokio::test]
async fn a_fleet_that_was_stopped_answers_at_once() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let fleet = Fleet::start(stays(), options(1, 1), &tasks, &stop);
    fleet.ready().await.unwrap();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    assert_eq!(fleet.acquire(later()).await.err().unwrap().code(), ErrorCode::Unavailable);
}
