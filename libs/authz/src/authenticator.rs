use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fishy_core::{Clock, Error, ErrorCode, Result, check_name};

use crate::identity::Identity;
use crate::oidc::{Oidc, OidcConfig};
use crate::run_token::{RUN_TOKEN_PREFIX, RunTokens};
use crate::token::{SERVICE_SECRET_PREFIX, TOKEN_PREFIX, TokenHash, TokenStore};
use crate::ttl_cache::{Proven, TtlCache};

/// How long a proven credential is believed without asking again: a revoked token works at most this long.
const BELIEVED_MS: i64 = 30_000;
/// How long a service token that was proven before is believed while the store cannot be asked.
const BELIEVED_WITHOUT_STORE_MS: i64 = 15 * 60_000;
const CACHED_CREDENTIALS: usize = 10_000;
const MIN_SECRET_BYTES: usize = 16;
/// Longer headers are refused unread: a JWT with many groups has some kilobytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Finds out who is asking, from the `Authorization` header. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    is_local: bool,
    clock: Arc<dyn Clock>,
    tokens: Option<Arc<dyn TokenStore>>,
    service_secret: Option<TokenHash>,
    runs: Option<RunTokens>,
    oidc: Option<Oidc>,
    proven: TtlCache,
}

/// Puts an [`Authenticator`] together. With nothing added, [`build`](Self::build) refuses: say [`local`](Self::local).
pub struct AuthenticatorBuilder {
    is_local: bool,
    clock: Arc<dyn Clock>,
    tokens: Option<Arc<dyn TokenStore>>,
    service_secret: Option<String>,
    oidc: Option<OidcConfig>,
}

impl AuthenticatorBuilder {
    /// Everyone is the local administrator: only for a server that listens on loopback. What looks like a service token
    /// or the bearer of a service is checked all the same where there is something to check it with.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Takes service tokens (`fwt_…`) as bearer, and as password of HTTP basic, where the user name does not matter.
    #[must_use]
    pub fn tokens(mut self, store: Arc<dyn TokenStore>) -> Self {
        self.tokens = Some(store);
        self
    }

    /// Takes `Bearer fws_<name>.<secret>` as the service `name`: the secret that all services of one installation share.
    /// The steps of pipelines show [`RunTokens`] that are derived from it.
    #[must_use]
    pub fn service_secret(mut self, secret: impl Into<String>) -> Self {
        self.service_secret = Some(secret.into());
        self
    }

    /// Takes JWTs of an identity provider as bearer.
    #[must_use]
    pub fn oidc(mut self, config: OidcConfig) -> Self {
        self.oidc = Some(config);
        self
    }

    /// The authenticator; an error if the configuration is not safe or not complete.
    pub fn build(self) -> Result<Authenticator> {
        if !self.is_local && self.tokens.is_none() && self.oidc.is_none() && self.service_secret.is_none() {
            return Err(Error::invalid("no identity is configured: nobody could log in"));
        }
        if let Some(secret) = &self.service_secret
            && secret.len() < MIN_SECRET_BYTES
        {
            return Err(Error::invalid(format!(
                "the secret of the services has {} bytes; use at least {MIN_SECRET_BYTES} random ones",
                secret.len()
            )));
        }
        let oidc = self.oidc.map(|config| Oidc::new(config, Arc::clone(&self.clock))).transpose()?;
        Ok(Authenticator {
            inner: Arc::new(Inner {
                is_local: self.is_local,
                clock: self.clock,
                tokens: self.tokens,
                service_secret: self.service_secret.as_deref().map(TokenHash::of),
                runs: self.service_secret.as_deref().map(RunTokens::new),
                oidc,
                proven: TtlCache::new(CACHED_CREDENTIALS, BELIEVED_MS),
            }),
        })
    }
}

