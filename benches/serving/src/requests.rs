//! The requests: the same for all servers, in the words of each.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::json;

use crate::messages::{InferInputTensor, ModelInferRequest, framed};

/// A model of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// A hundred boosted trees.
    Gbm,
    /// A perceptron of two hidden layers.
    Mlp,
    /// The shape of MobileNetV2.
    MobileNet,
}

impl Model {
    pub const ALL: [Self; 3] = [Self::Gbm, Self::Mlp, Self::MobileNet];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Gbm => "gbm",
            Self::Mlp => "mlp",
            Self::MobileNet => "mobilenet",
        }
    }

    pub const fn is_small(self) -> bool {
        !matches!(self, Self::MobileNet)
    }

    pub const fn shape(self) -> &'static [i64] {
        match self {
            Self::Gbm | Self::Mlp => &[1, 12],
            Self::MobileNet => &[1, 3, 224, 224],
        }
    }

    /// Inputs from -1 to 1, others for each number.
    pub fn input(self, number: u64) -> Vec<f32> {
        let count = self.shape().iter().product::<i64>() as u64;
        let at = |index: u64| (number * 7_919 + index).wrapping_mul(2_654_435_761) % 20_011;
        (0..count).map(|index| at(index) as f32 / 10_005.0 - 1.0).collect()
    }

    /// So many different requests go round.
    const fn variants(self) -> u64 {
        if self.is_small() { 64 } else { 4 }
    }
}

/// How inputs and outputs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON of the Open Inference Protocol.
    Json,
    /// The same with `parameters.record`: whether the prediction is logged.
    JsonRecorded(bool),
    /// Binary tensors behind a little JSON.
    Binary,
    /// MLflow's JSON.
    Mlflow,
    /// gRPC with raw contents.
    Grpc,
}

/// Whole requests, ready to be sent: over HTTP/1.1 with their heads, over gRPC the framed messages.
pub fn requests(model: Model, form: Form, path: &str, bearer: Option<&str>) -> Vec<Bytes> {
    (0..model.variants()).map(|number| request(model, form, path, bearer, &model.input(number))).collect()
}

fn request(model: Model, form: Form, path: &str, bearer: Option<&str>, input: &[f32]) -> Bytes {
    let (shape, size) = (model.shape(), size_of_val(input));
    let raw = || input.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // As people write numbers, not with the digits that a float32 has as a float64.
    let numbers = || input.iter().map(|value| (f64::from(*value) * 1e4).round() / 1e4).collect::<Vec<f64>>();
    let tensor = || json!({"name": "X", "shape": shape, "datatype": "FP32", "data": numbers()});
    let mut head = String::new();
    let body = match form {
        Form::Grpc => {
            return framed(&ModelInferRequest {
                model_name: model.name().to_owned(),
                inputs: vec![InferInputTensor { name: "X".into(), datatype: "FP32".into(), shape: shape.to_vec() }],
                raw_input_contents: vec![raw().into()],
            });
        }
        Form::Json => json!({"inputs": [tensor()]}).to_string().into_bytes(),
        Form::JsonRecorded(record) => {
            json!({"parameters": {"record": record}, "inputs": [tensor()]}).to_string().into_bytes()
        }
        Form::Mlflow => json!({"inputs": [numbers()]}).to_string().into_bytes(),
        Form::Binary => {
            let parameters = json!({"binary_data_size": size});
            let tensor = json!({"name": "X", "shape": shape, "datatype": "FP32", "parameters": parameters});
            let asked = json!({"parameters": {"binary_data_output": true}, "inputs": [tensor]});
            let mut body = asked.to_string().into_bytes();
            let _ = write!(head, "inference-header-content-length: {}\r\n", body.len());
            body.extend(raw());
            body
        }
    };
    let kind = if form == Form::Binary { "application/octet-stream" } else { "application/json" };
    if let Some(token) = bearer {
        let _ = write!(head, "authorization: Bearer {token}\r\n");
    }
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{head}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request.into()
}

/// A GET without a body.
pub fn get(path: &str) -> Bytes {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").into()
}

/// Where an answer of HTTP/1.1 ends, once it is whole; an error when it is no success.
pub fn end_of(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&answer[..head]);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let (mut length, mut is_chunked) = (None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
        is_chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
    }
    let begin = head + 4;
    let end = match length {
        Some(length) => Some(begin + length).filter(|end| answer.len() >= *end),
        None if is_chunked => answer.ends_with(b"0\r\n\r\n").then_some(answer.len()),
        None => bail!("an answer without a length: {text}"),
    };
    if end.is_some() && status.split(' ').nth(1) != Some("200") {
        let body = String::from_utf8_lossy(&answer[begin..]);
        bail!("{status}: {}", body.chars().take(300).collect::<String>());
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(end_of(whole).unwrap(), Some(whole.len()));
        assert_eq!(end_of(&whole[..whole.len() - 1]).unwrap(), None);
        assert_eq!(end_of(&whole[..20]).unwrap(), None);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(end_of(chunked).unwrap(), Some(chunked.len()));
        assert_eq!(end_of(&chunked[..chunked.len() - 5]).unwrap(), None);
        let failed = end_of(b"HTTP/1.1 422 No\r\ncontent-length: 3\r\n\r\nbad").unwrap_err();
        assert!(failed.to_string().contains("422 No: bad"), "{failed}");
    }

    #[test]
    fn requests_differ_and_binary_ones_carry_their_tensors() {
        let all = requests(Model::Gbm, Form::Binary, "/infer", Some("t"));
        assert_eq!(all.len(), 64);
        assert!(all[0] != all[1]);
        assert!(all[0].ends_with(&Model::Gbm.input(0)[11].to_le_bytes()));
        assert!(String::from_utf8_lossy(&all[0]).contains("authorization: Bearer t\r\n"));
        let framed = requests(Model::Mlp, Form::Grpc, "", None);
        assert_eq!(u32::from_be_bytes(framed[0][1..5].try_into().unwrap()) as usize, framed[0].len() - 5);
        assert!(Model::MobileNet.input(1).iter().all(|value| value.abs() <= 1.0));
    }
}
