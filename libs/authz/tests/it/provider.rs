//! An identity provider for tests: discovery and keys by HTTP, and a hand that signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

pub const RSA: &str = include_str!("keys/rsa.pem");
pub const P256: &str = include_str!("keys/p256.pem");
pub const ED25519: &str = include_str!("keys/ed25519.pem");

pub fn signing_key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::RS256 | Algorithm::RS512 => EncodingKey::from_rsa_pem(RSA.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(P256.as_bytes()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED25519.as_bytes()),
        other => panic!("no test key for {other:?}"),
    }
    .unwrap()
}

pub fn public_key(id: &str, algorithm: Algorithm) -> Value {
    let mut jwk = Jwk::from_encoding_key(&signing_key(algorithm), algorithm).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    serde_json::to_value(jwk).unwrap()
}

pub fn sign(algorithm: Algorithm, key_id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: key_id.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &signing_key(algorithm)).unwrap()
}

#[derive(Default)]
struct Shared {
    issuer: Mutex<String>,
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    is_down: AtomicBool,
}

#[derive(Clone)]
pub struct Provider {
    pub issuer: String,
    shared: Arc<Shared>,
}

impl Provider {
    /// Serves these keys until the test's runtime ends.
    pub async fn start(keys: Vec<Value>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { keys: Mutex::new(keys), ..Shared::default() });
        issuer.clone_into(&mut shared.issuer.lock().unwrap());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(key_set))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, shared }
    }

    pub fn set_keys(&self, keys: Vec<Value>) {
        *self.shared.keys.lock().unwrap() = keys;
    }

    /// What the provider says its name is, whatever its address.
    pub fn call_itself(&self, issuer: &str) {
        issuer.clone_into(&mut self.shared.issuer.lock().unwrap());
    }

    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
    }

    /// How often discovery was asked.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, StatusCode> {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    if shared.is_down.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let issuer = shared.issuer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Json(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")})))
}

async fn key_set(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let keys = shared.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Json(json!({"keys": keys}))
}
