//! A deployment as pods of its own: a Kubernetes Deployment, a Service and a HorizontalPodAutoscaler.

mod manifests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use manifests::Manifests;

/// What `--target kubernetes` takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct Kubernetes {
    /// The namespace of the Helm release.
    #[arg(long, default_value = "fishy")]
    namespace: String,
    /// The Helm release whose ConfigMap, Secret and ServiceAccount the pods use: its full name.
    #[arg(long, default_value = "fishy")]
    release: String,
    /// The Secret with its passwords, where it was not made by the chart.
    #[arg(long)]
    secret: Option<String>,
    /// The image of the pods.
    #[arg(long, default_value = concat!("fishy-watch/fishy:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// The name of the objects; `RELEASE-inference-NAME` if not said.
    #[arg(long)]
    object_name: Option<String>,
    /// Pods at least.
    #[arg(long = "min", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    min_replicas: u32,
    /// Pods at most.
    #[arg(long = "max", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    max_replicas: u32,
    /// More pods when requests wait longer than this for their model, on average.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    queue_ms: u32,
    /// More pods when they use more than this share of the CPU that they ask for.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u32).range(1..=100))]
    cpu_percent: u32,
    /// CPU that a pod asks for.
    #[arg(long, default_value = "500m")]
    cpu: String,
    /// Memory that a pod asks for, and gets at most.
    #[arg(long, default_value = "512Mi")]
    memory: String,
    /// Writes the objects into this folder, one file each, instead of to standard output.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Applies the objects with kubectl.
    #[arg(long, conflicts_with = "output_dir")]
    apply: bool,
    /// The context of kubectl.
    #[arg(long, requires = "apply")]
    context: Option<String>,
    /// Only writes the objects: the server is not told of the deployment.
    #[arg(long, conflicts_with = "apply")]
    offline: bool,
}

impl Kubernetes {
    /// The option that says that Kubernetes is meant, if there is one.
    pub fn mentioned(&self) -> Option<&'static str> {
        let said = [("--apply", self.apply), ("--output-dir", self.output_dir.is_some()), ("--offline", self.offline)];
        said.into_iter().find_map(|(name, is_said)| is_said.then_some(name))
    }

    /// Whether the server is not to be asked.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Writes or applies the objects of a deployment.
    pub fn run(&self, name: &str, model: &str) -> Result<()> {
        let manifests = self.manifests(name, model)?;
        if self.apply {
            return self.kubectl(&manifests.yaml()?);
        }
        let Some(folder) = &self.output_dir else {
            print!("{}", manifests.yaml()?);
            return Ok(());
        };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (file, text) in manifests.files()? {
            let path = folder.join(file);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }

    fn manifests(&self, name: &str, model: &str) -> Result<Manifests> {
        if self.max_replicas < self.min_replicas {
            bail!("--max {} is less than --min {}", self.max_replicas, self.min_replicas);
        }
        let object_name = match &self.object_name {
            Some(name) => name.clone(),
            None => format!("{}-inference-{}", self.release, name.to_lowercase().replace(['_', '.'], "-")),
        };
        for (what, text) in
            [("--object-name", &object_name), ("--namespace", &self.namespace), ("--release", &self.release)]
        {
            if !is_label(text) {
                bail!(
                    "{what} {text:?} is no name for Kubernetes: use 1 to 63 lower-case letters, digits or '-', with a letter \
                     or digit at both ends"
                );
            }
        }
        for (what, text) in [("--cpu", &self.cpu), ("--memory", &self.memory)] {
            if !is_quantity(text) {
                bail!("{what} {text:?} is no quantity of Kubernetes, such as 500m, 2 or 512Mi");
            }
        }
        if name.len() > 63 {
            bail!("deployment {name:?} is longer than the 63 characters of a Kubernetes label");
        }
        Ok(Manifests {
            deployment: name.to_owned(),
            model: model.to_owned(),
            object_name,
            namespace: self.namespace.clone(),
            release: self.release.clone(),
            secret: self.secret.clone().unwrap_or_else(|| self.release.clone()),
            image: self.image.clone(),
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            queue_ms: self.queue_ms,
            cpu_percent: self.cpu_percent,
            cpu: self.cpu.clone(),
            memory: self.memory.clone(),
        })
    }

    fn kubectl(&self, yaml: &str) -> Result<()> {
        let mut command = Command::new(Path::new("kubectl"));
        command.args(["apply", "--namespace", &self.namespace, "--filename", "-"]);
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        let mut child = command.stdin(Stdio::piped()).spawn().context("kubectl cannot be started: is it installed?")?;
        if let Some(mut input) = child.stdin.take() {
            // A kubectl that does not want to read says why itself.
            let _ = input.write_all(yaml.as_bytes());
        }
        let status = child.wait().context("waiting for kubectl")?;
        if !status.success() {
            bail!("kubectl did not apply the objects ({status})");
        }
        Ok(())
    }
}

/// RFC 1123's label.
fn is_label(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// Digits with an optional fraction, and a suffix.
fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[digits.len()..];
    let suffixes = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    !digits.starts_with(['+', '-'])
        && digits.parse::<f64>().is_ok_and(|number| number > 0.0 && number.is_finite())
        && suffixes.contains(&suffix)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        kubernetes: Kubernetes,
    }

    fn parse(arguments: &[&str]) -> Kubernetes {
        Line::try_parse_from(std::iter::once(&"fishy").chain(arguments)).unwrap().kubernetes
    }

    #[test]
    fn the_name_of_a_deployment_becomes_one_that_kubernetes_takes() {
        let manifests = parse(&[]).manifests("Virtual_Oxygen.v2", "models:/o@champion").unwrap();
        assert_eq!(manifests.object_name, "fishy-inference-virtual-oxygen-v2");
        let error = parse(&["--object-name=-x"]).manifests("o", "models:/o/1").err().unwrap().to_string();
        assert!(error.contains("--object-name \"-x\""), "{error}");
        assert!(parse(&["--namespace", "Fishy"]).manifests("o", "models:/o/1").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(parse(&["--min", "4", "--max", "3"]).manifests("o", "models:/o/1").is_err());
        assert!(Line::try_parse_from(["fishy", "--min", "0"]).is_err());
        assert!(Line::try_parse_from(["fishy", "--cpu-percent", "101"]).is_err());
        assert!(Line::try_parse_from(["fishy", "--apply", "--output-dir", "x"]).is_err());
        for wrong in ["", "much", "-1", "1 Gi", "1GiB", "NaN", "inf", "1e400"] {
            assert!(parse(&[format!("--memory={wrong}").as_str()]).manifests("o", "models:/o/1").is_err(), "{wrong}");
        }
        for right in ["500m", "2", "0.5", "1Gi"] {
            assert!(is_quantity(right), "{right}");
        }
    }
}
