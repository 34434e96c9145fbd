//! Train, register, evaluate, gate, promote.

use fishy_contracts::governance::PromotionStatus;
use fishy_contracts::pipelines::{Run, RunStatus};
use fishy_core::time::DAY_MS;
use serde_json::{Value, json};

use crate::world::{AS_OF_MS, Process, World};

/// The command "trains" a model whose error is the param, and shows what it was given.
pub const WHOLE: &str = r#"name = "retrain"
monitor = "oxygen"
model = "oxygen"
deployment = "oxygen"
experiment = "oxygen-experiment"
[params]
bias = "0.5"
[data]
train_days = 60
holdout_rows = 30
min_train_rows = 50
[[step]]
name = "train"
kind = "command"
command = ["sh", "-c", '''
env | sort > env.txt
cp "$FISHY_DATASET" dataset.json
cp "$FISHY_TRAIN_DATA" train.parquet
printf '{"model_uri": "models:/m-%s", "run_id": "ml-1", "metrics": {"mae": 1}}' "$FISHY_PARAM_BIAS" > "$FISHY_OUTPUT"
echo trained
''']
[[step]]
name = "register"
kind = "register"
[[step]]
name = "evaluate"
kind = "evaluate"
[[step]]
name = "gate"
kind = "gate"
min_improvement = 0.02
min_labels = 24
[[step]]
name = "promote"
kind = "promote"
"#;

async fn run_with(world: &World, process: &Process, bias: &str) -> Run {
    let run = process.start_with("retrain", &[("bias", bias)]).await;
    world.ended(process, &run.id).await
}

fn outputs<'a>(run: &'a Run, step: &str) -> &'a Value {
    &run.steps.iter().find(|known| known.name == step).unwrap().outputs
}

/// The first version is promoted alone, a better one takes its place, a worse one does not.
async fn loop_closes(world: &World) {
    let process = world.start().await;
    process.apply(world, WHOLE).await;

    let first = run_with(world, &process, "0.5").await;
    assert_eq!(first.status, RunStatus::Succeeded, "{first:#?}");
    assert_eq!(world.fakes.state().champion.as_deref(), Some("1"));
    let request = world.fakes.state().promotions[&first.id].request.clone();
    assert_eq!((request.champion_version, request.champion_error, request.is_held_out), (None, None, true));

    let better = run_with(world, &process, "0.25").await;
    assert_eq!(better.status, RunStatus::Succeeded, "{better:#?}");
    assert_eq!(world.fakes.state().champion.as_deref(), Some("2"));
    let request = world.fakes.state().promotions[&better.id].request.clone();
    assert_eq!((request.challenger_error, request.champion_error), (0.25, Some(0.5)));
    assert_eq!((request.version.as_str(), request.champion_version.as_deref()), ("2", Some("1")));
    assert_eq!((request.evaluated_labels, request.open_data_faults, request.signature_matches), (30, 0, true));
    assert_eq!((request.author.as_str(), request.alias.as_str()), ("user:local-admin", "champion"));
    assert_eq!(request.rules.min_improvement, 0.02);

    let worse = run_with(world, &process, "0.75").await;
    assert_eq!((worse.status, worse.error.clone()), (RunStatus::Rejected, None));
    assert_eq!(world.fakes.state().champion.as_deref(), Some("2"), "a rejected challenger was promoted");
    assert_eq!(worse.steps[3].status, RunStatus::Rejected);
    assert_eq!(worse.steps[4].status, RunStatus::Queued);
    assert_eq!(process.problems().await, Vec::<String>::new(), "a rejection is no problem");

    let statuses: Vec<RunStatus> =
        process.client.runs("retrain").await.unwrap().items.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [RunStatus::Rejected, RunStatus::Succeeded, RunStatus::Succeeded]);
    process.shut_down().await;
}

#[tokio::test]
async fn the_loop_closes_on_sqlite() {
    Box::pin(loop_closes(&World::new())).await;
}

#[tokio::test]
async fn the_loop_closes_on_postgres() {
    Box::pin(loop_closes(&World::on_postgres())).await;
}

