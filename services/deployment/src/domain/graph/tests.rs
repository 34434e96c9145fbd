use std::collections::HashMap;
use std::sync::Arc;

use fishy_contracts::deployment::{Combine, GraphNode};
use fishy_inference::{Datatype, Tensor, TensorData, TensorSpec};
use serde_json::{Value, json};

use super::*;
use crate::domain::Layout;
use crate::domain::signature::{Column, Kind, Signature};

fn graph(value: &Value) -> GraphNode {
    serde_json::from_value(value.clone()).unwrap()
}

fn model(name: &str) -> Value {
    json!({"kind": "model", "deployment": name})
}

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.into() }
}

/// Takes the matrix `x` of three columns and gives `y`.
fn matrix() -> Layout {
    let column = |name: &str| Column { name: name.into(), kind: Kind::Double, is_required: true };
    let signature = Signature::Columns(["temperature", "salinity", "ph"].map(column).into());
    let outputs = [spec("y", Datatype::Fp32, &[-1, 1])];
    Layout::new(&[spec("x", Datatype::Fp32, &[-1, 3])], &outputs, Some(&signature)).unwrap()
}

fn plan(value: &Value) -> fishy_core::Result<Plan> {
    let (matrix, image) = (
        matrix(),
        Layout::new(&[spec("image", Datatype::Uint8, &[-1, 8, 8])], &[spec("label", Datatype::Bytes, &[-1])], None),
    );
    let image = image.unwrap();
    let layouts = HashMap::from([("a", &matrix), ("b", &matrix), ("image", &image)]);
    Plan::new(&graph(value), &layouts)
}

