use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;

use fishy_contracts::deployment::{Combine, Condition, GraphNode};
use fishy_core::{Error, Result};
use fishy_inference::{Datatype, TensorSpec};

use super::{below, told};
use crate::domain::{Column, Layout};

/// A graph whose names are resolved against what its deployments take and give.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) step: Step,
    /// How requests to the graph are read.
    pub(crate) layout: Layout,
}

/// One node, ready to be run.
#[derive(Debug)]
pub(crate) enum Step {
    Model {
        place: String,
        deployment: String,
        wires: Vec<Wire>,
        /// The names of its outputs in the graph, where they differ.
        outputs: BTreeMap<String, String>,
    },
    Sequence(Vec<Step>),
    Switch {
        place: String,
        cases: Vec<(Condition, Step)>,
        default: Box<Step>,
    },
    Ensemble {
        place: String,
        combine: Combine,
        /// The outputs that are combined.
        outputs: Vec<String>,
        steps: Vec<Step>,
    },
    Splitter {
        place: String,
        routes: Vec<(f64, Step)>,
        /// Requests without a key so far.
        seen: AtomicU64,
    },
}

/// An input or feature of a model, and what it is taken from.
#[derive(Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) to: String,
    pub(crate) from: String,
}

/// An input that the caller sends.
struct Input {
    spec: TensorSpec,
    features: Vec<String>,
    /// Whether it is all that a model of one matrix takes; then the columns that its signature names.
    is_matrix: bool,
    columns: Vec<Column>,
}

struct Planner<'a> {
    layouts: &'a HashMap<&'a str, &'a Layout>,
    inputs: Vec<Input>,
    /// What conditions ask for that no node before gives: place and name.
    asked: Vec<(String, String)>,
}

impl Plan {
    /// Wires the nodes of a graph that was checked. `layouts` has each deployment it asks.
    pub(crate) fn new(root: &GraphNode, layouts: &HashMap<&str, &Layout>) -> Result<Self> {
        let mut planner = Planner { layouts, inputs: Vec::new(), asked: Vec::new() };
        let (step, outputs) = planner.node(root, "", &[])?;
        let Planner { inputs, asked, .. } = planner;
        for (place, name) in asked {
            if !inputs.iter().any(|input| input.spec.name == name || input.features.contains(&name)) {
                let known: Vec<&str> = inputs.iter().flat_map(Input::names).collect();
                return Err(Error::invalid(format!(
                    "{}: a condition asks for {name:?}, which is no output of a node before and no input: these are {}",
                    told(&place),
                    known.join(", ")
                )));
            }
        }
        let matrix = match inputs.as_slice() {
            [only] => (only.is_matrix, only.columns.clone()),
            _ => (false, Vec::new()),
        };
        let inputs = inputs.into_iter().map(|input| (input.spec, input.features)).collect();
        Ok(Self { step, layout: Layout::of_graph(inputs, outputs, matrix) })
    }
}

impl Input {
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.spec.name).chain(&self.features).map(String::as_str)
    }
}

type Planned = (Step, Vec<TensorSpec>);

