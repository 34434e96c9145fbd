use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The file that makes a version of a model a custom predictor.
pub(crate) const PROGRAM_FILE: &str = "program.toml";
/// So many processes, and so many requests at once in each, at most.
const MAX_PROCESSES: usize = 64;
const MAX_THREADS: usize = 256;
/// Fields of a body that become features of its record, at most.
const MAX_FIELDS: usize = 256;

/// What `program.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgramSpec {
    /// A WSGI application: `module:name`.
    pub(crate) app: Option<String>,
    /// Any program that speaks HTTP on the port of the variable `PORT`.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// A path that answers 2xx or 3xx while all is well; without one it is enough that a connection is taken.
    pub(crate) health: Option<String>,
    #[serde(default = "two")]
    pub(crate) processes: usize,
    /// Requests at once in each process.
    #[serde(default = "four")]
    pub(crate) threads: usize,
    /// The methods whose requests are recorded.
    #[serde(default = "post")]
    pub(crate) record: Vec<String>,
}

const fn two() -> usize {
    2
}

const fn four() -> usize {
    4
}

fn post() -> Vec<String> {
    vec!["POST".to_owned()]
}

impl ProgramSpec {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Err(Error::precondition(format!("{PROGRAM_FILE}: {why}")));
        let spec: Self = match toml::from_str(text) {
            Ok(spec) => spec,
            Err(error) => return wrong(error.message()),
        };
        match (&spec.app, spec.command.first()) {
            (Some(app), None) => {
                let is_name = |part: &str| {
                    part.split('.').all(|word| {
                        word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    })
                };
                if !app.split_once(':').is_some_and(|(module, name)| is_name(module) && is_name(name)) {
                    return wrong(&format!("app is {app:?}, and it is written module:name"));
                }
            }
            (None, Some(_)) => {}
            _ => return wrong("it has either app (module:name of a WSGI application) or command (a list)"),
        }
        if !(1..=MAX_PROCESSES).contains(&spec.processes) || !(1..=MAX_THREADS).contains(&spec.threads) {
            return wrong(&format!("processes are 1 to {MAX_PROCESSES}, and threads 1 to {MAX_THREADS}"));
        }
        if let Some(health) = &spec.health
            && (!health.starts_with('/') || http::Uri::try_from(health.as_str()).is_err())
        {
            return wrong(&format!("health is {health:?}, and it is a path that begins with /"));
        }
        Ok(spec)
    }

    pub(crate) fn records(&self, method: &str) -> bool {
        self.record.iter().any(|recorded| recorded.eq_ignore_ascii_case(method))
    }
}

/// What a body is in a prediction record: the fields of a JSON object by name, where they are plain values, so that they can
/// be watched like features; else a text under `name`, of at most `max_bytes`.
pub(crate) fn recorded_body(name: &str, body: &[u8], max_bytes: usize) -> BTreeMap<String, Value> {
    if body.is_empty() {
        return BTreeMap::new();
    }
    if body.len() <= max_bytes
        && let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(body)
        && fields.len() <= MAX_FIELDS
    {
        let plain = |value: Value| match value {
            nested @ (Value::Object(_) | Value::Array(_)) => Value::String(nested.to_string()),
            plain => plain,
        };
        return fields.into_iter().map(|(name, value)| (name, plain(value))).collect();
    }
    let told = match std::str::from_utf8(body) {
        Ok(text) if text.len() <= max_bytes => text.to_owned(),
        Ok(text) => {
            let cut = (0..=max_bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            format!("{}… ({} bytes)", &text[..cut], text.len())
        }
        Err(_) => format!("{} bytes, not recorded", body.len()),
    };
    BTreeMap::from([(name.to_owned(), Value::String(told))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_application_or_a_command_is_read() {
        let spec =
            ProgramSpec::parse("app = \"advice.web:create.app\"\nprocesses = 3\nhealth = \"/health?deep=1\"").unwrap();
        assert_eq!((spec.app.as_deref(), spec.processes, spec.threads), (Some("advice.web:create.app"), 3, 4));
        assert!(spec.records("POST") && spec.records("post") && !spec.records("GET"));
        let spec = ProgramSpec::parse("command = [\"serve\", \"$PORT\"]\nrecord = [\"GET\"]").unwrap();
        assert!(spec.records("GET") && !spec.records("POST"));
        for (text, why) in [
            ("", "either app"),
            ("app = \"a:b\"\ncommand = [\"x\"]", "either app"),
            ("app = \"a\"", "module:name"),
            ("app = \"a:b()\"", "module:name"),
            ("app = \"a:b\"\nprocesses = 0", "processes are"),
            ("app = \"a:b\"\nthreads = 1000", "threads"),
            ("app = \"a:b\"\nhealth = \"health\"", "begins with /"),
            ("app = \"a:b\"\nport = 80", "port"),
        ] {
            let error = ProgramSpec::parse(text).unwrap_err();
            assert!(error.message().starts_with("program.toml: ") && error.message().contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn bodies_are_recorded_within_bounds() {
        let body = br#"{"temperature": 11.5, "pen": "a", "tags": [1, 2]}"#;
        let fields = recorded_body("request", body, 100);
        assert_eq!(json!(fields), json!({"temperature": 11.5, "pen": "a", "tags": "[1,2]"}));
        assert_eq!(json!(recorded_body("request", b"Troms\xc3\xb8", 6)), json!({"request": "Troms… (7 bytes)"}));
        assert_eq!(json!(recorded_body("request", b"[1,2]", 100)), json!({"request": "[1,2]"}));
        assert_eq!(json!(recorded_body("answer", &[0xff, 0], 100)), json!({"answer": "2 bytes, not recorded"}));
        assert!(recorded_body("request", b"", 100).is_empty());
    }
}
