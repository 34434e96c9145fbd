use std::collections::BTreeSet;

use fishy_core::Result;
use fishy_core::time::rfc3339;
use serde_json::Value;

use super::{OidcConfig, VerifiedToken, refused};
use crate::identity::{DEFAULT_TENANT, Identity, Kind};

/// Checks issuer, audience and times of claims whose signature is good, and reads who they are about.
pub(super) fn check(claims: &Value, config: &OidcConfig, now_ms: i64) -> Result<VerifiedToken> {
    if claims["iss"].as_str() != Some(config.issuer.as_str()) {
        return Err(refused(format!("its issuer (iss) is not {}", config.issuer)));
    }
    if !words(&claims["aud"], false).contains(&config.audience) {
        return Err(refused(format!("its audience (aud) does not hold {}", config.audience)));
    }
    let leeway_ms = i64::from(config.leeway_seconds) * 1000;
    let Some(expires_ms) = time_ms(&claims["exp"]) else {
        return Err(refused("it has no time of expiry (exp) as a number of seconds"));
    };
    let expires_ms = expires_ms.saturating_add(leeway_ms);
    if now_ms >= expires_ms {
        return Err(refused(format!("it expired at {}", rfc3339(expires_ms.saturating_sub(leeway_ms)))));
    }
    match &claims["nbf"] {
        Value::Null => {}
        begin => match time_ms(begin) {
            Some(begin_ms) if now_ms.saturating_add(leeway_ms) >= begin_ms => {}
            Some(begin_ms) => return Err(refused(format!("it is not valid before {} (nbf)", rfc3339(begin_ms)))),
            None => return Err(refused("its time of beginning (nbf) is not a number of seconds")),
        },
    }
    let id = lookup(claims, &config.id_claim).as_str().unwrap_or_default();
    if id.is_empty() {
        return Err(refused(format!("it has no text in the claim {}, which names the user", config.id_claim)));
    }
    let roles = words(lookup(claims, &config.roles_claim), true);
    let roles = if config.role_names.is_empty() {
        roles
    } else {
        roles.iter().filter_map(|role| config.role_names.get(role).cloned()).collect()
    };
    let tenant = match &config.tenant_claim {
        None => DEFAULT_TENANT,
        Some(claim) => match lookup(claims, claim).as_str() {
            Some(tenant) if !tenant.is_empty() => tenant,
            _ => return Err(refused(format!("it has no text in the claim {claim}, which names the tenant"))),
        },
    };
    let identity = Identity { id: id.to_owned(), kind: Kind::User, roles, tenant: tenant.to_owned() };
    Ok(VerifiedToken { identity, expires_ms })
}

/// A claim by its name, which may hold dots itself (`https://example.com/roles`), or else by a path of names.
fn lookup<'a>(claims: &'a Value, name: &str) -> &'a Value {
    claims.get(name).unwrap_or_else(|| name.split('.').fold(claims, |value, part| &value[part]))
}

/// The strings of an array, or of one string: whole, or word by word.
fn words(value: &Value, is_split: bool) -> BTreeSet<String> {
    match value {
        Value::String(text) if is_split => text.split_whitespace().map(str::to_owned).collect(),
        Value::String(text) => BTreeSet::from([text.clone()]),
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    }
}

/// NumericDate of RFC 7519: seconds, possibly with a fraction.
fn time_ms(value: &Value) -> Option<i64> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
    Some((seconds * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use fishy_core::ErrorCode;
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn config() -> OidcConfig {
        OidcConfig::new("https://id.example", "fishy")
    }

    fn good() -> Value {
        json!({"iss": "https://id.example", "aud": "fishy", "sub": "ada", "exp": 1_700_000_100, "roles": ["viewer"]})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    fn refusal(claims: &Value) -> String {
        let error = check(claims, &config(), NOW_MS).err().expect("must be refused");
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
        error.message().to_owned()
    }

    #[test]
    fn good_claims_become_an_identity() {
        let token = check(&good(), &config(), NOW_MS).unwrap();
        assert_eq!(token.identity, Identity::user("ada", ["viewer"]));
        assert_eq!(token.expires_ms, 1_700_000_130_000);
        check(&with("aud", json!(["other", "fishy"])), &config(), NOW_MS).unwrap();
        check(&with("nbf", json!(1_700_000_020)), &config(), NOW_MS).unwrap();
    }

    #[test]
    fn claims_that_do_not_fit_are_refused() {
        assert!(refusal(&with("iss", json!("https://evil.example"))).contains("issuer"));
        assert!(refusal(&with("aud", json!("other"))).contains("audience"));
        assert!(refusal(&with("aud", json!("fishy other"))).contains("audience"), "aud is no list of words");
        assert!(refusal(&with("aud", Value::Null)).contains("audience"));
        assert!(refusal(&with("exp", json!(1_699_999_970))).contains("expired at 2023-11-14T22:12:50.000Z"));
        assert!(refusal(&with("exp", Value::Null)).contains("no time of expiry"));
        assert!(refusal(&with("exp", json!("1900000000"))).contains("no time of expiry"));
        assert!(refusal(&with("nbf", json!(1_700_000_031))).contains("not valid before"));
        assert!(refusal(&with("nbf", json!("soon"))).contains("nbf"));
        assert!(refusal(&with("sub", json!(7))).contains("claim sub"));
        check(&with("exp", json!(1_699_999_971)), &config(), NOW_MS).unwrap();
    }

    #[test]
    fn roles_are_found_where_the_provider_puts_them() {
        let roles = |claim: &str, value: Value| {
            let mut config = config();
            config.roles_claim = claim.to_owned();
            let mut claims = good();
            let root = claim.split('.').next().unwrap_or(claim);
            claims[if claim.contains("//") { claim } else { root }] = value;
            check(&claims, &config, NOW_MS).unwrap().identity.roles.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(roles("realm_access.roles", json!({"roles": ["expert", 7]})), ["expert"]);
        assert_eq!(roles("https://example.com/roles", json!(["viewer"])), ["viewer"]);
        assert_eq!(roles("scope", json!("viewer expert")), ["expert", "viewer"]);
        assert!(roles("groups", json!({"a": 1})).is_empty());
    }

    #[test]
    fn only_the_named_roles_count_where_names_are_configured() {
        let mut config = config();
        config.role_names.insert("fish-ops".to_owned(), "ml_engineer".to_owned());
        let identity = check(&with("roles", json!(["fish-ops", "admin"])), &config, NOW_MS).unwrap().identity;
        assert_eq!(identity, Identity::user("ada", ["ml_engineer"]));
    }

    #[test]
    fn a_configured_tenant_must_be_there() {
        let mut config = config();
        config.tenant_claim = Some("org".to_owned());
        assert!(check(&good(), &config, NOW_MS).is_err());
        assert_eq!(check(&with("org", json!("salmar")), &config, NOW_MS).unwrap().identity.tenant, "salmar");
    }
}
