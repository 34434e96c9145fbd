//! No route leaks across: every route of the registry is asked in one workspace for what is in another, and answers as for
//! what does not exist. A route that is not in the table below fails the test.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::Method;
use fishy_core::time;
use fishy_db::{Db, args};
use serde_json::{Value, json};

use crate::server::{Server, settled};
use crate::workspaces::{cleaned, with_workspaces};

/// Whose things are asked for.
const THEIRS: &str = "theirs";
/// Where they are asked for.
const OURS: &str = "ours";
/// By the clock of the test.
const NOW_MS: i64 = 1_800_000_000_000;
/// In every name of theirs.
const MARK: &str = "zebra";

/// Names and ids of what is in a workspace, or of what is in none.
#[derive(Clone)]
struct Things {
    experiment: String,
    experiment_name: String,
    deleted_experiment: String,
    run: String,
    deleted_run: String,
    held_run: String,
    logged_model: String,
    model: String,
    webhook: String,
    /// A file that belongs to no version.
    file: String,
    folder: String,
    workspace: String,
    source: String,
}

impl Things {
    /// What nobody has.
    fn of_nobody() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = || NEXT.fetch_add(1, Ordering::SeqCst);
        let (experiment, run) = ((7_000_000_000 + id()).to_string(), format!("{:032x}", 0xdead_0000_0000 + id()));
        let folder = format!("{experiment}/{run}/artifacts");
        Self {
            experiment_name: format!("nobody-e-{}", id()),
            deleted_experiment: (7_000_000_000 + id()).to_string(),
            deleted_run: format!("{:032x}", 0xdead_0000_0000 + id()),
            held_run: format!("{:032x}", 0xdead_0000_0000 + id()),
            logged_model: format!("m-{:032x}", 0xdead_0000_0000 + id()),
            model: format!("nobody-m-{}", id()),
            webhook: format!("00000000-0000-0000-dead-{:012}", id()),
            file: format!("{folder}/free.txt"),
            folder,
            workspace: format!("nobody-{}", id()),
            source: format!("https://nobody-{}.example", id()),
            experiment,
            run,
        }
    }

    /// Fills a workspace with one of everything.
    async fn fill(server: &Server, workspace: &str, mark: &str) -> Self {
        let nobody = Self::of_nobody();
        let named = |text: &str| text.replace("nobody", mark);
        let done = async |path: &str, body: Value| server.done_at(workspace, path, body).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let send = async |method: Method, path: &str, body: String| {
            let (status, answer) = server.at(workspace, None, method, path, body).await;
            assert_eq!(status, 200, "{path}: {answer}");
        };
        let experiment_name = named(&nobody.experiment_name);
        let tags = json!([{"key": mark, "value": mark}]);
        let made = done("experiments/create", json!({"name": experiment_name, "tags": tags})).await;
        let experiment = text(&made["experiment_id"]);
        let made = done("experiments/create", json!({"name": format!("{experiment_name}-gone")})).await;
        let deleted_experiment = text(&made["experiment_id"]);
        done("experiments/delete", json!({ "experiment_id": deleted_experiment })).await;
        let mut runs = Vec::new();
        for n in 0..3 {
            let run =
                json!({"experiment_id": experiment, "start_time": 5, "run_name": format!("{mark}-{n}"), "tags": tags});
            runs.push(text(&done("runs/create", run).await["run"]["info"]["run_id"]));
        }
        let [run, deleted_run, held_run] = <[String; 3]>::try_from(runs).unwrap();
        done("runs/delete", json!({ "run_id": deleted_run })).await;
        let hold = json!({"kind": "run", "id": held_run, "reason": mark}).to_string();
        send(Method::PUT, "/api/v1/registry/holds", hold).await;
        let metrics = json!([{"key": mark, "value": 1.5, "timestamp": 1, "step": 1}]);
        let params = json!([{"key": mark, "value": mark}]);
        done("runs/log-batch", json!({"run_id": run, "metrics": metrics, "params": params})).await;
        // Its history is read, so that nothing is left to be moved into it in the background.
        let history = format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key={mark}");
        send(Method::GET, &history, String::new()).await;
        let dataset = json!({"name": mark, "digest": "d", "source_type": "local", "source": mark});
        done("runs/log-inputs", json!({"run_id": run, "datasets": [{"dataset": dataset}]})).await;
        let folder = format!("{experiment}/{run}/artifacts");
        for file in ["free.txt", "m/model.onnx"] {
            send(Method::PUT, &format!("/api/2.0/mlflow-artifacts/artifacts/{folder}/{file}"), mark.to_owned()).await;
        }
        let wanted =
            json!({"experiment_id": experiment, "name": mark, "source_run_id": run, "tags": tags, "params": params});
        let made = done("logged-models", wanted).await;
        let logged_model = text(&made["model"]["info"]["model_id"]);
        let uri = text(&made["model"]["info"]["artifact_uri"]);
        let place = uri.trim_start_matches("mlflow-artifacts:/");
        send(Method::PUT, &format!("/api/2.0/mlflow-artifacts/artifacts/{place}/model.onnx"), mark.to_owned()).await;
        let model = named(&nobody.model);
        done("registered-models/create", json!({"name": model, "tags": tags, "description": mark})).await;
        let version = json!({"name": model, "source": format!("runs:/{run}/m"), "run_id": run, "tags": tags});
        done("model-versions/create", version).await;
        done("registered-models/alias", json!({"name": model, "alias": "champion", "version": "1"})).await;
        let gated = json!({"model": model, "alias": "gated"}).to_string();
        send(Method::PUT, "/api/v1/registry/protected-aliases", gated).await;
        let hook = json!({"name": mark, "url": "http://127.0.0.1:9/x", "status": "DISABLED",
            "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]});
        let webhook = text(&done("webhooks", hook).await["webhook"]["webhook_id"]);
        let file = format!("{folder}/free.txt");
        Self {
            source: named(&nobody.source),
            workspace: nobody.workspace,
            experiment,
            experiment_name,
            deleted_experiment,
            run,
            deleted_run,
            held_run,
            logged_model,
            model,
            webhook,
            file,
            folder,
        }
    }

    /// A text with a place in the place of each of them.
    fn hidden_in(&self, text: &str) -> String {
        let mut names = [
            (&self.experiment, "<experiment>"),
            (&self.experiment_name, "<experiment name>"),
            (&self.deleted_experiment, "<deleted experiment>"),
            (&self.run, "<run>"),
            (&self.deleted_run, "<deleted run>"),
            (&self.held_run, "<held run>"),
            (&self.logged_model, "<logged model>"),
            (&self.model, "<model>"),
            (&self.webhook, "<webhook>"),
            (&self.workspace, "<workspace>"),
            (&self.source, "<source>"),
        ];
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.iter().fold(text.to_owned(), |text, (name, place)| text.replace(name.as_str(), place))
    }
}

/// What is sent below the mount of a route: a path with its query, and a body.
type Ask = fn(&Things) -> (String, Value);

/// One question.
struct Case {
    /// The method and the path of its route, without what it is mounted below.
    route: (&'static str, &'static str),
    ask: Ask,
    /// The status where the things are.
    here: u16,
    /// The status where they are not.
    elsewhere: u16,
    /// Whether the answer, where they are, tells of them.
    tells: bool,
    /// Whether it makes or removes something also where the things are not, so that two answers differ.
    makes: bool,
}

const fn case(method: &'static str, path: &'static str, here: u16, elsewhere: u16, ask: Ask) -> Case {
    Case { route: (method, path), ask, here, elsewhere, tells: false, makes: false }
}

impl Case {
    /// It lists or shows things.
    const fn telling(self) -> Self {
        Self { tells: true, ..self }
    }

    /// It makes something, under a name that is free elsewhere, or removes what is there.
    const fn making(self) -> Self {
        Self { makes: true, ..self }
    }
}

fn no_body(path: String) -> (String, Value) {
    (path, Value::Null)
}

fn experiments() -> Vec<Case> {
    vec![
        case("POST", "/2.0/mlflow/experiments/create", 400, 200, |t| {
            ("/2.0/mlflow/experiments/create".into(), json!({"name": t.experiment_name}))
        })
        .making(),
        case("GET", "/2.0/mlflow/experiments/get", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/experiments/get?experiment_id={}", t.experiment))
        })
        .telling(),
        case("GET", "/2.0/mlflow/experiments/get-by-name", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/experiments/get-by-name?experiment_name={}", t.experiment_name))
        })
        .telling(),
        case("POST", "/2.0/mlflow/experiments/delete", 200, 404, |t| {
            ("/2.0/mlflow/experiments/delete".into(), json!({"experiment_id": t.experiment}))
        }),
        case("POST", "/2.0/mlflow/experiments/restore", 200, 404, |t| {
            ("/2.0/mlflow/experiments/restore".into(), json!({"experiment_id": t.deleted_experiment}))
        }),
        case("POST", "/2.0/mlflow/experiments/update", 200, 404, |t| {
            let new = json!({"experiment_id": t.experiment, "new_name": format!("{}-x", t.experiment_name)});
            ("/2.0/mlflow/experiments/update".into(), new)
        }),
        case("POST", "/2.0/mlflow/experiments/search", 200, 200, |_| {
            ("/2.0/mlflow/experiments/search".into(), json!({"max_results": 1000, "view_type": "ALL"}))
        })
        .telling(),
        case("GET", "/2.0/mlflow/experiments/search", 200, 200, |_| {
            no_body("/2.0/mlflow/experiments/search?max_results=1000&view_type=ALL".into())
        })
        .telling(),
        case("POST", "/2.0/mlflow/experiments/set-experiment-tag", 200, 404, |t| {
            let tag = json!({"experiment_id": t.experiment, "key": "k", "value": "v"});
            ("/2.0/mlflow/experiments/set-experiment-tag".into(), tag)
        }),
        case("POST", "/2.0/mlflow/experiments/delete-experiment-tag", 200, 404, |t| {
            let tag = json!({"experiment_id": t.experiment, "key": MARK});
            ("/2.0/mlflow/experiments/delete-experiment-tag".into(), tag)
        }),
        case("POST", "/2.0/mlflow/experiments/search-datasets", 200, 200, |t| {
            ("/2.0/mlflow/experiments/search-datasets".into(), json!({"experiment_ids": [t.experiment]}))
        })
        .telling(),
        case("POST", "/2.0mlflow/experiments/search-datasets", 200, 200, |t| {
            ("/2.0mlflow/experiments/search-datasets".into(), json!({"experiment_ids": [t.experiment]}))
        })
        .telling(),
    ]
}

