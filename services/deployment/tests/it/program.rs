//! Custom predictors: real Flask applications and commands.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Method;
use fishy_config::Config;
use fishy_contracts::deployment::{Shadow, Split, TrafficSpec};
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::python::interpreter;
use crate::world::{App, Files, INFER, INVOKE, World, columns, eventually, serving, spec};

const NAME: &str = "virtual-oxygen";
const ADVICE: &str = "/deployments/virtual-oxygen/advice";

fn advice(program: &str) -> Files {
    Files::from([
        ("program.toml".to_owned(), program.as_bytes().to_vec()),
        ("advice.py".to_owned(), include_bytes!("../fixtures/advice.py").to_vec()),
    ])
}

/// One process, which takes one request at a time.
const ALONE: &str = "app = \"advice:app\"\nhealth = \"/health\"\nprocesses = 1\nthreads = 1\n";

fn config(world: &World) -> Config {
    let mut config = world.config();
    config.deployment.programs.enabled = true;
    config.deployment.python.interpreter = interpreter().display().to_string();
    config
}

async fn world_of(files: Files) -> World {
    let world = World::new().await;
    world.registry.lock().unwrap().versions.insert("1".into(), files);
    world
}

async fn serve(world: &World, config: Config) -> App {
    let app = world.start_with(config).await;
    let deployment = app.api.apply(&spec(false)).await.unwrap();
    assert_eq!(deployment.problem, None);
    app
}

