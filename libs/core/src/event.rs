use std::hash::{BuildHasher, Hasher, RandomState};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A CloudEvents 1.0 event in its JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique; consumers drop what they have seen.
    pub id: String,
    /// Who says it, for example `/services/registry`.
    pub source: String,
    /// `fishy.<service>.<noun>.<past verb>.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The thing it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened, RFC 3339.
    pub time: String,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// W3C trace context (the distributed tracing extension of CloudEvents).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What happened.
    pub data: Value,
}

impl Event {
    /// An event of `service` that happened at `time_ms`.
    pub fn new(id: String, service: &str, kind: &str, subject: &str, time_ms: i64, data: Value) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id,
            source: format!("/services/{service}"),
            kind: kind.to_owned(),
            subject: Some(subject.to_owned()),
            time: crate::time::rfc3339(time_ms),
            datacontenttype: "application/json".to_owned(),
            traceparent: TraceContext::current().map(|trace| trace.traceparent()),
            data,
        }
    }

    /// Whether the type matches a pattern: equal, or a prefix that ends in `*`.
    pub fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(prefix) => self.kind.starts_with(prefix),
            None => self.kind == pattern,
        }
    }
}

/// W3C trace context: what ties one cause to all its effects across HTTP and the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, never zero.
    pub trace_id: u128,
    /// 8 bytes, never zero.
    pub span_id: u64,
    /// The sampled flag.
    pub is_sampled: bool,
}

thread_local! {
    static CURRENT: std::cell::Cell<Option<TraceContext>> = const { std::cell::Cell::new(None) };
}

impl TraceContext {
    /// Reads a `traceparent` header of version 00; anything else is `None`.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 || parts.next().is_some() {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, is_sampled })
    }

    /// A new trace.
    pub fn new_root() -> Self {
        let id = (u128::from(random()) << 64) | u128::from(random());
        Self { trace_id: id.max(1), span_id: new_span_id(), is_sampled: true }
    }

    /// The same trace, one hop further.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: new_span_id(), ..self }
    }

    /// The `traceparent` header.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }

    /// The trace that the running code belongs to.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Runs a future so that [`current`](Self::current) answers this trace while it is polled.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            let before = CURRENT.replace(Some(self));
            let polled = future.as_mut().poll(cx);
            CURRENT.set(before);
            polled
        })
        .await
    }
}

fn new_span_id() -> u64 {
    random().max(1)
}

/// Ids of traces need not be hard to guess, only different: the standard library's hasher, which begins anew at another
/// random place each time, gives them without a call of the kernel.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_round_trips_and_rejects_what_is_malformed() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::parse(text).map(|t| t.traceparent()).as_deref(), Some(text));
        for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "01-x"] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<u128> = (0..10_000).map(|_| TraceContext::new_root().trace_id).collect();
        assert_eq!(ids.len(), 10_000);
        let root = TraceContext::new_root();
        assert_eq!(root.child().trace_id, root.trace_id);
        assert_ne!(root.child().span_id, root.span_id);
    }

    #[test]
    fn patterns_match_whole_types_or_prefixes() {
        let event = Event::new("1".into(), "registry", "fishy.registry.alias.moved.v1", "m", 0, Value::Null);
        assert!(event.matches("fishy.registry.alias.moved.v1"));
        assert!(event.matches("fishy.registry.*"));
        assert!(!event.matches("fishy.registry"));
        assert_eq!(event.time, "1970-01-01T00:00:00.000Z");
    }
}