fn runs() -> Vec<Case> {
    vec![
        case("POST", "/2.0/mlflow/runs/create", 200, 404, |t| {
            ("/2.0/mlflow/runs/create".into(), json!({"experiment_id": t.experiment, "start_time": 1}))
        }),
        case("GET", "/2.0/mlflow/runs/get", 200, 404, |t| no_body(format!("/2.0/mlflow/runs/get?run_id={}", t.run)))
            .telling(),
        case("POST", "/2.0/mlflow/runs/update", 200, 404, |t| {
            ("/2.0/mlflow/runs/update".into(), json!({"run_id": t.run, "status": "FINISHED", "end_time": 9}))
        }),
        case("POST", "/2.0/mlflow/runs/delete", 200, 404, |t| {
            ("/2.0/mlflow/runs/delete".into(), json!({"run_id": t.run}))
        }),
        case("POST", "/2.0/mlflow/runs/restore", 200, 404, |t| {
            ("/2.0/mlflow/runs/restore".into(), json!({"run_id": t.deleted_run}))
        }),
        case("POST", "/2.0/mlflow/runs/search", 200, 200, |t| {
            ("/2.0/mlflow/runs/search".into(), json!({"experiment_ids": [t.experiment, "0"], "run_view_type": "ALL"}))
        })
        .telling(),
        case("POST", "/2.0/mlflow/runs/log-metric", 200, 404, |t| {
            ("/2.0/mlflow/runs/log-metric".into(), json!({"run_id": t.run, "key": "k", "value": 1, "timestamp": 1}))
        }),
        case("POST", "/2.0/mlflow/runs/log-parameter", 200, 404, |t| {
            ("/2.0/mlflow/runs/log-parameter".into(), json!({"run_id": t.run, "key": "k", "value": "v"}))
        }),
        case("POST", "/2.0/mlflow/runs/set-tag", 200, 404, |t| {
            ("/2.0/mlflow/runs/set-tag".into(), json!({"run_id": t.run, "key": "k", "value": "v"}))
        }),
        case("POST", "/2.0/mlflow/runs/delete-tag", 200, 404, |t| {
            ("/2.0/mlflow/runs/delete-tag".into(), json!({"run_id": t.run, "key": MARK}))
        }),
        case("POST", "/2.0/mlflow/runs/log-batch", 200, 404, |t| {
            ("/2.0/mlflow/runs/log-batch".into(), json!({"run_id": t.run, "params": [{"key": "b", "value": "v"}]}))
        }),
        case("POST", "/2.0/mlflow/runs/log-inputs", 200, 404, |t| {
            let dataset = json!({"name": "n", "digest": "d", "source_type": "local", "source": "s"});
            ("/2.0/mlflow/runs/log-inputs".into(), json!({"run_id": t.run, "datasets": [{"dataset": dataset}]}))
        }),
        case("POST", "/2.0/mlflow/runs/outputs", 200, 404, |t| {
            let models = json!([{"model_id": t.logged_model, "step": 0}]);
            ("/2.0/mlflow/runs/outputs".into(), json!({"run_id": t.run, "models": models}))
        }),
        case("POST", "/2.0/mlflow/runs/log-model", 200, 404, |t| {
            let model = json!({"run_id": t.run, "artifact_path": "m", "utc_time_created": "2024-05-12 14:03:00.000000",
                "flavors": {"onnx": {}}});
            ("/2.0/mlflow/runs/log-model".into(), json!({"run_id": t.run, "model_json": model.to_string()}))
        }),
        case("GET", "/2.0/mlflow/metrics/get-history", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/metrics/get-history?run_id={}&metric_key={MARK}", t.run))
        })
        .telling(),
        case("GET", "/2.0/mlflow/metrics/get-history-bulk", 200, 200, |t| {
            no_body(format!("/2.0/mlflow/metrics/get-history-bulk?run_id={}&metric_key={MARK}", t.run))
        })
        .telling(),
        case("GET", "/2.0/mlflow/metrics/get-history-bulk-interval", 200, 200, |t| {
            no_body(format!("/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={}&metric_key={MARK}", t.run))
        })
        .telling(),
    ]
}

