//! What stands behind the fields of a query.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use apollo_compiler::ast::Type;
use apollo_compiler::resolvers::{AsyncObjectValue, AsyncResolvedValue, FieldError, ResolveInfo};
use axum::Router;
use axum::body::{Body, to_bytes};
use fishy_authz::Identity;
use futures::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::super::message::snake_case;

/// The longest answer of one endpoint.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// What every field needs: the routes that answer, and who asks.
pub(super) struct Context {
    rest: Router,
    identity: Identity,
    headers: HeaderMap,
    /// Runs of one search share their experiments.
    experiments: Mutex<HashMap<String, Value>>,
}

impl Context {
    pub fn new(rest: Router, identity: Identity, headers: &HeaderMap) -> Self {
        let mut headers = headers.clone();
        for name in [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        Self { rest, identity, headers, experiments: Mutex::default() }
    }

    /// Asks an endpoint as the caller would.
    async fn ask(&self, method: Method, path: &str, input: &Map<String, Value>) -> Result<Value, FieldError> {
        let failed = |message: &str| FieldError { message: message.to_owned() };
        let mut uri = format!("/ajax-api/2.0/mlflow/{path}");
        let mut body = Body::empty();
        if method == Method::GET {
            uri = format!("{uri}?{}", query_string(input));
        } else {
            body = Body::from(Value::Object(input.clone()).to_string());
        }
        let mut request =
            Request::builder().method(method).uri(uri).body(body).map_err(|_| failed("the input is too long"))?;
        request.headers_mut().extend(self.headers.clone());
        request.extensions_mut().insert(self.identity.clone());
        let response = match self.rest.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let bytes = to_bytes(response.into_body(), MAX_ANSWER_BYTES)
            .await
            .map_err(|_| failed("the answer is too long: ask for fewer results"))?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        Err(failed(answer["message"].as_str().unwrap_or("the question was refused")))
    }

    /// The answer of a field of `Query` or `Mutation`.
    async fn root(&self, field: &str, arguments: &Value) -> Result<Value, FieldError> {
        let (method, path) = match field {
            "mlflowGetExperiment" => (Method::GET, "experiments/get"),
            "mlflowGetMetricHistoryBulkInterval" => (Method::GET, "metrics/get-history-bulk-interval"),
            "mlflowGetRun" => (Method::GET, "runs/get"),
            "mlflowListArtifacts" => (Method::GET, "artifacts/list"),
            "mlflowSearchModelVersions" => (Method::GET, "model-versions/search"),
            "mlflowSearchRuns" => (Method::POST, "runs/search"),
            "mlflowSearchDatasets" => (Method::POST, "experiments/search-datasets"),
            _ => return Ok(json!({"output": arguments["inputString"]})),
        };
        self.ask(method, path, arguments["input"].as_object().unwrap_or(&Map::new())).await
    }

    async fn experiment(&self, id: &str) -> Result<Value, FieldError> {
        let known = self.experiments.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let input = Map::from_iter([("experiment_id".to_owned(), id.into())]);
        let found = self.ask(Method::GET, "experiments/get", &input).await?["experiment"].take();
        self.experiments.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), found.clone());
        Ok(found)
    }

    async fn versions_of(&self, run_id: &str) -> Result<Value, FieldError> {
        let input = Map::from_iter([("filter".to_owned(), format!("run_id='{run_id}'").into())]);
        Ok(self.ask(Method::GET, "model-versions/search", &input).await?["model_versions"].take())
    }
}

fn query_string(input: &Map<String, Value>) -> String {
    let encoded = |value: &Value| match value {
        Value::String(text) => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
        other => utf8_percent_encode(&other.to_string(), NON_ALPHANUMERIC).to_string(),
    };
    let mut pairs = Vec::new();
    for (name, value) in input {
        match value {
            Value::Null => {}
            Value::Array(values) => pairs.extend(values.iter().map(|value| format!("{name}={}", encoded(value)))),
            value => pairs.push(format!("{name}={}", encoded(value))),
        }
    }
    pairs.join("&")
}

/// One object of the answer: what an endpoint said of it.
pub(super) struct Object<'a> {
    context: &'a Context,
    type_name: &'a str,
    fields: Map<String, Value>,
}

impl<'a> Object<'a> {
    /// Where a query or a mutation begins.
    pub fn root(context: &'a Context, is_mutation: bool) -> Self {
        Self { context, type_name: if is_mutation { "Mutation" } else { "Query" }, fields: Map::new() }
    }

    async fn value(&self, info: &ResolveInfo<'_>) -> Result<Value, FieldError> {
        let info_of_run = |name: &str| self.fields.get("info").and_then(|info| info[name].as_str()).unwrap_or_default();
        match (self.type_name, info.field_name()) {
            ("Query" | "Mutation", field) => {
                let arguments = serde_json::to_value(info.arguments()).unwrap_or_default();
                self.context.root(field, &arguments).await
            }
            ("MlflowRunExtension", "experiment") => self.context.experiment(info_of_run("experiment_id")).await,
            ("MlflowRunExtension", "modelVersions") => self.context.versions_of(info_of_run("run_id")).await,
            (_, field) => Ok(self.fields.get(&snake_case(field)).cloned().unwrap_or_default()),
        }
    }
}

impl AsyncObjectValue for Object<'_> {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn resolve_field<'a>(
        &'a self,
        info: &'a ResolveInfo<'a>,
    ) -> BoxFuture<'a, Result<AsyncResolvedValue<'a>, FieldError>> {
        Box::pin(async move { Ok(of_type(self.context, &info.field_definition().ty, self.value(info).await?)) })
    }
}

/// A value in the form that its type has in GraphQL.
fn of_type<'a>(context: &'a Context, of: &'a Type, value: Value) -> AsyncResolvedValue<'a> {
    match (of, value) {
        // The endpoints leave empty lists out.
        (Type::List(_) | Type::NonNullList(_), Value::Null) => AsyncResolvedValue::list([]),
        (Type::List(item) | Type::NonNullList(item), Value::Array(values)) => {
            AsyncResolvedValue::list(values.into_iter().map(move |value| of_type(context, item, value)))
        }
        (of, Value::Object(fields)) => {
            AsyncResolvedValue::object(Object { context, type_name: of.inner_named_type().as_str(), fields })
        }
        (of, value) => AsyncResolvedValue::leaf(match (of.inner_named_type().as_str(), value) {
            // "NaN", which no number of GraphQL is.
            ("Float", Value::String(_)) => Value::Null,
            ("LongString", Value::Number(number)) => Value::String(number.to_string()),
            (_, value) => value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_become_query_strings() {
        let input = json!({"runIds": ["a", "b&c"], "startStep": 0, "endStep": null, "filter": "name = 'x'"});
        let Value::Object(input) = input else { unreachable!() };
        let text = query_string(&input);
        for pair in ["runIds=a", "runIds=b%26c", "startStep=0", "filter=name%20%3D%20%27x%27"] {
            assert!(text.split('&').any(|part| part == pair), "{pair} in {text}");
        }
        assert!(!text.contains("endStep"));
    }
}