impl Planner<'_> {
    /// `earlier` has what the nodes before give, the latest last.
    fn node(&mut self, node: &GraphNode, place: &str, earlier: &[TensorSpec]) -> Result<Planned> {
        match node {
            GraphNode::Model { deployment, inputs, outputs } => {
                let planned = self.model(deployment, (inputs, outputs), place, earlier);
                planned.map_err(|error| error.context(format_args!("{} (deployment {deployment:?})", told(place))))
            }
            GraphNode::Sequence { nodes } => {
                let (mut scope, mut steps, mut last) = (earlier.to_vec(), Vec::new(), Vec::new());
                for (index, node) in nodes.iter().enumerate() {
                    let (step, outputs) = self.node(node, &below(place, &format!("nodes[{index}]")), &scope)?;
                    scope.extend(outputs.iter().cloned());
                    steps.push(step);
                    last = outputs;
                }
                Ok((Step::Sequence(steps), last))
            }
            GraphNode::Switch { cases, default } => {
                let (mut steps, mut branches) = (Vec::new(), Vec::new());
                for (index, case) in cases.iter().enumerate() {
                    let place_of = below(place, &format!("cases[{index}]"));
                    if !earlier.iter().any(|spec| spec.name == case.when.on) {
                        self.asked.push((place_of.clone(), case.when.on.clone()));
                    }
                    let (step, outputs) = self.node(&case.node, &place_of, earlier)?;
                    steps.push((case.when.clone(), step));
                    branches.push(outputs);
                }
                let (default, outputs) = self.node(default, &below(place, "default"), earlier)?;
                branches.push(outputs);
                let outputs = agreed(place, &branches)?;
                Ok((Step::Switch { place: place.to_owned(), cases: steps, default: Box::new(default) }, outputs))
            }
            GraphNode::Ensemble { combine, outputs, nodes } => {
                let (mut steps, mut members) = (Vec::new(), Vec::new());
                for (index, node) in nodes.iter().enumerate() {
                    let (step, given) = self.node(node, &below(place, &format!("nodes[{index}]")), earlier)?;
                    steps.push(step);
                    members.push(chosen(place, index, given, outputs)?);
                }
                let specs = combined(place, *combine, &members)?;
                let outputs = specs.iter().map(|spec| spec.name.clone()).collect();
                Ok((Step::Ensemble { place: place.to_owned(), combine: *combine, outputs, steps }, specs))
            }
            GraphNode::Splitter { routes } => {
                let (mut steps, mut branches) = (Vec::new(), Vec::new());
                for (index, route) in routes.iter().enumerate() {
                    let (step, outputs) =
                        self.node(&route.node, &below(place, &format!("routes[{index}]")), earlier)?;
                    steps.push((route.weight, step));
                    branches.push(outputs);
                }
                let outputs = agreed(place, &branches)?;
                Ok((Step::Splitter { place: place.to_owned(), routes: steps, seen: AtomicU64::new(0) }, outputs))
            }
        }
    }

    fn model(
        &mut self,
        deployment: &str,
        (renamed, outputs): (&BTreeMap<String, String>, &BTreeMap<String, String>),
        place: &str,
        earlier: &[TensorSpec],
    ) -> Result<Planned> {
        let layouts = self.layouts;
        let layout = layouts.get(deployment).ok_or_else(|| Error::invalid("it is not known what it takes"))?;
        let is_input = |name: &String| layout.inputs().iter().any(|spec| spec.name == *name);
        if let Some(stranger) = renamed.keys().find(|name| !is_input(name) && !layout.features().contains(name)) {
            let own = names(layout.inputs());
            let features = layout.features().join(", ");
            return Err(Error::invalid(format!("it takes no input {stranger:?}, but {own} (features: {features})")));
        }
        if let Some(stranger) = outputs.keys().find(|name| !layout.outputs().iter().any(|spec| spec.name == **name)) {
            let own = names(layout.outputs());
            return Err(Error::invalid(format!("it gives no output {stranger:?}, but {own}")));
        }
        let source = |name: &str| renamed.get(name).map_or(name, String::as_str).to_owned();
        let is_given = |name: &str| earlier.iter().any(|spec| spec.name == name);
        // A matrix is put together of columns when a node before gives one of them.
        let by_feature = layout.is_matrix()
            && !layout.inputs().iter().any(|spec| is_given(&source(&spec.name)))
            && layout.features().iter().any(|name| renamed.contains_key(name) || is_given(name));
        let wanted: Vec<TensorSpec> = if by_feature {
            let datatype = layout.inputs().first().map_or(Datatype::Fp32, |spec| spec.datatype);
            let column = |name: &String| TensorSpec { name: name.clone(), datatype, shape: vec![-1] };
            layout.features().iter().map(column).collect()
        } else {
            layout.inputs().to_vec()
        };
        let mut wires = Vec::with_capacity(wanted.len());
        for (index, spec) in wanted.into_iter().enumerate() {
            let from = source(&spec.name);
            wires.push(Wire { to: spec.name.clone(), from: from.clone() });
            if let Some(given) = earlier.iter().rev().find(|given| given.name == from) {
                if !fits(given, &spec) {
                    return Err(misfit("an output of a node before is", given, &spec));
                }
                continue;
            }
            if by_feature && self.inputs.iter().any(|input| input.features.contains(&from)) {
                continue;
            }
            let (features, columns) = if by_feature {
                (vec![from.clone()], Vec::new())
            } else {
                (layout.features_of(index).iter().map(|name| source(name)).collect(), layout.columns().to_vec())
            };
            let known = self.inputs.iter().find(|input| input.spec.name == from);
            match known {
                Some(known) if !fits(&known.spec, &spec) => {
                    return Err(misfit("another node takes it as", &known.spec, &spec));
                }
                Some(known) if known.features != features => {
                    return Err(Error::invalid(format!(
                        "input {from:?} has the features {} for another node, and {} here: rename one of them (inputs)",
                        known.features.join(", "),
                        features.join(", ")
                    )));
                }
                Some(_) => {}
                None => {
                    let is_matrix = layout.is_matrix() && !by_feature;
                    self.inputs.push(Input { spec: TensorSpec { name: from, ..spec }, features, is_matrix, columns });
                }
            }
        }
        let rename = |name: &String| outputs.get(name).unwrap_or(name).clone();
        let given = layout.outputs().iter().map(|spec| TensorSpec { name: rename(&spec.name), ..spec.clone() });
        let given: Vec<TensorSpec> = given.collect();
        if let Some(twice) =
            given.iter().enumerate().find(|(at, spec)| given[..*at].iter().any(|b| b.name == spec.name))
        {
            return Err(Error::invalid(format!("two of its outputs are called {:?}", twice.1.name)));
        }
        let (place, deployment) = (place.to_owned(), deployment.to_owned());
        Ok((Step::Model { place, deployment, wires, outputs: outputs.clone() }, given))
    }
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("{:?}", spec.name)).collect::<Vec<_>>().join(", ")
}

fn misfit(what: &str, given: &TensorSpec, wanted: &TensorSpec) -> Error {
    Error::invalid(format!(
        "{:?}: {what} {} {:?}, and it takes {:?} as {} {:?}",
        given.name, given.datatype, given.shape, wanted.name, wanted.datatype, wanted.shape
    ))
}

