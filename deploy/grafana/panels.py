"""What the dashboards show: panels and their queries, without how they look."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Panel:
    """One panel. `queries` are PromQL and the legend of each of its series."""

    title: str
    description: str
    queries: list[tuple[str, str]]
    unit: str = "short"
    kind: str = "lines"
    width: int = 0


@dataclass(frozen=True)
class Board:
    """One dashboard. A text between the panels is the title of a row."""

    name: str
    title: str
    description: str
    panels: list[Panel | str]
    variables: dict[str, str] = field(default_factory=dict)


def number(title: str, description: str, expr: str, unit: str = "short") -> Panel:
    """One figure."""
    return Panel(title, description, [(expr, "")], unit, "stat")


def rate(metric: str, by: str, labels: str = "") -> str:
    """Increments a second."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(q: float, metric: str, by: str = "", labels: str = "") -> str:
    """A quantile of a histogram."""
    by = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"


OF_DEPLOYMENT = 'deployment=~"$deployment"'
OF_MONITOR = 'monitor=~"$monitor"'
OF_PIPELINE = 'pipeline=~"$pipeline"'
DEPLOYMENTS = {"deployment": "label_values(fishy_inference_requests_total, deployment)"}
MONITORS = {"monitor": "label_values(fishy_monitoring_watermark_seconds, monitor)"}
PIPELINES = {"pipeline": "label_values(fishy_pipeline_runs_total, pipeline)"}

OVERVIEW = Board(
    "overview",
    "Overview",
    "Whether everything runs, what it is asked for, and what waits.",
    [
        number("Processes up", "Of those that Prometheus scrapes.", 'sum(up{job="fishy"})'),
        number(
            "Requests", "Of all doors, a second.", "sum(rate(fishy_http_requests_total[$__rate_interval]))", "reqps"
        ),
        number(
            "Failed requests",
            "Share of answers of 500 and above.",
            '(sum(rate(fishy_http_requests_total{status=~"5.."}[$__rate_interval])) or vector(0))'
            " / sum(rate(fishy_http_requests_total[$__rate_interval]))",
            "percentunit",
        ),
        number(
            "Deployments with a problem",
            "They serve on what they had.",
            "sum(max by (deployment) (fishy_deployment_has_problem)) or vector(0)",
        ),
        number("Open data faults", "Of all monitors.", "sum(max by (monitor) (fishy_monitoring_open_data_faults))"),
        number("Events that wait", "In the outboxes of all services.", "sum(max by (service) (fishy_outbox_pending))"),
        "Doors",
        Panel(
            "Requests by service", "A second.", [(rate("fishy_http_requests_total", "service"), "{{service}}")], "reqps"
        ),
        Panel(
            "Requests by status",
            "A second.",
            [(rate("fishy_http_requests_total", "status"), "{{status}}")],
            "reqps",
        ),
        Panel(
            "Time to answer, 99th percentile",
            "By service.",
            [(quantile(0.99, "fishy_http_request_duration_seconds", "service"), "{{service}}")],
            "s",
        ),
        Panel(
            "Slowest routes",
            "95th percentile, the ten slowest.",
            [
                (
                    f"topk(10, {quantile(0.95, 'fishy_http_request_duration_seconds', 'route, method')})",
                    "{{method}} {{route}}",
                )
            ],
            "s",
        ),
        "Alerts",
        Panel(
            "Open alerts and alarms",
            "Alerts tell of data faults, alarms and retrainings.",
            [
                ("max(fishy_monitoring_open_alerts)", "alerts"),
                (
                    "sum by (severity) (max by (monitor, check, severity) (fishy_monitoring_open_alarms))",
                    "{{severity}}",
                ),
            ],
        ),
        Panel(
            "Alerts that receivers have still to be told",
            "They are kept until the receiver has them.",
            [("max by (receiver) (fishy_monitoring_alerts_waiting)", "{{receiver}}")],
        ),
        Panel(
            "Messages to receivers",
            "In an hour: taken, or failed and to be tried again.",
            [
                (
                    "sum by (receiver, outcome) (increase(fishy_monitoring_notifications_total[1h]))",
                    "{{receiver}} {{outcome}}",
                )
            ],
        ),
        "Events and state",
        Panel(
            "Events that wait in outboxes",
            "They leave when the bus has confirmed them.",
            [("max by (service) (fishy_outbox_pending)", "{{service}}")],
        ),
        Panel(
            "Events published and handled",
            "A second.",
            [
                (rate("fishy_bus_published_total", "outcome"), "published {{outcome}}"),
                (rate("fishy_bus_handled_total", "queue, outcome"), "{{queue}} {{outcome}}"),
            ],
        ),
        Panel(
            "Time of a commit to SQLite",
            "Where PostgreSQL is used there is none.",
            [
                (quantile(0.5, "fishy_db_commit_duration_seconds"), "median"),
                (quantile(0.99, "fishy_db_commit_duration_seconds"), "99th percentile"),
            ],
            "s",
        ),
        Panel(
            "Audit entries",
            "Taken into the log, a second.",
            [(rate("fishy_audit_entries_total", "service"), "{{service}}")],
        ),
        Panel(
            "Message broker",
            "1: connected. Nothing where the bus is in the process.",
            [("min by (instance) (fishy_bus_connected)", "{{instance}}")],
        ),
        Panel(
            "Version of the access policies",
            "All processes should have the same.",
            [("max by (instance) (fishy_policy_bundle_version)", "{{instance}}")],
        ),
    ],
)

