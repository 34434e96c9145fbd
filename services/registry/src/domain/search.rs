//! Which keys and operators each search takes.

use fishy_core::{Error, Result};

use super::filter::{self, Comparison, Literal, Operator};

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A column of the thing itself.
    Attribute(&'static Attribute),
    /// The latest value of a metric.
    Metric(String),
    /// A parameter.
    Param(String),
    /// A tag.
    Tag(String),
    /// A dataset the run read: `name`, `digest` or `context`.
    Dataset(&'static str),
}

/// One condition that a search must meet.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What it looks at.
    pub target: Target,
    /// How.
    pub test: Test,
}

/// How a value is tested.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Compared with a number by `=`, `!=`, `<`, `<=`, `>` or `>=`.
    Number(Operator, f64),
    /// Compared with a text by `=`, `!=`, `LIKE` or `ILIKE`.
    Text(Operator, String),
    /// One of these, or none of these.
    In {
        /// Whether it must be one of them.
        is_in: bool,
        /// The texts.
        values: Vec<String>,
    },
    /// Whether there is a value at all.
    Exists(bool),
}

/// What kind of value an attribute has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// A text.
    Text,
    /// A text that `IN` and `NOT IN` may be asked of.
    ListedText,
}

/// An attribute that can be searched by, ordered by, or both.
#[derive(Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its names.
    pub names: &'static [&'static str],
    /// The SQL of its value.
    pub column: &'static str,
    /// The SQL that it is ordered by.
    pub order: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// Whether it may be missing.
    pub is_optional: bool,
}

const fn attribute(names: &'static [&'static str], column: &'static str, kind: Kind) -> Attribute {
    Attribute { names, column, order: column, kind, is_optional: false }
}

const fn optional(names: &'static [&'static str], column: &'static str, kind: Kind) -> Attribute {
    Attribute { names, column, order: column, kind, is_optional: true }
}

/// What a search takes.
#[derive(Debug)]
pub struct Grammar {
    /// What is searched, for messages.
    pub what: &'static str,
    /// The attributes.
    pub attributes: &'static [Attribute],
    /// Whether there are metrics and parameters.
    pub has_data: bool,
    /// Whether there are datasets.
    pub has_datasets: bool,
    /// Whether tags may be asked for `IS NULL` and `IS NOT NULL`.
    pub has_null_tests: bool,
}

/// `runs/search`
pub const RUNS: Grammar = Grammar {
    what: "runs",
    attributes: &[
        attribute(&["run_id"], "r.run_id", Kind::ListedText),
        attribute(&["run_name", "run name", "Run name", "Run Name"], "r.name", Kind::Text),
        attribute(&["status"], "r.status", Kind::Text),
        attribute(&["user_id"], "r.user_id", Kind::Text),
        attribute(&["artifact_uri"], "r.artifact_uri", Kind::Text),
        attribute(&["start_time", "created", "Created"], "r.start_time", Kind::Number),
        optional(&["end_time"], "r.end_time", Kind::Number),
    ],
    has_data: true,
    has_datasets: true,
    has_null_tests: true,
};

/// `experiments/search`
pub const EXPERIMENTS: Grammar = Grammar {
    what: "experiments",
    attributes: &[
        attribute(&["name"], "e.name", Kind::Text),
        Attribute {
            names: &["experiment_id"],
            column: "CAST(e.id AS TEXT)",
            order: "e.id",
            kind: Kind::ListedText,
            is_optional: false,
        },
        attribute(&["creation_time"], "e.creation_time", Kind::Number),
        attribute(&["last_update_time"], "e.last_update_time", Kind::Number),
    ],
    has_data: false,
    has_datasets: false,
    has_null_tests: true,
};

/// `registered-models/search`
pub const REGISTERED_MODELS: Grammar = Grammar {
    what: "registered models",
    attributes: &[
        attribute(&["name"], "m.name", Kind::ListedText),
        attribute(&["creation_timestamp"], "m.creation_time", Kind::Number),
        attribute(&["last_updated_timestamp", "timestamp"], "m.last_updated_time", Kind::Number),
    ],
    has_data: false,
    has_datasets: false,
    has_null_tests: false,
};

