mod replay;

pub use replay::{ReplayFacts, ReplayLimits};

use std::sync::LazyLock;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Request, Schema};
use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::policy_text;

const SCHEMA: &str = include_str!("../policies/promotion.cedarschema");

/// The gate's policies until governance publishes others.
pub const DEFAULT_GATE_POLICIES: &str = include_str!("../policies/promotion.cedar");

/// What is recorded about a challenger when the gate is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, named in the policies")]
pub struct PromotionFacts {
    /// The registered model.
    pub model: String,
    /// The version that wants to be promoted.
    pub version: String,
    /// The deployment that would serve it.
    pub deployment: String,
    /// Whether there is no champion to compare with.
    pub is_first_version: bool,
    /// The name of the error that was measured, for example `mae`; smaller is better.
    pub metric: String,
    /// The challenger's error on the evaluation window, in the metric's unit.
    pub challenger_error: f64,
    /// The champion's error on the same window; `None` for a first version.
    pub champion_error: Option<f64>,
    /// How many labelled rows the window has.
    pub evaluated_labels: u64,
    /// Whether neither model was trained on any row of the window.
    pub evaluation_is_held_out: bool,
    /// Whether the challenger takes the same inputs and gives the same outputs as the champion.
    pub signature_matches: bool,
    /// Data faults that are open on what it was trained or evaluated on.
    pub open_data_faults: u64,
    /// Who made the challenger: a person, or the service that retrained.
    pub author: String,
    /// Who approved it, if somebody did.
    pub approver: Option<String>,
    /// Whether the deployment asks for an approval.
    pub approval_required: bool,
    /// How it answered what was asked live, where that was replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayFacts>,
}

/// What the gate demands, from its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateLimits {
    /// By how much the challenger must be better, in basis points of the champion's error (100 = 1 %).
    pub min_improvement_bp: i64,
    /// On how many labelled rows both must have been evaluated.
    pub min_labels: u64,
    /// What is demanded of the replay, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayLimits>,
}

impl Default for GateLimits {
    /// 1 % better on 100 labels.
    fn default() -> Self {
        Self { min_improvement_bp: 100, min_labels: 100, replay: None }
    }
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateDecision {
    /// May the challenger be promoted?
    pub allowed: bool,
    /// Sentences a person can act on: one for each condition that failed, or why it was allowed.
    pub reasons: Vec<String>,
    /// The ids of the policies that decided, in the order of `reasons`.
    pub policies: Vec<String>,
    /// What went wrong while deciding. A decision with errors is a refusal.
    pub errors: Vec<String>,
}

impl PromotionFacts {
    /// `(champion - challenger) / champion` in basis points, rounded down so that just short of a limit is short of it.
    /// 0 without a champion; a champion without any error can only be equalled (0) or missed.
    pub fn improvement_bp(&self) -> i64 {
        match self.champion_error {
            None => 0,
            // Also 0 of 0, which is no number.
            Some(champion) if champion.to_bits() == self.challenger_error.to_bits() => 0,
            Some(champion) => ((champion - self.challenger_error) / champion * 10_000.0).floor() as i64,
        }
    }

    fn check(&self) -> Result<()> {
        let errors = [("challenger_error", Some(self.challenger_error)), ("champion_error", self.champion_error)];
        errors.into_iter().try_for_each(|(name, error)| check_error(name, error))?;
        self.replay.as_ref().map_or(Ok(()), ReplayFacts::check)?;
        if self.is_first_version == self.champion_error.is_some() {
            return Err(Error::invalid("a first version has no champion_error, and every later version has one"));
        }
        Ok(())
    }

