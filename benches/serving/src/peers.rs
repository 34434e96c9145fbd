//! The servers, each started as its user would, with one model.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;

use crate::requests::{Form, Model, requests};
use crate::server::{Server, free_address};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// `fishy up`.
    Fishy,
    /// A hand-written FastAPI program over ONNX Runtime, two workers.
    #[value(name = "fastapi")]
    FastApi,
    /// The same with one worker.
    #[value(name = "fastapi-one-worker")]
    FastApiOneWorker,
    /// MLServer with a runtime for ONNX.
    #[value(name = "mlserver")]
    MlServer,
    /// `mlflow models serve`, one worker: with two it answers in 44 ms, as its sockets wait for more to send.
    Mlflow,
    /// LitServe, two workers.
    #[value(name = "litserve")]
    LitServe,
    /// BentoML, two workers.
    #[value(name = "bentoml")]
    BentoMl,
    /// Triton behind its Python front end.
    #[value(name = "pytriton")]
    PyTriton,
}

/// Where everything is.
#[derive(Debug)]
pub struct Places {
    /// Our program.
    pub fishy: PathBuf,
    /// The interpreter that has MLflow.
    pub python: PathBuf,
    /// The scripts of the peers.
    pub scripts: PathBuf,
    /// The models.
    pub models: PathBuf,
    /// The engine's library.
    pub onnxruntime: PathBuf,
    /// The interpreters of those that have an environment of their own.
    pub environments: Vec<(String, PathBuf)>,
}

impl Peer {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fishy => "fishy",
            Self::FastApi => "FastAPI, two workers",
            Self::FastApiOneWorker => "FastAPI, one worker",
            Self::MlServer => "MLServer",
            Self::Mlflow => "mlflow models serve",
            Self::LitServe => "LitServe",
            Self::BentoMl => "BentoML",
            Self::PyTriton => "Triton, Python",
        }
    }

    const fn environment(self) -> Option<&'static str> {
        match self {
            Self::Fishy | Self::Mlflow => None,
            Self::FastApi | Self::FastApiOneWorker => Some("fastapi"),
            Self::MlServer => Some("mlserver"),
            Self::LitServe => Some("litserve"),
            Self::BentoMl => Some("bentoml"),
            Self::PyTriton => Some("pytriton"),
        }
    }

    /// Where a model is asked over HTTP.
    pub fn path(self, model: Model) -> String {
        match self {
            Self::Mlflow => "/invocations".to_owned(),
            Self::LitServe => "/predict".to_owned(),
            Self::BentoMl => "/infer".to_owned(),
            _ => format!("/v2/models/{}/infer", model.name()),
        }
    }

    /// Its JSON.
    pub const fn json(self) -> Form {
        if matches!(self, Self::Mlflow) { Form::Mlflow } else { Form::Json }
    }

    pub const fn takes_binary(self) -> bool {
        matches!(self, Self::Fishy | Self::FastApi | Self::FastApiOneWorker | Self::PyTriton)
    }

    pub const fn takes_grpc(self) -> bool {
        matches!(self, Self::Fishy | Self::MlServer | Self::PyTriton)
    }

    /// Starts a peer with one model and waits for its first prediction; `folder` is empty and its own.
    pub async fn start(self, model: Model, places: &Places, folder: &Path) -> Result<Server> {
        let (http, grpc, metrics) = (free_address()?, free_address()?, free_address()?);
        let port = http.port().to_string();
        let python = match self.environment() {
            None => &places.python,
            Some(name) => {
                let found = places.environments.iter().find(|(known, _)| known == name);
                &found.with_context(|| format!("it has no environment {name:?} here"))?.1
            }
        };
        let models = places.models.join(model.name());
        let mut command = Command::new(python);
        command.current_dir(folder).env("PYTHONPATH", &places.scripts);
        // The tools of an environment look for each other by name.
        let tools = python.parent().context("an interpreter lies in a folder")?;
        #[expect(clippy::disallowed_methods, reason = "the search path is what is passed on")]
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", tools.display()));
        match self {
            Self::Fishy => anyhow::bail!("fishy is started by its own module"),
            Self::FastApi | Self::FastApiOneWorker => {
                let workers = if self == Self::FastApi { "2" } else { "1" };
                command.args(["-m", "uvicorn", "fastapi_app:app", "--port", &port, "--workers", workers]);
                command.args(["--no-access-log", "--log-level", "warning"]).env("FISHY_BENCH_MODELS", models);
            }
            Self::MlServer => {
                let settings = json!({"host": "127.0.0.1", "http_port": http.port(), "grpc_port": grpc.port(),
                    "metrics_port": metrics.port(), "parallel_workers": 0, "debug": false, "access_log": false});
                let file = models.join(format!("{}.onnx", model.name()));
                let of_model = json!({"name": model.name(), "implementation": "mlserver_runtime.OnnxModel",
                    "parameters": {"uri": file, "version": "1"}});
                std::fs::write(folder.join("settings.json"), settings.to_string())?;
                std::fs::write(folder.join("model-settings.json"), of_model.to_string())?;
                command.args(["-c", "from mlserver.cli import main; main()", "start"]).arg(folder);
            }
            Self::Mlflow => {
                command.args(["-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"]);
                command.args(["--host", "127.0.0.1", "--port", &port, "--model-uri"]);
                command.arg(places.models.join("mlflow").join(model.name()));
            }
            Self::LitServe => {
                command.arg(places.scripts.join("litserve_app.py")).arg(models).args([model.name(), &port]);
            }
            Self::BentoMl => {
                command.args(["-m", "bentoml", "serve", "bentoml_app:Onnx", "--host", "127.0.0.1", "--port", &port]);
                command.current_dir(&places.scripts);
                command.env("FISHY_BENCH_MODELS", models).env("FISHY_BENCH_MODEL", model.name());
            }
            Self::PyTriton => {
                command.arg(places.scripts.join("pytriton_app.py")).arg(models).arg(&port);
                command.args([grpc.port().to_string(), metrics.port().to_string()]);
            }
        }
        let probe = requests(model, self.json(), &self.path(model), None);
        Server::start(command, (http, grpc), &probe[0], &folder.join("server.log")).await
    }
}
