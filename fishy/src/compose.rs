//! Puts services together in one process, and stops them again.

mod foreign;
mod identity;
mod storage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fishy_authz::{Authorizer, Bundle, RunTokens, service_bearer};
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::{DeploymentClient, GovernanceClient, MonitoringClient, RegistryClient};
use fishy_core::Env;
use fishy_db::{Db, Relay};
use fishy_http::{Guard, ServiceClient, ServiceSlot};
use fishy_inference::OnnxOnDemand;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::services::Service;
use foreign::Foreign;

pub use storage::{connect, migrations};

/// The services of this process at work.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    server: JoinHandle<fishy_core::Result<()>>,
    /// First stage: no new requests, open ones end.
    drain: CancellationToken,
    /// Second stage: the services' own tasks end.
    stop: CancellationToken,
    running: Arc<RunningServices>,
    tasks: Vec<JoinHandle<()>>,
    databases: Vec<Db>,
    bus: Bus,
}

/// What runs here; each is there when its service was asked for.
#[derive(Default)]
struct RunningServices {
    governance: Option<fishy_governance::Running>,
    registry: Option<fishy_registry::Running>,
    deployment: Option<fishy_deployment::Running>,
    monitoring: Option<fishy_monitoring::Running>,
    pipelines: Option<fishy_pipelines::Running>,
}

/// Starts services and listens.
pub async fn start(config: &Config, services: &[Service]) -> Result<Process> {
    identity::check_listen(config)?;
    let foreign = Foreign::open(config, services)?;
    check_neighbours(config, services)?;
    let env = Env::system();
    let listener = TcpListener::bind(&config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {} (server.listen)", config.server.listen))?;
    let address = listener.local_addr()?;
    let data_dir = PathBuf::from(&config.storage.data_dir);
    std::fs::create_dir_all(&data_dir)
        .with_context(|| format!("cannot make {} (storage.data_dir)", data_dir.display()))?;

    let bus = match config.bus.url.expose() {
        "" => Bus::in_process(),
        url => Bus::connect_with_prefix(url, &config.bus.prefix, env.clone()).await?,
    };
    let secret = identity::service_secret(config);
    let builder = Builder::new(config, services, address, &env, secret.clone(), foreign);
    let authorizer = Authorizer::open(data_dir.join("policies.json"), env.now_ms())?;
    let governance = GovernanceClient(builder.client(Service::Governance, "registry")?);
    let guard = Guard {
        authenticator: identity::authenticator(config, &env, &governance, secret)?,
        authorizer: authorizer.clone(),
        max_body_bytes: config.server.max_body_bytes,
        request_timeout: Duration::from_millis(config.server.request_timeout_ms),
    };
    let stop = CancellationToken::new();
    let mut databases = BTreeMap::new();
    let mut tasks = Vec::new();
    for service in services {
        let db = connect(config, *service, &env).await?;
        db.migrate(&migrations(*service)).await.with_context(|| format!("migrating the database of {service}"))?;
        let publisher = bus.clone();
        let publish = move |event| {
            let bus = publisher.clone();
            Box::pin(async move { bus.publish(event).await }) as futures::future::BoxFuture<'static, _>
        };
        tasks.push(Relay::spawn(db.clone(), publish, env.clone(), stop.clone()));
        databases.insert(*service, db);
    }
    let (running, router) = builder.start_all(&databases, &bus, &guard, &stop).await?;
    tasks.push(tokio::spawn(follow_policies(authorizer, governance, env.clone(), stop.clone())));
    tasks.push(tokio::spawn(tidy_metrics(stop.clone())));

    let running = Arc::new(running);
    let health = fishy_http::health_routes(readiness(&running, &bus), accepting(&running, &databases));
    let router = health.merge(router).fallback(not_found);
    let drain = CancellationToken::new();
    let grace = Duration::from_millis(config.server.shutdown_grace_ms);
    let server = tokio::spawn(fishy_http::serve(listener, router, drain.clone(), grace));
    Ok(Process { address, server, drain, stop, running, tasks, databases: databases.into_values().collect(), bus })
}

async fn not_found(uri: axum::http::Uri) -> axum::response::Response {
    let error = fishy_core::Error::not_found(format!("nothing is served at {}", uri.path()));
    fishy_http::ErrorForm::Problem.respond(&error)
}

/// Every service that is needed runs here or has a URL, and services apart have a broker between them.
fn check_neighbours(config: &Config, services: &[Service]) -> Result<()> {
    for service in services {
        for needed in service.needs() {
            let is_foreign = *needed == Service::Registry && config.foreign_registry.is_set();
            if !services.contains(needed) && !config.services.urls.contains_key(needed.name()) && !is_foreign {
                bail!("{service} needs {needed}: run it here as well, or set services.{needed} to its URL");
            }
        }
    }
    for name in config.services.urls.keys() {
        name.parse::<Service>().map_err(|problem| anyhow::anyhow!("[services]: {problem}"))?;
    }
    let is_apart = !config.services.urls.is_empty();
    if is_apart && identity::is_configured(&config.auth) && config.auth.internal_secret.is_empty() {
        bail!(
            "services in processes of their own must know each other: set auth.internal_secret to the same 32 or more \
             random characters for all of them"
        );
    }
    if services.len() < everything(config).len() && config.bus.url.is_empty() {
        bail!(
            "services in processes of their own need a broker between them: set bus.url (amqp://…); somebody else's MLflow \
             server is no such service, its URL goes into foreign_registry.url"
        );
    }
    Ok(())
}

/// All services that there are: ours have no registry where a foreign one takes its place.
pub fn everything(config: &Config) -> Vec<Service> {
    let is_ours = |service: &Service| *service != Service::Registry || !config.foreign_registry.is_set();
    Service::ALL.into_iter().filter(is_ours).collect()
}

/// What all services are built from.
struct Builder<'a> {
    config: &'a Config,
    services: &'a [Service],
    env: &'a Env,
    slots: BTreeMap<Service, ServiceSlot>,
    /// What the services show each other, where callers must say who they are.
    secret: Option<String>,
    foreign: Option<Foreign>,
    tracking_uri: String,
}

