//! Inference graphs: what may be declared, how nodes are wired, how rows are told apart and put together.

mod plan;
mod values;

pub(crate) use plan::{Plan, Step};
pub(crate) use values::{Flow, choose_cases, combine, merge};

use std::collections::BTreeSet;

use fishy_contracts::deployment::GraphNode;
use fishy_core::{Error, Result};

/// Nodes of a graph, those that hold others included.
const MAX_NODES: usize = 32;
/// Nodes within nodes.
const MAX_DEPTH: usize = 8;
/// Weights are decimal fractions, which binary numbers meet nearly.
const WEIGHT_TOLERANCE: f64 = 1e-6;

/// Checks what can be told from the graph alone; gives the deployments it asks, each once.
pub(crate) fn check_graph(name: &str, root: &GraphNode) -> Result<BTreeSet<String>> {
    let mut checker = Checker { name, nodes: 0, members: BTreeSet::new() };
    checker.node(root, "", 1)?;
    Ok(checker.members)
}

struct Checker<'a> {
    name: &'a str,
    nodes: usize,
    members: BTreeSet<String>,
}

impl Checker<'_> {
    fn node(&mut self, node: &GraphNode, place: &str, depth: usize) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::invalid(format!("the graph has more than {MAX_NODES} nodes")));
        }
        if depth > MAX_DEPTH {
            let message = format!("{}: nodes are nested deeper than {MAX_DEPTH}", told(place));
            return Err(Error::invalid(message));
        }
        match node {
            GraphNode::Model { deployment, .. } => {
                if deployment == self.name {
                    let message = format!("{}: graph {deployment:?} asks itself: name other deployments", told(place));
                    return Err(Error::invalid(message));
                }
                self.members.insert(deployment.clone());
            }
            GraphNode::Sequence { nodes } | GraphNode::Ensemble { nodes, .. } => {
                has_some(place, "nodes", nodes.len())?;
                for (index, node) in nodes.iter().enumerate() {
                    self.node(node, &below(place, &format!("nodes[{index}]")), depth + 1)?;
                }
            }
            GraphNode::Switch { cases, default } => {
                has_some(place, "cases", cases.len())?;
                for (index, case) in cases.iter().enumerate() {
                    self.node(&case.node, &below(place, &format!("cases[{index}]")), depth + 1)?;
                }
                self.node(default, &below(place, "default"), depth + 1)?;
            }
            GraphNode::Splitter { routes } => {
                has_some(place, "routes", routes.len())?;
                if let Some(bad) = routes.iter().find(|route| !route.weight.is_finite() || route.weight <= 0.0) {
                    let message = format!("{}: a weight is above 0, and {} is not", told(place), bad.weight);
                    return Err(Error::invalid(message));
                }
                let sum: f64 = routes.iter().map(|route| route.weight).sum();
                if (sum - 100.0).abs() > WEIGHT_TOLERANCE {
                    let message = format!("{}: the weights sum to {sum}, and must sum to 100", told(place));
                    return Err(Error::invalid(message));
                }
                for (index, route) in routes.iter().enumerate() {
                    self.node(&route.node, &below(place, &format!("routes[{index}]")), depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

fn has_some(place: &str, what: &str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid(format!("{}: {what} is empty: give at least one", told(place))));
    }
    Ok(())
}

/// The place of a node within another one.
fn below(place: &str, part: &str) -> String {
    if place.is_empty() { part.to_owned() } else { format!("{place}.{part}") }
}

/// A place as messages name it.
pub(crate) fn told(place: &str) -> String {
    if place.is_empty() { "the first node".to_owned() } else { format!("node {place}") }
}

#[cfg(test)]
mod tests;