async fn ask(app: &App, temperature: f64) -> Value {
    let answer = app.post(ADVICE, &json!({"temperature": temperature})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn process_of(app: &App) -> i64 {
    ask(app, 1.0).await["process"].as_i64().unwrap()
}

#[tokio::test]
async fn a_program_is_served_only_where_that_is_switched_on_and_a_command_only_with_the_network() {
    let world = world_of(advice("app = \"advice:app\"")).await;
    let app = world.start().await;
    let problem = app.api.apply(&spec(false)).await.unwrap().problem.unwrap();
    assert!(problem.contains("deployment.programs.enabled = true"), "{problem}");
    app.shutdown().await;
    world.registry.lock().unwrap().versions.insert("1".into(), advice("command = [\"python\", \"advice.py\"]"));
    let app = world.start_with(config(&world)).await;
    let problem = app.api.refresh(NAME).await.unwrap().problem.unwrap();
    assert!(problem.contains("deployment.programs.allow_network"), "{problem}");
}

#[tokio::test]
async fn a_flask_application_is_routed_recorded_and_told_who_asks() {
    let world = world_of(advice("app = \"advice:app\"\nhealth = \"/health\"\n")).await;
    world.collect_stream().await;
    let app = serve(&world, config(&world)).await;
    let headers = [
        ("content-type", "application/json"),
        ("x-prediction-id", "a-1"),
        ("x-event-time", "2012-01-01T04:00:00Z"),
        ("cookie", "session=1"),
    ];
    let answer = app.call(Method::POST, ADVICE, &headers, json!({"temperature": 11.5, "pen": "a"}).to_string()).await;
    let body = answer.json();
    assert_eq!((&body["advice"], &body["twice"]), (&json!("feed"), &json!(23.0)), "{}", answer.body);
    assert_eq!((&body["caller"], &body["has_token"]), (&json!("service:pipelines"), &json!(false)));
    assert_eq!(body["link"], ADVICE, "links lead back to where it is served");
    assert_eq!(answer.headers["x-prediction-id"], "a-1");

    let echo = "/deployments/virtual-oxygen/echo/a%20b/c?pen=4&x=%2F";
    let answer = app.call(Method::PUT, echo, &[], "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (201, json!({"method": "PUT", "rest": "a b/c", "query": "pen=4&x=%2F"}))
    );
    assert_eq!(
        (&answer.headers["x-own"], answer.headers.get("set-cookie")),
        (&"kept".parse::<http::HeaderValue>().unwrap(), None)
    );
    assert!(answer.headers["content-security-policy"].to_str().unwrap().starts_with("sandbox"));
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        assert_eq!(app.call(method.clone(), echo, &[], "").await.json()["method"], method.as_str());
    }
    assert_eq!(app.get("/deployments/virtual-oxygen/nothing").await.status, 404);
    let scored = app.post(INVOKE, &json!({"inputs": [1, 2]})).await;
    assert_eq!(scored.json(), json!({"predictions": [1, 2]}), "{}", scored.body);
    let fault = app.post(ADVICE, &json!({"temperature": "warm"})).await;
    assert_eq!(fault.status, 500);

    // What is not asked of a program says so, and a model is not one.
    let refused = app.post(INFER, &columns("b", 1.0)).await;
    assert!(
        refused.status == 412 && refused.json()["error"].as_str().unwrap().contains("is a program"),
        "{}",
        refused.body
    );
    assert_eq!(app.get("/v2/models/virtual-oxygen/ready").await.status, 200);
    let shadow = Shadow { version: "2".into(), percent: 10.0, tolerance: 0.0, is_recorded: false };
    let refused = app.api.set_traffic(NAME, &TrafficSpec { shadow: Some(shadow), ..TrafficSpec::default() }).await;
    assert!(refused.unwrap_err().message().contains("has no shadow"));

    // Only POST is recorded, whatever the answer; the same id once.
    app.call(Method::POST, ADVICE, &headers, json!({"temperature": 11.5, "pen": "a"}).to_string()).await;
    eventually("three records", || world.streamed.lock().unwrap().len() == 3).await;
    let records = world.streamed.lock().unwrap().clone();
    let first = &records[0];
    assert_eq!((first.id.as_str(), first.version.as_str(), first.revision), ("a-1", "1", 1));
    assert_eq!(first.time_ms, 1_325_390_400_000);
    assert_eq!(json!(first.inputs), json!({"temperature": 11.5, "pen": "a"}));
    assert_eq!((&first.outputs["advice"], &first.outputs["twice"]), (&json!("feed"), &json!(23.0)));
    let labels = json!({"http.method": "POST", "http.path": "/advice", "http.status": "200"});
    assert_eq!(json!(first.labels), labels);
    assert_eq!(records[2].labels["http.status"], "500");
}

#[tokio::test]
async fn a_deployment_of_a_model_has_no_paths_of_a_program() {
    let (_world, app) = serving().await;
    let answer = app.get("/deployments/virtual-oxygen/advice").await;
    assert!(answer.status == 404 && answer.body.contains("is a model and no program"), "{}", answer.body);
    assert_eq!(app.get("/deployments/nobody/advice").await.status, 404);
}

#[tokio::test]
async fn processes_that_are_killed_under_load_are_replaced_and_no_answer_is_wrong() {
    let world = world_of(advice("app = \"advice:app\"\nprocesses = 2\nthreads = 2\n")).await;
    let app = serve(&world, config(&world)).await;
    let is_over = AtomicBool::new(false);
    let client = async |begin: u32| {
        let mut answered = 0_u32;
        while !is_over.load(Ordering::Relaxed) {
            let temperature = f64::from(begin + answered);
            let answer = app.post(ADVICE, &json!({"temperature": temperature})).await;
            match answer.status.as_u16() {
                200 => assert_eq!(answer.json()["twice"], json!(temperature * 2.0)),
                // The process had taken the request when it was killed: nobody knows what it did.
                503 => assert!(answer.body.contains("is not known"), "{}", answer.body),
                status => panic!("{status}: {}", answer.body),
            }
            answered += 1;
        }
        answered
    };
    let killer = async {
        let mut killed = BTreeSet::new();
        while killed.len() < 3 {
            let answer = app.post(ADVICE, &json!({"temperature": 1.0})).await;
            if answer.status == 200 {
                let process = answer.json()["process"].as_i64().unwrap();
                if killed.insert(process) {
                    let _ = kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL);
                }
            }
        }
        eventually_served(&app, &killed).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (answered, ()) = tokio::join!(join_all([client(0), client(100_000), client(200_000)]), killer);
    assert!(answered.iter().all(|count| *count > 0));
}

/// Waits until a process answers that was not killed.
async fn eventually_served(app: &App, killed: &BTreeSet<i64>) {
    loop {
        let answer = app.post(ADVICE, &json!({"temperature": 1.0})).await;
        if answer.status == 200 && !killed.contains(&answer.json()["process"].as_i64().unwrap()) {
            return;
        }
    }
}

#[tokio::test]
async fn a_process_that_hangs_or_is_ill_is_replaced() {
    let world = world_of(advice(ALONE)).await;
    let mut config = config(&world);
    config.deployment.programs.timeout_ms = 2_000;
    config.deployment.programs.check_every_ms = 100;
    let app = serve(&world, config).await;
    let first = process_of(&app).await;
    let hanging = app.post("/deployments/virtual-oxygen/sleep", &json!({})).await;
    assert!(hanging.status == 503 && hanging.body.contains("no answer within"), "{}", hanging.body);
    let second = process_of(&app).await;
    assert_ne!(second, first);
    assert_eq!(app.post("/deployments/virtual-oxygen/sicken", &json!({})).await.status, 200);
    eventually("the end of the ill process", || {
        std::fs::read(format!("/proc/{second}/cmdline")).unwrap_or_default().is_empty()
    })
    .await;
    assert_ne!(process_of(&app).await, second, "what it wrote beside its files is not the next one's");
    let large = app.get("/deployments/virtual-oxygen/large").await;
    assert_eq!(large.status, 200);
}

#[tokio::test]
async fn answers_have_a_bound_and_an_application_has_no_network() {
    let world = world_of(advice(ALONE)).await;
    let mut config = config(&world);
    config.deployment.programs.max_answer_bytes = 50_000;
    let app = serve(&world, config).await;
    let large = app.get("/deployments/virtual-oxygen/large").await;
    assert!(large.status == 503 && large.body.contains("max_answer_bytes"), "{}", large.body);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let network = app.get(&format!("/deployments/virtual-oxygen/network/{port}")).await;
    assert!(network.status == 200 && network.body != "reached", "{}", network.body);
}

#[tokio::test]
async fn any_program_that_speaks_http_is_one() {
    let command = "command = [\"python\", \"-m\", \"gunicorn\", \"--bind\", \"127.0.0.1:$PORT\", \"advice:app\"]\nprocesses = 1\n";
    let world = world_of(advice(&format!("{command}health = \"/health\"\n"))).await;
    let mut config = config(&world);
    config.deployment.programs.allow_network = true;
    let app = serve(&world, config).await;
    let answer = ask(&app, 20.0).await;
    assert_eq!(answer["advice"], "wait");
    let process = answer["process"].as_i64().unwrap();
    app.shutdown().await;
    // The worker of the command's own, too.
    eventually("the end of the command", || {
        std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_new_version_takes_over_and_a_candidate_that_fails_costs_no_answer() {
    let world = world_of(advice(ALONE)).await;
    let app = serve(&world, config(&world)).await;
    let first = process_of(&app).await;
    let mut failing = advice(ALONE);
    let code = String::from_utf8(failing["advice.py"].clone()).unwrap();
    failing.insert("advice.py".into(), code.replace("asked = request.get_json()", "asked = None").into_bytes());
    let mut second = advice(ALONE);
    second.insert("advice.py".into(), code.replace("VERSION = \"first\"", "VERSION = \"second\"").into_bytes());
    {
        let mut registry = world.registry.lock().unwrap();
        registry.versions.insert("2".into(), failing);
        registry.versions.insert("3".into(), second);
    }
    let splits = vec![Split { version: "2".into(), percent: 50.0 }];
    app.api.set_traffic(NAME, &TrafficSpec { splits, ..TrafficSpec::default() }).await.unwrap();
    for _ in 0..10 {
        assert_eq!(ask(&app, 10.0).await["version"], "first");
    }
    let report = app.api.traffic(NAME).await.unwrap();
    assert_eq!((report.splits[0].requests, report.splits[0].errors), (5, 5));
    app.api.set_traffic(NAME, &TrafficSpec::default()).await.unwrap();
    world.move_alias("3", true).await;
    app.until_version("3").await;
    assert_eq!(ask(&app, 10.0).await["version"], "second");
    eventually("the end of the version before", || {
        std::fs::read(format!("/proc/{first}/cmdline")).unwrap_or_default().is_empty()
    })
    .await;
}
