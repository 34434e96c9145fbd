//! What names, keys and values may look like.

use fishy_core::{Error, Result};

use super::limits;

/// Whether every character may stand in a key: letters, digits, `_`, `/`, `.`, `-`, space and `:`.
fn has_key_characters(key: &str) -> bool {
    key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | ' ' | ':'))
}

/// Whether a key, read as a path, is another path than it looks: MLflow's file store kept keys as files.
fn is_ambiguous_path(key: &str) -> bool {
    key == "."
        || key.starts_with('/')
        || key.ends_with('/')
        || key.split('/').any(|segment| segment.is_empty() || segment == "..")
        || (key.contains('/') && key.split('/').any(|segment| segment == "."))
}

/// An invalid value, in MLflow's words.
pub fn invalid_value(parameter: &str, value: &str, why: &str) -> Error {
    let value = serde_json::Value::from(value);
    Error::invalid(format!("Invalid value {value} for parameter '{parameter}' supplied: {why}"))
}

/// A required value is missing, in MLflow's words.
pub fn missing(parameter: &str) -> Error {
    Error::invalid(format!(
        "Missing value for required parameter '{parameter}'. See the API docs for more information about request parameters."
    ))
}

/// Checks the key of a metric, parameter or tag. `parameter` is where it stood in the request.
pub fn check_key(what: &str, parameter: &str, key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(invalid_value(
            parameter,
            key,
            &format!("A {what} name cannot be empty. A key name must be provided."),
        ));
    }
    if !has_key_characters(key) {
        return Err(invalid_value(
            parameter,
            key,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
        ));
    }
    if is_ambiguous_path(key) {
        return Err(invalid_value(
            parameter,
            key,
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such.",
        ));
    }
    check_chars(parameter, key, limits::KEY_CHARS)
}

/// Checks the length of a text.
pub fn check_chars(parameter: &str, text: &str, limit: usize) -> Result<()> {
    // Bytes are never fewer than characters, so that short texts need no counting.
    if text.len() <= limit || text.chars().count() <= limit {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "'{parameter}' exceeds the maximum length of {limit} characters: it has {}",
        text.chars().count()
    )))
}

/// Cuts a text to so many characters.
pub fn truncated(mut text: String, limit: usize) -> String {
    if text.len() > limit
        && let Some((at, _)) = text.char_indices().nth(limit)
    {
        text.truncate(at);
    }
    text
}

/// Checks the name of an experiment.
pub fn check_experiment_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid(format!("Invalid experiment name: '{name}'")));
    }
    check_chars("name", name, limits::EXPERIMENT_NAME_CHARS)
}

/// Reads the id of an experiment; ours are numbers.
pub fn experiment_id(id: &str) -> Result<i64> {
    id.parse::<i64>()
        .ok()
        .filter(|id| *id >= 0)
        .ok_or_else(|| Error::invalid(format!("Invalid experiment ID '{id}'. Experiment ID must be a valid integer.")))
}

/// Checks the name of a registered model.
pub fn check_model_name(parameter: &str, name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(missing(parameter));
    }
    if name.contains(['/', ':']) {
        return Err(Error::invalid(format!("Invalid model name '{name}'. Names cannot contain '/' or ':'.")));
    }
    if is_ambiguous_path(name) || name.starts_with("..") || name.chars().any(char::is_control) {
        return Err(invalid_value(parameter, name, "Names must not resolve to other names when treated as files."));
    }
    check_chars(parameter, name, limits::MODEL_NAME_CHARS)
}

/// Reads the number of a model version; whether there is such a version is another question.
pub fn version_number(version: &str) -> Result<i64> {
    version.parse().map_err(|_| Error::invalid(format!("Parameter 'version' must be an integer, got '{version}'.")))
}

/// Checks an alias that is asked for.
pub fn check_alias(alias: &str) -> Result<()> {
    if alias.is_empty() {
        return Err(Error::invalid("Registered model alias name cannot be empty."));
    }
    if !alias.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(Error::invalid(format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    check_chars("alias", alias, limits::ALIAS_CHARS)
}

/// Checks an alias that is set: some names have a meaning of their own.
pub fn check_new_alias(alias: &str) -> Result<()> {
    check_alias(alias)?;
    if alias.eq_ignore_ascii_case("latest") {
        return Err(Error::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::invalid(format!("Version alias name '{alias}' is reserved.")));
    }
    Ok(())
}

/// Checks the name of a logged model.
pub fn check_logged_model_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Err(Error::invalid(format!(
            "Invalid model name ({name:?}) provided. Model name must be a non-empty string and cannot contain the following characters: '/', ':', '.', '%', '\"', \"'\""
        )));
    }
    check_chars("name", name, limits::EXPERIMENT_NAME_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_other_paths_are_refused() {
        for bad in ["", ".", "..", "a/../b", "/a", "a//b", "a/", "a/./b", "../a", "é!", "a\n", "a\"b", "a%"] {
            assert!(check_key("metric", "key", bad).is_err(), "{bad:?}");
        }
        for good in ["rmse", "val/loss", "a b:c-d_e.f", "mlflow.user", "größe", "a..b"] {
            assert!(check_key("metric", "key", good).is_ok(), "{good:?}");
        }
        assert!(check_key("metric", "key", &"k".repeat(250)).is_ok());
        assert!(check_key("metric", "key", &"k".repeat(251)).is_err());
    }

    #[test]
    fn reserved_aliases_can_be_read_but_not_set() {
        for reserved in ["latest", "LATEST", "v1", "V12"] {
            assert!(check_alias(reserved).is_ok() && check_new_alias(reserved).is_err(), "{reserved}");
        }
        for good in ["champion", "v", "v1a", "vx"] {
            assert!(check_new_alias(good).is_ok(), "{good}");
        }
        assert!(check_new_alias("a b").is_err());
    }

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!(truncated("äöü".into(), 2), "äö");
        assert_eq!(truncated("äöü".into(), 3), "äöü");
        assert!(check_chars("x", "äöü", 3).is_ok());
        assert!(check_chars("x", "äöü", 2).is_err());
    }

    #[test]
    fn names_of_models() {
        for bad in ["", " ", "a/b", "a:b", "..", "a\nb"] {
            assert!(check_model_name("name", bad).is_err(), "{bad:?}");
        }
        assert!(check_model_name("name", "virtual oxygen.v2").is_ok());
        assert!(version_number("1.5").is_err() && version_number("x").is_err());
        assert_eq!(version_number("3").unwrap(), 3);
    }
}
