use crate::{engine, fixture, load};
use fishy_core::ErrorCode;
use fishy_inference::{Datatype, Engine, ModelOptions, Optimization, Tensor, TensorData, TensorSpec, bf16, f16};
use std::time::Duration;

fn x(rows: &[[f32; 3]]) -> Tensor {
    Tensor::new("x", [rows.len() as i64, 3], TensorData::Fp32(rows.concat()))
}

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.into() }
}

#[test]
fn a_linear_model_gives_the_right_numbers() {
    let model = load("linear.onnx", &ModelOptions::default());
    assert_eq!(model.inputs(), [spec("x", Datatype::Fp32, &[-1, 3])]);
    assert_eq!(model.outputs(), [spec("y", Datatype::Fp32, &[-1, 1])]);
    let outputs = model.run(vec![x(&[[1.0, 1.0, 1.0], [0.0, 0.0, -2.0]])]).unwrap();
    assert_eq!(outputs, [Tensor::new("y", [2, 1], TensorData::Fp32(vec![6.5, -5.5]))]);
    assert_eq!(model.run(vec![x(&[])]).unwrap(), [Tensor::new("y", [0, 1], TensorData::Fp32(vec![]))]);
}

#[test]
fn integers_and_texts_go_in_and_out_in_any_order() {
    let model = load("typed.onnx", &ModelOptions::default());
    let pen = TensorData::Bytes(vec!["Tromsø 4".into(), String::new()]);
    let count = TensorData::Int64(vec![21, i64::MIN / 2]);
    let outputs = model.run(vec![Tensor::new("pen", [2], pen.clone()), Tensor::new("count", [2], count)]).unwrap();
    let doubled = TensorData::Int64(vec![42, i64::MIN]);
    assert_eq!(outputs, [Tensor::new("doubled", [2], doubled), Tensor::new("pen_out", [2], pen)]);
}

#[test]
fn every_served_datatype_survives_the_engine() {
    let inputs = vec![
        Tensor::new("bool", [2], TensorData::Bool(vec![true, false])),
        Tensor::new("int8", [2], TensorData::Int8(vec![i8::MIN, i8::MAX])),
        Tensor::new("int16", [2], TensorData::Int16(vec![i16::MIN, i16::MAX])),
        Tensor::new("int32", [2], TensorData::Int32(vec![i32::MIN, i32::MAX])),
        Tensor::new("int64", [2], TensorData::Int64(vec![i64::MIN, i64::MAX])),
        Tensor::new("uint8", [2], TensorData::Uint8(vec![0, u8::MAX])),
        Tensor::new("uint16", [2], TensorData::Uint16(vec![0, u16::MAX])),
        Tensor::new("uint32", [2], TensorData::Uint32(vec![0, u32::MAX])),
        Tensor::new("uint64", [2], TensorData::Uint64(vec![0, u64::MAX])),
        Tensor::new("fp16", [2], TensorData::Fp16(vec![f16::MIN, f16::from_f32(1.5)])),
        Tensor::new("bf16", [2], TensorData::Bf16(vec![bf16::MIN, bf16::from_f32(1.5)])),
        Tensor::new("fp32", [2], TensorData::Fp32(vec![f32::MIN, f32::INFINITY])),
        Tensor::new("fp64", [2], TensorData::Fp64(vec![f64::MIN, f64::MAX])),
        Tensor::new("bytes", [2], TensorData::Bytes(vec!["a".into(), "ä".into()])),
    ];
    let expected: Vec<Tensor> =
        inputs.iter().map(|input| Tensor { name: format!("{}_out", input.name), ..input.clone() }).collect();
    assert_eq!(load("identity.onnx", &ModelOptions::default()).run(inputs).unwrap(), expected);
}