impl<'a> Builder<'a> {
    fn new(
        config: &'a Config,
        services: &'a [Service],
        address: SocketAddr,
        env: &'a Env,
        secret: Option<String>,
        foreign: Option<Foreign>,
    ) -> Self {
        let slots = services.iter().map(|service| (*service, ServiceSlot::default())).collect();
        let tracking_uri = match &foreign {
            Some(foreign) => foreign.tracking_uri(),
            None => config.services.urls.get("registry").cloned().unwrap_or_else(|| local_url(address)),
        };
        Self { config, services, env, slots, secret, foreign, tracking_uri }
    }

    /// The client of the registry. What our services show each other is for our own only.
    fn registry(&self, caller: &str) -> Result<RegistryClient> {
        match &self.foreign {
            Some(foreign) => Ok(foreign.registry()),
            None => Ok(RegistryClient::new(self.client(Service::Registry, caller)?)),
        }
    }

    /// The client of `service` for the service `caller`.
    fn client(&self, service: Service, caller: &str) -> Result<ServiceClient> {
        if let Some(slot) = self.slots.get(&service) {
            return Ok(ServiceClient::local(service.name(), slot, caller));
        }
        let Some(url) = self.config.services.urls.get(service.name()) else {
            return Ok(ServiceClient::nowhere(service.name(), caller));
        };
        let authorization = self.secret.as_deref().map(|secret| service_bearer(caller, secret));
        Ok(ServiceClient::remote(service.name(), url, caller, authorization.as_deref())?)
    }

    async fn start_all(
        &self,
        databases: &BTreeMap<Service, Db>,
        bus: &Bus,
        guard: &Guard,
        stop: &CancellationToken,
    ) -> Result<(RunningServices, axum::Router)> {
        let blob = storage::artifacts(self.config)?;
        let runs_models = [Service::Deployment, Service::Pipelines].iter().any(|one| self.services.contains(one));
        let engine = runs_models.then(|| self.engine()).transpose()?;
        let mut running = RunningServices::default();
        let mut merged = axum::Router::new();
        for service in Service::ALL {
            let Some(db) = databases.get(&service).cloned() else { continue };
            let (env, config, bus, guard) = (self.env.clone(), self.config.clone(), bus.clone(), guard.clone());
            let (stop, name) = (stop.clone(), service.name());
            let registry = self.registry(name)?;
            let governance = GovernanceClient(self.client(Service::Governance, name)?);
            let router = match service {
                Service::Governance => {
                    let blob = blob.clone();
                    let deps = fishy_governance::Deps { env, config, db, bus, guard, blob, stop };
                    let started = running.governance.insert(fishy_governance::start(deps).await?);
                    started.router.clone()
                }
                Service::Registry => {
                    let blob = blob.clone();
                    let deps = fishy_registry::Deps { env, config, db, bus, guard, governance, blob, stop };
                    running.registry.insert(fishy_registry::start(deps).await?).router.clone()
                }
                Service::Deployment => {
                    let blob = blob.clone();
                    let engine = engine.clone().context("the engine is loaded where models run")?;
                    let deps = fishy_deployment::Deps {
                        env,
                        config,
                        db,
                        bus,
                        guard,
                        registry,
                        governance,
                        monitoring: MonitoringClient(self.client(Service::Monitoring, name)?),
                        blob,
                        engine,
                        stop,
                    };
                    running.deployment.insert(fishy_deployment::start(deps).await?).router.clone()
                }
                Service::Monitoring => {
                    let deps = fishy_monitoring::Deps { env, config, db, bus, guard, stop };
                    running.monitoring.insert(fishy_monitoring::start(deps).await?).router.clone()
                }
                Service::Pipelines => {
                    let engine = engine.clone().context("the engine is loaded where models run")?;
                    let deps = fishy_pipelines::Deps {
                        env,
                        config,
                        db,
                        bus,
                        guard,
                        registry,
                        governance,
                        monitoring: MonitoringClient(self.client(Service::Monitoring, name)?),
                        deployment: DeploymentClient(self.client(Service::Deployment, name)?),
                        engine,
                        tracking_uri: self.tracking_uri.clone(),
                        run_tokens: self.secret.as_deref().filter(|_| self.foreign.is_none()).map(RunTokens::new),
                        step_environment: self.foreign.as_ref().map(Foreign::step_environment).unwrap_or_default(),
                        stop,
                    };
                    running.pipelines.insert(fishy_pipelines::start(deps).await?).router.clone()
                }
            };
            if let Some(slot) = self.slots.get(&service) {
                slot.fill(router.clone());
            }
            merged = merged.merge(router);
        }
        Ok((running, merged))
    }

