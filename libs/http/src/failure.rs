use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fishy_core::{Error, ErrorCode};
use serde_json::json;

/// A handler's error. It carries no form of its own: the routes it belongs to render it.
#[derive(Debug, Clone)]
pub struct Failure(pub Arc<Error>);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// How a protocol tells an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// RFC 9457 `application/problem+json`: our own API.
    Problem,
    /// `{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "…"}`
    Mlflow,
    /// `{"error": "…"}` of the Open Inference Protocol.
    Inference,
    /// The status of a gRPC call.
    Grpc,
}

/// What the caller is told: the text of an internal error is not sent.
pub(crate) fn told(error: &Error) -> &str {
    match error.code() {
        ErrorCode::Internal => "an internal error occurred; the server's log has its text",
        _ => error.message(),
    }
}

impl ErrorForm {
    /// The answer for an error. The text of an internal error is not sent.
    pub fn respond(self, error: &Error) -> Response {
        let message = told(error);
        let (status, content_type, body) = match self {
            Self::Problem => (
                error.code().http_status(),
                "application/problem+json",
                json!({
                    "type": "about:blank",
                    "title": error.code().as_str().to_lowercase().replace('_', " "),
                    "status": error.code().http_status(),
                    "code": error.code().as_str(),
                    "detail": message,
                }),
            ),
            Self::Mlflow => {
                let (status, name) = mlflow_error(error.code());
                (status, "application/json", json!({"error_code": name, "message": message}))
            }
            Self::Inference => (error.code().http_status(), "application/json", json!({"error": message})),
            Self::Grpc => return crate::grpc::respond(&crate::grpc::status_of(error)),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(CONTENT_TYPE, content_type)], body.to_string()).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            // Basic is what an MLflow client can answer; bearer tokens are sent unasked.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"fishy\""));
        }
        response
    }
}

/// Status and name of a code in MLflow's protocol (`mlflow/exceptions.py` of MLflow 3.17).
fn mlflow_error(code: ErrorCode) -> (u16, &'static str) {
    match code {
        ErrorCode::NotFound => (404, "RESOURCE_DOES_NOT_EXIST"),
        ErrorCode::AlreadyExists => (400, "RESOURCE_ALREADY_EXISTS"),
        ErrorCode::InvalidArgument | ErrorCode::FailedPrecondition => (400, "INVALID_PARAMETER_VALUE"),
        ErrorCode::Conflict => (409, "RESOURCE_CONFLICT"),
        ErrorCode::Unauthenticated => (401, "UNAUTHENTICATED"),
        ErrorCode::PermissionDenied => (403, "PERMISSION_DENIED"),
        ErrorCode::ResourceExhausted => (429, "RESOURCE_EXHAUSTED"),
        ErrorCode::Unavailable => (503, "TEMPORARILY_UNAVAILABLE"),
        ErrorCode::Internal => (500, "INTERNAL_ERROR"),
    }
}

/// The code of a name that an MLflow server sends, `None` for names it does not have.
pub(crate) fn code_of_mlflow_error(name: &str) -> Option<ErrorCode> {
    Some(match name {
        "RESOURCE_DOES_NOT_EXIST" | "NOT_FOUND" | "ENDPOINT_NOT_FOUND" => ErrorCode::NotFound,
        "RESOURCE_ALREADY_EXISTS" | "ALREADY_EXISTS" => ErrorCode::AlreadyExists,
        "INVALID_PARAMETER_VALUE" | "BAD_REQUEST" => ErrorCode::InvalidArgument,
        "RESOURCE_CONFLICT" | "ABORTED" => ErrorCode::Conflict,
        "UNAUTHENTICATED" | "CUSTOMER_UNAUTHORIZED" => ErrorCode::Unauthenticated,
        "PERMISSION_DENIED" => ErrorCode::PermissionDenied,
        "RESOURCE_EXHAUSTED" | "REQUEST_LIMIT_EXCEEDED" => ErrorCode::ResourceExhausted,
        "TEMPORARILY_UNAVAILABLE" => ErrorCode::Unavailable,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn body_of(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn each_protocol_has_its_own_form() {
        let error = Error::not_found("no model \"m\"");
        let problem = ErrorForm::Problem.respond(&error);
        assert_eq!(problem.status(), 404);
        assert_eq!(problem.headers()[CONTENT_TYPE], "application/problem+json");
        let mlflow = body_of(ErrorForm::Mlflow.respond(&error)).await;
        assert_eq!(mlflow, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"no model \"m\""}"#);
        assert_eq!(body_of(ErrorForm::Inference.respond(&error)).await, r#"{"error":"no model \"m\""}"#);
    }

    #[tokio::test]
    async fn the_text_of_an_internal_error_is_not_sent() {
        let error = Error::internal("password of the database is hunter2");
        for form in [ErrorForm::Problem, ErrorForm::Mlflow, ErrorForm::Inference] {
            assert!(!body_of(form.respond(&error)).await.contains("hunter2"));
        }
    }

    #[test]
    fn mlflow_names_read_back() {
        for code in [ErrorCode::NotFound, ErrorCode::AlreadyExists, ErrorCode::PermissionDenied, ErrorCode::Unavailable]
        {
            assert_eq!(code_of_mlflow_error(mlflow_error(code).1), Some(code));
        }
    }
}
