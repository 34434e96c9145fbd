//! A custom predictor from the command line to its end.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::queue::Server;
use super::rig::{python, root, run};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flask_file_is_deployed_by_one_command_and_ends_with_a_server_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fishy.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\ndata_dir = {:?}\n[deployment.python]\ninterpreter = {:?}\n\
         [deployment.programs]\nenabled = true\n",
        folder.path().join("data"),
        python()
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Server::start(&config);
    let file = root().join("services/deployment/tests/fixtures/advice.py").display().to_string();
    let deploy = |server: &Server| {
        let output = run(&["deploy", "advice", "--program", &file, "--url", &server.url, "--output", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let deployed = deploy(&server);
    assert_eq!(
        (&deployed["spec"]["model"], &deployed["current"]["version"]),
        (&json!("models:/advice@champion"), &json!("1"))
    );
    assert_eq!(deploy(&server)["current"]["version"], "2", "the same program again is a new version");
    let asked = json!({"temperature": 11.5}).to_string();
    let answer = server.send(Method::POST, "/deployments/advice/advice", asked).await;
    assert_eq!((&answer["advice"], &answer["caller"]), (&json!("feed"), &json!("user:local-admin")));
    server.kill();
    let (process, begun) = (answer["process"].as_u64().unwrap(), Instant::now());
    while !std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "process {process} outlives its server");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
