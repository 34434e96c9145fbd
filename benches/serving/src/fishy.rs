//! Our own server: its models registered and deployed over its API, then started again as it is measured.

use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::json;

use crate::peers::Places;
use crate::requests::{Model, get};
use crate::server::{Server, free_address};

/// A data folder with models deployed.
pub struct Fishy {
    places: Rc<Places>,
    folder: tempfile::TempDir,
}

/// A setting of the program, as its environment has it.
pub type Setting = (&'static str, &'static str);

/// So many deployments are made at the same time.
const AT_ONCE: usize = 4;

impl Fishy {
    /// Registers the models and deploys them under their names; with `copies`, each so many times more as `NAME-1`, `NAME-2` ….
    pub async fn prepare(places: &Rc<Places>, models: &[Model], copies: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fishy-bench-").tempdir()?;
        let fishy = Self { places: Rc::clone(places), folder };
        let server = fishy.start(&[], &get("/health")).await?;
        let url = format!("http://{}", server.http);
        let mut register = Command::new(&places.python);
        register.arg(places.scripts.join("register.py")).args([url.as_str()]).arg(places.models.join("mlflow"));
        let registered = register.args(models.iter().map(|model| model.name())).output()?;
        if !registered.status.success() {
            bail!("registering the models failed: {}", String::from_utf8_lossy(&registered.stderr));
        }
        let client = reqwest::Client::builder().no_proxy().build()?;
        let names = models.iter().flat_map(|model| {
            let name = model.name();
            std::iter::once(name.to_owned()).chain((1..=copies).map(move |copy| format!("{name}-{copy}"))).map(
                move |deployment| json!({"name": deployment, "model": format!("models:/{name}/1"), "is_gated": false}),
            )
        });
        let specs: Vec<_> = names.collect();
        for some in specs.chunks(AT_ONCE) {
            let asked = some.iter().map(|spec| {
                let name = spec["name"].as_str().unwrap_or_default();
                client.put(format!("{url}/api/v1/deployments/{name}")).json(spec).send()
            });
            for answer in futures::future::try_join_all(asked).await? {
                answer.error_for_status().context("deploying")?;
            }
        }
        drop(server);
        Ok(fishy)
    }

    fn command(&self, arguments: &[&str], settings: &[Setting]) -> Command {
        let mut command = Command::new(&self.places.fishy);
        command.args(arguments).envs(settings.iter().copied());
        command.env("FISHY__STORAGE__DATA_DIR", self.folder.path());
        command.env("FISHY__INFERENCE__ONNXRUNTIME_LIBRARY", &self.places.onnxruntime);
        command
    }

    /// Starts the whole program and waits until `probe` is answered.
    pub async fn start(&self, settings: &[Setting], probe: &Bytes) -> Result<Server> {
        let address = free_address()?;
        let command = self.command(&["up", "--listen", &address.to_string()], settings);
        // One port for all doors.
        Server::start(command, (address, address), probe, &self.folder.path().join("server.log")).await
    }

    /// A service token that may predict, made without a server.
    pub fn token(&self) -> Result<String> {
        let made = self.command(&["token", "create", "bench", "--role", "sensor", "--offline"], &[]).output()?;
        if !made.status.success() {
            bail!("no token: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }
}
