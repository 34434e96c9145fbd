mod kubernetes;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use fishy_contracts::deployment::{Deployment, DeploymentSpec};

use super::OutputArguments;
use super::client::Server;
use crate::output::{Output, json, table};

/// `fishy deploy NAME --model models:/m@champion`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The deployment.
    name: String,
    /// `models:/NAME@ALIAS` is followed, `models:/NAME/VERSION` stays.
    #[arg(long)]
    model: String,
    /// A new revision needs an approved promotion, and the alias is protected.
    #[arg(long)]
    gated: bool,
    /// Where it is served: by the server itself, or by pods of its own as well.
    #[arg(long, value_enum, default_value = "server")]
    target: Target,
    #[command(flatten)]
    kubernetes: kubernetes::Kubernetes,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

/// What serves a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The server that is asked.
    Server,
    /// A Kubernetes Deployment with a Service and a HorizontalPodAutoscaler.
    Kubernetes,
}

impl Deploy {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        if let (Target::Server, Some(option)) = (self.target, self.kubernetes.mentioned()) {
            bail!("{option} needs --target kubernetes");
        }
        if self.target == Target::Kubernetes {
            let Self { name, model, gated, kubernetes, server, .. } = self;
            if !kubernetes.is_offline() {
                let spec = DeploymentSpec { name: name.clone(), model: model.clone(), is_gated: gated };
                server.deployment()?.apply(&spec).await?;
            }
            return kubernetes.run(&name, &model);
        }
        let spec = DeploymentSpec { name: self.name, model: self.model, is_gated: self.gated };
        let deployment = self.server.deployment()?.apply(&spec).await?;
        match self.output.output {
            Output::Json => json(&deployment)?,
            Output::Table => println!("{}", deployments(std::slice::from_ref(&deployment))),
        }
        if let (None, Some(problem)) = (&deployment.current, &deployment.problem) {
            bail!("{} serves nothing yet: {problem}", deployment.spec.name);
        }
        Ok(())
    }
}

/// Deployments as a table.
pub fn deployments(deployments: &[Deployment]) -> comfy_table::Table {
    let mut rows = table(&["deployment", "follows", "version", "revision", "memory", "digest", "problem"]);
    for one in deployments {
        let current = one.current.as_ref();
        rows.add_row([
            one.spec.name.clone(),
            one.spec.model.clone(),
            current.map_or_else(|| "-".to_owned(), |revision| revision.version.clone()),
            current.map_or_else(|| "-".to_owned(), |revision| revision.number.to_string()),
            current.map_or("-", |_| if one.is_loaded { "loaded" } else { "unloaded" }).to_owned(),
            current.map_or_else(|| "-".to_owned(), |revision| revision.digest.chars().take(12).collect()),
            one.problem.clone().unwrap_or_default(),
        ]);
    }
    rows
}