DEPLOYMENT = Board(
    "deployment",
    "Deployments",
    "Predictions: how many, how fast, by which revision, and whether their records get away.",
    [
        number(
            "Predictions",
            "Requests a second.",
            f"sum(rate(fishy_inference_requests_total{{{OF_DEPLOYMENT}}}[$__rate_interval]))",
            "reqps",
        ),
        number(
            "Failed",
            "Share of answers of 500 and above.",
            "(sum(rate(fishy_inference_requests_total"
            f'{{{OF_DEPLOYMENT}, status=~"5.."}}[$__rate_interval])) or vector(0))'
            f" / sum(rate(fishy_inference_requests_total{{{OF_DEPLOYMENT}}}[$__rate_interval]))",
            "percentunit",
        ),
        number(
            "99th percentile",
            "Time to answer.",
            quantile(0.99, "fishy_inference_request_duration_seconds", "", OF_DEPLOYMENT),
            "s",
        ),
        number(
            "Mean wait for the model",
            "What pods are scaled by.",
            f"sum(rate(fishy_inference_queue_duration_seconds_sum{{{OF_DEPLOYMENT}}}[$__rate_interval]))"
            f" / sum(rate(fishy_inference_queue_duration_seconds_count{{{OF_DEPLOYMENT}}}[$__rate_interval]))",
            "s",
        ),
        number(
            "With a problem",
            "They serve on what they had.",
            f"sum(max by (deployment) (fishy_deployment_has_problem{{{OF_DEPLOYMENT}}})) or vector(0)",
        ),
        number("Spool", "Records on disk that have not left yet.", "sum(fishy_prediction_spool_bytes)", "bytes"),
        "Traffic",
        Panel(
            "Requests by status",
            "A second.",
            [
                (
                    rate("fishy_inference_requests_total", "deployment, status", OF_DEPLOYMENT),
                    "{{deployment}} {{status}}",
                )
            ],
            "reqps",
        ),
        Panel(
            "Time to answer",
            "All of the request, in the server.",
            [
                (
                    quantile(0.5, "fishy_inference_request_duration_seconds", "deployment", OF_DEPLOYMENT),
                    "{{deployment}} median",
                ),
                (
                    quantile(0.99, "fishy_inference_request_duration_seconds", "deployment", OF_DEPLOYMENT),
                    "{{deployment}} 99th percentile",
                ),
            ],
            "s",
        ),
        Panel(
            "Wait for the model, 95th percentile",
            "Before a session was free, or a batch was formed.",
            [(quantile(0.95, "fishy_inference_queue_duration_seconds", "deployment", OF_DEPLOYMENT), "{{deployment}}")],
            "s",
        ),
        Panel(
            "Revision that serves",
            "By process: replicas agree after a second or so.",
            [(f"fishy_deployment_revision{{{OF_DEPLOYMENT}}}", "{{deployment}} {{instance}}")],
        ),
        "Rollouts",
        Panel(
            "Versions refused and canaries taken back",
            "In the last hour.",
            [
                (
                    f"sum by (deployment) (increase(fishy_deployment_refused_total{{{OF_DEPLOYMENT}}}[1h]))",
                    "{{deployment}} refused",
                ),
                (
                    f"sum by (deployment) (increase(fishy_deployment_canary_failed_total{{{OF_DEPLOYMENT}}}[1h]))",
                    "{{deployment}} canary",
                ),
            ],
        ),
        Panel(
            "Problem",
            "1: a deployment does not serve what it should.",
            [(f"max by (deployment) (fishy_deployment_has_problem{{{OF_DEPLOYMENT}}})", "{{deployment}}")],
        ),
        "Prediction records",
        Panel(
            "Records written, and on their way",
            "Rows a second.",
            [
                (f"sum(rate(fishy_prediction_records_total{{{OF_DEPLOYMENT}}}[$__rate_interval]))", "into the spool"),
                ("sum(rate(fishy_prediction_parquet_rows_total[$__rate_interval]))", "into Parquet"),
                (
                    'sum(rate(fishy_monitoring_records_total{outcome="stored"}[$__rate_interval]))',
                    "stored by monitoring",
                ),
            ],
        ),
        Panel("Spool", "By process.", [("fishy_prediction_spool_bytes", "{{instance}}")], "bytes"),
        Panel(
            "Records lost",
            "Dropped by a full spool, or damaged on disk, since the start.",
            [
                ("sum(fishy_prediction_records_dropped_total) or vector(0)", "dropped"),
                ("sum(fishy_prediction_spool_damaged_total) or vector(0)", "damaged parts"),
            ],
        ),
        Panel(
            "Sinks of the prediction log",
            "Records that a sink of CloudEvents has not passed yet, and those that were dropped before it had.",
            [
                ("sum by (sink) (fishy_prediction_sink_waiting_records)", "{{sink}} waiting"),
                ("sum by (sink) (fishy_prediction_sink_dropped_total)", "{{sink}} dropped"),
            ],
        ),
        Panel(
            "Events to sinks per second",
            "Events that each sink took.",
            [("sum by (sink) (rate(fishy_prediction_sink_events_total[$__rate_interval]))", "{{sink}}")],
        ),
    ],
    DEPLOYMENTS,
)

