//! Who may ask, by configuration.

use std::net::ToSocketAddrs;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use fishy_authz::{Authenticator, BoxFuture, Identity, OidcConfig, StoredToken, TokenHash, TokenStore};
use fishy_config::{Auth, Config};
use fishy_contracts::GovernanceClient;
use fishy_core::{Env, ErrorCode};
use uuid::Uuid;

/// Whether callers must say who they are.
pub fn is_configured(auth: &Auth) -> bool {
    auth.tokens || auth.oidc.is_some() || !auth.internal_secret.is_empty()
}

/// Without an identity, only this machine may ask.
pub fn check_listen(config: &Config) -> Result<()> {
    if is_configured(&config.auth) {
        return Ok(());
    }
    let listen = &config.server.listen;
    let addresses =
        listen.to_socket_addrs().with_context(|| format!("server.listen {listen:?} is no address and port"))?;
    for address in addresses {
        if !address.ip().is_loopback() {
            bail!(
                "refusing to listen on {address} without an identity: anyone who reaches it would be the administrator. \
                 Set auth.tokens = true or [auth.oidc], or listen on 127.0.0.1"
            );
        }
    }
    Ok(())
}

/// What our services show each other; `None` where nobody has to say who they are. One process that holds all of them
/// makes a new secret at each start, for the steps of its pipelines.
pub fn service_secret(config: &Config) -> Option<String> {
    let auth = &config.auth;
    match auth.internal_secret.expose() {
        "" if is_configured(auth) => Some(Uuid::new_v4().simple().to_string() + &Uuid::new_v4().simple().to_string()),
        "" => None,
        secret => Some(secret.to_owned()),
    }
}

/// Tells who asks.
pub fn authenticator(
    config: &Config,
    env: &Env,
    governance: &GovernanceClient,
    secret: Option<String>,
) -> Result<Authenticator> {
    let auth = &config.auth;
    if !is_configured(auth) {
        return Ok(Authenticator::local());
    }
    let mut builder = Authenticator::builder(env.clock.clone());
    if auth.tokens {
        builder = builder.tokens(Arc::new(GovernanceTokens(governance.clone())));
    }
    if let Some(secret) = secret {
        builder = builder.service_secret(secret);
    }
    if let Some(oidc) = &auth.oidc {
        let mut settings = OidcConfig::new(&oidc.issuer, &oidc.audience);
        settings.roles_claim.clone_from(&oidc.roles_claim);
        settings.allow_insecure_http =
            oidc.issuer.starts_with("http://127.0.0.1") || oidc.issuer.starts_with("http://localhost");
        builder = builder.oidc(settings);
    }
    Ok(builder.build()?)
}

/// Service tokens, which governance keeps.
struct GovernanceTokens(GovernanceClient);

impl TokenStore for GovernanceTokens {
    fn find(&self, hash: TokenHash) -> BoxFuture<'_, fishy_core::Result<Option<StoredToken>>> {
        Box::pin(async move {
            match self.0.token_holder(&hash.to_hex()).await {
                Ok(holder) => Ok(Some(StoredToken {
                    identity: Identity::user(holder.name, holder.roles),
                    expires_ms: holder.expires_ms,
                })),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}