/// `model-versions/search`
pub const MODEL_VERSIONS: Grammar = Grammar {
    what: "model versions",
    attributes: &[
        attribute(&["name"], "v.name", Kind::ListedText),
        attribute(&["version_number", "version"], "v.version", Kind::Number),
        optional(&["run_id"], "v.run_id", Kind::ListedText),
        attribute(&["source_path"], "v.source", Kind::Text),
        attribute(&["creation_timestamp"], "v.creation_time", Kind::Number),
        attribute(&["last_updated_timestamp"], "v.last_updated_time", Kind::Number),
    ],
    has_data: false,
    has_datasets: false,
    has_null_tests: false,
};

/// `logged-models/search`
pub const LOGGED_MODELS: Grammar = Grammar {
    what: "logged models",
    attributes: &[
        attribute(&["name"], "m.name", Kind::ListedText),
        attribute(&["model_id"], "m.model_id", Kind::ListedText),
        optional(&["model_type"], "m.model_type", Kind::ListedText),
        attribute(&["status"], "m.status", Kind::ListedText),
        optional(&["source_run_id"], "m.source_run_id", Kind::ListedText),
        attribute(&["creation_timestamp", "creation_time", "creation_timestamp_ms"], "m.creation_time", Kind::Number),
        attribute(
            &["last_updated_timestamp", "last_updated_time", "last_updated_timestamp_ms"],
            "m.last_updated_time",
            Kind::Number,
        ),
    ],
    has_data: true,
    has_datasets: false,
    has_null_tests: false,
};

impl Grammar {
    /// Reads a filter of this search.
    pub fn conditions(&'static self, text: &str) -> Result<Vec<Condition>> {
        filter::parse(text)?.into_iter().map(|comparison| self.condition(comparison)).collect()
    }

    /// What a key names.
    pub fn target(&'static self, entity: Option<&str>, key: &str) -> Result<Target> {
        match entity {
            None | Some("attribute" | "attributes" | "attr" | "run") => self.attribute(key).map(Target::Attribute),
            Some("tag" | "tags") => Ok(Target::Tag(key.to_owned())),
            Some("metric" | "metrics") if self.has_data => Ok(Target::Metric(key.to_owned())),
            Some("param" | "params" | "parameter" | "parameters") if self.has_data => Ok(Target::Param(key.to_owned())),
            Some("dataset" | "datasets") if self.has_datasets => {
                let known = ["name", "digest", "context"].into_iter().find(|known| *known == key);
                let unknown = || Error::invalid(format!("Invalid dataset key '{key}': use name, digest or context"));
                known.map(Target::Dataset).ok_or_else(unknown)
            }
            Some(entity) => {
                Err(Error::invalid(format!("Invalid entity type '{entity}' in a search for {}", self.what)))
            }
        }
    }