#[test]
fn what_cannot_be_a_graph_is_refused_with_its_place() {
    let deep = (0..9).fold(model("a"), |inner, _| json!({"kind": "sequence", "nodes": [inner]}));
    let many = json!({"kind": "sequence", "nodes": vec![model("a"); 32]});
    let split = |first: f64, second: f64| {
        json!({"kind": "sequence", "nodes": [model("a"), {"kind": "splitter", "routes": [
            {"weight": first, "node": model("a")}, {"weight": second, "node": model("b")}]}]})
    };
    for (bad, told) in [
        (model("me"), "graph \"me\" asks itself"),
        (json!({"kind": "sequence", "nodes": []}), "the first node: nodes is empty"),
        (deep, "nested deeper than 8"),
        (many, "more than 32 nodes"),
        (split(60.0, 30.0), "node nodes[1]: the weights sum to 90, and must sum to 100"),
        (split(110.0, -10.0), "a weight is above 0, and -10 is not"),
    ] {
        let error = check_graph("me", &graph(&bad)).unwrap_err();
        assert!(error.message().contains(told), "{told}: {}", error.message());
    }
    let members = check_graph("me", &graph(&split(99.9, 0.1))).unwrap();
    assert_eq!(members.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    let unknown = json!({"kind": "model", "deployment": "a", "weigth": 3});
    assert!(serde_json::from_value::<GraphNode>(unknown).unwrap_err().to_string().contains("weigth"));
}

#[test]
fn a_sequence_takes_what_was_given_before_and_asks_for_the_rest() {
    let alone = plan(&model("a")).unwrap();
    assert_eq!((alone.layout.inputs(), alone.layout.outputs()), (matrix().inputs(), matrix().outputs()));
    let planned = plan(&json!({"kind": "sequence", "nodes": [
        {"kind": "model", "deployment": "a", "outputs": {"y": "oxygen"}},
        {"kind": "model", "deployment": "b", "inputs": {"temperature": "oxygen", "ph": "acid"}},
    ]}))
    .unwrap();
    assert_eq!(planned.layout.inputs(), [matrix().inputs()[0].clone(), spec("acid", Datatype::Fp32, &[-1])]);
    assert_eq!(planned.layout.features(), ["temperature", "salinity", "ph", "acid"]);
    let Step::Sequence(steps) = &planned.step else { panic!("{:?}", planned.step) };
    let Step::Model { wires, .. } = &steps[1] else { panic!("{:?}", steps[1]) };
    let wires: Vec<_> = wires.iter().map(|wire| (wire.to.as_str(), wire.from.as_str())).collect();
    assert_eq!(wires, [("temperature", "oxygen"), ("salinity", "salinity"), ("ph", "acid")]);
}

#[test]
fn nodes_that_do_not_fit_together_are_refused() {
    let switch = |on: &str| {
        json!({"kind": "switch", "default": model("b"),
            "cases": [{"when": {"on": on, "is": ">", "value": 3}, "node": model("a")}]})
    };
    for on in ["temperature", "x"] {
        assert_eq!(plan(&switch(on)).unwrap().layout.outputs(), matrix().outputs(), "{on}");
    }
    let ensemble = |combine: &str, members: [&str; 2], outputs: &[&str]| {
        let nodes = members.map(model);
        json!({"kind": "ensemble", "combine": combine, "outputs": outputs, "nodes": nodes})
    };
    for (bad, told) in [
        (switch("wind"), "a condition asks for \"wind\""),
        (json!({"kind": "model", "deployment": "a", "inputs": {"z": "y"}}), "it takes no input \"z\""),
        (json!({"kind": "model", "deployment": "a", "outputs": {"z": "y"}}), "it gives no output \"z\""),
        (
            json!({"kind": "sequence", "nodes": [model("a"),
            {"kind": "model", "deployment": "b", "inputs": {"x": "y"}}]}),
            "an output of a node before is",
        ),
        (ensemble("vote", ["a", "image"], &[]), "must give the same outputs"),
        (ensemble("average", ["image", "image"], &[]), "only numbers have an average"),
        (ensemble("concatenate", ["a", "b"], &["p"]), "gives no output \"p\""),
    ] {
        let error = plan(&bad).unwrap_err();
        assert!(error.message().contains(told), "{told}: {}", error.message());
    }
    let wide = plan(&ensemble("concatenate", ["a", "b"], &[])).unwrap();
    assert_eq!(wide.layout.outputs(), [spec("y", Datatype::Fp32, &[-1, 2])]);
}

fn fp32(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
    Tensor::new(name, shape, TensorData::Fp32(values.into()))
}

#[test]
fn each_row_goes_to_the_first_case_that_holds_and_comes_back_to_its_place() {
    let layout = matrix();
    let x = fp32("x", &[3, 3], &[1.0, 0.0, 0.0, f32::NAN, 0.0, 0.0, 30.0, 0.0, 0.0]);
    let flow = Flow { inputs: vec![Arc::new(x)], earlier: Vec::new(), rows: 3 };
    let condition = |is: &str, value: Value| {
        serde_json::from_value(json!({"on": "temperature", "is": is, "value": value})).unwrap()
    };
    let conditions = [condition(">", json!(20)), condition("<=", json!(30.0))];
    assert_eq!(choose_cases(conditions.iter(), &layout, &flow).unwrap(), [1, 2, 0]);
    let text = [condition("==", json!("warm"))];
    assert!(choose_cases(text.iter(), &layout, &flow).unwrap_err().message().contains("cannot be compared"));
    let part = flow.pick(&[2, 0]);
    assert_eq!(part.find(&layout, "temperature").unwrap(), fp32("temperature", &[2], &[30.0, 1.0]));
    let parts = vec![(vec![2, 0], vec![fp32("y", &[2, 1], &[3.0, 1.0])]), (vec![1], vec![fp32("y", &[1, 1], &[2.0])])];
    assert_eq!(merge(parts, 3).unwrap(), [fp32("y", &[3, 1], &[1.0, 2.0, 3.0])]);
    let misfit = vec![(vec![0], vec![fp32("y", &[1, 1], &[1.0])]), (vec![1], vec![fp32("y", &[1, 2], &[1.0, 2.0])])];
    assert!(merge(misfit, 2).unwrap_err().message().contains("must agree"));
}

#[test]
fn answers_are_averaged_elected_and_put_side_by_side() {
    let names = ["y".to_owned()];
    let of = |values: &[f32]| vec![fp32("y", &[2, 1], values)];
    let all = [of(&[1.0, 5.0]), of(&[2.0, 6.0]), of(&[6.0, 6.0])];
    assert_eq!(combine(Combine::Average, &names, &all, 2).unwrap(), [fp32("y", &[2, 1], &[3.0, 17.0 / 3.0])]);
    // In the first row all differ: the first node counts.
    assert_eq!(combine(Combine::Vote, &names, &all, 2).unwrap(), [fp32("y", &[2, 1], &[1.0, 6.0])]);
    let wide = fp32("y", &[2, 3], &[1.0, 2.0, 6.0, 5.0, 6.0, 6.0]);
    assert_eq!(combine(Combine::Concatenate, &names, &all, 2).unwrap(), [wide]);
    let texts = |values: [&str; 2]| vec![Tensor::new("y", [2], TensorData::Bytes(values.map(str::to_owned).into()))];
    let votes = [texts(["cod", "eel"]), texts(["eel", "cod"]), texts(["eel", "eel"])];
    assert_eq!(combine(Combine::Vote, &names, &votes, 2).unwrap(), texts(["eel", "eel"]));
    let integers = |value: i64| vec![Tensor::new("y", [1], TensorData::Int64(vec![value]))];
    let mean = combine(Combine::Average, &names, &[integers(1), integers(2)], 1).unwrap();
    assert_eq!(mean, [Tensor::new("y", [1], TensorData::Fp64(vec![1.5]))]);
    let short = [of(&[1.0, 5.0]), vec![fp32("y", &[1, 1], &[1.0])]];
    assert!(combine(Combine::Average, &names, &short, 2).is_err());
    assert!(combine(Combine::Concatenate, &names, &short, 2).unwrap_err().message().contains("a row for each"));
}
