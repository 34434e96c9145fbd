//! `/graphql`, which MLflow's web UI asks on its pages of runs and experiments.
//!
//! Every field of the query is one REST endpoint and is answered by it: the question goes into the same routes that a
//! client reaches, with the identity and the headers it came with. What may not be read there may not be read here.

mod limits;
mod resolve;

use std::sync::LazyLock;

use apollo_compiler::parser::Parser;
use apollo_compiler::resolvers::Execution;
use apollo_compiler::response::JsonMap;
use apollo_compiler::validation::{DiagnosticList, Valid};
use apollo_compiler::{ExecutableDocument, Schema};
use axum::Router;
use axum::extract::Request;
use fishy_authz::Identity;
use fishy_core::{Error, TraceContext};
use fishy_http::{Caller, Json, Routes};
use http::HeaderMap;
use serde_json::{Value, json};

use super::message::Message;
use super::{Answer, App, READ};

/// The longest query; those of MLflow's UI have less than 2 KB.
const MAX_QUERY_BYTES: usize = 64 * 1024;
const MAX_TOKENS: usize = 10_000;
/// How deep the parser goes before it gives up.
const MAX_RECURSION: usize = 64;
/// How many errors are told.
const MAX_ERRORS: usize = 20;

static SCHEMA: LazyLock<Result<Valid<Schema>, String>> = LazyLock::new(|| {
    let text = include_str!("graphql/schema.graphql");
    Schema::parse_and_validate(text, "schema.graphql").map_err(|wrong| wrong.errors.to_string())
});

/// Routes whose questions `rest` answers: a router with MLflow's routes below `/ajax-api`.
pub(super) fn routes(routes: Routes<App>, prefix: &str, rest: &Router) -> Routes<App> {
    let (rest, path) = (rest.clone(), format!("{prefix}/graphql"));
    let answer = move |caller: Caller, headers: HeaderMap, request: Request| {
        let rest = rest.clone();
        async move { answer(rest, caller.0, headers, request).await }
    };
    routes.get(&path, READ, answer.clone()).post(&path, READ, answer)
}

async fn answer(rest: Router, identity: Identity, headers: HeaderMap, request: Request) -> Answer {
    let message = <Message as axum::extract::FromRequest<()>>::from_request(request, &()).await?;
    let query = message.required("query")?;
    let operation = message.filled("operation_name")?;
    let variables = variables(&message)?;
    let context = resolve::Context::new(rest, identity, &headers);
    // The crate's future stays on one thread. It reads and checks the query too, which costs more than it may there.
    let (runtime, trace) = (tokio::runtime::Handle::current(), TraceContext::current());
    let run = move || {
        let done = execute(&context, &query, operation.as_deref(), &variables);
        match trace {
            Some(trace) => runtime.block_on(trace.scope(done)),
            None => runtime.block_on(done),
        }
    };
    let done = tokio::task::spawn_blocking(run).await;
    Ok(Json(done.map_err(|error| Error::internal("a GraphQL query ended badly").with_source(error))??))
}

async fn execute(
    context: &resolve::Context,
    query: &str,
    operation: Option<&str>,
    variables: &JsonMap,
) -> Result<Value, Error> {
    let schema = SCHEMA.as_ref().map_err(|wrong| Error::internal(format!("the GraphQL schema: {wrong}")))?;
    let document = match parse(schema, query)? {
        Ok(document) => document,
        Err(errors) => return Ok(refused(&errors)),
    };
    let execution = Execution::new(schema, &document).raw_variable_values(variables);
    let execution = match execution.operation_name(operation) {
        Ok(execution) => execution,
        Err(error) => return Ok(refused(&[error.message().to_string()])),
    };
    let is_mutation = document.operations.get(operation).is_ok_and(|one| one.operation_type.is_mutation());
    let root = resolve::Object::root(context, is_mutation);
    Ok(match execution.execute_async(&root).await {
        Ok(done) => {
            let errors: Vec<&str> = done.errors.iter().map(|error| error.message.as_str()).take(MAX_ERRORS).collect();
            let errors = if errors.is_empty() { Value::Null } else { json!(errors) };
            json!({"data": done.data, "errors": errors})
        }
        Err(error) => refused(&[error.message().to_string()]),
    })
}

/// What MLflow answers when it does not run a query: its errors are texts.
fn refused(errors: &[String]) -> Value {
    json!({"data": null, "errors": errors})
}

/// The values of the query's variables; in a query string they are JSON text.
fn variables(message: &Message) -> Result<JsonMap, Error> {
    let wrong = || Error::invalid("the variables of a GraphQL query must be a JSON object");
    let value = match message.value("variables") {
        None => return Ok(JsonMap::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| wrong())?,
        Some(value) => value.clone(),
    };
    match apollo_compiler::response::JsonValue::from(value) {
        apollo_compiler::response::JsonValue::Object(values) => Ok(values),
        _ => Err(wrong()),
    }
}

fn told(errors: &DiagnosticList) -> Vec<String> {
    errors.iter().take(MAX_ERRORS).map(|error| error.to_json().message).collect()
}

/// Reads a query: one that is no GraphQL is the caller's error, one that asks too much or asks for what the schema
/// does not have is answered with errors.
fn parse(schema: &Valid<Schema>, query: &str) -> Result<Result<Valid<ExecutableDocument>, Vec<String>>, Error> {
    if query.len() > MAX_QUERY_BYTES {
        let text = format!("the GraphQL query has {} bytes: at most {MAX_QUERY_BYTES} are read", query.len());
        return Err(Error::invalid(text));
    }
    let mut parser = Parser::new().recursion_limit(MAX_RECURSION).token_limit(MAX_TOKENS);
    let tree = parser
        .parse_ast(query, "query.graphql")
        .map_err(|wrong| Error::invalid(format!("the GraphQL query: {}", told(&wrong.errors).join("; "))))?;
    if let Err(too_much) = limits::check(&tree) {
        return Ok(Err(vec![too_much]));
    }
    Ok(tree.to_executable_validate(schema).map_err(|wrong| told(&wrong.errors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_valid() {
        assert_eq!(SCHEMA.as_ref().err(), None);
    }

    #[test]
    fn what_is_no_query_or_too_large_is_refused() {
        let schema = SCHEMA.as_ref().unwrap();
        let deep = format!("{{ {} test {}", "a { ".repeat(500), "} ".repeat(501));
        let long = format!("{{ {} }}", "a ".repeat(MAX_TOKENS + 1));
        let endless = format!("{{ a(b: \"{}\") }}", "x".repeat(MAX_QUERY_BYTES));
        for bad in ["", "{", "query {", "nonsense", "{ a(b: }", &deep, &long, &endless] {
            assert!(parse(schema, bad).is_err(), "{}", bad.chars().take(40).collect::<String>());
        }
        for unknown in ["{ nothing }", "{ test(inputString: 1) { output } }", "query Q($a: No) { test { output } }"] {
            assert!(!parse(schema, unknown).unwrap().unwrap_err().is_empty(), "{unknown}");
        }
        assert!(
            parse(schema, "query A @component(name: \"x\") { test(inputString: \"a\") { output } }").unwrap().is_ok()
        );
    }
}
