//! Waiting for a decision, and for services that are away.

use fishy_contracts::governance::PromotionStatus;
use fishy_contracts::pipelines::{Run, RunStatus};
use fishy_core::time::DAY_MS;

use crate::whole::WHOLE;
use crate::world::{AS_OF_MS, Process, World, eventually};

#[tokio::test]
async fn governance_may_be_away_and_other_runs_go_on() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, WHOLE).await;
    process.apply(&world, "name = \"other\"\n[[step]]\nname = \"s\"\nkind = \"command\"\ncommand = [\"true\"]\n").await;
    world.fakes.state().away.insert("governance");
    let run = process.start_run("retrain").await;
    let waiting = process.reaches(&run.id, RunStatus::Waiting).await;
    assert_eq!(waiting.steps[3].status, RunStatus::Waiting);
    assert!(waiting.steps[3].error.as_ref().unwrap().contains("governance cannot be reached"), "{waiting:?}");
    let problems = process.problems().await;
    assert!(problems.len() == 1 && problems[0].contains("waits at step \"gate\""), "{problems:?}");

    let other = process.start_run("other").await;
    assert_eq!(world.ended(&process, &other.id).await.status, RunStatus::Succeeded);
    assert_eq!(world.fakes.state().champion, None);

    world.fakes.state().away.clear();
    assert_eq!(world.ended(&process, &run.id).await.status, RunStatus::Succeeded);
    assert_eq!(world.fakes.state().champion.as_deref(), Some("1"));
    assert_eq!(process.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn every_service_may_be_away() {
    for service in ["monitoring", "registry", "deployment"] {
        let world = World::new();
        let process = world.start().await;
        process.apply(&world, &WHOLE.replace("kind = \"promote\"", "kind = \"promote\"\ntimeout_s = 0.1")).await;
        world.fakes.state().away.insert(service);
        let run = process.start_run("retrain").await;
        process.reaches(&run.id, RunStatus::Waiting).await;
        assert_eq!(process.problems().await.len(), 1, "{service}");
        world.fakes.state().away.clear();
        let run = world.ended(&process, &run.id).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{service}: {run:?}");
        assert_eq!(run.steps[0].error, None);
    }
}

#[tokio::test]
async fn an_approval_is_waited_for_and_no_problem() {
    let world = World::new();
    world.fakes.state().decision = Some(PromotionStatus::WaitingForApproval);
    let process = world.start().await;
    process.apply(&world, WHOLE).await;
    let run = process.start_run("retrain").await;
    let waiting = process.reaches(&run.id, RunStatus::Waiting).await;
    assert_eq!(waiting.steps[3].outputs["status"], "waiting_for_approval");
    assert_eq!(process.problems().await, Vec::<String>::new());
    // Also across a restart.
    drop(process);
    let process = world.start().await;
    world.fakes.state().promotions.get_mut(&run.id).unwrap().status = PromotionStatus::Approved;
    let run = world.ended(&process, &run.id).await;
    assert_eq!((run.status, run.steps[0].attempts), (RunStatus::Succeeded, 1));
    assert_eq!(world.fakes.state().champion.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_waiting_run_can_be_cancelled() {
    let world = World::new();
    world.fakes.state().decision = Some(PromotionStatus::WaitingForApproval);
    let process = world.start().await;
    process.apply(&world, WHOLE).await;
    let run = process.start_run("retrain").await;
    process.reaches(&run.id, RunStatus::Waiting).await;
    let cancelled = process.client.cancel(&run.id).await.unwrap();
    assert_eq!((cancelled.status, cancelled.steps[3].status), (RunStatus::Cancelled, RunStatus::Cancelled));
    assert_eq!(world.ended(&process, &run.id).await, cancelled);
}

#[tokio::test]
async fn a_deployment_that_does_not_follow_fails_the_run() {
    let world = World::new();
    world.fakes.state().is_stuck = true;
    let process = world.start().await;
    process.apply(&world, &WHOLE.replace("kind = \"promote\"", "kind = \"promote\"\ntimeout_s = 0.1")).await;
    let run = process.start_run("retrain").await;
    let error = world.ended(&process, &run.id).await.error.unwrap();
    assert!(error.contains("serves version 0 instead of version 1: the new version cannot be loaded"), "{error}");
}

#[tokio::test]
async fn the_first_version_needs_no_deployment_yet() {
    let world = World::new();
    world.fakes.state().has_deployment = false;
    let process = world.start().await;
    process.apply(&world, WHOLE).await;
    let run = process.start_run("retrain").await;
    assert_eq!(world.ended(&process, &run.id).await.status, RunStatus::Succeeded);
    eventually("the alias", || async { world.fakes.state().champion.as_deref() == Some("1") }).await;
}

/// The pipeline with a replay before its gate.
fn with_replay(settings: &str) -> String {
    let gate = "min_labels = 24\n";
    assert!(WHOLE.contains(gate));
    WHOLE.replacen(gate, &format!("{gate}[step.replay]\nlast_days = 7\n{settings}\n"), 1)
}

async fn run_with(world: &World, process: &Process, bias: &str) -> Run {
    let run = process.start_with("retrain", &[("bias", bias)]).await;
    world.ended(process, &run.id).await
}

#[tokio::test]
async fn a_challenger_is_replayed_before_the_gate_and_kept_out_when_too_much_flips() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, &with_replay("thresholds = [5.5]\nby = \"pen\"\nmax_flips_share = 0.1\nmin_rows = 50")).await;
    world.fakes.state().flips = 11;
    let first = run_with(&world, &process, "0.5").await;
    assert_eq!(first.status, RunStatus::Succeeded, "a first version was never asked anything: {first:?}");
    assert!(world.fakes.state().replays.is_empty());

    let flipping = run_with(&world, &process, "0.25").await;
    assert_eq!((flipping.status, &flipping.error), (RunStatus::Rejected, &None), "{flipping:?}");
    assert_eq!(world.fakes.state().champion.as_deref(), Some("1"));
    let asked = world.fakes.state().replays[0].clone();
    assert_eq!((asked.version.as_str(), asked.from_ms, asked.to_ms), ("2", AS_OF_MS - 7 * DAY_MS, AS_OF_MS));
    assert_eq!((asked.by.as_str(), asked.thresholds), ("pen", vec![5.5]));
    let request = world.fakes.state().promotions[&flipping.id].request.clone();
    let replay = request.replay.unwrap();
    assert_eq!((replay.rows, replay.compared, replay.flips, replay.changed, replay.labels), (100, 100, 11, 100, 40));
    assert_eq!((replay.challenger_error, replay.recorded_error), (Some(0.25), Some(0.5)));
    assert_eq!(request.facts["replay"]["version"], "2", "the whole report is recorded");
    let rules = request.rules.replay.unwrap();
    assert_eq!((rules.max_flips_share, rules.max_failed_share, rules.min_rows), (0.1, 0.0, 50));
    assert_eq!(flipping.steps[3].outputs["replay"]["flips"], 11);

    world.fakes.state().flips = 10;
    let fine = run_with(&world, &process, "0.25").await;
    assert_eq!(fine.status, RunStatus::Succeeded, "{fine:?}");
    assert_eq!(world.fakes.state().champion.as_deref(), Some("3"));
    assert_eq!(world.fakes.state().replays.len(), 2);
    // Other features than the champion's keep it out without one.
    let other = run_with(&world, &process, "0.2-two").await;
    assert_eq!(other.status, RunStatus::Rejected, "{other:?}");
    assert_eq!(world.fakes.state().replays.len(), 2);
}

#[tokio::test]
async fn a_replay_that_is_under_way_is_waited_for_and_one_that_decides_nothing_refused() {
    let world = World::new();
    world.fakes.add_champion(1.0, Some(0));
    let process = world.start().await;
    process.apply(&world, &with_replay("thresholds = [5.5]")).await;
    world.fakes.state().is_replaying = true;
    let run = process.start_with("retrain", &[("bias", "0.5")]).await;
    let waiting = process.reaches(&run.id, RunStatus::Waiting).await;
    assert!(waiting.steps[3].error.as_ref().unwrap().contains("a replay is under way"), "{waiting:?}");
    world.fakes.state().is_replaying = false;
    assert_eq!(world.ended(&process, &run.id).await.status, RunStatus::Succeeded);

    process.apply(&world, &with_replay("max_flips_share = 0.1")).await;
    let run = run_with(&world, &process, "0.25").await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.as_ref().unwrap().contains("needs thresholds"), "{run:?}");
}
