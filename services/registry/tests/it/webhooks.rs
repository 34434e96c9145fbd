//! Webhooks: who is called, with what, again and again until it is safe.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::server::{Server, on_both};

on_both!(
    a_change_calls_whoever_asked_for_it,
    a_receiver_that_fails_is_called_again_and_in_order,
    what_a_receiver_refuses_is_not_sent_again,
    what_was_pending_when_it_was_killed_is_called_by_the_next,
    secrets_are_neither_answered_nor_kept_in_the_clear,
    webhooks_are_changed_listed_and_deleted,
    a_test_call_tells_what_came_back,
    what_makes_no_sense_is_refused,
);

const SECRET: &str = "what only the receiver knows";
const HOOKS: &str = "/api/2.0/mlflow/webhooks";

/// A call as it came in.
#[derive(Debug, Clone)]
struct Call {
    id: String,
    is_signed: bool,
    body: Value,
}

/// Somebody who is called.
#[derive(Clone)]
struct Receiver {
    calls: Arc<Mutex<Vec<Call>>>,
    status: Arc<AtomicU16>,
    url: String,
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> (StatusCode, &'static str) {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let id = header("x-mlflow-delivery-id");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{id}.{}.{body}", header("x-mlflow-timestamp")).as_bytes());
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let is_signed = header("x-mlflow-signature") == format!("v1,{expected}");
    assert_eq!(header("content-type"), "application/json");
    let body = serde_json::from_str(&body).unwrap();
    receiver.calls.lock().unwrap().push(Call { id, is_signed, body });
    (StatusCode::from_u16(receiver.status.load(Ordering::SeqCst)).unwrap(), "thanks")
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=hush", listener.local_addr().unwrap());
        let receiver = Self { calls: Arc::default(), status: Arc::new(AtomicU16::new(200)), url };
        let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Waits until so many calls came in.
    async fn calls(&self, count: usize) -> Vec<Call> {
        let since = Instant::now();
        loop {
            let calls = self.calls.lock().unwrap().clone();
            if calls.len() >= count {
                return calls;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{count} calls were expected: {calls:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn event(entity: &str, action: &str) -> Value {
    json!({"entity": entity, "action": action})
}

async fn hook(server: &Server, receiver: &Receiver, events: &[Value]) -> String {
    let body = json!({"name": "hook", "url": receiver.url, "events": events, "secret": SECRET});
    let made = server.done("webhooks", body).await;
    made["webhook"]["webhook_id"].as_str().unwrap().to_owned()
}

async fn log(server: &Server, id: &str) -> Vec<Value> {
    let (status, answer) = server.json(Method::GET, &format!("/api/v1/registry/webhooks/{id}/deliveries"), "").await;
    assert_eq!(status, 200, "{answer}");
    answer["items"].as_array().unwrap().clone()
}

/// Waits until the newest entries of the log are in these states.
async fn log_is(server: &Server, id: &str, states: &[(&str, i64)]) -> Vec<Value> {
    let since = Instant::now();
    loop {
        let items = log(server, id).await;
        let now: Vec<_> =
            items.iter().map(|item| (item["state"].as_str().unwrap(), item["attempts"].as_i64().unwrap())).collect();
        if now == states {
            return items;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{states:?} was expected: {items:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_change_calls_whoever_asked_for_it(server: Server) {
    let (everything, one) = (Receiver::start().await, Receiver::start().await);
    let all = [
        ("REGISTERED_MODEL", "CREATED"),
        ("MODEL_VERSION", "CREATED"),
        ("MODEL_VERSION_TAG", "SET"),
        ("MODEL_VERSION_TAG", "DELETED"),
        ("MODEL_VERSION_ALIAS", "CREATED"),
        ("MODEL_VERSION_ALIAS", "DELETED"),
    ];
    hook(&server, &everything, &all.map(|(entity, action)| event(entity, action))).await;
    let alias = hook(&server, &one, &[event("MODEL_VERSION_ALIAS", "CREATED")]).await;
    server.model("oxygen", 1).await;
    server.done("model-versions/set-tag", json!({"name": "oxygen", "version": "1", "key": "a", "value": "b"})).await;
    server.done("registered-models/alias", json!({"name": "oxygen", "alias": "champion", "version": "1"})).await;
    let tag = json!({"name": "oxygen", "version": "1", "key": "a"}).to_string();
    server.json(Method::DELETE, "/api/2.0/mlflow/model-versions/delete-tag", tag).await;
    let gone = json!({"name": "oxygen", "alias": "champion"}).to_string();
    server.json(Method::DELETE, "/api/2.0/mlflow/registered-models/alias", gone).await;

    let calls = everything.calls(6).await;
    assert!(calls.iter().all(|call| call.is_signed), "{calls:?}");
    let told: Vec<_> =
        calls.iter().map(|call| (&call.body["entity"], &call.body["action"], &call.body["data"])).collect();
    let source = &calls[1].body["data"]["source"];
    let run_id = &calls[1].body["data"]["run_id"];
    assert!(source.as_str().unwrap().starts_with("runs:/") && run_id.is_string());
    let version =
        json!({"name": "oxygen", "version": "1", "source": source, "run_id": run_id, "tags": {}, "description": null});
    let expected = [
        ("registered_model", "created", json!({"name": "oxygen", "tags": {}, "description": ""})),
        ("model_version", "created", version),
        ("model_version_tag", "set", json!({"name": "oxygen", "version": "1", "key": "a", "value": "b"})),
        ("model_version_alias", "created", json!({"name": "oxygen", "alias": "champion", "version": "1"})),
        ("model_version_tag", "deleted", json!({"name": "oxygen", "version": "1", "key": "a"})),
        ("model_version_alias", "deleted", json!({"name": "oxygen", "alias": "champion"})),
    ];
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!((told.0, told.1, told.2), (&json!(expected.0), &json!(expected.1), &expected.2));
    }
    assert!(calls[0].body["timestamp"].as_str().unwrap().starts_with("2027-01-15T08:00:00"), "{}", calls[0].body);
    log_is(&server, &alias, &[("delivered", 1)]).await;
    assert_eq!(one.calls(1).await.len(), 1);
}

async fn a_receiver_that_fails_is_called_again_and_in_order(server: Server) {
    let receiver = Receiver::start().await;
    let id = hook(&server, &receiver, &[event("REGISTERED_MODEL", "CREATED")]).await;
    receiver.answers(503);
    for name in ["a", "b"] {
        server.done("registered-models/create", json!({ "name": name })).await;
    }
    let items = log_is(&server, &id, &[("pending", 0), ("pending", 1)]).await;
    assert_eq!((&items[1]["response_status"], &items[1]["error"]), (&json!(503), &json!("the receiver answered 503")));
    assert_eq!(items[1]["next_ms"], 1_800_000_001_000_i64);
    server.clock.advance_ms(1_000);
    log_is(&server, &id, &[("pending", 0), ("pending", 2)]).await;
    receiver.answers(204);
    server.clock.advance_ms(2_000);
    log_is(&server, &id, &[("delivered", 1), ("delivered", 3)]).await;
    let calls = receiver.calls(4).await;
    let names: Vec<_> = calls.iter().map(|call| call.body["data"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "a", "a", "b"]);
    assert!(calls[0].id == calls[2].id && calls[2].id != calls[3].id, "an attempt has the id of the call");
}

async fn what_a_receiver_refuses_is_not_sent_again(server: Server) {
    let receiver = Receiver::start().await;
    let id = hook(&server, &receiver, &[event("REGISTERED_MODEL", "CREATED")]).await;
    receiver.answers(410);
    server.done("registered-models/create", json!({"name": "a"})).await;
    log_is(&server, &id, &[("failed", 1)]).await;
    receiver.answers(200);
    server.done("registered-models/create", json!({"name": "b"})).await;
    log_is(&server, &id, &[("delivered", 1), ("failed", 1)]).await;
    // Nor for ever what it does not answer.
    receiver.answers(500);
    server.done("registered-models/create", json!({"name": "c"})).await;
    log_is(&server, &id, &[("pending", 1), ("delivered", 1), ("failed", 1)]).await;
    server.clock.advance_ms(25 * 60 * 60 * 1_000);
    log_is(&server, &id, &[("failed", 2), ("delivered", 1), ("failed", 1)]).await;
}

async fn what_was_pending_when_it_was_killed_is_called_by_the_next(server: Server) {
    let receiver = Receiver::start().await;
    let id = hook(&server, &receiver, &[event("REGISTERED_MODEL", "CREATED")]).await;
    receiver.answers(500);
    server.done("registered-models/create", json!({"name": "a"})).await;
    log_is(&server, &id, &[("pending", 1)]).await;
    let server = server.start_again().await;
    receiver.answers(200);
    server.clock.advance_ms(1_000);
    log_is(&server, &id, &[("delivered", 2)]).await;
    let calls = receiver.calls(2).await;
    assert_eq!(calls[0].id, calls[1].id);
    assert!(calls[1].is_signed, "the key of the secret outlives the process");
}

async fn secrets_are_neither_answered_nor_kept_in_the_clear(server: Server) {
    let receiver = Receiver::start().await;
    let id = hook(&server, &receiver, &[event("REGISTERED_MODEL", "CREATED")]).await;
    let change = json!({"secret": SECRET, "description": "new"}).to_string();
    let changed = server.json(Method::PATCH, &format!("{HOOKS}/{id}"), change).await.1;
    server.done("registered-models/create", json!({"name": "a"})).await;
    log_is(&server, &id, &[("delivered", 1)]).await;
    let mut seen = vec![changed.to_string(), format!("{:?}", log(&server, &id).await)];
    for path in [HOOKS.to_owned(), format!("{HOOKS}/{id}")] {
        seen.push(server.json(Method::GET, &path, "").await.1.to_string());
    }
    seen.extend(server.events().await.iter().map(|event| event.data.to_string()));
    for row in server.db.query("SELECT secret FROM webhooks", vec![]).await.unwrap() {
        let sealed: String = row.get("secret").unwrap();
        assert!(sealed.len() > SECRET.len());
        seen.push(sealed);
    }
    for text in seen {
        assert!(!text.contains(SECRET) && !text.contains("\"secret\":"), "{text}");
    }
    let audit: Vec<_> =
        server.events().await.into_iter().filter(|event| event.data["action"] == "webhook.create").collect();
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].data["details"]["host"], "127.0.0.1", "without what the URL has beside it: {}", audit[0].data);
}

async fn webhooks_are_changed_listed_and_deleted(server: Server) {
    let receiver = Receiver::start().await;
    let first = hook(&server, &receiver, &[event("REGISTERED_MODEL", "CREATED")]).await;
    server.clock.advance_ms(5);
    let second = hook(&server, &receiver, &[event("MODEL_VERSION", "CREATED")]).await;
    let listed = server.get("webhooks?max_results=1").await.1;
    assert_eq!(listed["webhooks"][0]["webhook_id"], json!(second), "the newest first");
    let token = listed["next_page_token"].as_str().unwrap().replace('=', "%3D");
    let rest = server.get(&format!("webhooks?max_results=1&page_token={token}")).await.1;
    assert_eq!((&rest["webhooks"][0]["webhook_id"], &rest["next_page_token"]), (&json!(first), &Value::Null));

    let path = format!("{HOOKS}/{first}");
    let change = json!({"status": "DISABLED", "name": "other", "events": [event("MODEL_VERSION_TAG", "SET")]});
    let (status, changed) = server.json(Method::PATCH, &path, change.to_string()).await;
    assert_eq!(status, 200, "{changed}");
    let expected = json!({"webhook": {
        "webhook_id": first, "name": "other", "url": receiver.url, "status": "DISABLED",
        "events": [event("MODEL_VERSION_TAG", "SET")],
        "creation_timestamp": 1_800_000_000_000_i64, "last_updated_timestamp": 1_800_000_000_005_i64,
    }});
    assert_eq!(changed, expected);
    assert_eq!(server.json(Method::GET, &path, "").await.1, expected);
    server.model("oxygen", 1).await;
    server.done("model-versions/set-tag", json!({"name": "oxygen", "version": "1", "key": "a", "value": "b"})).await;
    log_is(&server, &second, &[("delivered", 1)]).await;
    assert!(log(&server, &first).await.is_empty(), "a disabled webhook is not called");

    assert_eq!(server.json(Method::DELETE, &path, "").await, (200, json!({})));
    for (method, path) in
        [(Method::GET, path.clone()), (Method::DELETE, path.clone()), (Method::POST, format!("{path}/test"))]
    {
        let (status, answer) = server.json(method, &path, "").await;
        assert_eq!((status, &answer["error_code"]), (404, &json!("RESOURCE_DOES_NOT_EXIST")), "{answer}");
    }
    let gone = format!("/api/v1/registry/webhooks/{first}/deliveries");
    assert_eq!(server.json(Method::GET, &gone, "").await.0, 404);
}

async fn a_test_call_tells_what_came_back(server: Server) {
    let receiver = Receiver::start().await;
    let id = hook(&server, &receiver, &[event("REGISTERED_MODEL", "CREATED")]).await;
    let path = format!("webhooks/{id}/test");
    let result = server.done(&path, json!({})).await["result"].clone();
    assert_eq!(result, json!({"success": true, "response_status": 200, "response_body": "thanks"}));
    receiver.answers(401);
    let result = server.done(&path, json!({"event": event("MODEL_VERSION_TAG", "DELETED")})).await["result"].clone();
    assert_eq!(result, json!({"success": false, "response_status": 401, "response_body": "thanks"}));
    let calls = receiver.calls(2).await;
    assert!(calls.iter().all(|call| call.is_signed));
    assert_eq!(calls[0].body["data"]["name"], "example_model");
    assert_eq!(
        (&calls[1].body["entity"], &calls[1].body["data"]["key"]),
        (&json!("model_version_tag"), &json!("example_key"))
    );

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = json!({"name": "n", "url": format!("http://{free}/?token=hush"), "events": [event("MODEL_VERSION", "CREATED")]});
    let nobody = server.done("webhooks", nobody).await["webhook"]["webhook_id"].as_str().unwrap().to_owned();
    let result = server.done(&format!("webhooks/{nobody}/test"), json!({})).await["result"].clone();
    assert_eq!(result["success"], false);
    let error = result["error_message"].as_str().unwrap();
    assert!(error.starts_with("Failed to test webhook") && !error.contains("hush"), "{error}");
}

async fn what_makes_no_sense_is_refused(server: Server) {
    let good =
        json!({"name": "hook", "url": "https://hooks.example.com/", "events": [event("MODEL_VERSION", "CREATED")]});
    let without = |key: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(key);
        body
    };
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    for body in [
        without("name"),
        without("url"),
        without("events"),
        with("name", json!("-")),
        with("name", json!(7)),
        with("url", json!("ftp://example.com")),
        with("url", json!("http://127.0.0.2/")),
        with("url", json!("http://169.254.169.254/latest")),
        with("url", json!("http://[::1]/")),
        with("url", json!("http://localhost/")),
        with("url", json!("https://u:p@example.com/")),
        with("events", json!([])),
        with("events", json!([{"entity": "MODEL_VERSION"}])),
        with("events", json!([event("MODEL_VERSION", "EXCEEDED")])),
        with("events", json!([event("PROMPT", "CREATED")])),
        with("events", json!("MODEL_VERSION.CREATED")),
        with("status", json!("ASLEEP")),
        with("secret", json!("x".repeat(1_001))),
    ] {
        let (status, answer) = server.post("webhooks", body.clone()).await;
        assert_eq!((status, &answer["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{body}: {answer}");
    }
    for path in ["webhooks?max_results=-1", "webhooks?max_results=1001", "webhooks?page_token=x"] {
        assert_eq!(server.get(path).await.0, 400, "{path}");
    }
    assert_eq!(server.get("webhooks").await.1, json!({}), "nothing was made");
}
