use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fishy_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::identity::Identity;

/// What every service token begins with: people and secret scanners recognise it.
pub const TOKEN_PREFIX: &str = "fwt_";

/// What the bearer of one of our own services begins with; see [`service_bearer`].
pub const SERVICE_SECRET_PREFIX: &str = "fws_";

/// A future in a box: what a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The SHA-256 of a service token: all that is ever stored of it. A token has 256 random bits, so a plain hash is enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token, or of anything else that must not be kept in clear.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// 64 lower-case hexadecimal digits: the form to store.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote.
    pub fn from_hex(text: &str) -> Result<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)
            .map_err(|_| Error::invalid(format!("a token hash is 64 hexadecimal digits, this has {}", text.len())))?;
        Ok(Self(hash))
    }

    /// Whether two hashes are equal, in a time that does not depend on where they differ.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for TokenHash {
    /// The first digits only: enough to tell two apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}…)", hex::encode(&self.0[..4]))
    }
}

/// A new service token from 32 random bytes: the token, to be shown once, and the hash, to be stored.
pub fn new_token(random: [u8; 32]) -> (String, TokenHash) {
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = TokenHash::of(&token);
    (token, hash)
}

/// The `Authorization` header with which the service `name` calls another one, given the secret that all of them share.
pub fn service_bearer(name: &str, secret: &str) -> String {
    format!("Bearer {SERVICE_SECRET_PREFIX}{name}.{secret}")
}

/// A service token as it is stored. A revoked token is one that is not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Who the bearer is.
    pub identity: Identity,
    /// When it stops being valid, in milliseconds since the epoch.
    pub expires_ms: Option<i64>,
}

/// Where service tokens are kept.
pub trait TokenStore: Send + Sync {
    /// The token of this hash; `None` if there is none or it was revoked.
    fn find(&self, hash: TokenHash) -> BoxFuture<'_, Result<Option<StoredToken>>>;
}

/// Service tokens in memory: for tests, and for tokens that come from the configuration.
#[derive(Debug, Default)]
pub struct MemoryTokens(RwLock<HashMap<TokenHash, StoredToken>>);

impl MemoryTokens {
    /// Adds a token, or replaces the one of that hash.
    pub fn insert(&self, hash: TokenHash, token: StoredToken) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(hash, token);
    }

    /// Revokes a token.
    pub fn remove(&self, hash: &TokenHash) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }
}

impl TokenStore for MemoryTokens {
    fn find(&self, hash: TokenHash) -> BoxFuture<'_, Result<Option<StoredToken>>> {
        let found = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_hash_alone() {
        let (token, hash) = new_token([7; 32]);
        assert!(token.starts_with("fwt_"));
        assert_eq!(token.len(), 4 + 43);
        assert_eq!(TokenHash::of(&token), hash);
        assert_eq!(TokenHash::from_hex(&hash.to_hex()).unwrap(), hash);
        assert!(TokenHash::from_hex("abc").is_err());
        assert!(!format!("{hash:?}").contains(&hash.to_hex()));
    }

    #[test]
    fn hashes_compare_in_every_byte() {
        let mut other = TokenHash::of("a");
        assert!(TokenHash::of("a").is_same(&other));
        other.0[31] ^= 1;
        assert!(!TokenHash::of("a").is_same(&other));
    }
}
