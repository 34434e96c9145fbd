//! What a person meets first.

use super::rig::{fishy, run};

#[test]
fn the_configuration_prints_checks_and_names_an_unknown_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fishy.toml");
    std::fs::write(&file, "[bus]\nurl = \"amqp://guest:hunter2@broker\"\n").unwrap();
    let file = file.display().to_string();
    let printed = run(&["config", "print", "--config", &file]);
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.status.success() && text.contains("listen = \"127.0.0.1:5000\""), "{text}");
    assert!(!text.contains("hunter2"), "a secret was printed");
    assert!(run(&["config", "check", "--config", &file]).status.success());
    std::fs::write(&file, "[server]\nlissten = \"127.0.0.1:1\"\n").unwrap();
    let refused = run(&["config", "check", "--config", &file]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("lissten"));
}

#[test]
fn it_does_not_listen_to_the_world_without_an_identity() {
    let folder = tempfile::tempdir().unwrap();
    let output = fishy().args(["up", "--listen", "0.0.0.0:0", "--data-dir"]).arg(folder.path()).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("without an identity") && text.contains("auth.tokens"), "{text}");
}

#[test]
fn a_service_whose_neighbour_is_missing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = fishy()
        .args(["serve", "--service", "pipelines", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("pipelines needs registry") && text.contains("services.registry"), "{text}");
}

#[test]
fn migrate_says_first_what_it_would_do_and_then_does_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let check = || run(&["migrate", "--check", "--data-dir", &data]);
    let before = check();
    assert!(!before.status.success(), "a new database is behind");
    assert!(String::from_utf8_lossy(&before.stdout).contains("outbox"));
    assert!(run(&["migrate", "--data-dir", &data]).status.success());
    assert!(check().status.success(), "{}", String::from_utf8_lossy(&check().stdout));
}

#[test]
fn the_first_token_is_made_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let made = run(&["token", "create", "operator", "--role", "admin", "--offline", "--data-dir", &data]);
    let text = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && text.starts_with("fwt_"), "{text}");
}

#[test]
fn a_simulation_is_the_same_for_the_same_seed() {
    let lines = |seed: &str| run(&["simulate", "--scenario", "calm", "--limit", "50", "--seed", seed]).stdout;
    assert_eq!(lines("1"), lines("1"));
    assert_ne!(lines("1"), lines("2"));
    assert_eq!(String::from_utf8(lines("1")).unwrap().lines().count(), 50);
    let csv = run(&["simulate", "--scenario", "calm", "--limit", "5", "--to", "csv"]).stdout;
    assert!(String::from_utf8(csv).unwrap().starts_with("time,farm,pen,temp,sal,ph,turb,depth,do_mgl"));
}

#[test]
fn a_server_that_is_away_is_a_clear_error() {
    let output = run(&["status", "--url", "http://127.0.0.1:9"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be reached"));
}

#[test]
fn a_comparison_is_signed_and_verifies_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rows: Vec<String> = (0..40).map(|n| format!("{},{}", f64::from(n) * 1.02 + f64::from(n % 3), n)).collect();
    std::fs::write(path("lice.csv"), format!("automatic,manual\n{}\n", rows.join("\n"))).unwrap();
    let signer = fishy_audit::Signer::from_random("farm/audit", [7; 32]).unwrap();
    std::fs::write(path("key.pem"), signer.to_pem().unwrap()).unwrap();
    let (file, report, key) = (path("lice.csv"), path("lice.json"), path("key.pem"));
    let compare = ["monitor", "compare", "--file", &file, "--report", &report, "--key", &key, "--origin", "farm/audit"];
    let printed = run(&compare);
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(
        printed.status.success() && text.contains("Passing-Bablok slope") && text.contains("40 pairs"),
        "{printed:?}"
    );
    let json = run(&["monitor", "compare", "--file", &file, "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["figures"]["bland_altman"]["bias"].as_f64().unwrap() > 1.0, "{json}");

    let trusted = signer.verifier().to_string();
    let verify = |key: &str| run(&["monitor", "verify-comparison", &report, "--key", key]);
    let verdict = verify(&trusted);
    assert!(verdict.status.success() && verdict.stdout.starts_with(b"intact: 40 pairs"), "{verdict:?}");
    let other = fishy_audit::Signer::from_random("farm/audit", [8; 32]).unwrap().verifier().to_string();
    assert_eq!(verify(&other).status.code(), Some(1), "another key is trusted");
    let changed = std::fs::read_to_string(&report).unwrap().replacen("\"manual\":7", "\"manual\":8", 1);
    std::fs::write(&report, changed).unwrap();
    let verdict = verify(&trusted);
    assert!(verdict.status.code() == Some(1) && verdict.stdout.starts_with(b"DAMAGED"), "{verdict:?}");
}