DRIFT = Board(
    "drift",
    "Drift and error",
    "Inputs against the champion's training data, and the realised error.",
    [
        number("Largest PSI", "Of all features, on the newest day.", f"max(fishy_monitoring_psi{{{OF_MONITOR}}})"),
        number(
            "Features with PSI above 0.25",
            "On the newest day.",
            f"count(fishy_monitoring_psi{{{OF_MONITOR}}} > 0.25) or vector(0)",
        ),
        number(
            "Error ratio",
            "Realised error over the smallest that the champion has shown.",
            f"max(fishy_monitoring_rolling_error{{{OF_MONITOR}}} / fishy_monitoring_baseline_error{{{OF_MONITOR}}})",
        ),
        number(
            "Mean absolute error", "On the newest day with true values.", f"max(fishy_monitoring_mae{{{OF_MONITOR}}})"
        ),
        number(
            "Triggers",
            "That fired since the start.",
            f"sum(fishy_monitoring_triggers_total{{{OF_MONITOR}}}) or vector(0)",
        ),
        "Inputs",
        Panel(
            "Population stability index",
            "Below 0.1: the same. Above 0.25: another distribution.",
            [(f"fishy_monitoring_psi{{{OF_MONITOR}}}", "{{monitor}} {{feature}}")],
        ),
        Panel(
            "Kolmogorov-Smirnov distance",
            "The largest gap between the two distribution functions.",
            [(f"fishy_monitoring_ks{{{OF_MONITOR}}}", "{{monitor}} {{feature}}")],
        ),
        Panel(
            "What has moved most",
            "The ten features with the largest PSI.",
            [
                (
                    f"topk(10, max by (monitor, feature) (fishy_monitoring_psi{{{OF_MONITOR}}}))",
                    "{{monitor}} {{feature}}",
                )
            ],
            kind="table",
        ),
        "Error",
        Panel(
            "Realised error and what it is compared with",
            "The trigger fires where the first is too far above the second.",
            [
                (f"fishy_monitoring_rolling_error{{{OF_MONITOR}}}", "{{monitor}} realised"),
                (f"fishy_monitoring_baseline_error{{{OF_MONITOR}}}", "{{monitor}} baseline"),
            ],
        ),
        Panel(
            "Error of the newest labelled day",
            "In the unit of the target.",
            [
                (f"fishy_monitoring_mae{{{OF_MONITOR}}}", "{{monitor}} mean absolute"),
                (f"fishy_monitoring_rmse{{{OF_MONITOR}}}", "{{monitor}} root mean square"),
            ],
        ),
        Panel(
            "Triggers that fired",
            "In a day.",
            [(f"sum by (monitor) (increase(fishy_monitoring_triggers_total{{{OF_MONITOR}}}[1d]))", "{{monitor}}")],
        ),
        "Checks",
        Panel(
            "Figures of checks",
            "Of the newest window, all slices together: distances of features.",
            [
                (
                    f'fishy_monitoring_check_value{{{OF_MONITOR}, feature!=""}}',
                    "{{monitor}} {{check}} {{test}} {{feature}}",
                )
            ],
        ),
        Panel(
            "Errors and scores of checks",
            "Of the newest window: realised where the truth has come, estimated before.",
            [
                (
                    f'fishy_monitoring_check_value{{{OF_MONITOR}, feature=""}}',
                    "{{monitor}} {{check}} {{test}}",
                )
            ],
        ),
        Panel(
            "Open alarms",
            "Figures of checks that are beyond a limit, slices included.",
            [
                (
                    f"max by (monitor, check, severity) (fishy_monitoring_open_alarms{{{OF_MONITOR}}})",
                    "{{monitor}} {{check}} {{severity}}",
                )
            ],
        ),
        Panel(
            "Windows of checks",
            "Computed in an hour: new ones, and those that late data changed.",
            [
                (
                    f"sum by (monitor, occasion) (increase(fishy_monitoring_check_windows_total{{{OF_MONITOR}}}[1h]))",
                    "{{monitor}} {{occasion}}",
                )
            ],
        ),
        Panel(
            "Slices that are not looked at alone",
            "Share of the newest window's rows, by label: above a few percent, give the check more slices.",
            [
                (
                    f"max by (monitor, check, label) (fishy_monitoring_other_slice_ratio{{{OF_MONITOR}}})",
                    "{{monitor}} {{check}} {{label}}",
                )
            ],
            "percentunit",
        ),
    ],
    MONITORS,
)

