use std::time::Duration;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use axum::http::{HeaderName, HeaderValue};
use fishy_contracts::segment;
use fishy_core::Error;
use fishy_http::{Call, ServiceClient};
use fishy_inference::{Datatype, Tensor, TensorData};
use http::Method;
use serde::Deserialize;
use serde_json::json;

const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// A server that has too much to do is asked again so often, after a pause that doubles.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Asks one version of a deployment for predictions.
pub struct Asker {
    client: ServiceClient,
    deployment: String,
    version: String,
    /// What it takes: its features by column, where it takes a matrix, else its own inputs.
    features: Vec<String>,
    is_recorded: bool,
}

/// An output of a part, with the names of its columns where they have any.
pub struct Predicted {
    pub tensor: Tensor,
    pub keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: Datatype,
    shape: Vec<i64>,
    parameters: OutputParameters,
}

#[derive(Deserialize)]
struct OutputParameters {
    binary_data_size: usize,
    keys: Option<Vec<String>>,
}

impl Asker {
    /// Finds out what a deployment serves now. All parts are asked of this version.
    pub async fn find(server: &crate::commands::Server, deployment: &str, is_recorded: bool) -> Result<Self> {
        let client = server.client("deployment")?;
        let found = server.deployment()?.get(deployment).await?;
        let Some(revision) = found.current else {
            bail!("deployment {deployment} does not serve: {}", found.problem.unwrap_or_default());
        };
        Ok(Self {
            client,
            deployment: deployment.to_owned(),
            version: revision.version,
            features: revision.features,
            is_recorded,
        })
    }

    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub const fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Checks that the input has every feature, and what is to be kept.
    pub fn check_columns(&self, schema: &SchemaRef, keep: &[String]) -> Result<()> {
        let missing: Vec<&str> = self
            .features
            .iter()
            .chain(keep)
            .map(String::as_str)
            .filter(|name| schema.index_of(name).is_err())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        bail!("the input has no column {}: it has {}", missing.join(", "), known.join(", "))
    }

    /// The outputs of the rows. A server that is busy or away is asked again for a while.
    pub async fn ask(&self, id: &str, rows: &RecordBatch) -> Result<Vec<Predicted>> {
        let (head_len, body) = self.request(id, rows)?;
        let (mut pause, mut attempts) = (FIRST_PAUSE, 1);
        loop {
            match self.send(head_len, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if attempts < ATTEMPTS && super::is_passing(&error) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempts += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn request(&self, id: &str, rows: &RecordBatch) -> Result<(usize, bytes::Bytes)> {
        let mut binary = Vec::new();
        let mut inputs = Vec::with_capacity(self.features.len());
        for name in &self.features {
            let column = rows.column_by_name(name).with_context(|| format!("no column {name}"))?;
            let data = elements(column).with_context(|| format!("column {name}"))?;
            let begin = binary.len();
            data.write_bytes(&mut binary);
            inputs.push(json!({
                "name": name, "shape": [rows.num_rows()], "datatype": data.datatype().as_str(),
                "parameters": {"binary_data_size": binary.len() - begin},
            }));
        }
        let parameters = json!({"binary_data_output": true, "record": self.is_recorded});
        let mut body = json!({"id": id, "parameters": parameters, "inputs": inputs}).to_string().into_bytes();
        let head_len = body.len();
        body.append(&mut binary);
        Ok((head_len, body.into()))
    }

    async fn send(&self, head_len: usize, body: bytes::Bytes) -> fishy_core::Result<Vec<Predicted>> {
        let (model, version) = (segment(&self.deployment), segment(&self.version));
        let mut call = Call::new(Method::POST, format!("/v2/models/{model}/versions/{version}/infer"));
        call.body = body.into();
        let reply = self.client.expect(call.header(HEADER_LENGTH, HeaderValue::from(head_len))).await?;
        let length = reply.headers.get(HEADER_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let body = reply.bytes().await?;
        let unreadable = || Error::internal("the server answered with something else than an inference response");
        let (head, mut rest) = length.and_then(|length| body.split_at_checked(length)).ok_or_else(unreadable)?;
        let answer: Answer = serde_json::from_slice(head).map_err(|error| unreadable().with_source(error))?;
        let outputs = answer.outputs.into_iter().map(|output| {
            let (bytes, more) = rest.split_at_checked(output.parameters.binary_data_size).ok_or_else(unreadable)?;
            rest = more;
            let data = TensorData::from_bytes(output.datatype, bytes)?;
            let tensor = Tensor { name: output.name, shape: output.shape, data };
            Ok(Predicted { tensor, keys: output.parameters.keys })
        });
        outputs.collect()
    }
}

/// The elements of a column: integers and booleans without gaps and texts as they are, other numbers as double precision
/// with NaN for what is missing.
fn elements(column: &dyn Array) -> Result<TensorData> {
    let has_gaps = column.null_count() > 0;
    Ok(match column.data_type() {
        DataType::Boolean if !has_gaps => TensorData::Bool(column.as_boolean().values().iter().collect()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast(column, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned));
            TensorData::Bytes(texts.collect::<Option<_>>().context("a text is missing, and a model takes none")?)
        }
        kind if kind.is_integer() && !has_gaps && *kind != DataType::UInt64 => {
            TensorData::Int64(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().to_vec())
        }
        kind if kind.is_numeric() || *kind == DataType::Null => {
            let numbers = cast(column, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN));
            TensorData::Fp64(numbers.collect())
        }
        other => bail!("is {other}, and models take numbers, booleans without gaps, and texts"),
    })
}
