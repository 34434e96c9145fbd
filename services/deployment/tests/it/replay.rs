//! A candidate is asked what was asked live.

use std::collections::BTreeMap;

use fishy_contracts::DeploymentClient;
use fishy_contracts::deployment::{AnswerKind, ReplayRequest};
use fishy_contracts::events::AUDIT_ENTRY;
use fishy_contracts::monitoring::LoggedPrediction;
use fishy_core::ErrorCode;
use serde_json::json;

use crate::world::{COLUMNS, NOW_MS, World, eventually, model_files, serving};

const NAME: &str = "virtual-oxygen";

/// What version 1 answered, one an hour.
fn logged(number: i64, temperature: f64) -> LoggedPrediction {
    LoggedPrediction {
        id: format!("p-{number:05}"),
        time_ms: NOW_MS + number * 3_600_000,
        version: "1".into(),
        inputs: [("temperature", temperature), ("salinity", 1.0), ("ph", 1.0)]
            .map(|(name, value)| (name.to_owned(), Some(value)))
            .into(),
        answer: Some(temperature + 5.5),
        value: None,
        labels: BTreeMap::from([("pen".to_owned(), (number % 3).to_string())]),
    }
}

fn log(world: &World, count: i64) {
    let rows = (0..count).map(|number| logged(number, (number % 20) as f64));
    world.registry.lock().unwrap().logged = rows.collect();
}

fn whole(version: &str) -> ReplayRequest {
    ReplayRequest::new(version, NOW_MS, i64::MAX)
}

#[tokio::test]
async fn differences_flips_and_errors_are_told_by_pen_and_nothing_is_recorded() {
    let (world, app) = serving().await;
    world.collect_stream().await;
    log(&world, 2_400);
    for row in &mut world.registry.lock().unwrap().logged {
        // Version 1 is right in pen 0, version 2 in pen 2, and of pen 1 nothing is known.
        row.value = match row.labels["pen"].as_str() {
            "0" => row.answer,
            "2" => row.answer.map(|answer| answer + 99.5),
            _ => None,
        };
    }
    let request = ReplayRequest { by: "pen".into(), thresholds: vec![10.5, 1000.0], ..whole("2") };
    let report = app.api.replay(NAME, &request).await.unwrap();
    assert_eq!((report.version.as_str(), report.kind, report.is_complete), ("2", AnswerKind::Quantity, true));
    assert_eq!(report.last_ms, Some(NOW_MS + 2_399 * 3_600_000));
    assert_eq!(world.registry.lock().unwrap().pages, 3);
    let overall = &report.overall;
    assert_eq!((overall.rows, overall.compared, overall.failed, overall.changed), (2_400, 2_400, 0, 2_400));
    let difference = overall.difference.unwrap();
    for figure in [difference.mean, difference.mean_abs, difference.max_abs, difference.p05, difference.p95] {
        assert!((figure - 99.5).abs() < 1e-9, "{difference:?}");
    }
    // 5 of 20 temperatures were answered with less than 10.5.
    assert_eq!((overall.flips[0].to_below, overall.flips[0].to_above), (0, 600));
    assert_eq!((overall.flips[1].to_below, overall.flips[1].to_above), (0, 0));
    assert_eq!((overall.recorded.labels, overall.candidate.labels), (1_600, 1_600));
    assert!((overall.recorded.mae.unwrap() - 49.75).abs() < 1e-9);
    assert!((overall.recorded.bias.unwrap() + 49.75).abs() < 1e-9);
    assert!((overall.candidate.bias.unwrap() - 49.75).abs() < 1e-9);
    assert!((overall.candidate.rmse.unwrap() - (99.5_f64 * 99.5 / 2.0).sqrt()).abs() < 1e-9);
    let order: Vec<_> = report.slices.iter().map(|slice| slice.value.as_deref().unwrap()).collect();
    assert_eq!(order, ["0", "2", "1"]);
    assert!(report.slices[0].figures.recorded.mae.unwrap().abs() < 1e-9);
    assert!((report.slices[0].figures.candidate.mae.unwrap() - 99.5).abs() < 1e-9);
    assert_eq!((report.slices[2].figures.rows, report.slices[2].figures.recorded.labels), (800, 0));
    assert!(report.latency.serving.unwrap().rows > 0 && report.latency.candidate.unwrap().p99_us > 0.0);
    let audit = world.emitted(AUDIT_ENTRY).await;
    let entry = audit.iter().find(|entry| entry["action"] == "deployment:replay").unwrap();
    assert_eq!((&entry["details"]["version"], &entry["details"]["figures"]["rows"]), (&json!("2"), &json!(2_400)));
    // The version that serves changes nothing.
    let same = app.api.replay(NAME, &whole("1")).await.unwrap();
    assert_eq!((same.overall.compared, same.overall.changed), (2_400, 0));
    assert!(world.streamed.lock().unwrap().is_empty());
    assert_eq!(app.served().await.current.unwrap().version, "1");
}

