//! Commands that talk to a server.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use fishy_contracts::{DeploymentClient, GovernanceClient, MonitoringClient, PipelinesClient, RegistryClient};
use fishy_http::ServiceClient;
use http::{HeaderName, HeaderValue};
use serde_json::Value;

/// Names the workspace in a request to the registry.
pub const WORKSPACE_HEADER: HeaderName = HeaderName::from_static("x-mlflow-workspace");

/// Which server, and who asks.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The server.
    #[arg(long, env = "FISHY_URL", default_value = "http://127.0.0.1:5000")]
    pub url: String,
    /// A service token, where the server asks for one.
    #[arg(long, env = "FISHY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The workspace of the registry, where it has several.
    #[arg(long, env = "MLFLOW_WORKSPACE")]
    pub workspace: Option<String>,
}

impl Server {
    /// A client of one of its services.
    pub fn client(&self, service: &'static str) -> Result<ServiceClient> {
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(ServiceClient::remote(service, &self.url, "cli", authorization.as_deref())?)
    }

    /// The registry.
    pub fn registry(&self) -> Result<RegistryClient> {
        let mut client = self.client("registry")?;
        if let Some(workspace) = self.workspace_header()? {
            client = client.with_header(WORKSPACE_HEADER, workspace);
        }
        Ok(RegistryClient::new(client))
    }

    /// What names the workspace in a request to the registry.
    pub fn workspace_header(&self) -> Result<Option<HeaderValue>> {
        let value = self.workspace.as_deref().map(HeaderValue::from_str).transpose();
        value.with_context(|| format!("{:?} is no name of a workspace", self.workspace))
    }

    /// The deployment service.
    pub fn deployment(&self) -> Result<DeploymentClient> {
        Ok(DeploymentClient(self.client("deployment")?))
    }

    /// The monitoring service.
    pub fn monitoring(&self) -> Result<MonitoringClient> {
        Ok(MonitoringClient(self.client("monitoring")?))
    }

    /// The pipelines service.
    pub fn pipelines(&self) -> Result<PipelinesClient> {
        Ok(PipelinesClient(self.client("pipelines")?))
    }

    /// The governance service.
    pub fn governance(&self) -> Result<GovernanceClient> {
        Ok(GovernanceClient(self.client("governance")?))
    }

    /// What keeps it from being ready: part and problem.
    pub async fn problems(&self) -> Result<Vec<(String, String)>> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let url = format!("{}/ready", self.url.trim_end_matches('/'));
        let answer = http.get(&url).send().await.with_context(|| format!("{} cannot be reached", self.url))?;
        let body: Value =
            answer.json().await.with_context(|| format!("{url} did not answer as a fishy server does"))?;
        let problems = body["problems"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(problems.iter().map(|problem| (text(&problem["part"]), text(&problem["problem"]))).collect())
    }
}

/// `fishy healthcheck`: for containers and scripts.
pub async fn healthcheck(server: &Server) -> Result<ExitCode> {
    let problems = server.problems().await?;
    for (part, problem) in &problems {
        eprintln!("{part}: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
