//! Models without an ONNX form, in real Python processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fishy_authz::{Authorizer, Bundle};
use fishy_config::Config;
use fishy_contracts::deployment::EngineSettings;
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::grpc::{request, send};
use crate::world::{App, Files, INFER, INVOKE, NOW_MS, World, columns, eventually, spec};

/// The interpreter that the set-up made: it has mlflow, scikit-learn and Flask.
pub fn interpreter() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.fishy/venv/bin/python");
    assert!(python.is_file(), "{} is missing: run cargo xtask test once", python.display());
    python
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn add_files(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            add_files(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// What mlflow's client logs for a scikit-learn model.
fn scikit_learn() -> Files {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let logged = Command::new(interpreter())
        .arg(fixture("linear_pickle.py"))
        .arg(&model)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(logged.status.success(), "{}", String::from_utf8_lossy(&logged.stderr));
    let mut files = Files::new();
    add_files(&model, "", &mut files);
    assert!(files.keys().any(|path| path.contains(".pkl")), "{:?}", files.keys());
    files
}

/// The model of `pen_model.py`.
fn pens() -> Files {
    let inputs = json!([{"type": "string", "name": "what"}, {"type": "double", "name": "value"}]);
    let mlmodel = format!(
        "flavors:\n  python_function: {{loader_module: pen_model, code: code, data: data, python_version: 3.11.0}}\n\
         signature:\n  inputs: '{inputs}'\n  params: '[{{\"name\": \"alpha\", \"type\": \"double\", \"default\": 0.5, \"shape\": null}}]'\n"
    );
    Files::from([
        ("MLmodel".to_owned(), mlmodel.into_bytes()),
        ("code/pen_model.py".to_owned(), std::fs::read(fixture("pen_model.py")).unwrap()),
        ("data/none".to_owned(), b"-".to_vec()),
    ])
}

fn config(world: &World) -> Config {
    let mut config = world.config();
    config.deployment.python.enabled = true;
    config.deployment.python.interpreter = interpreter().display().to_string();
    config
}

async fn world_of(files: Files) -> World {
    let world = World::new().await;
    world.registry.lock().unwrap().versions.insert("1".into(), files);
    world
}

/// The deployment of a model, served.
async fn serve(world: &World, config: Config) -> App {
    let app = world.start_with(config).await;
    let deployment = app.api.apply(&spec(false)).await.unwrap();
    assert_eq!(deployment.problem, None);
    app
}

/// One row of the model of `pen_model.py`.
fn pen(what: &str, value: f64) -> Value {
    json!({"dataframe_records": [{"what": what, "value": value}]})
}

async fn ask(app: &App, what: &str, value: f64) -> Value {
    let answer = app.post(INVOKE, &pen(what, value)).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    answer.json()["predictions"][0].clone()
}

async fn process_of(app: &App) -> i32 {
    ask(app, "id", 1.0).await["text"].as_str().unwrap().parse().unwrap()
}

fn kill(process: i32) {
    let _ = kill_process(Pid::from_raw(process).unwrap(), Signal::KILL);
}

#[tokio::test]
async fn a_python_model_is_served_only_where_configuration_and_policy_allow_it() {
    let mut world = world_of(pens()).await;
    let app = world.start().await;
    let deployment = app.api.apply(&spec(false)).await.unwrap();
    assert_eq!(deployment.current, None);
    let problem = deployment.problem.unwrap();
    assert!(problem.contains("deployment.python.enabled = true") && problem.contains("mlflow.onnx"), "{problem}");
    let answer = app.post(INVOKE, &pen("", 1.0)).await;
    assert!(answer.status == 503 && answer.body.contains("deployment.python.enabled"), "{}", answer.body);
    app.shutdown().await;

    let mut bundle = Bundle::embedded(NOW_MS);
    bundle.policies.push_str(
        "\n@id(\"pens-alone\")\nforbid (principal, action == Action::\"deployment:run_code\", resource) unless { resource.name == \"pens\" };\n",
    );
    world.authorizer = Authorizer::new(bundle).unwrap();
    let app = world.start_with(config(&world)).await;
    let problem = app.api.apply(&spec(false)).await.unwrap().problem.unwrap();
    assert!(problem.contains("deployment:run_code"), "{problem}");
    let mut allowed = spec(false);
    allowed.name = "pens".into();
    let deployment = app.api.apply(&allowed).await.unwrap();
    assert_eq!((deployment.problem, deployment.current.unwrap().features), (None, vec!["what".into(), "value".into()]));
}

#[tokio::test]
async fn a_scikit_learn_model_without_onnx_answers_at_every_door() {
    let world = world_of(scikit_learn()).await;
    world.collect_stream().await;
    let app = serve(&world, config(&world)).await;
    let is_close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;

    let answer = app.post(INFER, &columns("p-1", 10.0)).await;
    let output = &answer.json()["outputs"][0];
    assert_eq!(
        (&output["name"], &output["datatype"], &output["shape"]),
        (&json!("predictions"), &json!("FP64"), &json!([1]))
    );
    assert!(is_close(&output["data"][0], 15.5), "{}", answer.body);
    let (status, message, answer) = send(&app.client, &request("p-2", 20.0), &[]).await;
    assert_eq!((status, message.as_str()), (0, ""));
    assert!((f64::from_le_bytes(answer.raw[0][..].try_into().unwrap()) - 25.5).abs() < 1e-9);

    // MLflow's own server answers such a model with a plain list.
    let rows =
        json!({"dataframe_split": {"columns": ["ph", "salinity", "temperature"], "data": [[1, 1, 10], [1, 1, 20]]}});
    let predictions = app.post(INVOKE, &rows).await.json()["predictions"].clone();
    assert!(is_close(&predictions[0], 15.5) && is_close(&predictions[1], 25.5), "{predictions}");
    let csv =
        app.call(http::Method::POST, INVOKE, &[("content-type", "text/csv")], "temperature,salinity,ph\n10,1,1\n");
    assert!(is_close(&csv.await.json()["predictions"][0], 15.5));
    let wrong =
        app.post(INVOKE, &json!({"dataframe_records": [{"temperature": "warm", "salinity": 1, "ph": 1}]})).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("column \\\"temperature\\\" holds texts"), "{}", wrong.body);
    let missing = app.post(INVOKE, &json!({"dataframe_records": [{"temperature": 1, "salinity": 1}]})).await;
    assert!(missing.status == 400 && missing.body.contains("ph"), "{}", missing.body);

    let explained = app.post("/v2/models/virtual-oxygen/explain", &columns("", 10.0)).await;
    let output = &explained.json()["explanations"][0]["outputs"][0];
    assert!(is_close(&output["prediction"], 15.5) && output["additivity_gap"].as_f64().unwrap() < 1e-9, "{output}");
    let metadata = app.get("/v2/models/virtual-oxygen").await.json();
    assert_eq!(metadata["platform"], "mlflow_pyfunc");
    assert_eq!(metadata["inputs"][0], json!({"name": "temperature", "datatype": "FP64", "shape": [-1]}));
    assert_eq!(metadata["outputs"][0], json!({"name": "predictions", "datatype": "FP64", "shape": [-1]}));

    eventually("five records", || world.streamed.lock().unwrap().len() == 5).await;
    let records = world.streamed.lock().unwrap().clone();
    let first = records.iter().find(|record| record.id == "p-1").unwrap();
    assert_eq!(json!(first.inputs), json!({"temperature": 10.0, "salinity": 1.0, "ph": 1.0}));
    assert!(is_close(&first.outputs["predictions"], 15.5));

    // Served again out of the local cache, without a registry.
    app.shutdown().await;
    world.registry.lock().unwrap().is_away = true;
    let app = world.start_with(config(&world)).await;
    assert_eq!(app.post(INFER, &columns("p-3", 10.0)).await.status, 200);
}

#[tokio::test]
async fn errors_of_the_model_are_told_apart_and_those_of_its_own_are_not_told() {
    let world = world_of(pens()).await;
    let app = serve(&world, config(&world)).await;
    assert_eq!(ask(&app, "", 4.0).await, json!({"twice": 8.0, "text": ""}));
    let refused = app.post(INVOKE, &pen("refuse", 1.0)).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("ValueError: pen 9 is not known"), "{}", refused.body);
    let failed = app.post(INVOKE, &pen("fail", 1.0)).await;
    assert!(failed.status == 500 && !failed.body.contains("secret"), "{}", failed.body);
    let inputs = json!({"id": "v-1", "inputs": [
        {"name": "what", "shape": [1], "datatype": "BYTES", "data": ["refuse"]},
        {"name": "value", "shape": [1], "datatype": "FP64", "data": [1.0]},
    ]});
    let refused = app.post(INFER, &inputs).await;
    assert!(refused.status == 400 && refused.json()["error"].as_str().unwrap().contains("pen 9"), "{}", refused.body);
}

