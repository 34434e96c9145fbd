use fishy_core::{Error, ErrorCode, Result, check_name};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::identity::Identity;

/// What every run token begins with; see [`RunTokens`].
pub const RUN_TOKEN_PREFIX: &str = "fwr_";

/// The role of a step of a pipeline: it reads, and logs its run and its model to the registry.
pub const TRAINING_ROLE: &str = "training";

/// The tokens that steps of pipelines show our services: the name of a run and an end, signed (HMAC-SHA256), so that no
/// service has to keep or look up anything. A step never sees the secret of the services.
///
/// A token is `fwr_<run>.<end in milliseconds since the epoch>.<64 hexadecimal digits>`.
#[derive(Clone)]
pub struct RunTokens {
    key: Hmac<Sha256>,
}

impl RunTokens {
    /// Tokens signed with a key that is derived from the secret of the services.
    pub fn new(secret: &str) -> Self {
        let derived = signed(secret.as_bytes(), b"fishy run tokens, version 1").finalize().into_bytes();
        Self { key: keyed(&derived) }
    }

    /// A token for a run; valid until `expires_ms`.
    pub fn issue(&self, run: &str, expires_ms: i64) -> String {
        let claim = format!("{run}.{expires_ms}");
        let signature = self.key.clone().chain_update(claim.as_bytes()).finalize().into_bytes();
        format!("{RUN_TOKEN_PREFIX}{claim}.{}", hex::encode(signature))
    }

    /// Who shows a token, given what stands behind its prefix. `Unauthenticated` for any other than ours.
    pub(crate) fn check(&self, rest: &str, now_ms: i64) -> Result<Identity> {
        let refused = |why: &str| Error::new(ErrorCode::Unauthenticated, format!("the token of this run {why}"));
        let forged = || refused("was not made by this installation");
        let (claim, signature) = rest.rsplit_once('.').ok_or_else(forged)?;
        let signature = hex::decode(signature).map_err(|_| forged())?;
        self.key.clone().chain_update(claim.as_bytes()).verify_slice(&signature).map_err(|_| forged())?;
        let (run, expires_ms) = claim.rsplit_once('.').ok_or_else(forged)?;
        check_name("run", run).map_err(|_| forged())?;
        let expires_ms: i64 = expires_ms.parse().map_err(|_| forged())?;
        if now_ms >= expires_ms {
            return Err(refused("has expired: the step took longer than it may"));
        }
        Ok(Identity::user(format!("run-{run}"), [TRAINING_ROLE]))
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104)")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn signed(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    keyed(key).chain_update(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn check(token: &str, now_ms: i64) -> Result<Identity> {
        RunTokens::new(SECRET).check(token.strip_prefix(RUN_TOKEN_PREFIX).unwrap(), now_ms)
    }

    #[test]
    fn a_step_is_the_run_it_belongs_to_until_the_end() {
        let token = RunTokens::new(SECRET).issue("01a2-b3", 1_000);
        let identity = check(&token, 999).unwrap();
        assert_eq!((identity.to_string().as_str(), identity.has_role("training")), ("user:run-01a2-b3", true));
        assert_eq!(identity.roles.len(), 1);
        assert!(check(&token, 1_000).unwrap_err().message().contains("has expired"));
    }

    #[test]
    fn what_was_changed_or_made_elsewhere_is_refused() {
        let token = RunTokens::new(SECRET).issue("r1", 1_000);
        let later = token.replace("1000", "9000");
        let other = token.replace("r1", "r2");
        let foreign = RunTokens::new("another secret of this length...").issue("r1", 1_000);
        let cut = token[..token.len() - 2].to_owned();
        for forged in [later, other, foreign, cut, "fwr_".to_owned(), "fwr_r1.1000".to_owned()] {
            let error = check(&forged, 0).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unauthenticated, "{forged}");
        }
        assert!(!token.contains(SECRET));
    }
}