fn logged_models() -> Vec<Case> {
    vec![
        case("POST", "/2.0/mlflow/logged-models", 200, 404, |t| {
            ("/2.0/mlflow/logged-models".into(), json!({"experiment_id": t.experiment, "name": "x"}))
        }),
        case("POST", "/2.0/mlflow/logged-models/search", 200, 200, |t| {
            ("/2.0/mlflow/logged-models/search".into(), json!({"experiment_ids": [t.experiment, "0"]}))
        })
        .telling(),
        case("GET", "/2.0/mlflow/logged-models/{model_id}", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/logged-models/{}", t.logged_model))
        })
        .telling(),
        case("PATCH", "/2.0/mlflow/logged-models/{model_id}", 200, 404, |t| {
            (format!("/2.0/mlflow/logged-models/{}", t.logged_model), json!({"status": "LOGGED_MODEL_READY"}))
        }),
        case("DELETE", "/2.0/mlflow/logged-models/{model_id}", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/logged-models/{}", t.logged_model))
        }),
        case("POST", "/2.0/mlflow/logged-models/{model_id}/params", 200, 404, |t| {
            let params = json!({"params": [{"key": "k", "value": "v"}]});
            (format!("/2.0/mlflow/logged-models/{}/params", t.logged_model), params)
        }),
        case("PATCH", "/2.0/mlflow/logged-models/{model_id}/tags", 200, 404, |t| {
            let tags = json!({"tags": [{"key": "k", "value": "v"}]});
            (format!("/2.0/mlflow/logged-models/{}/tags", t.logged_model), tags)
        }),
        case("DELETE", "/2.0/mlflow/logged-models/{model_id}/tags/{key}", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/logged-models/{}/tags/{MARK}", t.logged_model))
        }),
        case("GET", "/2.0/mlflow/logged-models/{model_id}/artifacts/directories", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/logged-models/{}/artifacts/directories", t.logged_model))
        }),
        case("GET", "/2.0/mlflow/logged-models/{model_id}/artifacts/files", 200, 404, |t| {
            let path = "artifacts/files?artifact_file_path=model.onnx";
            no_body(format!("/2.0/mlflow/logged-models/{}/{path}", t.logged_model))
        })
        .telling(),
    ]
}

