//! `kind = "promote"`: the alias moves, and the deployment follows it.

use std::time::Duration;

use fishy_core::{Error, ErrorCode, Result};
use serde_json::json;
use tokio::time::Instant;

use super::{Outcome, Registered, StepContext};

/// A foreign registry does not ask the gate before it moves the alias that a gated deployment follows, as ours does.
async fn pass_gate(context: &StepContext<'_>, registered: &Registered) -> Result<()> {
    let (service, definition) = (context.service, context.definition);
    if definition.deployment.is_empty() {
        return Ok(());
    }
    let is_gated = match service.deployment.get(&definition.deployment).await {
        Ok(deployment) => deployment.spec.is_gated,
        Err(error) if error.code() == ErrorCode::NotFound => false,
        Err(error) => return Err(error),
    };
    if !is_gated {
        return Ok(());
    }
    let Registered { model, version, .. } = registered;
    let check = service.governance.check_alias(model, &definition.alias, version).await?;
    if check.is_allowed {
        return Ok(());
    }
    Err(Error::denied(format!(
        "{model}@{} is not moved to version {version}: the gate does not let it through: {}",
        definition.alias, check.reason
    )))
}

/// Moves the alias; done when the deployment serves the new version.
pub async fn run(context: &StepContext<'_>, timeout_s: f64) -> Result<Outcome> {
    let (service, definition) = (context.service, context.definition);
    let registered: Registered = context.outputs("register")?;
    let (model, alias, version) = (&registered.model, &definition.alias, &registered.version);
    if service.registry.is_foreign() {
        pass_gate(context, &registered).await?;
    }
    service.registry.set_alias(model, alias, version).await?;
    if definition.deployment.is_empty() {
        return Ok(Outcome::Done(json!({"model": model, "alias": alias, "version": version, "revision": null})));
    }
    let deadline = Instant::now() + Duration::from_secs_f64(timeout_s);
    loop {
        let problem = match service.deployment.refresh(&definition.deployment).await {
            Ok(deployment) => match deployment.current {
                Some(current) if current.model == *model && current.version == *version => {
                    return Ok(Outcome::Done(json!({
                        "model": model, "alias": alias, "version": version,
                        "deployment": definition.deployment, "revision": current.number,
                    })));
                }
                current => {
                    let serves = current.map_or_else(|| "nothing".to_owned(), |now| format!("version {}", now.version));
                    let problem = deployment.problem.unwrap_or_else(|| "it does not say why".to_owned());
                    Error::precondition(format!(
                        "deployment {:?} serves {serves} instead of version {version}: {problem}",
                        definition.deployment
                    ))
                }
            },
            // The first version may be there before there is anything to serve it.
            Err(error) if error.code() == ErrorCode::NotFound => {
                let deployment = json!({"model": model, "alias": alias, "version": version, "revision": null});
                return Ok(Outcome::Done(deployment));
            }
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        if Instant::now() >= deadline {
            return Err(problem.context(format_args!("after {timeout_s} s")));
        }
        tokio::time::sleep(service.tick().min(Duration::from_millis(500))).await;
    }
}