#[tokio::test]
async fn parameters_reach_the_model_and_requests_with_others_are_not_put_together() {
    let world = world_of(pens()).await;
    let app = serve(&world, config(&world)).await;
    assert_eq!(ask(&app, "alpha", 1.0).await["text"], "0.5", "the signature's default");
    let asked = async |alpha: Value| {
        let mut request = pen("alpha", 1.0);
        request["params"] = json!({"alpha": alpha, "unknown": "left out"});
        app.post(INVOKE, &request).await
    };
    let answers = join_all((0..8).map(|n| asked(json!(f64::from(n) + 0.25)))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.json()["predictions"][0]["text"], format!("{n}.25"), "{}", answer.body);
    }
    let wrong = asked(json!("high")).await;
    assert!(wrong.status == 400 && wrong.body.contains("alpha"), "{}", wrong.body);
}

#[tokio::test]
async fn a_worker_that_is_killed_under_load_costs_no_answer_and_is_replaced() {
    let world = world_of(pens()).await;
    let app = serve(&world, config(&world)).await;
    let engine = EngineSettings { sessions: Some(2), ..EngineSettings::default() };
    app.api.set_engine("virtual-oxygen", &engine).await.unwrap();
    let is_over = AtomicBool::new(false);
    let client = async |begin: u32| {
        let mut answered = 0;
        while !is_over.load(Ordering::Relaxed) {
            let value = f64::from(begin + answered);
            assert_eq!(ask(&app, "", value).await, json!({"twice": value * 2.0, "text": ""}));
            answered += 1;
        }
        answered
    };
    let killer = async {
        let mut killed = BTreeSet::new();
        for _ in 0..3 {
            // Both are up: whoever was asked of the one that is killed can be asked of the other.
            let mut up = BTreeSet::new();
            while up.len() < 2 {
                let process = process_of(&app).await;
                if !killed.contains(&process) {
                    up.insert(process);
                }
            }
            let process = up.pop_first().unwrap();
            kill(process);
            killed.insert(process);
        }
        let last = process_of(&app).await;
        is_over.store(true, Ordering::Relaxed);
        assert!(!killed.contains(&last));
    };
    let (first, second, third, ()) = tokio::join!(client(0), client(100_000), client(200_000), killer);
    assert!(first > 0 && second > 0 && third > 0);
}