fn models() -> Vec<Case> {
    const MODELS: &str = "/2.0/mlflow/registered-models";
    vec![
        case("POST", "/2.0/mlflow/registered-models/create", 400, 200, |t| {
            (format!("{MODELS}/create"), json!({"name": t.model}))
        })
        .making(),
        case("GET", "/2.0/mlflow/registered-models/get", 200, 404, |t| {
            no_body(format!("{MODELS}/get?name={}", t.model))
        })
        .telling(),
        case("POST", "/2.0/mlflow/registered-models/get-latest-versions", 200, 404, |t| {
            (format!("{MODELS}/get-latest-versions"), json!({"name": t.model}))
        })
        .telling(),
        case("GET", "/2.0/mlflow/registered-models/get-latest-versions", 200, 404, |t| {
            no_body(format!("{MODELS}/get-latest-versions?name={}", t.model))
        })
        .telling(),
        case("PATCH", "/2.0/mlflow/registered-models/update", 200, 404, |t| {
            (format!("{MODELS}/update"), json!({"name": t.model, "description": "x"}))
        }),
        case("POST", "/2.0/mlflow/registered-models/rename", 403, 404, |t| {
            (format!("{MODELS}/rename"), json!({"name": t.model, "new_name": format!("{}-x", t.model)}))
        }),
        case("DELETE", "/2.0/mlflow/registered-models/delete", 403, 404, |t| {
            (format!("{MODELS}/delete"), json!({"name": t.model}))
        }),
        case("GET", "/2.0/mlflow/registered-models/search", 200, 200, |_| {
            no_body(format!("{MODELS}/search?max_results=1000"))
        })
        .telling(),
        case("POST", "/2.0/mlflow/registered-models/set-tag", 200, 404, |t| {
            (format!("{MODELS}/set-tag"), json!({"name": t.model, "key": "k", "value": "v"}))
        }),
        case("DELETE", "/2.0/mlflow/registered-models/delete-tag", 200, 404, |t| {
            (format!("{MODELS}/delete-tag"), json!({"name": t.model, "key": MARK}))
        }),
        case("POST", "/2.0/mlflow/registered-models/alias", 200, 404, |t| {
            (format!("{MODELS}/alias"), json!({"name": t.model, "alias": "other", "version": "1"}))
        }),
        case("GET", "/2.0/mlflow/registered-models/alias", 200, 404, |t| {
            no_body(format!("{MODELS}/alias?name={}&alias=champion", t.model))
        })
        .telling(),
        case("DELETE", "/2.0/mlflow/registered-models/alias", 200, 404, |t| {
            (format!("{MODELS}/alias"), json!({"name": t.model, "alias": "champion"}))
        }),
    ]
}

