#![doc = include_str!("../README.md")]

use std::sync::OnceLock;

use fishy_core::{Error, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging to standard error, as lines or as JSON. `filter` is a `tracing` filter such as `info,fishy_registry=debug`.
pub fn start_logging(is_json: bool, filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Error::invalid(format!("log filter {filter:?} is not valid: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .with_span_events(FmtSpan::NONE);
    let started =
        if is_json { builder.json().flatten_event(true).try_init() } else { builder.with_ansi(false).try_init() };
    started.map_err(|error| Error::internal(format!("logging was started already: {error}")))
}

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Buckets of every `…_seconds` histogram: from 50 µs, which one in-process prediction takes, to a minute.
const SECONDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// Buckets of what takes minutes to hours: steps of pipelines.
const LONG: [f64; 10] = [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];
/// Buckets of what takes hours to months: true values.
const DAYS: [f64; 10] =
    [60.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 1_209_600.0, 2_592_000.0, 7_776_000.0, 31_536_000.0];

/// Starts recording metrics; later calls change nothing.
pub fn start_metrics() -> Result<()> {
    if METRICS.get().is_some() {
        return Ok(());
    }
    let buckets = [
        (Matcher::Suffix("_seconds".to_owned()), &SECONDS[..]),
        (Matcher::Full("fishy_pipeline_step_duration_seconds".to_owned()), &LONG[..]),
        (Matcher::Full("fishy_monitoring_label_delay_seconds".to_owned()), &DAYS[..]),
    ];
    let mut builder = PrometheusBuilder::new();
    for (matcher, bounds) in buckets {
        builder = builder
            .set_buckets_for_metric(matcher, bounds)
            .map_err(|error| Error::internal("cannot set up metrics").with_source(error))?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        let _ = METRICS.set(handle);
        describe();
    }
    Ok(())
}

/// All metrics in Prometheus' text format; empty when recording was not started.
pub fn render_metrics() -> String {
    METRICS
        .get()
        .map(|handle| {
            handle.run_upkeep();
            handle.render()
        })
        .unwrap_or_default()
}

/// Takes what histograms have recorded into their buckets. To be called every few seconds: until then each value takes
/// memory of its own, also where nobody asks for the metrics.
pub fn tidy_metrics() {
    if let Some(handle) = METRICS.get() {
        handle.run_upkeep();
    }
}

fn describe() {
    metrics::describe_counter!("fishy_http_requests_total", "HTTP requests by service, route, method and status");
    metrics::describe_histogram!("fishy_http_request_duration_seconds", "Time to answer an HTTP request");
    // What the libraries below every service count.
    metrics::describe_counter!("fishy_bus_published_total", "Events given to the bus, by outcome");
    metrics::describe_counter!("fishy_bus_handled_total", "Events handled, by queue and outcome");
    metrics::describe_gauge!("fishy_bus_connected", "Whether the message broker is connected");
    metrics::describe_counter!("fishy_outbox_published_total", "Events that left the outbox of a service");
    metrics::describe_counter!("fishy_outbox_dead_total", "Events that could not be published and were set aside");
    metrics::describe_gauge!("fishy_outbox_pending", "Events that wait in the outbox of a service");
    metrics::describe_histogram!("fishy_db_commit_duration_seconds", "Time of a commit to SQLite");
    metrics::describe_histogram!("fishy_db_commit_members", "Transactions that shared one commit to SQLite");
    metrics::describe_gauge!("fishy_policy_bundle_age_seconds", "Age of the access policies in force");
    metrics::describe_gauge!("fishy_policy_bundle_version", "Version of the access policies in force");
}
