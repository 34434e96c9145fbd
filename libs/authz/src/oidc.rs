//! OIDC bearer tokens: JWTs signed by an identity provider whose keys are found by discovery.

mod claims;
mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fishy_core::{Clock, Error, ErrorCode, Result};
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::Identity;
use keys::Keys;

/// How tokens of one identity provider are checked, and what they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The issuer's URL, exactly as in the `iss` claim; discovery is read below it.
    pub issuer: String,
    /// What the `aud` claim must hold.
    pub audience: String,
    /// The claim that becomes [`Identity::id`].
    #[serde(default = "default_id_claim")]
    pub id_claim: String,
    /// The claim that holds the roles: an array, or words in a string. A path of names with dots reaches into objects,
    /// for example `realm_access.roles` (Keycloak).
    #[serde(default = "default_roles_claim")]
    pub roles_claim: String,
    /// Names of the provider's roles or groups that mean one of our roles: provider's name to our name. Where this is
    /// not empty, only what it names counts.
    #[serde(default)]
    pub role_names: BTreeMap<String, String>,
    /// The claim that becomes [`Identity::tenant`]; everyone is in the default tenant without it.
    #[serde(default)]
    pub tenant_claim: Option<String>,
    /// How far the clocks may differ, in seconds.
    #[serde(default = "default_leeway_seconds")]
    pub leeway_seconds: u32,
    /// Allows a plain `http` issuer on another host than this one: for test clusters. Whoever can answer in its place
    /// can log in as anyone.
    #[serde(default)]
    pub allow_insecure_http: bool,
}

fn default_id_claim() -> String {
    "sub".to_owned()
}

fn default_roles_claim() -> String {
    "roles".to_owned()
}

const fn default_leeway_seconds() -> u32 {
    30
}

impl OidcConfig {
    /// The defaults for this issuer and audience.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            id_claim: default_id_claim(),
            roles_claim: default_roles_claim(),
            role_names: BTreeMap::new(),
            tenant_claim: None,
            leeway_seconds: default_leeway_seconds(),
            allow_insecure_http: false,
        }
    }
}

/// What a verified token says.
pub(crate) struct VerifiedToken {
    pub identity: Identity,
    pub expires_ms: i64,
}

pub(crate) struct Oidc {
    config: OidcConfig,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        if config.audience.is_empty() {
            return Err(Error::invalid("an OIDC audience is needed: without one, tokens for other programs would do"));
        }
        let keys = Keys::new(&config.issuer, config.allow_insecure_http, Arc::clone(&clock))?;
        Ok(Self { config, keys, clock })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Checks signature, issuer, audience and times. No error holds any part of the token but its `alg` and `kid`.
    pub(crate) async fn verify(&self, token: &str) -> Result<VerifiedToken> {
        let header = read_header(token)?;
        // The list of algorithms is ours, never the token's: no `none`, and no HMAC keyed with a public key.
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            other => {
                return Err(refused(format!("its algorithm {other:.16?} is not one of RS256, ES256, EdDSA")));
            }
        };
        if header.crit.is_some() {
            return Err(refused("it has critical header parameters (crit), and none is understood"));
        }
        let key = self.keys.find(header.kid.as_deref(), algorithm).await?;
        let mut validation = Validation::new(algorithm);
        // Issuer, audience and times are checked below: times by our clock instead of the machine's, and all of them
        // with messages that say what was expected.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let verified = jsonwebtoken::decode::<Value>(token, &key, &validation)
            .map_err(|_| refused("its signature does not fit the identity provider's key"))?;
        claims::check(&verified.claims, &self.config, self.clock.now_ms())
    }
}

fn read_header(token: &str) -> Result<Header> {
    let malformed = || refused("it is not a JWT (three base64url parts with dots between)");
    let mut parts = token.split('.');
    let header = parts.next().ok_or_else(malformed)?;
    if parts.count() != 2 {
        return Err(malformed());
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed())?;
    serde_json::from_slice(&header).map_err(|_| malformed())
}

pub(crate) fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::Unauthenticated, format!("the bearer token is refused: {why}"))
}