fn versions() -> Vec<Case> {
    const VERSIONS: &str = "/2.0/mlflow/model-versions";
    vec![
        case("POST", "/2.0/mlflow/model-versions/create", 200, 400, |t| {
            let source = format!("mlflow-artifacts:/{}/m", t.folder);
            (format!("{VERSIONS}/create"), json!({"name": t.model, "source": source, "run_id": t.run}))
        }),
        // A model of our own, with what is theirs behind it.
        case("POST", "/2.0/mlflow/model-versions/create", 404, 400, |t| {
            let source = format!("runs:/{}/m", t.run);
            (format!("{VERSIONS}/create"), json!({"name": "only-ours", "source": source, "run_id": t.run}))
        }),
        case("POST", "/2.0/mlflow/model-versions/create", 404, 400, |t| {
            let source = format!("models:/{}", t.logged_model);
            (format!("{VERSIONS}/create"), json!({"name": "only-ours", "source": source}))
        }),
        case("POST", "/2.0/mlflow/model-versions/create", 404, 404, |t| {
            let source = format!("models:/{}@champion", t.model);
            (format!("{VERSIONS}/create"), json!({"name": "only-ours", "source": source}))
        }),
        case("GET", "/2.0/mlflow/model-versions/get", 200, 404, |t| {
            no_body(format!("{VERSIONS}/get?name={}&version=1", t.model))
        })
        .telling(),
        case("PATCH", "/2.0/mlflow/model-versions/update", 200, 404, |t| {
            (format!("{VERSIONS}/update"), json!({"name": t.model, "version": "1", "description": "x"}))
        }),
        case("POST", "/2.0/mlflow/model-versions/transition-stage", 200, 404, |t| {
            (format!("{VERSIONS}/transition-stage"), json!({"name": t.model, "version": "1", "stage": "Staging"}))
        }),
        case("DELETE", "/2.0/mlflow/model-versions/delete", 200, 404, |t| {
            (format!("{VERSIONS}/delete"), json!({"name": t.model, "version": "1"}))
        }),
        case("GET", "/2.0/mlflow/model-versions/search", 200, 200, |_| {
            no_body(format!("{VERSIONS}/search?max_results=1000"))
        })
        .telling(),
        case("GET", "/2.0/mlflow/model-versions/get-download-uri", 200, 404, |t| {
            no_body(format!("{VERSIONS}/get-download-uri?name={}&version=1", t.model))
        }),
        case("POST", "/2.0/mlflow/model-versions/set-tag", 200, 404, |t| {
            (format!("{VERSIONS}/set-tag"), json!({"name": t.model, "version": "1", "key": "k", "value": "v"}))
        }),
        case("DELETE", "/2.0/mlflow/model-versions/delete-tag", 200, 404, |t| {
            (format!("{VERSIONS}/delete-tag"), json!({"name": t.model, "version": "1", "key": MARK}))
        }),
        case("GET", "/model-versions/get-artifact", 200, 404, |t| {
            no_body(format!("/model-versions/get-artifact?name={}&version=1&path=model.onnx", t.model))
        })
        .telling(),
    ]
}

fn webhooks() -> Vec<Case> {
    const HOOKS: &str = "/2.0/mlflow/webhooks";
    vec![
        case("POST", "/2.0/mlflow/webhooks", 200, 200, |_| {
            let events = json!([{"entity": "REGISTERED_MODEL", "action": "CREATED"}]);
            (HOOKS.into(), json!({"name": "x", "url": "http://127.0.0.1:9/x", "events": events, "status": "DISABLED"}))
        })
        .making(),
        case("GET", "/2.0/mlflow/webhooks", 200, 200, |_| no_body(format!("{HOOKS}?max_results=1000"))).telling(),
        case("GET", "/2.0/mlflow/webhooks/{webhook_id}", 200, 404, |t| no_body(format!("{HOOKS}/{}", t.webhook)))
            .telling(),
        case("PATCH", "/2.0/mlflow/webhooks/{webhook_id}", 200, 404, |t| {
            (format!("{HOOKS}/{}", t.webhook), json!({"name": "y"}))
        }),
        case("DELETE", "/2.0/mlflow/webhooks/{webhook_id}", 200, 404, |t| no_body(format!("{HOOKS}/{}", t.webhook))),
        case("POST", "/2.0/mlflow/webhooks/{webhook_id}/test", 200, 404, |t| {
            (format!("{HOOKS}/{}/test", t.webhook), json!({}))
        }),
        case("GET", "/api/v1/registry/webhooks/{webhook_id}/deliveries", 200, 404, |t| {
            no_body(format!("/api/v1/registry/webhooks/{}/deliveries", t.webhook))
        }),
    ]
}

fn artifacts() -> Vec<Case> {
    const DOOR: &str = "/2.0/mlflow-artifacts";
    vec![
        case("GET", "/2.0/mlflow-artifacts/artifacts", 200, 200, |t| {
            no_body(format!("{DOOR}/artifacts?path={}", t.folder))
        })
        .telling(),
        case("GET", "/2.0/mlflow-artifacts/artifacts/{*path}", 200, 404, |t| {
            no_body(format!("{DOOR}/artifacts/{}", t.file))
        })
        .telling(),
        // It writes a file of its own under that path: theirs stays as it is.
        case("PUT", "/2.0/mlflow-artifacts/artifacts/{*path}", 200, 200, |t| {
            (format!("{DOOR}/artifacts/{}", t.file), json!("content"))
        })
        .making(),
        case("DELETE", "/2.0/mlflow-artifacts/artifacts/{*path}", 200, 404, |t| {
            no_body(format!("{DOOR}/artifacts/{}", t.file))
        }),
        case("GET", "/2.0/mlflow/artifacts/list", 200, 404, |t| {
            no_body(format!("/2.0/mlflow/artifacts/list?run_id={}", t.run))
        }),
        case("POST", "/2.0/mlflow/upload-artifact", 200, 404, |t| {
            (format!("/2.0/mlflow/upload-artifact?run_uuid={}&path=new.txt", t.run), json!("content"))
        }),
        case("GET", "/get-artifact", 200, 404, |t| no_body(format!("/get-artifact?run_id={}&path=free.txt", t.run)))
            .telling(),
        // A store of files signs no addresses.
        case("POST", "/2.0/mlflow-artifacts/mpu/create/{*folder}", 501, 501, |t| {
            (format!("{DOOR}/mpu/create/{}", t.folder), json!({"path": "a", "num_parts": 1}))
        }),
        case("POST", "/2.0/mlflow-artifacts/mpu/complete/{*folder}", 501, 501, |t| {
            (format!("{DOOR}/mpu/complete/{}", t.folder), json!({"path": "a", "upload_id": "u", "parts": []}))
        }),
        case("POST", "/2.0/mlflow-artifacts/mpu/abort/{*folder}", 501, 501, |t| {
            (format!("{DOOR}/mpu/abort/{}", t.folder), json!({"path": "a", "upload_id": "u"}))
        }),
        case("GET", "/2.0/mlflow-artifacts/presigned/{*path}", 501, 501, |t| {
            no_body(format!("{DOOR}/presigned/{}", t.file))
        }),
        case("POST", "/2.0/mlflow/artifacts/presigned-download-url", 501, 404, |t| {
            ("/2.0/mlflow/artifacts/presigned-download-url".into(), json!({"run_id": t.run, "path": "free.txt"}))
        }),
        case("POST", "/2.0/mlflow/artifacts/presigned-upload-url", 400, 400, |t| {
            ("/2.0/mlflow/artifacts/presigned-upload-url".into(), json!({"run_id": t.run, "path": "free.txt"}))
        }),
    ]
}

