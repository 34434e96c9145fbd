//! Cedar text to a checked policy set: shared by the access policies and the promotion gate.

use std::fmt::Write as _;
use std::str::FromStr;

use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};
use fishy_core::{Error, Result};

/// Reads the schema that is compiled in; an error here is a fault of ours, which a test shows.
pub(crate) fn schema(text: &str) -> Result<Schema> {
    Schema::from_cedarschema_str(text)
        .map(|(schema, _warnings)| schema)
        .map_err(|error| Error::internal(format!("the embedded Cedar schema is not valid: {error}")))
}

/// Reads policies, names each by its `@id` and checks all of them against the schema.
pub(crate) fn policy_set(text: &str, schema: Schema) -> Result<PolicySet> {
    let parsed = PolicySet::from_str(text)
        .map_err(|error| Error::invalid(format!("the policies are not valid Cedar: {}", flat(&error))))?;
    if parsed.templates().next().is_some() {
        return Err(Error::invalid(
            "the policies hold a template (`?principal` or `?resource`); only plain policies work",
        ));
    }
    let mut named = PolicySet::new();
    for policy in parsed.policies() {
        let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()) else {
            return Err(Error::invalid(format!(
                "every policy needs a name by @id(\"…\"); this one has none: {policy}"
            )));
        };
        named
            .add(policy.new_id(PolicyId::new(id)))
            .map_err(|_| Error::invalid(format!("two policies are named @id({id:?}); names must be unique")))?;
    }
    let checked = Validator::new(schema).validate(&named, ValidationMode::Strict);
    if checked.validation_passed() {
        return Ok(named);
    }
    let mut message = "the policies do not fit the schema".to_owned();
    for error in checked.validation_errors().take(5) {
        // Writing to a string cannot fail.
        let _ = write!(message, "; {error}");
    }
    Err(Error::invalid(message))
}

/// An error with its causes on one line: Cedar puts what a person needs into the causes.
pub(crate) fn flat(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}
