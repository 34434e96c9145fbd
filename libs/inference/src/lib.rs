#![doc = include_str!("../README.md")]

mod batching;
mod binary;
mod engine;
mod golden;
mod onnx;
mod pool;
mod python;
mod rows;
mod tensor;
mod validate;

pub use batching::{Batcher, BatcherOptions, Ran};
pub use engine::{AnswerForm, Engine, Model, ModelOptions, Optimization, Params};
pub use half::{bf16, f16};
pub use onnx::{OnnxOnDemand, OnnxRuntime};
pub use python::{PythonEngine, PythonForm, PythonInterface, PythonSettings};
pub use tensor::{Datatype, Tensor, TensorData, TensorSpec};
pub use validate::check_inputs;
