//! The loop with a registry that is somebody else's: a real MLflow server behind a door that asks for a token.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fishy_contracts::deployment::DeploymentSpec;
use fishy_contracts::pipelines::{PipelineSpec, Run, RunStatus, StartRun};
use fishy_contracts::{DeploymentClient, PipelinesClient};
use fishy_http::ServiceClient;
use serde_json::{Value, json};

use super::rig::{estuary, fishy, python, replay, root};

/// What the foreign registry asks for.
const THEIRS: &str = "a-token-of-the-foreign-registry";
/// What our services show each other.
const OURS: &str = "a secret of ours, thirty-two characters or more";

/// A real MLflow server of its own, ended with its workers.
struct Mlflow {
    child: Child,
    url: String,
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

impl Mlflow {
    async fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log_path = folder.join("mlflow.log");
        let log = std::fs::File::create(&log_path).unwrap();
        let child = Command::new(python())
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()])
            .args(["--backend-store-uri", &format!("sqlite:///{}/mlflow.db", folder.display())])
            .arg("--artifacts-destination")
            .arg(folder.join("files"))
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env_remove("MLFLOW_TRACKING_URI")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let started = Instant::now();
        let health = format!("{}/health", server.url);
        while !reqwest::get(&health).await.is_ok_and(|answer| answer.status().is_success()) {
            let log = || std::fs::read_to_string(&log_path).unwrap_or_default();
            assert!(server.child.try_wait().unwrap().is_none(), "MLflow ended\n{}", log());
            assert!(started.elapsed() < Duration::from_mins(2), "MLflow did not come up\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        let answer = reqwest::Client::new().get(url).query(query).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }
}

/// Asks for [`THEIRS`] before anything is passed on, and remembers what it was shown.
struct Door {
    http: reqwest::Client,
    /// What stands behind it; nothing is found where there is none.
    behind: Option<String>,
    shown: Mutex<BTreeSet<String>>,
    asks: bool,
}

impl Door {
    async fn open(behind: Option<String>, asks: bool) -> (String, Arc<Self>) {
        let http = reqwest::Client::builder().no_gzip().pool_max_idle_per_host(0).build().unwrap();
        let door = Arc::new(Self { http, behind, shown: Mutex::default(), asks });
        let router = Router::new().fallback(Self::pass).with_state(Arc::clone(&door));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, door)
    }

    fn shown(&self) -> Vec<String> {
        self.shown.lock().unwrap().iter().cloned().collect()
    }

    async fn pass(State(door): State<Arc<Self>>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let shown = parts.headers.get("authorization").map_or("nothing", |value| value.to_str().unwrap());
        door.shown.lock().unwrap().insert(shown.to_owned());
        if door.asks && shown != format!("Bearer {THEIRS}") {
            return (StatusCode::UNAUTHORIZED, "who are you?").into_response();
        }
        let Some(behind) = &door.behind else {
            let body = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "there is nothing here"});
            return (StatusCode::NOT_FOUND, body.to_string()).into_response();
        };
        let mut headers = parts.headers;
        for name in ["host", "authorization", "accept-encoding", "content-length", "transfer-encoding"] {
            headers.remove(name);
        }
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let request = door.http.request(parts.method, format!("{behind}{}", parts.uri)).headers(headers).body(body);
        match request.send().await {
            Ok(answer) => {
                let (status, mut headers) = (answer.status(), answer.headers().clone());
                headers.remove("transfer-encoding");
                (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
            }
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Three months of real data.
#[test]
fn the_loop_runs_with_a_real_mlflow_server_as_its_registry() {
    let Some(data) = estuary() else { return };
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let mlflow = runtime.block_on(Mlflow::start(folder.path()));
    let (url, door) = runtime.block_on(Door::open(Some(mlflow.url.clone()), true));
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, format!("{THEIRS}\n")).unwrap();
    let (data, token_file) = (data.display().to_string(), token_file.display().to_string());
    let mut arguments = vec!["--example", "virtual-oxygen", "--data", &data, "--end", "2012-08-01", "--no-baselines"];
    arguments.extend(["--registry", &url, "--registry-token-file", &token_file]);
    let report = replay(folder.path(), &arguments);
    assert_eq!(report["failed_requests"], 0, "{report:#}");
    assert_eq!(report["lost"], 0, "{report:#}");
    assert_eq!(report["failed_runs"], 0, "{report:#}");
    assert_eq!(report["predictions"], 2208, "{report:#}");
    assert!(report["audit"].as_str().unwrap().starts_with("intact"), "{report:#}");
    let decisions = report["decisions"].as_array().unwrap();
    let promoted: Vec<&Value> = decisions.iter().filter(|decision| decision["status"] == "succeeded").collect();
    assert!(!promoted.is_empty(), "nothing was promoted: {report:#}");

    // What the loop did stands in the MLflow server, as any client of it reads it.
    let name = ("name", "virtual-oxygen");
    let champion = promoted.last().unwrap()["evaluation"]["challenger"]["version"].as_str().unwrap();
    let found = runtime.block_on(mlflow.get("registered-models/alias", &[name, ("alias", "champion")]));
    assert_eq!(found["model_version"]["version"], champion, "{found:#}");
    let filter = [("filter", "name = 'virtual-oxygen'"), ("max_results", "1000")];
    let versions = runtime.block_on(mlflow.get("model-versions/search", &filter));
    let versions = versions["model_versions"].as_array().unwrap();
    assert_eq!(versions.len(), decisions.len() + 1, "one version of the first training and of each retraining");
    for version in versions {
        let tags: BTreeMap<&str, &str> = (version["tags"].as_array().unwrap().iter())
            .map(|tag| (tag["key"].as_str().unwrap(), tag["value"].as_str().unwrap()))
            .collect();
        for key in ["fishy.pipeline_run", "fishy.dataset.sha256", "fishy.training.to_ms", "fishy.evaluation.mae"] {
            assert!(tags.contains_key(key), "version {} has no tag {key}", version["version"]);
        }
        let run = runtime.block_on(mlflow.get("runs/get", &[("run_id", version["run_id"].as_str().unwrap())]));
        let metrics = run["run"]["data"]["metrics"].as_array().unwrap();
        for key in ["training.mae", "evaluation.mae"] {
            assert!(metrics.iter().any(|metric| metric["key"] == key), "no metric {key}: {run:#}");
        }
    }
    assert_eq!(door.shown(), [format!("Bearer {THEIRS}")], "nothing but its own token");
    let log = std::fs::read_to_string(folder.path().join("data/server.log")).unwrap();
    assert!(!log.contains(THEIRS), "the token is in the log");
}

/// Two months of real data, with MLflow's own client and a server of the shape of a Databricks workspace.
#[test]
fn the_loop_runs_with_models_in_unity_catalog() {
    let Some(data) = estuary() else { return };
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let mlflow = runtime.block_on(Mlflow::start(folder.path()));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = std::fs::File::create(folder.path().join("workspace.log")).unwrap();
    let workspace = Command::new(python())
        .arg(root().join("compat/mlflow/workspace.py"))
        .args(["--mlflow", &mlflow.url, "--token", THEIRS, "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let workspace = Ended(workspace);
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < Duration::from_mins(1), "the workspace did not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (url, token_file) = (format!("http://127.0.0.1:{port}"), folder.path().join("token"));
    std::fs::write(&token_file, THEIRS).unwrap();
    let (data, token_file) = (data.display().to_string(), token_file.display().to_string());
    let mut arguments = vec!["--example", "virtual-oxygen", "--data", &data, "--end", "2012-07-01", "--no-baselines"];
    arguments.extend(["--registry", &url, "--registry-is-databricks", "--registry-token-file", &token_file]);
    arguments.extend(["--model", "farm.north.oxygen", "--experiment", "/Shared/oxygen"]);
    let report = replay(folder.path(), &arguments);
    let workspace_log = std::fs::read_to_string(folder.path().join("workspace.log")).unwrap();
    assert_eq!(report["lost"], 0, "{report:#}");
    assert_eq!(report["failed_runs"], 0, "{report:#}");
    assert!(report["retrains"].as_u64().unwrap() >= 1, "{report:#}");
    let decisions = report["decisions"].as_array().unwrap();
    let of = |decision: &Value| decision["evaluation"]["challenger"]["version"].as_str().unwrap().to_owned();
    let mut promoted = decisions.iter().filter(|decision| decision["status"] == "succeeded").map(of);
    let champion = promoted.next_back().unwrap_or_else(|| "1".to_owned());
    let query = [("name", "farm.north.oxygen"), ("alias", "champion")];
    let found = runtime.block_on(mlflow.get("registered-models/alias", &query));
    assert_eq!(found["model_version"]["version"], champion, "{found:#}\n{workspace_log}");
    assert!(!workspace_log.contains("Traceback"), "{workspace_log}");
    drop(workspace);
}

/// Ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of ours, where everyone must say who they are.
struct Ours {
    child: Child,
    url: String,
    token: String,
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ours {
    fn start(folder: &Path, registry: &str) -> Self {
        let made = fishy()
            .args(["token", "create", "tester", "--role", "admin", "--offline", "--data-dir"])
            .arg(folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let mut child = fishy()
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .env("FISHY__AUTH__TOKENS", "true")
            .env("FISHY__AUTH__INTERNAL_SECRET", OURS)
            .env("FISHY__FOREIGN_REGISTRY__URL", registry)
            .env("FISHY__DEPLOYMENT__REGISTRY_POLL_MS", "100")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("fishy is up at ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, token }
    }

    fn client(&self, service: &'static str) -> ServiceClient {
        ServiceClient::remote(service, &self.url, "test", Some(&format!("Bearer {}", self.token))).unwrap()
    }
}

const PIPELINE: &str = r#"
name = "oxygen"
model = "oxygen"

[[step]]
name = "train"
kind = "command"
command = ["sh", "-c", "echo \"{\\\"token\\\": \\\"$MLFLOW_TRACKING_TOKEN\\\", \\\"uri\\\": \\\"$MLFLOW_TRACKING_URI\\\", \\\"model_uri\\\": \\\"models:/m-1\\\"}\" > $FISHY_OUTPUT"]

[[step]]
name = "register"
kind = "register"
"#;

async fn ended(pipelines: &PipelinesClient, id: &str) -> Run {
    let started = Instant::now();
    loop {
        let run = pipelines.run(id).await.unwrap();
        if run.status.is_final() {
            return run;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "{run:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_our_services_show_each_other_is_never_shown_to_a_foreign_registry() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, door) = Door::open(None, false).await;
    let ours = Ours::start(folder.path(), &registry);
    let deployments = DeploymentClient(ours.client("deployment"));
    let spec =
        DeploymentSpec { name: "oxygen".to_owned(), model: "models:/oxygen@champion".to_owned(), is_gated: true };
    let deployment = deployments.apply(&spec).await.unwrap();
    assert!(deployment.problem.unwrap().contains("no alias \"champion\""), "the registry was asked");
    let pipelines = PipelinesClient(ours.client("pipelines"));
    let definition = PipelineSpec {
        name: "oxygen".to_owned(),
        definition: PIPELINE.to_owned(),
        folder: root().display().to_string(),
    };
    pipelines.apply(&definition).await.unwrap();
    let run = pipelines.start("oxygen", &StartRun::default()).await.unwrap();
    let run = ended(&pipelines, &run.id).await;
    assert_eq!(run.status, RunStatus::Failed, "this registry makes no model: {run:#?}");
    assert!(run.error.as_ref().unwrap().contains("there is nothing here"), "{run:#?}");
    let outputs = &run.steps[0].outputs;
    assert_eq!((&outputs["token"], &outputs["uri"]), (&json!(""), &json!(registry)), "a run's token is ours");
    assert_eq!(door.shown(), ["nothing"]);
    // What the registry would answer is not served here.
    let asked = reqwest::get(format!("{}/api/2.0/mlflow/experiments/search", ours.url)).await.unwrap();
    assert_eq!(asked.status(), 404);
}

#[test]
fn a_foreign_registry_and_ours_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let output = fishy()
        .args(["serve", "--service", "registry", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .env("FISHY__FOREIGN_REGISTRY__URL", "http://127.0.0.1:9")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("takes the place of our own registry"), "{told}");
}
