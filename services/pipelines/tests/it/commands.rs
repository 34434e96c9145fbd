//! Commands that fail, hang, or need another try.

use fishy_contracts::pipelines::RunStatus;

use crate::world::{World, file_appears};

fn command(name: &str, script: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\n[[step]]\nname = \"work\"\nkind = \"command\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n"
    )
}

#[tokio::test]
async fn a_failing_command_is_a_problem_until_the_next_success() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, &command("p", "echo reading; echo no such sensor >&2; exit 3", "retries = 1")).await;
    let run = process.start_run("p").await;
    let run = world.ended(&process, &run.id).await;
    assert_eq!((run.status, run.steps[0].attempts), (RunStatus::Failed, 2));
    let error = run.error.unwrap();
    assert!(
        error.contains("step \"work\"") && error.contains("exit code 3") && error.contains("no such sensor"),
        "{error}"
    );
    let problems = process.problems().await;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("pipeline \"p\"") && problems[0].contains("no such sensor"), "{problems:?}");
    let (action, outcome, details) = world.audit().pop().unwrap();
    assert_eq!(
        (action.as_str(), outcome.as_str(), details["status"].as_str()),
        ("pipelines:run", "failed", Some("failed"))
    );

    process.apply(&world, &command("p", "exit 0", "")).await;
    assert_eq!(process.problems().await.len(), 1, "a changed pipeline has not run yet");
    let run = process.start_run("p").await;
    assert_eq!(world.ended(&process, &run.id).await.status, RunStatus::Succeeded);
    assert_eq!(process.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_hanging_command_is_ended_by_its_time_limit() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, &command("p", "echo begun; sleep 600", "timeout_s = 0.3")).await;
    let run = process.start_run("p").await;
    let run = world.ended(&process, &run.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.as_ref().unwrap().contains("time limit of 0.3 s"), "{run:?}");
    assert!(process.client.log(&run.id, "work").await.unwrap().contains("begun"));
}

#[tokio::test]
async fn a_command_that_works_the_second_time_is_fine() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, &command("p", "test -e tried || { touch tried; exit 1; }", "retries = 1")).await;
    let run = process.start_run("p").await;
    let run = world.ended(&process, &run.id).await;
    assert_eq!((run.status, run.steps[0].attempts), (RunStatus::Succeeded, 2));
    assert_eq!(run.steps[0].error, None, "the error of an earlier try stands at a step that ended well");
}

#[tokio::test]
async fn later_commands_see_what_earlier_ones_gave_and_not_what_a_failed_try_left() {
    let world = World::new();
    let process = world.start().await;
    let first = r#"if [ -e tried ]; then exit 0; fi; touch tried; echo '{"stale": 1}' > "$FISHY_OUTPUT"; exit 1"#;
    let second = "[[step]]\nname = \"second\"\nkind = \"command\"\ncommand = [\"cp\", \"/dev/null\", \"seen\"]\n";
    let definition = command("p", first, "retries = 1") + second;
    let copy = r#"["sh", "-c", '''cp "$FISHY_STEP_OUTPUTS" seen''']"#;
    process.apply(&world, &definition.replace(r#"["cp", "/dev/null", "seen"]"#, copy)).await;
    let run = process.start_run("p").await;
    let run = world.ended(&process, &run.id).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    let seen = std::fs::read_to_string(world.scripts().join("seen")).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen, serde_json::json!({"second": null, "work": {}}));
}

#[tokio::test]
async fn a_cancelled_run_ends_with_its_command() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, &command("p", "echo $$ > pid; exec sleep 600", "")).await;
    let run = process.start_run("p").await;
    file_appears(&world.scripts().join("pid")).await;
    let behind = process.start_run("p").await;
    assert_eq!(process.client.cancel(&behind.id).await.unwrap().status, RunStatus::Cancelled, "one that had not begun");
    let cancelled = process.client.cancel(&run.id).await.unwrap();
    assert_eq!((cancelled.status, cancelled.steps[0].status), (RunStatus::Cancelled, RunStatus::Cancelled));
    let pid = std::fs::read_to_string(world.scripts().join("pid")).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "the command goes on");
    assert_eq!(process.problems().await, Vec::<String>::new());
    assert_eq!(process.client.cancel(&run.id).await.unwrap(), cancelled, "cancelling twice changes something");
    world.ended(&process, &run.id).await;
    let actions = world.audit().into_iter().filter(|(action, ..)| action == "pipelines:cancel").count();
    assert_eq!(actions, 2, "one entry for each run that somebody cancelled");
}

#[tokio::test]
async fn runs_queue_in_the_order_they_came() {
    let world = World::new();
    let process = world.start().await;
    let script = r#"echo "$FISHY_RUN_ID" >> begun; while ! test -e "go-$FISHY_RUN_ID"; do sleep 0.01; done"#;
    process.apply(&world, &command("p", script, "")).await;
    let (first, second) = (process.start_run("p").await, process.start_run("p").await);
    file_appears(&world.scripts().join("begun")).await;
    process.reaches(&first.id, RunStatus::Running).await;
    assert_eq!(process.client.run(&second.id).await.unwrap().status, RunStatus::Queued);
    for run in [&first, &second] {
        std::fs::write(world.scripts().join(format!("go-{}", run.id)), "").unwrap();
        assert_eq!(world.ended(&process, &run.id).await.status, RunStatus::Succeeded);
    }
    let begun = std::fs::read_to_string(world.scripts().join("begun")).unwrap();
    assert_eq!(begun, format!("{}\n{}\n", first.id, second.id));
}

#[tokio::test]
async fn a_label_from_the_future_stops_the_run_before_anything_is_trained() {
    let world = World::new();
    world.fakes.state().is_leaking = true;
    let process = world.start().await;
    process.apply(&world, crate::whole::WHOLE).await;
    let run = process.start_run("retrain").await;
    let run = world.ended(&process, &run.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.as_ref().unwrap().contains("leaks the future"), "{run:?}");
    assert!(!world.scripts().join("env.txt").exists(), "the command was run all the same");
}

#[tokio::test]
async fn too_few_rows_fail_the_run_and_say_so() {
    let world = World::new();
    world.fakes.state().rows.truncate(40);
    let process = world.start().await;
    process.apply(&world, crate::whole::WHOLE).await;
    let run = process.start_run("retrain").await;
    let error = world.ended(&process, &run.id).await.error.unwrap();
    assert!(error.contains("has 10 labelled rows") && error.contains("min_train_rows asks for 50"), "{error}");
}