DATA_QUALITY = Board(
    "data-quality",
    "Data quality",
    "Faults of sensors, records that cannot be read, and how far windows are closed.",
    [
        number(
            "Open data faults",
            "Nothing is retrained on faulty data.",
            f"sum(max by (monitor) (fishy_monitoring_open_data_faults{{{OF_MONITOR}}}))",
        ),
        number(
            "Records",
            "Rows a second, stored by monitoring.",
            'sum(rate(fishy_monitoring_records_total{outcome="stored"}[$__rate_interval]))',
        ),
        number("Unreadable records", "Since the start.", 'sum(fishy_monitoring_records_total{outcome="malformed"})'),
        number(
            "Duplicates",
            "Since the start: records that came twice and are kept once.",
            'sum(fishy_monitoring_records_total{outcome="duplicate"})',
        ),
        "Sensors",
        Panel(
            "Open data faults",
            "Stuck, spiking, out of range, missing: `fishy monitor faults` names probe and feature.",
            [(f"max by (monitor) (fishy_monitoring_open_data_faults{{{OF_MONITOR}}})", "{{monitor}}")],
        ),
        Panel(
            "Watermark",
            "Event time up to which windows are closed.",
            [(f"max by (monitor) (fishy_monitoring_watermark_seconds{{{OF_MONITOR}}}) * 1000", "{{monitor}}")],
            "dateTimeAsIso",
        ),
        "Records",
        Panel(
            "Records of the prediction stream",
            "A second, by what became of them.",
            [(rate("fishy_monitoring_records_total", "outcome"), "{{outcome}}")],
        ),
        Panel(
            "Refused requests",
            "Predictions that were asked for wrongly, a second.",
            [
                (
                    rate("fishy_http_requests_total", "route, status", 'service="deployment", status=~"4.."'),
                    "{{route}} {{status}}",
                )
            ],
            "reqps",
        ),
    ],
    MONITORS,
)

