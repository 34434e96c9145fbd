use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A node of an inference graph: a deployment, or nodes put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GraphNode {
    /// A deployment of a model.
    Model {
        /// Its name.
        deployment: String,
        /// Where an input or a feature of the model has another name in the graph: model's name to graph's name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        inputs: BTreeMap<String, String>,
        /// What its outputs are called in the graph: model's name to graph's name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        outputs: BTreeMap<String, String>,
    },
    /// One after the other: inputs are taken by name from the outputs of the nodes before, else from the request. The
    /// outputs are those of the last node.
    Sequence {
        /// The nodes.
        nodes: Vec<GraphNode>,
    },
    /// Each row goes to the first case that holds for it.
    Switch {
        /// Tried in this order.
        cases: Vec<Case>,
        /// Where no case holds.
        default: Box<GraphNode>,
    },
    /// All nodes answer, and their answers become one.
    Ensemble {
        /// How.
        combine: Combine,
        /// The outputs that are combined; empty for all of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        outputs: Vec<String>,
        /// The nodes.
        nodes: Vec<GraphNode>,
    },
    /// One of the nodes answers a request: by weight, and always the same one for the same `sticky_key`.
    Splitter {
        /// The ways.
        routes: Vec<Route>,
    },
}

/// A case of a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// When it is taken.
    pub when: Condition,
    /// What answers then.
    pub node: GraphNode,
}

/// A condition on one value of a row; it never holds for NaN, but for `!=`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// An input of the graph, one of its features, or an output of a node before.
    pub on: String,
    /// How it is compared.
    pub is: Comparison,
    /// With what: a number, a text or a boolean.
    pub value: ConditionValue,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Equal.
    #[serde(rename = "==")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    NotEqual,
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Less or equal.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// Greater.
    #[serde(rename = ">")]
    Greater,
    /// Greater or equal.
    #[serde(rename = ">=")]
    GreaterOrEqual,
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConditionValue {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// How the answers of an ensemble become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The arithmetic mean of each number.
    Average,
    /// The value that most nodes give; of those that tie, the one of the node that is listed first.
    Vote,
    /// Side by side, along the dimension after the rows.
    Concatenate,
}

/// A way of a splitter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its share of the requests in percent; those of all routes sum to 100.
    pub weight: f64,
    /// What answers.
    pub node: GraphNode,
}

/// An inference graph as it is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphDeployment {
    /// The name it is asked by.
    pub name: String,
    /// What it does.
    pub graph: GraphNode,
    /// 1, 2, 3 …: how often it was declared; the version in answers and records.
    pub revision: i64,
    /// Why it does not answer, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was made (wall clock).
    pub created_ms: i64,
}

/// The label of a prediction record that names the nodes which answered, with their versions.
pub const GRAPH_PATH_LABEL: &str = "fishy.path";