#[tokio::test]
async fn a_worker_that_hangs_dies_or_burns_the_processor_is_replaced() {
    let world = world_of(pens()).await;
    let mut config = config(&world);
    config.deployment.python.workers = 1;
    config.deployment.python.timeout_ms = 20_000;
    config.deployment.python.processor_seconds = 1;
    let app = serve(&world, config.clone()).await;
    let first = process_of(&app).await;
    // Killed by the limit of its processor time, twice: the request is asked of a second worker.
    let spinning = app.post(INVOKE, &pen("spin", 1.0)).await;
    assert_eq!(spinning.status, 503, "{}", spinning.body);
    assert!(spinning.body.contains("2 workers of the model died"), "{}", spinning.body);
    let second = process_of(&app).await;
    assert_ne!(first, second);
    let died = app.post(INVOKE, &pen("die", 1.0)).await;
    assert!(died.status == 503 && died.body.contains("died"), "{}", died.body);
    app.shutdown().await;

    config.deployment.python.timeout_ms = 3_000;
    let app = world.start_with(config).await;
    let before = process_of(&app).await;
    let hanging = app.post(INVOKE, &pen("sleep", 1000.0)).await;
    assert_eq!(hanging.status, 503, "{}", hanging.body);
    assert!(hanging.body.contains("no answer within 3000 ms"), "{}", hanging.body);
    assert_ne!(process_of(&app).await, before);
    eventually("the end of the worker that hung", || {
        std::fs::read(format!("/proc/{before}/cmdline")).unwrap_or_default().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_worker_has_its_limits_no_network_and_none_of_our_environment() {
    let world = world_of(pens()).await;
    let mut config = config(&world);
    config.deployment.python.workers = 1;
    let app = serve(&world, config.clone()).await;
    let process = process_of(&app).await;
    let hungry = app.post(INVOKE, &pen("memory", 8.0 * 1024.0 * 1024.0 * 1024.0)).await;
    assert_eq!(hungry.status, 429, "{}", hungry.body);
    assert!(hungry.body.contains("deployment.python.max_memory_bytes"), "{}", hungry.body);
    assert_eq!(process_of(&app).await, process, "it goes on");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = f64::from(listener.local_addr().unwrap().port());
    assert_ne!(ask(&app, "network", port).await["text"], "reached");
    let variables = ask(&app, "variables", 0.0).await["text"].as_str().unwrap().to_owned();
    assert!(variables.contains("TMPDIR") && !variables.contains("CARGO"), "{variables}");
    let home = world.dir.path().join("deployment");
    assert!(home.join("scratch").read_dir().unwrap().count() > 0);
    app.shutdown().await;
    assert_eq!(home.join("scratch").read_dir().unwrap().count(), 0, "nothing of a worker is left");
    eventually("the end of the worker", || {
        std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default().is_empty()
    })
    .await;

    config.deployment.python.allow_network = true;
    let app = world.start_with(config).await;
    assert_eq!(ask(&app, "network", port).await["text"], "reached", "the same question where it is allowed");
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_refused_with_the_reason_and_the_old_one_serves_on() {
    let world = World::new().await;
    let mut broken = pens();
    broken.insert("code/pen_model.py".into(), b"import no_such_module\n".to_vec());
    world.registry.lock().unwrap().versions.insert("3".into(), broken);
    let mut config = config(&world);
    config.deployment.python.start_timeout_ms = Duration::from_mins(2).as_millis() as u64;
    let app = serve(&world, config).await;
    world.move_alias("3", true).await;
    let deployment = app.until(|deployment| deployment.problem.is_some()).await;
    let problem = deployment.problem.unwrap();
    assert!(problem.contains("No module named 'no_such_module'"), "{problem}");
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.json()["outputs"][0]["data"], json!([15.5]));
}