fn own() -> Vec<Case> {
    const OWN: &str = "/api/v1/registry";
    vec![
        case("GET", "/api/v1/registry/models/{name}/versions/{version}/files", 200, 404, |t| {
            no_body(format!("{OWN}/models/{}/versions/1/files", t.model))
        }),
        // The history outlives the model: of one that never was it is empty.
        case("GET", "/api/v1/registry/models/{name}/history", 200, 200, |t| {
            no_body(format!("{OWN}/models/{}/history", t.model))
        })
        .telling(),
        case("GET", "/api/v1/registry/models/{name}/aliases/{alias}/at", 200, 200, |t| {
            no_body(format!("{OWN}/models/{}/aliases/champion/at?time={NOW_MS}", t.model))
        }),
        case("POST", "/api/v1/registry/models/{name}/aliases/{alias}/rollback", 200, 404, |t| {
            let to = time::rfc3339(NOW_MS);
            (format!("{OWN}/models/{}/aliases/champion/rollback", t.model), json!({"to": to, "reason": "x"}))
        }),
        case("GET", "/api/v1/registry/protected-aliases", 200, 200, |_| no_body(format!("{OWN}/protected-aliases")))
            .telling(),
        // An alias can be protected before there is a model: only ours then.
        case("PUT", "/api/v1/registry/protected-aliases", 200, 200, |t| {
            (format!("{OWN}/protected-aliases"), json!({"model": t.model, "alias": "other", "deployment": "d"}))
        })
        .making(),
        case("DELETE", "/api/v1/registry/protected-aliases", 200, 404, |t| {
            (format!("{OWN}/protected-aliases"), json!({"model": t.model, "alias": "gated", "reason": "x"}))
        }),
        case("POST", "/api/v1/registry/gc", 200, 200, |_| {
            (format!("{OWN}/gc"), json!({"dry_run": true, "limit": 1000, "next": "run:"}))
        })
        .telling(),
        case("POST", "/api/v1/registry/gc", 200, 200, |_| {
            (format!("{OWN}/gc"), json!({"limit": 1000, "next": "run:"}))
        })
        .telling()
        .making(),
        case("POST", "/api/v1/registry/gc", 200, 200, |_| {
            (format!("{OWN}/gc"), json!({"limit": 1000, "next": "experiment:"}))
        })
        .telling()
        .making(),
        case("POST", "/api/v1/registry/gc", 200, 200, |_| {
            (format!("{OWN}/gc"), json!({"limit": 1000, "next": "orphan:"}))
        })
        .making(),
        case("GET", "/api/v1/registry/holds", 200, 200, |_| no_body(format!("{OWN}/holds"))).telling(),
        case("PUT", "/api/v1/registry/holds", 200, 404, |t| {
            (format!("{OWN}/holds"), json!({"kind": "run", "id": t.run, "reason": "x"}))
        }),
        case("DELETE", "/api/v1/registry/holds", 200, 404, |t| {
            (format!("{OWN}/holds"), json!({"kind": "run", "id": t.held_run, "reason": "x"}))
        }),
        case("GET", "/api/v1/registry/imports", 200, 200, |t| no_body(format!("{OWN}/imports?source={}", t.source))),
        // Theirs was not copied from there, and is not written over; elsewhere its number and its name are free.
        case("POST", "/api/v1/registry/imports/{kind}", 409, 200, |t| {
            let entity = json!({"experiment_id": t.experiment, "name": t.experiment_name, "lifecycle_stage": "active"});
            (format!("{OWN}/imports/experiment"), json!({"source": t.source, "digest": "d", "entity": entity}))
        })
        .making(),
    ]
}

