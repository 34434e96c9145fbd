//! Waiting for a decision, and for services that are away.

use fishy_contracts::governance::PromotionStatus;
use fishy_contracts::pipelines::RunStatus;

use crate::whole::WHOLE;
use crate::world::{World, eventually};

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