#[tokio::test]
async fn a_replay_is_bounded_and_says_so() {
    let (world, app) = serving().await;
    log(&world, 300);
    let bounded = |max_rows: u64| ReplayRequest { max_rows, ..whole("2") };
    let part = app.api.replay(NAME, &bounded(120)).await.unwrap();
    assert_eq!((part.overall.rows, part.is_complete), (120, false));
    assert_eq!(part.last_ms, Some(NOW_MS + 119 * 3_600_000));
    let all = app.api.replay(NAME, &bounded(300)).await.unwrap();
    assert_eq!((all.overall.rows, all.is_complete), (300, true));
    let span = ReplayRequest::new("2", NOW_MS + 3_600_000, NOW_MS + 3 * 3_600_000);
    assert_eq!(app.api.replay(NAME, &span).await.unwrap().overall.rows, 2);
    let nothing = app.api.replay(NAME, &ReplayRequest::new("2", 0, 1)).await.unwrap();
    assert_eq!((nothing.overall.rows, nothing.is_complete, nothing.overall.difference), (0, true, None));
    assert_eq!((nothing.latency.candidate, nothing.last_ms), (None, None));
}

#[tokio::test]
async fn rows_that_the_candidate_fails_on_are_counted_with_the_reason() {
    let (world, app) = serving().await;
    log(&world, 50);
    {
        let mut registry = world.registry.lock().unwrap();
        registry.versions.insert("3".into(), model_files("fragile.onnx", &COLUMNS));
        registry.logged.push(logged(50, 60.0));
        let mut lacking = logged(51, 10.0);
        lacking.inputs.remove("ph");
        registry.logged.push(lacking);
        let mut unanswered = logged(52, 10.0);
        unanswered.answer = None;
        registry.logged.push(unanswered);
    }
    let report = app.api.replay(NAME, &whole("3")).await.unwrap();
    let figures = &report.overall;
    assert_eq!((figures.rows, figures.failed, figures.compared), (53, 2, 50), "{:?}", report.failures);
    assert!(report.failures.iter().any(|failure| failure.contains("features are missing: ph")), "{report:?}");
    assert_eq!(report.failures.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused() {
    let (world, app) = serving().await;
    log(&world, 3);
    let code = async |request: ReplayRequest| app.api.replay(NAME, &request).await.unwrap_err().code();
    assert_eq!(code(whole("9")).await, ErrorCode::NotFound);
    assert_eq!(code(ReplayRequest::new("2", 5, 5)).await, ErrorCode::InvalidArgument);
    assert_eq!(code(ReplayRequest { max_rows: 0, ..whole("2") }).await, ErrorCode::InvalidArgument);
    world.registry.lock().unwrap().versions.insert("4".into(), model_files("linear_half.onnx", &["a", "b", "c"]));
    let other = app.api.replay(NAME, &whole("4")).await.unwrap_err();
    assert!(other.message().contains("its signature is another one"), "{other}");
    assert_eq!(app.api.replay("nobody", &whole("2")).await.unwrap_err().code(), ErrorCode::NotFound);
    let stranger = DeploymentClient(app.as_service("monitoring"));
    assert_eq!(stranger.replay(NAME, &whole("2")).await.unwrap_err().code(), ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn one_at_a_time_and_none_without_its_caller() {
    let (world, app) = serving().await;
    log(&world, 3);
    world.registry.lock().unwrap().is_monitoring_stuck = true;
    let api = app.api.clone();
    let first = tokio::spawn(async move { api.replay(NAME, &whole("2")).await });
    eventually("the first replay", || world.registry.lock().unwrap().pages == 1).await;
    let second = app.api.replay(NAME, &whole("2")).await.unwrap_err();
    assert_eq!(second.code(), ErrorCode::ResourceExhausted);
    assert!(second.message().contains("under way"), "{second}");
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.registry.lock().unwrap().is_monitoring_stuck = false;
    assert_eq!(app.api.replay(NAME, &whole("2")).await.unwrap().overall.rows, 3);
}