    /// The engine that runs models.
    fn engine(&self) -> Result<Arc<OnnxOnDemand>> {
        let configured = Path::new(&self.config.inference.onnxruntime_library);
        let path = if configured.as_os_str().is_empty() {
            Path::new(".fishy/onnxruntime/libonnxruntime.so")
        } else {
            configured
        };
        Ok(Arc::new(OnnxOnDemand::new(path)?))
    }
}

/// The URL under which this process reaches itself.
pub fn local_url(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
    format!("http://{host}:{}", address.port())
}

/// Takes over the access policies that governance publishes; the last known good ones stay in force while it is away.
async fn follow_policies(authorizer: Authorizer, governance: GovernanceClient, env: Env, stop: CancellationToken) {
    loop {
        authorizer.record_metrics(env.now_ms());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
        match governance.bundle().await {
            Ok(newest) if newest.version as u64 > authorizer.bundle().version => {
                let bundle =
                    Bundle { version: newest.version as u64, issued_ms: newest.issued_ms, policies: newest.policies };
                if let Err(error) = authorizer.replace(bundle) {
                    tracing::error!(error = error.chain(), "the published policies cannot be taken over");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(error = error.chain(), "policies cannot be looked up"),
        }
    }
}

async fn tidy_metrics(stop: CancellationToken) {
    while tokio::time::timeout(Duration::from_secs(5), stop.cancelled()).await.is_err() {
        fishy_telemetry::tidy_metrics();
    }
}

fn readiness(running: &Arc<RunningServices>, bus: &Bus) -> fishy_http::Readiness {
    let (running, bus) = (running.clone(), bus.clone());
    Arc::new(move || {
        let (running, bus) = (running.clone(), bus.clone());
        Box::pin(async move {
            let mut problems = Vec::new();
            if !bus.is_healthy() {
                problems.push(("bus".to_owned(), "the message broker cannot be reached".to_owned()));
            }
            let mut add = |part: Service, found: Vec<String>| {
                problems.extend(found.into_iter().map(|problem| (part.to_string(), problem)));
            };
            if let Some(service) = &running.governance {
                add(Service::Governance, service.problems().await);
            }
            if let Some(service) = &running.registry {
                add(Service::Registry, service.problems().await);
            }
            if let Some(service) = &running.deployment {
                add(Service::Deployment, service.problems().await);
            }
            if let Some(service) = &running.monitoring {
                add(Service::Monitoring, service.problems().await);
            }
            if let Some(service) = &running.pipelines {
                add(Service::Pipelines, service.problems().await);
            }
            problems
        })
    })
}

/// A broker that is away, a failed run or a version that was refused are no reason to send requests elsewhere: every replica
/// has the same trouble. A database that does not answer is, but not for predictions, which go on without it.
fn accepting(running: &Arc<RunningServices>, databases: &BTreeMap<Service, Db>) -> fishy_http::Accepting {
    let needed = databases.iter().filter(|(service, _)| **service != Service::Deployment);
    let (running, needed) = (running.clone(), needed.map(|(_, db)| db.clone()).collect::<Vec<_>>());
    Arc::new(move || {
        let (running, needed) = (running.clone(), needed.clone());
        Box::pin(async move {
            if running.deployment.as_ref().is_some_and(|service| !service.can_serve()) {
                return false;
            }
            futures::future::join_all(needed.iter().map(Db::ping)).await.iter().all(Result::is_ok)
        })
    })
}

impl Process {
    /// Stops in two stages: requests first, then the services, the outboxes and the bus.
    pub async fn shutdown(self) -> Result<()> {
        self.drain.cancel();
        let served = self.server.await.context("the listener ended badly")?;
        self.stop.cancel();
        if let Ok(running) = Arc::try_unwrap(self.running) {
            if let Some(service) = running.pipelines {
                service.shutdown().await;
            }
            if let Some(service) = running.monitoring {
                service.shutdown().await;
            }
            if let Some(service) = running.deployment {
                service.shutdown().await;
            }
            if let Some(service) = running.registry {
                service.shutdown().await;
            }
            if let Some(service) = running.governance {
                service.shutdown().await;
            }
        }
        for task in self.tasks {
            let _ = task.await;
        }
        self.bus.close().await;
        for db in self.databases {
            db.close().await;
        }
        served.context("shutting down")
    }
}
