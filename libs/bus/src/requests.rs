use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fishy_core::Result;
use futures::future::BoxFuture;

/// Makes the answer to a request. It is asked again while the answer [is for now only](Answer::is_retryable), or its error is
/// retryable.
pub type RequestHandler = Arc<dyn Fn(QueuedRequest) -> BoxFuture<'static, Result<Answer>> + Send + Sync>;

/// The queues of a server of requests. They may have been declared by others, as they like.
#[derive(Debug, Clone)]
pub struct RequestQueues {
    /// Where requests come from.
    pub requests: String,
    /// Where answers go that have no `reply_to`.
    pub results: Option<String>,
    /// Where requests go that cannot be answered.
    pub dead: String,
    /// Requests under way at most, 1 to 64.
    pub prefetch: u16,
    /// How long a request is tried again.
    pub patience: Duration,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct QueuedRequest {
    /// The message's `message_id`, where it has one.
    pub message_id: Option<String>,
    /// The same for each delivery of one message, and another for a message that differs in body or properties.
    pub fingerprint: String,
    /// The `content_type`, where it has one.
    pub content_type: Option<String>,
    /// The `content_encoding`, where it has one.
    pub content_encoding: Option<String>,
    /// Headers whose values are texts.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// In the words of HTTP: below 400 for a result. The client finds it in the header `fishy-status`.
    pub status: u16,
    /// What the body is.
    pub content_type: String,
    /// The result, or what was wrong: that goes into the header `fishy-error` of the dead letter, too.
    pub body: Bytes,
}

impl Answer {
    /// Whether the same request may succeed later: the server is overloaded, or not ready.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}
