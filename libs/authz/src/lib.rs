#![doc = include_str!("../README.md")]

mod authenticator;
mod authorizer;
mod bundle;
mod decision_cache;
mod gate;
mod identity;
mod oidc;
mod policy_text;
mod policy_uses;
mod run_token;
mod token;
mod ttl_cache;

pub use authenticator::{Authenticator, AuthenticatorBuilder};
pub use authorizer::{Authorizer, Decision, Resource};
pub use bundle::Bundle;
pub use gate::{DEFAULT_GATE_POLICIES, Gate, GateDecision, GateLimits, PromotionFacts, ReplayFacts, ReplayLimits};
pub use identity::{DEFAULT_TENANT, Identity, Kind};
pub use oidc::OidcConfig;
pub use run_token::{RUN_TOKEN_PREFIX, RunTokens, TRAINING_ROLE};
pub use token::{
    BoxFuture, MemoryTokens, SERVICE_SECRET_PREFIX, StoredToken, TOKEN_PREFIX, TokenHash, TokenStore, new_token,
    service_bearer,
};