FEEDBACK = Board(
    "feedback",
    "Ground truth and feedback",
    "True values: how many predictions have one, and how late they come.",
    [
        number(
            "Label coverage",
            "The smallest share of predictions with a true value, of all monitors.",
            f"min(fishy_monitoring_label_coverage_ratio{{{OF_MONITOR}}})",
            "percentunit",
        ),
        number(
            "Delay, median",
            "From the prediction to its true value, in event time.",
            quantile(0.5, "fishy_monitoring_label_delay_seconds"),
            "s",
        ),
        number(
            "True values",
            "Taken, a second.",
            'sum(rate(fishy_monitoring_ground_truth_total{outcome="accepted"}[$__rate_interval]))',
        ),
        number("Duplicates", "Since the start.", 'sum(fishy_monitoring_ground_truth_total{outcome="duplicate"})'),
        "Labels",
        Panel(
            "Label coverage",
            "Share of predictions with a true value.",
            [(f"fishy_monitoring_label_coverage_ratio{{{OF_MONITOR}}}", "{{monitor}}")],
            "percentunit",
        ),
        Panel(
            "True values",
            "A second, by what became of them.",
            [(rate("fishy_monitoring_ground_truth_total", "outcome"), "{{outcome}}")],
        ),
        Panel(
            "Delay of true values",
            "In event time, from the prediction to its true value.",
            [
                (quantile(0.5, "fishy_monitoring_label_delay_seconds"), "median"),
                (quantile(0.95, "fishy_monitoring_label_delay_seconds"), "95th percentile"),
            ],
            "s",
        ),
        "Opinions and experts",
        Panel(
            "Opinions",
            "Since the start: thumbs of users, labels of experts.",
            [("sum by (by, says) (fishy_monitoring_opinions_total)", "{{by}} {{says}}")],
        ),
        Panel(
            "Expert queue",
            "Items since the start, by what became of them.",
            [
                (
                    f"sum by (monitor, state) (fishy_monitoring_queue_items_total{{{OF_MONITOR}}})",
                    "{{monitor}} {{state}}",
                )
            ],
        ),
        Panel(
            "Thumbs down",
            "Share of the thumbs of users in a day.",
            [
                (
                    'sum(increase(fishy_monitoring_opinions_total{by="user", says="not_helpful"}[1d]))'
                    ' / sum(increase(fishy_monitoring_opinions_total{by="user"}[1d]))',
                    "down",
                )
            ],
            "percentunit",
        ),
        Panel(
            "Doors of feedback",
            "Requests a second.",
            [
                (
                    rate(
                        "fishy_http_requests_total",
                        "route, status",
                        'service="monitoring", route=~"/api/v1/feedback.*"',
                    ),
                    "{{route}} {{status}}",
                )
            ],
            "reqps",
        ),
    ],
    MONITORS,
)

PIPELINE = Board(
    "pipelines",
    "Pipelines",
    "Runs, their steps, and what governance recorded of them.",
    [
        number("Runs", "That ended since the start.", f"sum(fishy_pipeline_runs_total{{{OF_PIPELINE}}})"),
        number(
            "Failed",
            "Since the start.",
            f'sum(fishy_pipeline_runs_total{{{OF_PIPELINE}, status="failed"}}) or vector(0)',
        ),
        number(
            "Succeeded",
            "Since the start.",
            f'sum(fishy_pipeline_runs_total{{{OF_PIPELINE}, status="succeeded"}}) or vector(0)',
        ),
        number("Triggers", "That monitors fired since the start.", "sum(fishy_monitoring_triggers_total) or vector(0)"),
        "Runs",
        Panel(
            "Runs that ended",
            "In an hour, by status.",
            [
                (
                    f"sum by (pipeline, status) (increase(fishy_pipeline_runs_total{{{OF_PIPELINE}}}[1h]))",
                    "{{pipeline}} {{status}}",
                )
            ],
        ),
        Panel(
            "Time of a step, mean",
            "Of one try.",
            [
                (
                    f"sum by (pipeline, step) (rate(fishy_pipeline_step_duration_seconds_sum{{{OF_PIPELINE}}}[1h]))"
                    " / sum by (pipeline, step)"
                    f" (rate(fishy_pipeline_step_duration_seconds_count{{{OF_PIPELINE}}}[1h]))",
                    "{{pipeline}} {{step}}",
                )
            ],
            "s",
        ),
        Panel(
            "Tries of steps",
            "Since the start.",
            [
                (
                    f"sum by (pipeline, step) (fishy_pipeline_step_duration_seconds_count{{{OF_PIPELINE}}})",
                    "{{pipeline}} {{step}}",
                )
            ],
            kind="table",
        ),
        "What it moved",
        Panel(
            "Revision that serves",
            "A promoted version becomes the next revision.",
            [("max by (deployment) (fishy_deployment_revision)", "{{deployment}}")],
        ),
        Panel(
            "Audit entries",
            "By service, since the start.",
            [("sum by (service) (fishy_audit_entries_total)", "{{service}}")],
        ),
    ],
    PIPELINES,
)

BOARDS = [OVERVIEW, DEPLOYMENT, DRIFT, DATA_QUALITY, FEEDBACK, PIPELINE]