    fn attribute(&'static self, key: &str) -> Result<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.names.contains(&key)).ok_or_else(|| {
            let names: Vec<&str> = self.attributes.iter().map(|attribute| attribute.names[0]).collect();
            Error::invalid(format!(
                "Invalid attribute key '{key}' in a search for {}: use one of {}",
                self.what,
                names.join(", ")
            ))
        })
    }

    fn condition(&'static self, comparison: Comparison) -> Result<Condition> {
        let target = self.target(comparison.entity.as_deref(), &comparison.key)?;
        let (is_number, has_list, has_null) = match &target {
            Target::Attribute(attribute) => (attribute.kind == Kind::Number, attribute.kind == Kind::ListedText, false),
            Target::Metric(_) => (true, false, false),
            Target::Param(_) | Target::Tag(_) => (false, false, self.has_null_tests),
            Target::Dataset(_) => (false, true, false),
        };
        let operator = comparison.operator;
        let refuse = |why: &str| {
            let key = &comparison.key;
            Err(Error::invalid(format!("Invalid comparison of '{key}' by '{}': {why}", operator.as_str())))
        };
        let test = match (operator, comparison.value) {
            (Operator::IsNull | Operator::IsNotNull, _) if !has_null => {
                return refuse("it cannot be asked for IS NULL");
            }
            (Operator::IsNull, _) => Test::Exists(false),
            (Operator::IsNotNull, _) => Test::Exists(true),
            (Operator::In | Operator::NotIn, Literal::List(values)) => {
                if !has_list {
                    return refuse("it cannot be compared with a list");
                }
                Test::In { is_in: operator == Operator::In, values }
            }
            (Operator::Like | Operator::ILike, Literal::Text(_)) if is_number => {
                return refuse("its value is a number");
            }
            (_, Literal::Number(number)) if is_number => Test::Number(operator, number),
            // MLflow's own clients quote the numbers of attributes now and then.
            (_, Literal::Text(text)) if is_number => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() && matches!(target, Target::Attribute(_)) => {
                    Test::Number(operator, number)
                }
                _ => return refuse("its value is a number"),
            },
            (Operator::Equal | Operator::NotEqual | Operator::Like | Operator::ILike, Literal::Text(text)) => {
                Test::Text(operator, text)
            }
            (_, Literal::Number(_)) => return refuse("its value is a text: put it in quotes"),
            _ => return refuse("texts are compared by =, !=, LIKE or ILIKE"),
        };
        Ok(Condition { target, test })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_search_takes_its_own_keys_and_operators() {
        let accepted: [(&'static Grammar, &[&str]); 5] = [
            (
                &RUNS,
                &[
                    "metrics.a != 1 and metric.b <= 2",
                    "params.a ILIKE '%x%' and parameter.b != 'y' and param.c IS NOT NULL",
                    "tags.a IS NULL",
                    "status = 'FINISHED' and attributes.run_name LIKE 'a%'",
                    "attr.`Run Name` = 'x' and run.user_id != 'y'",
                    "start_time >= 5 and attributes.end_time < '7'",
                    "run_id NOT IN ('a')",
                    "dataset.name IN ('a') and datasets.context = 'train' and dataset.digest LIKE 'x%'",
                ],
            ),
            (&EXPERIMENTS, &["name ILIKE 'a%'", "experiment_id IN ('1')", "creation_time > 1", "tags.x IS NULL"]),
            (&REGISTERED_MODELS, &["name IN ('a', 'b')", "tags.x = 'y'"]),
            (&MODEL_VERSIONS, &["name = 'a' and version_number > 1", "run_id IN ('a')", "source_path LIKE 'runs%'"]),
            (
                &LOGGED_MODELS,
                &["status = 'READY' and metrics.a > 1 and params.b = 'x'", "creation_time > 5", "name IN ('a')"],
            ),
        ];
        for (grammar, filters) in accepted {
            for filter in filters {
                assert!(grammar.conditions(filter).is_ok(), "{}: {filter}", grammar.what);
            }
        }
        let refused: [(&'static Grammar, &[&str]); 5] = [
            (
                &RUNS,
                &[
                    "metrics.a LIKE 'x'",
                    "metrics.a = 'x'",
                    "metrics.a IS NULL",
                    "metrics.a IN ('1')",
                    "params.a > 'x'",
                    "params.a = 1",
                    "params.a IN ('x')",
                    "status IN ('x')",
                    "status > 'x'",
                    "start_time LIKE '1%'",
                    "start_time = 'soon'",
                    "unknown = 'x'",
                    "dataset.size = 'x'",
                    "spans.a = 'x'",
                ],
            ),
            (&EXPERIMENTS, &["metrics.a > 1", "name IN ('a')", "params.a = 'x'", "dataset.name = 'x'"]),
            (&REGISTERED_MODELS, &["tags.x IS NULL", "metrics.a > 1", "version_number > 1"]),
            (&MODEL_VERSIONS, &["version_number = 'x'", "source_path IN ('a')", "current_stage = 'x'"]),
            (&LOGGED_MODELS, &["params.a IS NULL", "dataset.name = 'x'"]),
        ];
        for (grammar, filters) in refused {
            for filter in filters {
                assert!(grammar.conditions(filter).is_err(), "{}: {filter}", grammar.what);
            }
        }
    }
}
