//! The commands of the registry against a server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::rig::{fishy, run};

pub struct Server {
    child: Child,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With settings in its environment.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = fishy()
            .envs(settings.iter().copied())
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("fishy is up at ").map(str::to_owned)).unwrap();
        // What it says later must have somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, _folder: folder }
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// Runs a command; what it printed as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = run(&[arguments, &["--output", "json", "--url", &self.url]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn text(&self, arguments: &[&str]) -> String {
        let output = run(&[arguments, &["--url", &self.url]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_rollback_holds_and_deletion_for_good() {
    let server = Server::start();
    let experiment = server.post("experiments/create", json!({"name": "e"})).await;
    let experiment = experiment["experiment_id"].as_str().unwrap();
    let made = server.post("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
    let registered = made["run"]["info"]["run_id"].as_str().unwrap();
    server.post("registered-models/create", json!({"name": "oxygen"})).await;
    for _ in 0..2 {
        let version = json!({"name": "oxygen", "source": format!("runs:/{registered}/m"), "run_id": registered});
        server.post("model-versions/create", version).await;
    }
    server.post("registered-models/alias", json!({"name": "oxygen", "alias": "champion", "version": "1"})).await;
    let history = server.json(&["registry", "history", "oxygen@champion"]);
    let first_ms = history[0]["time_ms"].as_i64().unwrap();
    server.post("registered-models/alias", json!({"name": "oxygen", "alias": "champion", "version": "2"})).await;
    let to = first_ms.to_string();
    let reason = ["--reason", "it drifts"];
    let rolled = server.json(&[&["registry", "rollback", "oxygen@champion", "--to", &to][..], &reason].concat());
    assert_eq!((&rolled["from"], &rolled["to"], &rolled["is_moved"]), (&json!("2"), &json!("1"), &json!(true)));
    let printed = server.text(&["registry", "history", "oxygen", "--kind", "alias"]);
    assert!(printed.contains("alias champion") && printed.contains("it drifts"), "{printed}");
    let refused =
        run(&["registry", "rollback", "oxygen@champion", "--to", "2001-01-01", "--reason", "x", "--url", &server.url]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("named no version"));

    let served = server.json(&["registry", "served", "nobody", "--at", "2024-05-12T14:03", "--label", "pen=7"]);
    assert_eq!((&served["prediction"], &served["revision"]), (&Value::Null, &Value::Null));

    let made = server.post("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
    let free = made["run"]["info"]["run_id"].as_str().unwrap();
    for run in [registered, free] {
        server.post("runs/delete", json!({ "run_id": run })).await;
    }
    assert!(
        server.text(&["registry", "hold", "run", free, "--reason", "case 7"]).contains("is held by user:local-admin")
    );
    assert_eq!(server.json(&["registry", "holds"])[0]["reason"], "case 7");
    let report = server.json(&["registry", "gc"]);
    assert_eq!((report["purged"].as_array().unwrap().len(), report["kept"].as_array().unwrap().len()), (0, 2));
    server.text(&["registry", "release", "run", free, "--reason", "closed"]);
    assert_eq!(server.json(&["registry", "gc", "--older-than", "1d"])["purged"], json!([]), "it was deleted just now");
    let dry = server.json(&["registry", "gc", "--dry-run"]);
    assert_eq!(dry["purged"][0]["id"], free);
    let printed = server.text(&["registry", "gc"]);
    assert!(printed.contains("gone") && printed.contains("version 1 of the registered model oxygen"), "{printed}");
    assert_eq!(server.json(&["registry", "gc"])["purged"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_bound_by_hand_moves_with_an_approved_promotion() {
    let server = Server::start();
    let made = server.post("runs/create", json!({"experiment_id": "0", "start_time": 5})).await;
    let run = made["run"]["info"]["run_id"].as_str().unwrap();
    server.post("registered-models/create", json!({"name": "oxygen"})).await;
    for _ in 0..2 {
        let version = json!({"name": "oxygen", "source": format!("runs:/{run}/m"), "run_id": run});
        server.post("model-versions/create", version).await;
    }
    server.text(&["registry", "protect", "oxygen@reviewed"]);
    let move_to = async |version: &str| {
        let url = format!("{}/api/2.0/mlflow/registered-models/alias", server.url);
        let body = json!({"name": "oxygen", "alias": "reviewed", "version": version});
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, told) = move_to("1").await;
    assert!(status == 403 && told.contains("no promotion was asked for oxygen version 1 as reviewed"), "{told}");
    let ask = async |version: &str, labels: u64| {
        let url = format!("{}/api/v1/promotions", server.url);
        let body = json!({"id": format!("p-{version}-{labels}"), "model": "oxygen", "version": version,
            "champion_version": null, "alias": "reviewed", "run_id": null, "author": "user:local-admin",
            "challenger_error": 0.1, "champion_error": null, "evaluated_labels": labels, "is_held_out": true,
            "open_data_faults": 0, "signature_matches": true});
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["status"].clone()
    };
    assert_eq!(ask("1", 3).await, "rejected", "the gate asks for more labels");
    assert_eq!(move_to("1").await.0, 403);
    assert_eq!(ask("1", 100).await, "approved");
    assert_eq!(move_to("1").await.0, 200);
    assert_eq!(move_to("2").await.0, 403, "another version was approved");
    assert_eq!(server.json(&["registry", "protected"]), json!([{"model": "oxygen", "alias": "reviewed"}]));
    server.text(&["registry", "unprotect", "oxygen@reviewed", "--reason", "case 7"]);
    assert_eq!(move_to("2").await.0, 200);
    let refused = run_of(&server, &["registry", "unprotect", "oxygen@reviewed", "--reason", "case 7"]);
    assert!(refused.contains("is not protected"), "{refused}");
}

/// What a command that fails says.
fn run_of(server: &Server, arguments: &[&str]) -> String {
    let output = run(&[arguments, &["--url", &server.url]].concat());
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_in_the_workspace_they_are_told() {
    let server = Server::start_with(&[("FISHY__REGISTRY__WORKSPACES", "true")]);
    let answer = reqwest::Client::new()
        .post(format!("{}/api/3.0/mlflow/workspaces", server.url))
        .json(&json!({"name": "north"}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    server.text(&["registry", "protect", "oxygen@champion", "--workspace", "north"]);
    assert_eq!(server.json(&["registry", "protected"]), json!([]));
    let there = server.json(&["registry", "protected", "--workspace", "north"]);
    assert_eq!(there, json!([{"model": "oxygen", "alias": "champion"}]));
    let refused = run_of(&server, &["registry", "protected", "--workspace", "nobody"]);
    assert!(refused.contains("Workspace 'nobody' not found"), "{refused}");
}