#[test]
fn inputs_are_checked_before_the_engine_sees_them() {
    let model = load("linear.onnx", &ModelOptions::default());
    let error = model.run(vec![Tensor::new("x", [1, 2], TensorData::Fp32(vec![0.0; 2]))]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.message().starts_with(r#"input "x" has shape [1,2]"#), "{error}");
}

#[test]
fn a_value_that_only_the_engine_can_refuse_is_an_error_and_the_session_lives_on() {
    let model = load("gather.onnx", &ModelOptions::default());
    let index = |value| vec![Tensor::new("index", [1], TensorData::Int64(vec![value]))];
    assert_eq!(model.run(index(99)).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(model.run(index(2)).unwrap(), [Tensor::new("row", [1, 2], TensorData::Fp32(vec![4.0, 5.0]))]);
}

#[test]
fn what_cannot_be_served_is_refused_when_loaded() {
    let load = |name: &str| {
        let error = engine().load(&fixture(name), &ModelOptions::default()).err().unwrap();
        (error.code(), error.message().to_owned())
    };
    let (code, message) = load("map_input.onnx");
    assert_eq!(code, ErrorCode::InvalidArgument);
    assert!(message.contains(r#"input "x" is a Map"#), "{message}");
    assert_eq!(load("nowhere.onnx").0, ErrorCode::NotFound);
    assert_eq!(load("generate.py").0, ErrorCode::InvalidArgument);
}

#[test]
fn a_model_cannot_read_files_outside_of_its_folder() {
    let error = engine().load(&fixture("escaping.onnx"), &ModelOptions::default()).err().unwrap();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.message().contains("escapes model directory"), "{error}");
}

#[test]
fn a_pool_answers_many_threads_each_with_its_own_answer() {
    let model = load("linear.onnx", &ModelOptions { sessions: 2, ..ModelOptions::default() });
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let model = &model;
            scope.spawn(move || {
                for call in 0..200_u8 {
                    let (a, b) = (f32::from(thread), f32::from(call));
                    let outputs = model.run(vec![x(&[[a, b, 0.0]])]).unwrap();
                    assert_eq!(outputs[0].data, TensorData::Fp32(vec![a + 2.0 * b + 0.5]));
                }
            });
        }
    });
}

#[test]
fn warming_up_measures_and_refuses_an_example_that_does_not_fit() {
    let model = load("linear.onnx", &ModelOptions::default());
    assert!(model.warm_up_p50().unwrap() > Duration::ZERO);
    assert_eq!(model.warm_up_elements(), 3);
    let cold = load("linear.onnx", &ModelOptions { warm_up_runs: 0, ..ModelOptions::default() });
    assert_eq!((cold.warm_up_p50(), cold.is_fast()), (None, false));
    let example = Tensor::new("x", [1, 3], TensorData::Fp64(vec![0.0; 3]));
    let options = ModelOptions { warm_up_inputs: Some(vec![example]), ..ModelOptions::default() };
    let error = engine().load(&fixture("linear.onnx"), &options).err().unwrap();
    assert!(error.message().contains("FP64"), "{error}");
}

#[test]
fn golden_outputs_are_reproduced_or_the_difference_is_named() {
    let model = load("linear.onnx", &ModelOptions::default());
    let golden = |value| [Tensor::new("y", [1, 1], TensorData::Fp32(vec![value]))];
    model.reproduces(&[x(&[[1.0, 1.0, 1.0]])], &golden(6.5), 1e-6, 0.0).unwrap();
    let error = model.reproduces(&[x(&[[1.0, 1.0, 1.0]])], &golden(6.6), 1e-6, 0.0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::FailedPrecondition);
    assert_eq!(error.message(), r#"output "y": element 0 is 6.5: the golden one is 6.6"#);
}

#[test]
fn maps_and_sequences_become_tensors() {
    let x = || Tensor::new("x", [2, 2], TensorData::Fp32(vec![0.1, 0.9, 0.2, 0.8]));
    let data = || TensorData::Fp32(vec![0.1, 0.9, 0.2, 0.8]);
    for (name, keys) in [("zipmap.onnx", ["3", "7"]), ("zipmap_text.onnx", ["healthy", "lice"])] {
        let model = load(name, &ModelOptions::default());
        assert_eq!(model.outputs(), [spec("probabilities", Datatype::Fp32, &[-1, 2])], "{name}");
        assert_eq!(model.map_keys(0).unwrap(), keys, "{name}");
        assert_eq!(model.run(vec![x()]).unwrap(), [Tensor::new("probabilities", [2, 2], data())], "{name}");
        let none = Tensor::new("x", [0, 2], TensorData::Fp32(vec![]));
        assert_eq!(model.run(vec![none]).unwrap()[0].shape, [0, 2], "{name}");
    }
    let model = load("sequence.onnx", &ModelOptions::default());
    assert_eq!(model.outputs(), [spec("rows", Datatype::Fp32, &[-1, 2])]);
    assert_eq!(model.run(vec![x()]).unwrap(), [Tensor::new("rows", [2, 2], data())]);
    assert_eq!(model.map_keys(0), None);
}

#[test]
fn sessions_that_share_weights_answer_as_one_that_has_its_own() {
    let x = Tensor::new("x", [1, 8], TensorData::Fp32((0..8_u8).map(f32::from).collect()));
    let own = load("layers.onnx", &ModelOptions::default()).run(vec![x.clone()]).unwrap();
    for optimization in [Optimization::Disabled, Optimization::Basic, Optimization::Extended, Optimization::All] {
        let options = ModelOptions { sessions: 3, intra_threads: 2, optimization, ..ModelOptions::default() };
        let shared = load("layers.onnx", &options);
        assert_eq!(shared.sessions(), 3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| shared.reproduces(std::slice::from_ref(&x), &own, 1e-5, 1e-5).unwrap());
            }
        });
    }
}
