mod kubernetes;
mod program;
mod replay;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use fishy_contracts::deployment::{Deployment, DeploymentSpec, GraphDeployment, GraphNode};

use super::OutputArguments;
use super::client::Server;
use crate::output::{Output, json, table};

/// `fishy deploy NAME --model models:/m@champion`, `fishy deploy NAME --graph FILE` or `fishy deploy NAME --program PATH`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Deploy {
    #[command(subcommand)]
    what: Option<What>,
    /// The deployment.
    #[arg(required = true)]
    name: Option<String>,
    /// `models:/NAME@ALIAS` is followed, `models:/NAME/VERSION` stays.
    #[arg(long, required_unless_present_any = ["graph", "program"])]
    model: Option<String>,
    /// An inference graph of other deployments instead of a model: TOML, or JSON (`.json`).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "gated", "target"])]
    graph: Option<PathBuf>,
    /// A custom predictor instead of a model: a folder with program.toml, or a Python file with a WSGI application. It becomes
    /// a new version of the model NAME.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["model", "graph", "target"])]
    program: Option<PathBuf>,
    /// The WSGI application of the program, where it has no program.toml: `module:name`.
    #[arg(long, value_name = "MODULE:NAME", requires = "program", conflicts_with_all = ["model", "graph"])]
    app: Option<String>,
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

/// What is done with a deployment that is there.
#[derive(Debug, Subcommand)]
enum What {
    /// Asks another version what was asked live, and reports changed answers and decisions, errors and time.
    Replay(Box<replay::Replay>),
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
        if let Some(What::Replay(replay)) = self.what {
            return replay.run().await;
        }
        let name = self.name.context("name the deployment")?;
        if let (Target::Server, Some(option)) = (self.target, self.kubernetes.mentioned()) {
            bail!("{option} needs --target kubernetes");
        }
        if let Some(file) = &self.graph {
            let graph = self.server.deployment()?.set_graph(&name, &read_graph(file)?).await?;
            match self.output.output {
                Output::Json => json(&graph)?,
                Output::Table => println!("{}", graphs(std::slice::from_ref(&graph))),
            }
            if let Some(problem) = &graph.problem {
                bail!("{} does not answer yet: {problem}", graph.name);
            }
            return Ok(());
        }
        let model = match &self.program {
            Some(path) => program::register(&self.server.registry()?, &name, path, self.app.as_deref()).await?,
            None => self.model.context("name the model: --model models:/NAME@ALIAS")?,
        };
        if self.target == Target::Kubernetes {
            let Self { gated, kubernetes, server, .. } = self;
            if !kubernetes.is_offline() {
                let spec = DeploymentSpec { name: name.clone(), model: model.clone(), is_gated: gated };
                server.deployment()?.apply(&spec).await?;
            }
            return kubernetes.run(&name, &model);
        }
        let spec = DeploymentSpec { name, model, is_gated: self.gated };
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

/// The largest file of a graph.
const MAX_GRAPH_BYTES: u64 = 1 << 20;

fn read_graph(file: &Path) -> Result<GraphNode> {
    let size = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    if size > MAX_GRAPH_BYTES {
        bail!("{} has {size} bytes, and a graph has at most {MAX_GRAPH_BYTES}", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let graph = if is_json {
        serde_json::from_str(&text).map_err(anyhow::Error::from)
    } else {
        toml::from_str(&text).map_err(anyhow::Error::from)
    };
    graph.with_context(|| format!("{} is no inference graph", file.display()))
}

/// Inference graphs as a table.
pub fn graphs(graphs: &[GraphDeployment]) -> comfy_table::Table {
    let mut rows = table(&["graph", "revision", "problem"]);
    for one in graphs {
        rows.add_row([one.name.clone(), one.revision.to_string(), one.problem.clone().unwrap_or_default()]);
    }
    rows
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        deploy: Deploy,
    }

    #[test]
    fn the_graph_of_the_documentation_is_one_and_its_json_too() {
        let readme = include_str!("../../../services/deployment/README.md");
        let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (toml, json) = (folder.path().join("graph.toml"), folder.path().join("graph.json"));
        std::fs::write(&toml, example).unwrap();
        let graph = read_graph(&toml).unwrap();
        let GraphNode::Sequence { nodes } = &graph else { panic!("{graph:?}") };
        assert!(matches!(&nodes[1], GraphNode::Switch { cases, .. } if cases.len() == 1), "{nodes:?}");
        std::fs::write(&json, serde_json::to_string(&graph).unwrap()).unwrap();
        assert_eq!(read_graph(&json).unwrap(), graph);
        std::fs::write(&toml, "kind = \"sequnce\"").unwrap();
        assert!(format!("{:#}", read_graph(&toml).unwrap_err()).contains("sequnce"));
    }

    #[test]
    fn a_model_or_a_graph_is_deployed() {
        let read = |arguments: &[&str]| Line::try_parse_from([&["deploy", "oxygen"], arguments].concat());
        assert_eq!(read(&["--model", "models:/oxygen/1"]).unwrap().deploy.model.as_deref(), Some("models:/oxygen/1"));
        assert!(read(&["--graph", "graph.toml"]).unwrap().deploy.graph.is_some());
        assert!(read(&["--program", "advice.py", "--app", "advice:web"]).unwrap().deploy.program.is_some());
        assert!(read(&["--program", "advice.py", "--graph", "graph.toml"]).is_err());
        assert!(read(&["--model", "models:/oxygen/1", "--app", "advice:web"]).is_err());
        assert!(read(&[]).is_err());
        assert!(read(&["--graph", "graph.toml", "--model", "models:/oxygen/1"]).is_err());
    }
}