    fn context(&self, limits: GateLimits) -> Value {
        let mut context = json!({
            "model": self.model,
            "version": self.version,
            "deployment": self.deployment,
            "is_first_version": self.is_first_version,
            "metric": self.metric,
            "challenger_error": decimal(self.challenger_error),
            "improvement_bp": self.improvement_bp(),
            "evaluated_labels": long(self.evaluated_labels),
            "evaluation_is_held_out": self.evaluation_is_held_out,
            "signature_matches": self.signature_matches,
            "open_data_faults": long(self.open_data_faults),
            "author": self.author,
            "approval_required": self.approval_required,
            "min_improvement_bp": limits.min_improvement_bp,
            "min_labels": long(limits.min_labels),
            "replay_required": limits.replay.is_some(),
        });
        if let Some(error) = self.champion_error {
            context["champion_error"] = decimal(error);
        }
        if let Some(approver) = &self.approver {
            context["approver"] = json!(approver);
        }
        if let Value::Object(context) = &mut context {
            if let Some(replay) = &self.replay {
                replay.add_to(context);
            }
            if let Some(limits) = limits.replay {
                limits.add_to(context);
            }
        }
        context
    }
}

fn check_error(name: &str, error: Option<f64>) -> Result<()> {
    match error {
        Some(error) if !(error.is_finite() && (0.0..1e14).contains(&error)) => {
            Err(Error::invalid(format!("{name} is {error}; an error is a number from 0 to below 1e14")))
        }
        _ => Ok(()),
    }
}

/// A number as Cedar's decimal.
fn decimal(value: f64) -> Value {
    json!({"__extn": {"fn": "decimal", "arg": format!("{value:.4}")}})
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The promotion gate: Cedar policies over recorded facts.
#[derive(Debug, Clone, Copy)]
pub struct Gate;

static GATE_SCHEMA: LazyLock<Result<Schema, String>> =
    LazyLock::new(|| policy_text::schema(SCHEMA).map_err(|error| error.message().to_owned()));

impl Gate {
    /// Checks gate policies against the gate's schema without deciding anything: for whoever publishes them.
    pub fn check(policies: &str) -> Result<()> {
        policy_text::policy_set(policies, gate_schema()?.clone()).map(drop)
    }

    /// Decides by `policies` over `facts`. An error: the policies are not valid, or the facts make no sense; neither is
    /// a decision, and nothing may be promoted on it.
    pub fn decide(policies: &str, facts: &PromotionFacts, limits: GateLimits) -> Result<GateDecision> {
        facts.check()?;
        let schema = gate_schema()?;
        let set = policy_text::policy_set(policies, schema.clone())?;
        let uid = |kind: &str, id: &str| {
            let kind = kind.parse::<EntityTypeName>();
            kind.map(|kind| EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
                .map_err(|error| Error::internal(format!("the gate's entity type is not valid: {error}")))
        };
        let action = uid("Action", "promote")?;
        let raw = facts.context(limits);
        let invalid = |error: &dyn std::error::Error| {
            Error::invalid(format!("the facts do not fit the gate's schema: {}", policy_text::flat(error)))
        };
        let context =
            Context::from_json_value(raw.clone(), Some((schema, &action))).map_err(|error| invalid(&error))?;
        let request = Request::new(
            uid("Author", &facts.author)?,
            action,
            uid("ModelVersion", &format!("{}/{}", facts.model, facts.version))?,
            context,
            Some(schema),
        )
        .map_err(|error| invalid(&error))?;
        let answer = Authorizer::new().is_authorized(&request, &set, &Entities::empty());
        let errors: Vec<String> = answer.diagnostics().errors().map(ToString::to_string).collect();
        // Cedar skips a policy that fails, which for a `forbid` would open the gate: any error refuses.
        let allowed = errors.is_empty() && answer.decision() == Decision::Allow;
        // In the order of the text, which is the order its author thought of.
        let mut determining: Vec<_> = answer.diagnostics().reason().cloned().collect();
        determining.sort_by_key(|id| policies.find(&format!("@id(\"{id}\")")).unwrap_or(usize::MAX));
        let mut reasons: Vec<String> = determining
            .iter()
            .map(|id| match set.annotation(id, "reason") {
                Some(template) => fill(template, &raw),
                None => format!("policy {id}"),
            })
            .collect();
        if reasons.is_empty() {
            reasons.push("no policy of the gate permits this promotion".to_owned());
        }
        Ok(GateDecision { allowed, reasons, policies: determining.iter().map(ToString::to_string).collect(), errors })
    }
}

fn gate_schema() -> Result<&'static Schema> {
    GATE_SCHEMA.as_ref().map_err(|error| Error::internal(error.clone()))
}

/// Puts the facts in place of their names in braces; a name that is no fact stays as it is.
fn fill(template: &str, facts: &Value) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, from_name)) = rest.split_once('{') {
        filled.push_str(before);
        let fact = from_name.split_once('}').and_then(|(name, after)| Some((facts.get(name)?, after)));
        let Some((value, after)) = fact else {
            filled.push('{');
            rest = from_name;
            continue;
        };
        match value {
            Value::String(text) => filled.push_str(text),
            // A decimal: its digits are in the argument of the extension function.
            Value::Object(_) => filled.push_str(value["__extn"]["arg"].as_str().unwrap_or_default()),
            other => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests;
