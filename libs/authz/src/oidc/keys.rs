//! The identity provider's signing keys, found by discovery and kept.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fishy_core::time::{HOUR_MS, MINUTE_MS};
use fishy_core::{Clock, Error, Result};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refused;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY_BYTES: usize = 1 << 20;
/// A key that the provider withdraws is trusted for this long at most, as long as the provider answers.
const REFRESH_AFTER_MS: i64 = HOUR_MS;
/// An unknown key id may be a new key, or an attack on the provider: one question a minute.
const UNKNOWN_KEY_EVERY_MS: i64 = MINUTE_MS;
/// While there is no key at all nobody can log in, so ask more often.
const NO_KEYS_EVERY_MS: i64 = 5_000;

pub(super) struct Keys {
    issuer: String,
    allow_insecure_http: bool,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    current: ArcSwap<KeySet>,
    /// When the provider was last asked. Held across the request on purpose: whoever needs a key that is being fetched
    /// waits for that one request instead of sending another, and each request ends within its time limit.
    last_asked_ms: tokio::sync::Mutex<Option<i64>>,
}

#[derive(Default)]
struct KeySet {
    keys: Vec<Key>,
    fetched_ms: Option<i64>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Arc<DecodingKey>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeyDocument {
    keys: Vec<Value>,
}

impl Keys {
    pub(super) fn new(issuer: &str, allow_insecure_http: bool, clock: Arc<dyn Clock>) -> Result<Self> {
        safe_url(issuer, allow_insecure_http)?;
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A redirect could lead from a checked https address to anywhere.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("fishy-watch")
            .build()
            .map_err(|error| Error::internal("cannot build the HTTP client for OIDC").with_source(error))?;
        Ok(Self {
            issuer: issuer.to_owned(),
            allow_insecure_http,
            http,
            clock,
            current: ArcSwap::default(),
            last_asked_ms: tokio::sync::Mutex::default(),
        })
    }

    /// The key of this id for this algorithm. Without an id: the only key for the algorithm.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<DecodingKey>> {
        let now_ms = self.clock.now_ms();
        let set = self.current.load_full();
        let is_fresh = set.fetched_ms.is_some_and(|fetched| now_ms.saturating_sub(fetched) < REFRESH_AFTER_MS);
        if is_fresh && let Some(key) = set.find(id, algorithm) {
            return Ok(key);
        }
        let fetched = self.refresh(now_ms, &set).await;
        let set = self.current.load();
        // Also when the provider could not be asked: a key that was good an hour ago still proves who signed.
        if let Some(key) = set.find(id, algorithm) {
            return Ok(key);
        }
        if set.fetched_ms.is_none() {
            fetched?;
            return Err(Error::unavailable("the identity provider's keys could not be fetched yet; try again"));
        }
        Err(match id {
            Some(id) => refused(format!("the identity provider has no key {id:.64?} for {algorithm:?}")),
            None => refused(format!("it names no key (kid), and the provider has not exactly one for {algorithm:?}")),
        })
    }

    async fn refresh(&self, now_ms: i64, seen: &Arc<KeySet>) -> Result<()> {
        let mut last_asked_ms = self.last_asked_ms.lock().await;
        if !Arc::ptr_eq(seen, &self.current.load_full()) {
            return Ok(());
        }
        let pause_ms = if seen.fetched_ms.is_some() { UNKNOWN_KEY_EVERY_MS } else { NO_KEYS_EVERY_MS };
        if last_asked_ms.is_some_and(|asked| now_ms.saturating_sub(asked) < pause_ms) {
            return Ok(());
        }
        *last_asked_ms = Some(now_ms);
        match self.fetch().await {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "identity provider's keys fetched");
                self.current.store(Arc::new(KeySet { keys, fetched_ms: Some(now_ms) }));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "identity provider's keys could not be fetched");
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.get(&address).await?;
        if discovery.issuer != self.issuer {
            return Err(Error::unavailable(format!(
                "the identity provider calls itself {:?}, configured is {:?}",
                discovery.issuer, self.issuer
            )));
        }
        let document: KeyDocument = self.get(&discovery.jwks_uri).await?;
        // Keys that we cannot use (for encryption, of unknown kinds) are none of our business.
        Ok(document.keys.into_iter().filter_map(Key::read).collect())
    }

    async fn get<T: DeserializeOwned>(&self, address: &str) -> Result<T> {
        let url = safe_url(address, self.allow_insecure_http)?;
        let failed = |error: reqwest::Error| {
            Error::unavailable(format!("the identity provider does not answer at {address}")).with_source(error)
        };
        let mut response =
            self.http.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(Error::unavailable(format!("{address} answers more than {MAX_BODY_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| {
            Error::unavailable(format!("{address} does not answer what OIDC asks for")).with_source(error)
        })
    }
}

impl KeySet {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let mut fitting =
            self.keys.iter().filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        // With an id the first counts; without one the choice must be clear.
        (id.is_some() || fitting.next().is_none()).then(|| Arc::clone(&first.material))
    }
}

impl Key {
    fn read(document: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(document).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        // The kind of key fixes the algorithm, so that no token can choose another one for it.
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let declared = jwk.common.key_algorithm.map(|declared| declared.to_string());
        if declared.is_some_and(|declared| declared != format!("{algorithm:?}")) {
            return None;
        }
        let material = Arc::new(DecodingKey::from_jwk(&jwk).ok()?);
        Some(Self { id: jwk.common.key_id, algorithm, material })
    }
}

/// An address that nobody on the way can answer for: https, or this very machine.
fn safe_url(address: &str, allow_insecure_http: bool) -> Result<Url> {
    let url = Url::parse(address).map_err(|error| Error::invalid(format!("{address:?} is not a URL: {error}")))?;
    let is_here = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here || allow_insecure_http => Ok(url),
        _ => Err(Error::invalid(format!("{address:?} must be an https address (http only on this machine)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_addresses_are_asked() {
        for good in ["https://id.example", "http://127.0.0.1:8080/realms/x", "http://localhost:1", "http://[::1]:1"] {
            assert!(safe_url(good, false).is_ok(), "{good}");
        }
        for bad in ["http://id.example", "http://127.0.0.1.evil.example", "file:///etc/passwd", "id.example"] {
            assert!(safe_url(bad, false).is_err(), "{bad}");
        }
        assert!(safe_url("http://keycloak:8080", true).is_ok());
        assert!(safe_url("ftp://keycloak", true).is_err());
    }
}