#[tokio::test]
async fn everything_is_told_to_those_who_need_it() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, WHOLE).await;
    let run = run_with(&world, &process, "0.5").await;

    // The command: its data and its environment.
    let read = |file: &str| std::fs::read_to_string(world.scripts().join(file)).unwrap();
    let manifest: Value = serde_json::from_str(&read("dataset.json")).unwrap();
    // Labels take two days, so at day 100 the newest known row is that of day 98.
    assert_eq!(manifest["holdout"]["from_ms"], 69 * DAY_MS);
    assert_eq!(manifest["holdout"]["to_ms"], 98 * DAY_MS + 1);
    assert_eq!(manifest["holdout"]["rows"], 30);
    assert_eq!((&manifest["train"]["from_ms"], &manifest["train"]["rows"]), (&json!(9 * DAY_MS), &json!(60)));
    assert_eq!(manifest["train"]["to_ms"], 68 * DAY_MS + 1);
    assert_eq!((&manifest["as_of_ms"], &manifest["max_arrived_ms"]), (&json!(AS_OF_MS), &json!(AS_OF_MS)));
    let environment = read("env.txt");
    let value = |name: &str| {
        let line = environment.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is not in\n{environment}")).to_owned()
    };
    assert_eq!(value("FISHY_RUN_ID"), run.id);
    assert_eq!(value("FISHY_AS_OF_MS"), AS_OF_MS.to_string());
    assert_eq!(value("FISHY_PARAM_BIAS"), "0.5");
    assert_eq!(value("MLFLOW_TRACKING_URI"), "http://registry.test");
    assert_eq!(value("MLFLOW_EXPERIMENT_NAME"), "oxygen-experiment");
    assert!(value("MLFLOW_TRACKING_TOKEN").starts_with(&format!("fwr_{}.", run.id)), "a token of this run");
    assert!(!environment.contains("no step may see"), "the secret of the services was passed on:\n{environment}");
    assert!(value("TRACEPARENT").starts_with("00-") && !value("PATH").is_empty());
    assert!(!environment.contains("CARGO_MANIFEST_DIR"), "the server's own environment was passed on:\n{environment}");
    let log = process.client.log(&run.id, "train").await.unwrap();
    assert!(log.starts_with("--- 2023-11-14T22:13:20.000Z try 1: sh") && log.ends_with("trained\n"), "{log}");

    // The version's tags and the MLflow run's metrics.
    let (source, tags) = world.fakes.state().versions[0].clone();
    assert_eq!(source, "models:/m-0.5");
    let tag = |name: &str| tags[name].clone();
    assert_eq!(tag("fishy.pipeline_run"), run.id);
    assert_eq!(tag("fishy.training.to_ms"), (68 * DAY_MS + 1).to_string());
    assert_eq!((tag("fishy.training.rows"), tag("fishy.evaluation.rows")), ("60".to_owned(), "30".to_owned()));
    assert_eq!(tag("fishy.evaluation.mae"), "0.5");
    assert_eq!(world.fakes.state().metrics["evaluation.mae"], 0.5);

    // The audit trail: what was decided, and on what.
    let audit = world.audit();
    let actions: Vec<(&str, &str)> =
        audit.iter().map(|(action, outcome, _)| (action.as_str(), outcome.as_str())).collect();
    assert_eq!(actions, [("pipelines:write", "done"), ("pipelines:start", "done"), ("pipelines:run", "done")]);
    let details = &audit[2].2;
    assert_eq!(details["dataset_sha256"], tag("fishy.dataset.sha256"));
    assert_eq!(details["steps"]["evaluate"]["challenger"]["mae"], 0.5);
    assert_eq!(details["steps"]["gate"]["status"], "approved");

    // The whole answer.
    let hash = |part: &str| manifest[part]["sha256"].as_str().unwrap().to_owned();
    let text = serde_json::to_string_pretty(&run).unwrap().replace(&run.id, "RUN").replace(&hash("train"), "TRAIN");
    insta::assert_snapshot!("whole_run", text);
}

#[tokio::test]
async fn what_keeps_a_challenger_out_reaches_the_gate() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, WHOLE).await;

    // Other features than the champion's.
    world.fakes.add_champion(1.0, Some(0));
    world.fakes.state().versions[0].0 = "models:/m-1-wide".to_owned();
    let run = run_with(&world, &process, "0.5").await;
    // The wide champion cannot be run on these rows at all: said, and the champion stays.
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.as_ref().unwrap().contains("the champion cannot be evaluated"), "{run:?}");

    // A champion that was trained on the held-out rows, or does not say.
    for trained_to in [Some(99 * DAY_MS), None] {
        world.fakes.add_champion(1.0, trained_to);
        let run = run_with(&world, &process, "0.5").await;
        assert_eq!(run.status, RunStatus::Rejected, "{run:?}");
        assert_eq!(outputs(&run, "evaluate")["is_held_out"], false);
        assert!(!outputs(&run, "evaluate")["notes"].as_array().unwrap().is_empty());
    }
    // Trained on a few of them: those are left out.
    world.fakes.add_champion(1.0, Some(72 * DAY_MS));
    let run = run_with(&world, &process, "0.5").await;
    assert_eq!(run.status, RunStatus::Succeeded);
    let evaluation = outputs(&run, "evaluate");
    assert_eq!((&evaluation["rows"], &evaluation["is_held_out"]), (&json!(27), &json!(true)));
    assert_eq!(evaluation["from_ms"], 72 * DAY_MS);

    // Open data faults.
    world.fakes.state().open_faults = 2;
    let run = run_with(&world, &process, "0.1").await;
    assert_eq!(run.status, RunStatus::Rejected);
    let state = world.fakes.state();
    let promotion = &state.promotions[&run.id];
    assert_eq!((promotion.request.open_data_faults, promotion.status), (2, PromotionStatus::Rejected));
}

#[tokio::test]
async fn a_model_with_another_signature_is_not_promoted() {
    let world = World::new();
    world.fakes.add_champion(1.0, Some(0));
    let process = world.start().await;
    process.apply(&world, WHOLE).await;
    let run = run_with(&world, &process, "0.5-two").await;
    assert_eq!(run.status, RunStatus::Rejected, "{run:?}");
    assert!(!world.fakes.state().promotions[&run.id].request.signature_matches);
    assert_eq!(process.problems().await, Vec::<String>::new());

    let run = run_with(&world, &process, "0.5-wide").await;
    assert_eq!(run.status, RunStatus::Failed, "{run:?}");
    assert!(run.error.as_ref().unwrap().contains("the challenger cannot be evaluated"), "{run:?}");
    assert_eq!(world.fakes.state().champion.as_deref(), Some("1"));
    assert_eq!(process.problems().await.len(), 1);
}