/// Whether a tensor may be what is wanted, as far as is known. `[n]` and `[n,1]` stand for each other.
fn fits(given: &TensorSpec, wanted: &TensorSpec) -> bool {
    let kind = |datatype| (datatype == Datatype::Bytes, datatype == Datatype::Bool);
    let trimmed = |shape: &[i64]| match shape {
        [rows, 1] => vec![*rows],
        other => other.to_vec(),
    };
    let (a, b) = (trimmed(&given.shape), trimmed(&wanted.shape));
    let may_match = |(a, b): (&i64, &i64)| a == b || *a < 0 || *b < 0;
    let is_open = |shape: &[i64], other: &[i64]| shape.len() == 2 && shape[1] < 0 && other.len() == 1;
    kind(given.datatype) == kind(wanted.datatype)
        && (a.is_empty()
            || b.is_empty()
            || is_open(&a, &b)
            || is_open(&b, &a)
            || a.len() == b.len() && a.iter().zip(&b).all(may_match))
}

/// The outputs of a node of which one branch answers: the same from each.
fn agreed(place: &str, branches: &[Vec<TensorSpec>]) -> Result<Vec<TensorSpec>> {
    let first = branches.first().cloned().unwrap_or_default();
    for (index, other) in branches.iter().enumerate().skip(1) {
        let is_alike = other.len() == first.len()
            && first.iter().all(|spec| {
                other.iter().any(|given| {
                    given.name == spec.name && given.datatype == spec.datatype && given.shape.len() == spec.shape.len()
                })
            });
        if !is_alike {
            return Err(Error::invalid(format!(
                "{}: its branches must give the same outputs: the first gives {}, and branch {} {}: rename them (outputs)",
                told(place),
                described(&first),
                index + 1,
                described(other)
            )));
        }
    }
    let open = |spec: TensorSpec| {
        let shape = spec.shape.iter().enumerate().map(|(axis, size)| {
            let others = branches.iter().flatten().filter(|given| given.name == spec.name);
            if others.into_iter().all(|given| given.shape[axis] == *size) { *size } else { -1 }
        });
        TensorSpec { shape: shape.collect(), ..spec }
    };
    Ok(first.into_iter().map(open).collect())
}

fn described(specs: &[TensorSpec]) -> String {
    let told = specs.iter().map(|spec| format!("{:?} {} {:?}", spec.name, spec.datatype, spec.shape));
    told.collect::<Vec<_>>().join(", ")
}

/// The outputs of a member that are combined.
fn chosen(place: &str, index: usize, given: Vec<TensorSpec>, wanted: &[String]) -> Result<Vec<TensorSpec>> {
    if wanted.is_empty() {
        return Ok(given);
    }
    let find = |name: &String| {
        given.iter().find(|spec| spec.name == *name).cloned().ok_or_else(|| {
            let known = names(&given);
            Error::invalid(format!("{}: its node {} gives no output {name:?}, but {known}", told(place), index + 1))
        })
    };
    wanted.iter().map(find).collect()
}

/// What an ensemble gives.
fn combined(place: &str, combine: Combine, members: &[Vec<TensorSpec>]) -> Result<Vec<TensorSpec>> {
    if combine != Combine::Concatenate {
        let mut specs = agreed(place, members)?;
        if combine == Combine::Average {
            if let Some(text) = specs.iter().find(|spec| matches!(spec.datatype, Datatype::Bytes | Datatype::Bool)) {
                return Err(Error::invalid(format!(
                    "{}: output {:?} is {}, and only numbers have an average: choose others (outputs), or vote",
                    told(place),
                    text.name,
                    text.datatype
                )));
            }
            for spec in &mut specs {
                spec.datatype = average_type(spec.datatype);
            }
        }
        return Ok(specs);
    }
    let first = members.first().cloned().unwrap_or_default();
    let join = |spec: TensorSpec| {
        let mut width = Some(0);
        let mut shape = spec.shape.clone();
        for member in members {
            let found = member.iter().find(|given| given.name == spec.name && given.datatype == spec.datatype);
            let Some(found) = found.filter(|found| member.len() == first.len() && !found.shape.is_empty()) else {
                return Err(Error::invalid(format!(
                    "{}: each node must give the same outputs with rows: {:?} {} is not in {}: choose others (outputs)",
                    told(place),
                    spec.name,
                    spec.datatype,
                    described(member)
                )));
            };
            let size = found.shape.get(1).copied().unwrap_or(1);
            width = width.filter(|_| size >= 0).map(|width| width + size);
        }
        shape.truncate(1);
        shape.push(width.unwrap_or(-1));
        shape.extend(spec.shape.iter().skip(2));
        Ok(TensorSpec { shape, ..spec })
    };
    first.iter().cloned().map(join).collect()
}

/// Means of single precision stay that; all others are double.
pub(super) const fn average_type(datatype: Datatype) -> Datatype {
    match datatype {
        Datatype::Fp32 => Datatype::Fp32,
        _ => Datatype::Fp64,
    }
}