impl Authenticator {
    /// Begins an authenticator that tells the time by `clock`.
    pub fn builder(clock: Arc<dyn Clock>) -> AuthenticatorBuilder {
        AuthenticatorBuilder { is_local: false, clock, tokens: None, service_secret: None, oidc: None }
    }

    /// Everyone is the local administrator and there is nothing to check: a laptop, and most tests.
    pub fn local() -> Self {
        Self {
            inner: Arc::new(Inner {
                is_local: true,
                clock: Arc::new(fishy_core::SystemClock),
                tokens: None,
                service_secret: None,
                runs: None,
                oidc: None,
                proven: TtlCache::new(CACHED_CREDENTIALS, BELIEVED_MS),
            }),
        }
    }

    /// Whether everyone without a credential is the local administrator. Such a server must listen on loopback only.
    pub fn is_local(&self) -> bool {
        self.inner.is_local
    }

    /// Who sends this `Authorization` header. `Unauthenticated` where nobody credible does, `Unavailable` where that
    /// cannot be found out now. No message holds any part of a secret.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Identity> {
        let inner = &self.inner;
        let Some(header) = authorization.map(str::trim).filter(|header| !header.is_empty()) else {
            return if inner.is_local {
                Ok(Identity::local_admin())
            } else {
                Err(unauthenticated(format!("this server asks who you are: send {}", inner.expected())))
            };
        };
        if header.len() > MAX_HEADER_BYTES {
            return Err(unauthenticated(format!("the Authorization header is longer than {MAX_HEADER_BYTES} bytes")));
        }
        let credential = match Credential::read(header) {
            Ok(credential) => credential,
            // MLflow clients on a laptop may carry any user and password.
            Err(_) if inner.is_local => return Ok(Identity::local_admin()),
            Err(error) => return Err(error),
        };
        match credential {
            Credential::Service { name, secret } if inner.service_secret.is_some() => inner.service(&name, &secret),
            Credential::Run(token) if inner.runs.is_some() => inner.run(&token),
            Credential::Token(token) if inner.tokens.is_some() => inner.token(&token).await,
            Credential::Jwt(token) if inner.oidc.is_some() => inner.jwt(&token).await,
            _ if inner.is_local => Ok(Identity::local_admin()),
            _ => Err(unauthenticated(format!(
                "this kind of credential is not configured here: send {}",
                inner.expected()
            ))),
        }
    }

    /// Forgets a service token that was just revoked, so that this process refuses it at once.
    pub fn forget_token(&self, hash: &TokenHash) {
        self.inner.proven.remove(hash);
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("is_local", &self.inner.is_local).finish_non_exhaustive()
    }
}

enum Credential {
    Service { name: String, secret: String },
    Run(String),
    Token(String),
    Jwt(String),
}

impl Credential {
    fn read(header: &str) -> Result<Self> {
        let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::of(value).ok_or_else(|| {
                unauthenticated("the bearer is neither a service token (fwt_…) nor a JWT with three parts".to_owned())
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let malformed = || unauthenticated("HTTP basic needs base64 of user:password".to_owned());
            let decoded = STANDARD.decode(value).map_err(|_| malformed())?;
            let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
            let (_, password) = decoded.split_once(':').ok_or_else(malformed)?;
            return match Self::of(password) {
                Some(token @ Self::Token(_)) => Ok(token),
                _ => Err(unauthenticated("the password of HTTP basic must be a service token (fwt_…)".to_owned())),
            };
        }
        Err(unauthenticated("the Authorization header must begin with Bearer or Basic".to_owned()))
    }

    fn of(secret: &str) -> Option<Self> {
        if let Some(rest) = secret.strip_prefix(SERVICE_SECRET_PREFIX) {
            let (name, secret) = rest.split_once('.')?;
            return Some(Self::Service { name: name.to_owned(), secret: secret.to_owned() });
        }
        if let Some(rest) = secret.strip_prefix(RUN_TOKEN_PREFIX) {
            return Some(Self::Run(rest.to_owned()));
        }
        if secret.starts_with(TOKEN_PREFIX) {
            return Some(Self::Token(secret.to_owned()));
        }
        (secret.split('.').count() == 3).then(|| Self::Jwt(secret.to_owned()))
    }
}

impl Inner {
    fn service(&self, name: &str, secret: &str) -> Result<Identity> {
        let is_right = self.service_secret.is_some_and(|expected| expected.is_same(&TokenHash::of(secret)));
        if !is_right {
            return Err(unauthenticated("the secret of this service is not the one of this installation".to_owned()));
        }
        check_name("service", name).map_err(|error| unauthenticated(error.message().to_owned()))?;
        Ok(Identity::service(name))
    }

