//! Who asks, and why: `X-Fishy-Reason` is a header that any client can send with any change.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use fishy_core::Error;
use fishy_http::{Caller, Failure};

use crate::service::Asker;

/// The header, in which other characters than ASCII are percent-encoded.
const REASON: &str = "x-fishy-reason";
/// The longest reason.
const MAX_REASON_CHARS: usize = 1_000;

/// Checks a reason; an empty one is none.
pub(super) fn checked(reason: Option<String>) -> Result<Option<String>, Error> {
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    match &reason {
        Some(reason) if reason.chars().count() > MAX_REASON_CHARS => {
            Err(Error::invalid(format!("the reason has more than {MAX_REASON_CHARS} characters")))
        }
        Some(reason) if reason.chars().any(char::is_control) => {
            Err(Error::invalid("the reason has control characters: use one line of text"))
        }
        _ => Ok(reason),
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Caller(who) = Caller::from_request_parts(parts, state).await?;
        let reason = match parts.headers.get(REASON) {
            None => None,
            Some(value) => {
                let wrong = || Error::invalid("the header X-Fishy-Reason must be percent-encoded UTF-8");
                let text = value.to_str().map_err(|_| wrong())?;
                let text = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| wrong())?;
                Some(text.into_owned())
            }
        };
        Ok(Self::new(who, checked(reason)?))
    }
}
