//! Killed and started again.

use fishy_contracts::pipelines::RunStatus;

use crate::world::{World, eventually, file_appears};

/// The first try hangs and leaves its process number; a later one ends.
const DEFINITION: &str = r#"name = "p"
[[step]]
name = "before"
kind = "command"
command = ["sh", "-c", "echo x >> before"]
[[step]]
name = "work"
kind = "command"
command = ["sh", "-c", "test -e pid && exit 0; echo $$ > pid.new; mv pid.new pid; exec sleep 600"]
"#;

/// Puts the steps of a stopped service's run back to where a crash would have left them.
async fn rewrite(world: &World, steps: &str) {
    let url = format!("sqlite://{}", world.folder.path().join("db").display());
    let db = fishy_db::Db::connect(&url, "pipelines", fishy_db::DbOptions::default()).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute(steps, vec![]).await.unwrap();
    tx.execute("UPDATE runs SET status = 'running'", vec![]).await.unwrap();
    tx.commit().await.unwrap();
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
}

async fn hanging(world: &World) -> (crate::world::Process, String, String) {
    let process = world.start().await;
    process.apply(world, DEFINITION).await;
    let run = process.start_run("p").await;
    file_appears(&world.scripts().join("pid")).await;
    let pid = std::fs::read_to_string(world.scripts().join("pid")).unwrap();
    assert!(is_alive(&pid));
    (process, run.id, pid)
}

#[tokio::test]
async fn a_killed_service_goes_on_where_it_was_and_leaves_no_child_behind() {
    let world = World::new();
    let (process, id, pid) = hanging(&world).await;
    drop(process);
    assert!(is_alive(&pid), "the child of a killed process lives on, or this test tests nothing");

    let process = world.start().await;
    let run = world.ended(&process, &id).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    assert!(!is_alive(&pid), "the command runs twice");
    assert_eq!(run.steps.iter().map(|step| step.attempts).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(std::fs::read_to_string(world.scripts().join("before")).unwrap(), "x\n", "an ended step was run again");
    let started = world.audit().into_iter().filter(|(action, ..)| action == "pipelines:start").count();
    assert_eq!(started, 1, "the run was recorded as started twice");
}

#[tokio::test]
async fn a_service_that_is_shut_down_ends_its_child_and_goes_on_later() {
    let world = World::new();
    let (process, id, pid) = hanging(&world).await;
    process.shut_down().await;
    assert!(!is_alive(&pid), "a child outlived an orderly end");
    let process = world.start().await;
    assert_eq!(world.ended(&process, &id).await.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn a_version_is_registered_once_however_often_the_step_is_begun() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, crate::whole::WHOLE).await;
    // The registry makes the version, and then is away before the rest is done: the step ended, evaluation waits.
    world.fakes.state().away.insert("governance");
    let run = process.start_run("retrain").await;
    process.reaches(&run.id, RunStatus::Waiting).await;
    drop(process);
    // As if the process had been killed between the registry's answer and the database.
    rewrite(&world, "UPDATE steps SET status = 'running', outputs = 'null' WHERE position > 0").await;
    world.fakes.state().away.clear();

    let process = world.start().await;
    let run = world.ended(&process, &run.id).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    assert_eq!(world.fakes.state().versions.len(), 1);
    assert_eq!(run.steps[0].attempts, 1);
}

#[tokio::test]
async fn lost_data_are_fetched_again_and_changed_data_are_not_passed_off_as_the_same() {
    for is_changed in [false, true] {
        let world = World::new();
        let process = world.start().await;
        process.apply(&world, crate::whole::WHOLE).await;
        world.fakes.state().away.insert("governance");
        let run = process.start_run("retrain").await;
        process.reaches(&run.id, RunStatus::Waiting).await;
        drop(process);
        // As if the process and the disk had been lost during the evaluation.
        rewrite(&world, "UPDATE steps SET status = 'running', outputs = 'null' WHERE position > 1").await;
        let folder = world.folder.path().join("data/pipelines/runs").join(&run.id);
        std::fs::remove_file(folder.join("holdout.parquet")).unwrap();
        if is_changed {
            world.fakes.state().rows[90].value += 1.0;
        }
        world.fakes.state().away.clear();
        let process = world.start().await;
        let run = world.ended(&process, &run.id).await;
        if is_changed {
            assert!(run.error.as_ref().unwrap().contains("data were lost"), "{run:?}");
        } else {
            assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
        }
    }
}

#[tokio::test]
async fn two_processes_on_one_database_never_work_on_the_same_run() {
    let world = World::on_postgres();
    let (one, two) = (world.start().await, world.start().await);
    one.apply(
        &world,
        &DEFINITION
            .replace("test -e pid && exit 0; echo $$ > pid.new; mv pid.new pid; exec sleep 600", "echo x >> work"),
    )
    .await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(one.start_run("p").await.id);
    }
    for id in &ids {
        let run = world.ended(&two, id).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        assert!(run.steps.iter().all(|step| step.attempts == 1), "{run:?}");
    }
    let lines = std::fs::read_to_string(world.scripts().join("work")).unwrap().lines().count();
    assert_eq!(lines, ids.len());
    eventually("the end of both", || async { one.problems().await.is_empty() }).await;
}