    fn run(&self, token: &str) -> Result<Identity> {
        let runs = self.runs.as_ref().ok_or_else(|| unauthenticated("no secret of the services is set".to_owned()))?;
        runs.check(token, self.clock.now_ms())
    }

    async fn token(&self, token: &str) -> Result<Identity> {
        let expired = || unauthenticated("the service token has expired; create another one".to_owned());
        let hash = TokenHash::of(token);
        let now_ms = self.clock.now_ms();
        let before = self.proven.get(&hash);
        if let Some(proven) = &before {
            if proven.is_expired(now_ms) {
                return Err(expired());
            }
            if proven.is_younger_than(BELIEVED_MS, now_ms) {
                return Ok(proven.identity.clone());
            }
        }
        let Some(store) = &self.tokens else {
            return Err(Error::internal("service tokens are checked without a store"));
        };
        let stored = match store.find(hash).await {
            Ok(stored) => stored,
            Err(error) => {
                return match before.filter(|proven| proven.is_younger_than(BELIEVED_WITHOUT_STORE_MS, now_ms)) {
                    Some(proven) => {
                        tracing::warn!(error = %error.chain(), "token store away, believing a token proven before");
                        Ok(proven.identity)
                    }
                    None => Err(Error::unavailable("service tokens cannot be checked now").with_source(error)),
                };
            }
        };
        let Some(stored) = stored else {
            self.proven.remove(&hash);
            return Err(unauthenticated("the service token is unknown or was revoked".to_owned()));
        };
        let proven = Proven { identity: stored.identity.clone(), since_ms: now_ms, expires_ms: stored.expires_ms };
        if proven.is_expired(now_ms) {
            return Err(expired());
        }
        self.proven.put(hash, proven);
        Ok(stored.identity)
    }

    async fn jwt(&self, token: &str) -> Result<Identity> {
        let hash = TokenHash::of(token);
        let now_ms = self.clock.now_ms();
        if let Some(proven) = self.proven.get(&hash)
            && !proven.is_expired(now_ms)
            && proven.is_younger_than(BELIEVED_MS, now_ms)
        {
            return Ok(proven.identity);
        }
        let Some(oidc) = &self.oidc else {
            return Err(Error::internal("JWTs are checked without an identity provider"));
        };
        let verified = oidc.verify(token).await?;
        let proven =
            Proven { identity: verified.identity.clone(), since_ms: now_ms, expires_ms: Some(verified.expires_ms) };
        self.proven.put(hash, proven);
        Ok(verified.identity)
    }

    /// What a caller should send, for messages.
    fn expected(&self) -> String {
        let mut ways = Vec::new();
        if self.tokens.is_some() {
            ways.push("a service token (Authorization: Bearer fwt_…, or as the password of HTTP basic)".to_owned());
        }
        if let Some(oidc) = &self.oidc {
            ways.push(format!("a bearer token of {}", oidc.issuer()));
        }
        if ways.is_empty() {
            ways.push("the bearer of a service".to_owned());
        }
        ways.join(" or ")
    }
}

fn unauthenticated(message: String) -> Error {
    Error::new(ErrorCode::Unauthenticated, message)
}