fn about_no_workspace() -> Vec<Case> {
    const INFO: &str = "/3.0/mlflow";
    let mut cases = vec![
        case("GET", "/3.0/mlflow/server-info", 200, 200, |_| no_body(format!("{INFO}/server-info"))),
        case("GET", "/2.0/mlflow/gateway-proxy", 200, 200, |_| no_body("/2.0/mlflow/gateway-proxy".into())),
        case("GET", "/3.0/mlflow/ui-telemetry", 200, 200, |_| no_body(format!("{INFO}/ui-telemetry"))),
        case("POST", "/3.0/mlflow/ui-telemetry", 200, 200, |_| (format!("{INFO}/ui-telemetry"), json!({}))),
        case("GET", "/3.0/mlflow/assistant/config", 200, 200, |_| no_body(format!("{INFO}/assistant/config"))),
        case("GET", "/3.0/mlflow/assistant/providers", 200, 200, |_| no_body(format!("{INFO}/assistant/providers"))),
        case("GET", "/3.0/jobs/{*rest}", 501, 501, |_| no_body("/3.0/jobs/search".into())),
        case("POST", "/3.0/jobs/{*rest}", 501, 501, |_| ("/3.0/jobs/search".into(), json!({}))),
        case("GET", "/mlflow", 308, 308, |_| no_body("/mlflow".into())),
        case("GET", "/mlflow/", 200, 200, |_| no_body("/mlflow/".into())),
        case("GET", "/mlflow/static-files/{*path}", 200, 200, |_| no_body("/mlflow/static-files/index.html".into())),
        // Workspaces themselves: who may see and change them is decided by who asks, not by where.
        case("GET", "/3.0/mlflow/workspaces", 200, 200, |_| no_body(format!("{INFO}/workspaces"))),
        // Made elsewhere, it is there: workspaces are of the whole server.
        case("POST", "/3.0/mlflow/workspaces", 400, 201, |t| {
            (format!("{INFO}/workspaces"), json!({"name": t.workspace}))
        })
        .making(),
        case("GET", "/3.0/mlflow/workspaces/{workspace_name}", 404, 404, |t| {
            no_body(format!("{INFO}/workspaces/{}", t.workspace))
        }),
        case("PATCH", "/3.0/mlflow/workspaces/{workspace_name}", 404, 404, |t| {
            (format!("{INFO}/workspaces/{}", t.workspace), json!({"description": "x"}))
        }),
        case("DELETE", "/3.0/mlflow/workspaces/{workspace_name}", 404, 404, |t| {
            no_body(format!("{INFO}/workspaces/{}", t.workspace))
        }),
    ];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        cases.extend([
            case(method, "/2.0/mlflow/{*rest}", 404, 404, |t| no_body(format!("/2.0/mlflow/nothing/{}", t.run))),
            case(method, "/3.0/mlflow/{*rest}", 404, 404, |t| no_body(format!("/3.0/mlflow/nothing/{}", t.run))),
            case(method, "/2.0/mlflow-artifacts/{*rest}", 404, 404, |t| {
                no_body(format!("/2.0/mlflow-artifacts/nothing/{}", t.file))
            }),
            case(method, "/3.0/mlflow-artifacts/{*rest}", 404, 404, |t| {
                no_body(format!("/3.0/mlflow-artifacts/nothing/{}", t.file))
            }),
        ]);
    }
    cases
}

fn graphql() -> Vec<Case> {
    vec![
        case("POST", "/graphql", 200, 200, |t| {
            let query = format!(
                "{{ mlflowGetRun(input: {{runId: \"{}\"}}) {{ run {{ info {{ runUuid }} data {{ params {{ key value }} }} }} }} }}",
                t.run
            );
            ("/graphql".into(), json!({ "query": query }))
        })
        .telling(),
        case("POST", "/graphql", 200, 200, |t| {
            let query = format!(
                "{{ mlflowSearchRuns(input: {{experimentIds: [\"{}\"]}}) {{ runs {{ info {{ runUuid }} data {{ params {{ key value }} }} }} }} }}",
                t.experiment
            );
            ("/graphql".into(), json!({ "query": query }))
        })
        .telling(),
        case("GET", "/graphql", 200, 200, |t| {
            let query = "%7BmlflowGetExperiment(input%3A%7BexperimentId%3A%22ID%22%7D)%7Bexperiment%7Bname%20tags%7Bkey%7D%7D%7D%7D";
            no_body(format!("/graphql?query={}", query.replace("ID", &t.experiment)))
        })
        .telling(),
    ]
}

/// What a route is mounted below, and the rest of its path.
fn split(path: &str) -> (&str, &str) {
    for mount in ["/mlflow/api", "/mlflow/ajax-api", "/api", "/ajax-api"] {
        if let Some(rest) = path.strip_prefix(mount)
            && (rest.starts_with("/2.0") || rest.starts_with("/3.0"))
        {
            return path.split_at(mount.len());
        }
    }
    match path.strip_prefix("/mlflow") {
        Some("/graphql" | "/get-artifact" | "/model-versions/get-artifact") => path.split_at("/mlflow".len()),
        _ => ("", path),
    }
}

