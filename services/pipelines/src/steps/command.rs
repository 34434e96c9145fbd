//! `kind = "command"`: a program of the pipeline's author.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fishy_core::{Error, Result, TraceContext};
use serde_json::{Value, json};

use super::{Outcome, StepContext};
use crate::dataset::manifest_path;
use crate::domain::definition::CommandSpec;
use crate::runner::{self, Ended, Log, Program};

/// The interpreter that the set-up puts beside the working folder.
const LOCAL_PYTHON: &str = ".fishy/venv/bin/python";
/// The largest file of outputs that is read.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;
/// How many of the last lines an error repeats.
const LINES: usize = 8;

/// How much longer than the step its token lives: the clocks of two machines differ.
const TOKEN_GRACE_MS: i64 = 60_000;

/// Runs the program once.
pub async fn run(context: &StepContext<'_>, command: &CommandSpec, number: u32) -> Result<Outcome> {
    let (service, run_id) = (context.service, &context.stored.run.id);
    let folder = context.folder();
    let work = folder.join("steps").join(&command.name);
    // What an earlier try has left must not be taken for what this one gives.
    if tokio::fs::try_exists(&work).await? {
        tokio::fs::remove_dir_all(&work).await?;
    }
    tokio::fs::create_dir_all(&work).await?;
    let log_path = service.log_path(run_id, &command.name);
    if let Some(logs) = log_path.parent() {
        tokio::fs::create_dir_all(logs).await?;
    }
    let output = work.join("output.json");
    let program = Program {
        command: words(&command.command, &service.config.pipelines.python)?,
        folder: if context.stored.folder.is_empty() { work } else { PathBuf::from(&context.stored.folder) },
        environment: environment(context, command, &folder, &output).await?,
        timeout: Duration::from_secs_f64(command.timeout_s),
    };
    let mut log = Log::open(&log_path).await?;
    let now = fishy_core::time::rfc3339(service.env.now_ms());
    log.write(format!("--- {now} try {number}: {}\n", program.command.join(" ")).as_bytes()).await?;
    let ended = runner::run(&program, &mut log, context.stop).await?;
    let failed = match ended {
        Ended::Well => return Ok(Outcome::Done(read_output(&output).await?)),
        Ended::Stopped => return Ok(Outcome::Stopped),
        Ended::Badly(why) => why,
    };
    log.write(format!("--- {failed}\n").as_bytes()).await?;
    log.flush().await?;
    Err(Error::precondition(format!("the command {failed}; its last lines were:\n{}", log.last_lines(LINES))))
}

/// `python` is the configured interpreter; with none configured, that of the set-up where it is there.
fn words(command: &[String], configured: &str) -> Result<Vec<String>> {
    let mut words = command.to_vec();
    if let Some(first) = words.first_mut().filter(|first| *first == "python") {
        let local = std::path::absolute(LOCAL_PYTHON)?;
        *first = match configured {
            "" if local.exists() => local.to_string_lossy().into_owned(),
            "" => "python3".to_owned(),
            configured => configured.to_owned(),
        };
    }
    Ok(words)
}

async fn environment(
    context: &StepContext<'_>,
    command: &CommandSpec,
    folder: &Path,
    output: &Path,
) -> Result<BTreeMap<String, String>> {
    let (service, stored) = (context.service, context.stored);
    let mut environment = runner::kept_environment(std::env::vars());
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    set("FISHY_RUN_ID", stored.run.id.clone());
    set("FISHY_RUN_DIR", path(folder.to_owned()));
    set("FISHY_OUTPUT", path(output.to_owned()));
    set("FISHY_AS_OF_MS", stored.run.as_of_ms.to_string());
    if let Some(manifest) = &stored.dataset {
        set("FISHY_TRAIN_DATA", path(folder.join(&manifest.train.file)));
        set("FISHY_HOLDOUT_DATA", path(folder.join(&manifest.holdout.file)));
        set("FISHY_DATASET", path(manifest_path(folder)));
    }
    for (name, value) in &stored.params {
        set(&format!("FISHY_PARAM_{}", name.to_ascii_uppercase()), value.clone());
    }
    set("MLFLOW_TRACKING_URI", service.tracking_uri.clone());
    set("MLFLOW_EXPERIMENT_NAME", context.definition.experiment().to_owned());
    if service.registry.takes_uploads_only() && !context.definition.model.is_empty() {
        set("FISHY_REGISTER_AS", context.definition.model.clone());
    }
    for (name, value) in &service.step_environment {
        set(name, value.expose().to_owned());
    }
    if let Some(tokens) = &service.run_tokens {
        let timeout_ms = (command.timeout_s * 1000.0) as i64;
        let expires_ms = service.env.now_ms().saturating_add(timeout_ms).saturating_add(TOKEN_GRACE_MS);
        set("MLFLOW_TRACKING_TOKEN", tokens.issue(&stored.run.id, expires_ms));
    }
    if let Some(trace) = TraceContext::current() {
        set("TRACEPARENT", trace.child().traceparent());
    }
    let earlier = folder.join("outputs.json");
    let steps: serde_json::Map<String, Value> =
        stored.run.steps.iter().map(|step| (step.name.clone(), step.outputs.clone())).collect();
    tokio::fs::write(&earlier, Value::Object(steps).to_string()).await?;
    set("FISHY_STEP_OUTPUTS", path(earlier));
    Ok(environment)
}

/// What the program has written to `FISHY_OUTPUT`, if it has.
async fn read_output(path: &Path) -> Result<Value> {
    let size = match tokio::fs::metadata(path).await {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(json!({})),
        Err(error) => return Err(error.into()),
    };
    if size > MAX_OUTPUT_BYTES {
        return Err(Error::precondition(format!("FISHY_OUTPUT has {size} bytes, more than {MAX_OUTPUT_BYTES}")));
    }
    match serde_json::from_slice(&tokio::fs::read(path).await?) {
        Ok(Value::Object(outputs)) => Ok(Value::Object(outputs)),
        Ok(other) => Err(Error::precondition(format!("FISHY_OUTPUT holds {other}, not a JSON object"))),
        Err(error) => Err(Error::precondition(format!("FISHY_OUTPUT does not hold JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_the_configured_one() {
        let command = ["python".to_owned(), "-m".to_owned(), "python".to_owned()];
        assert_eq!(words(&command, "/opt/py").unwrap(), ["/opt/py", "-m", "python"]);
        assert_ne!(words(&command, "").unwrap()[0], "python");
        assert_eq!(words(&["sh".to_owned()], "/opt/py").unwrap(), ["sh"]);
    }
}