/// Everything that is in the database of a workspace, but what its background changes by itself.
async fn dump(db: &Db) -> String {
    const TABLES: [&str; 32] = [
        "experiments",
        "experiment_tags",
        "runs",
        "run_tags",
        "params",
        "metrics",
        "latest_metrics",
        "datasets",
        "run_datasets",
        "run_dataset_tags",
        "logged_models",
        "logged_model_params",
        "logged_model_tags",
        "logged_model_metrics",
        "run_models",
        "registered_models",
        "registered_model_tags",
        "model_versions",
        "model_version_tags",
        "aliases",
        "alias_history",
        "change_history",
        "protected_aliases",
        "artifacts",
        "artifact_folders",
        "blob_garbage",
        "webhooks",
        "webhook_events",
        "webhook_deliveries",
        "holds",
        "artifact_uploads",
        "imports",
    ];
    settled(db).await;
    let mut whole = String::new();
    for table in TABLES {
        let mut rows: Vec<String> = db
            .query(&format!("SELECT * FROM {table}"), args![])
            .await
            .unwrap()
            .iter()
            .map(|row| format!("{row:?}"))
            .collect();
        rows.sort();
        whole.extend([table, ": ", &rows.join("\n"), "\n"]);
    }
    whole
}

fn with_ui(config: &mut fishy_config::Config) {
    crate::workspaces::on(config);
    let folder = format!("{}/ui", config.storage.data_dir);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(format!("{folder}/index.html"), "<html></html>").unwrap();
    config.registry.mlflow_ui = folder;
}

async fn nothing_of_another_workspace_is_found(server: Server) {
    let cases: Vec<Case> = [
        experiments(),
        runs(),
        logged_models(),
        models(),
        versions(),
        webhooks(),
        artifacts(),
        own(),
        graphql(),
        about_no_workspace(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let table: Vec<(&str, &str)> =
        server.running.table.iter().map(|route| (route.method, route.path.as_str())).collect();
    let covered: BTreeSet<(&str, &str)> = cases.iter().map(|case| case.route).collect();
    let routes: BTreeSet<(&str, &str)> = table.iter().map(|(method, path)| (*method, split(path).1)).collect();
    let missing: Vec<_> = routes.difference(&covered).collect();
    assert!(missing.is_empty(), "these routes are not asked whether they leak: add a case for each: {missing:?}");
    let gone: Vec<_> = covered.difference(&routes).collect();
    assert!(gone.is_empty(), "these routes are no longer there: {gone:?}");

    server.make_workspace(THEIRS).await;
    server.make_workspace(OURS).await;
    Things::fill(&server, OURS, "lion").await;
    server.done_at(OURS, "registered-models/create", json!({"name": "only-ours"})).await;
    let id = server.db.query_opt("SELECT id FROM workspaces WHERE name = $1", args![THEIRS]).await.unwrap().unwrap();
    // Its database is there once something was asked for in it.
    let (mut things, mut is_spent) = (Things::fill(&server, THEIRS, MARK).await, false);
    // What was made in ours under a name of theirs.
    let mut made: Vec<Things> = Vec::new();
    let theirs = server.db.connect_beside(&format!("w{}", id.get::<i64>("id").unwrap()), 2).await.unwrap();
    let mut before = dump(&theirs).await;
    for case in cases {
        let (method, rest) = case.route;
        let mounts: Vec<&str> = table
            .iter()
            .filter(|(of, path)| *of == method && split(path).1 == rest)
            .map(|(_, path)| split(path).0)
            .collect();
        let send = async |workspace: &str, mount: &str, things: &Things| {
            let (path, body) = (case.ask)(things);
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            server.at(workspace, None, method, &format!("{mount}{path}"), body).await
        };
        let mut told_elsewhere = String::new();
        for mount in &mounts {
            let name = format!("{method} {mount}{rest}");
            if is_spent || case.makes {
                things = Things::fill(&server, THEIRS, MARK).await;
                is_spent = false;
                before = dump(&theirs).await;
            }
            let nobody = Things::of_nobody();
            let (status, answer) = send(OURS, mount, &things).await;
            let (ghost_status, ghost) = send(OURS, mount, &nobody).await;
            assert_eq!(status, case.elsewhere, "{name} tells of what is elsewhere: {answer}");
            assert_eq!(ghost_status, status, "{name}: {ghost}");
            let hidden = |of: &Things, answer: &Value| {
                made.iter().fold(of.hidden_in(&answer.to_string()), |text, made| made.hidden_in(&text))
            };
            let (answer, ghost) = (hidden(&things, &answer), hidden(&nobody, &ghost));
            if case.makes {
                made.push(things.clone());
            } else {
                assert_eq!(answer, ghost, "{name} answers otherwise than for what does not exist");
            }
            assert!(!answer.contains(MARK), "{name} tells {answer}");
            told_elsewhere = answer;
        }
        assert_eq!(dump(&theirs).await, before, "{method} {rest} changes what is elsewhere");
        // The question is a good one: where the things are, it finds them.
        let (status, answer) = send(THEIRS, mounts[0], &things).await;
        assert_eq!(status, case.here, "{method} {rest}, where the things are: {answer}");
        let told_here = things.hidden_in(&answer.to_string());
        assert!(!case.tells || told_here != told_elsewhere, "{method} {rest} tells nothing of what is there: {answer}");
        is_spent = method != "GET" && (case.makes || !case.tells);
    }
    theirs.close().await;
    cleaned(server).await;
}

with_workspaces!(nothing_of_another_workspace_is_found: super::with_ui);
