use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fishy_authz::{Authenticator, Identity, OidcConfig};
use fishy_core::{Clock, Error, ErrorCode, ManualClock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::provider::{P256, Provider, RSA, public_key, sign};

const NOW_MS: i64 = 1_700_000_000_000;

struct World {
    provider: Provider,
    clock: Arc<ManualClock>,
    authenticator: Authenticator,
}

impl World {
    async fn with_keys(keys: Vec<Value>) -> Self {
        let provider = Provider::start(keys).await;
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let authenticator = Authenticator::builder(Arc::clone(&clock) as Arc<dyn Clock>)
            .oidc(OidcConfig::new(&provider.issuer, "fishy"))
            .build()
            .unwrap();
        Self { provider, clock, authenticator }
    }

    async fn start() -> Self {
        let mut other = public_key("for-encryption", Algorithm::RS256);
        other["use"] = json!("enc");
        let odd = json!({"kty": "PQ", "kid": "odd"});
        Self::with_keys(vec![
            odd,
            other,
            public_key("rsa", Algorithm::RS256),
            public_key("ec", Algorithm::ES256),
            public_key("ed", Algorithm::EdDSA),
        ])
        .await
    }

    fn claims(&self) -> Value {
        json!({"iss": self.provider.issuer, "aud": "fishy", "sub": "ada", "exp": NOW_MS / 1000 + 600, "roles": ["expert"]})
    }

    fn with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }

    async fn ask(&self, token: &str) -> Result<Identity, Error> {
        self.authenticator.authenticate(Some(&format!("Bearer {token}"))).await
    }

    async fn refusal(&self, token: &str) -> String {
        let error = self.ask(token).await.expect_err("must be refused");
        assert_eq!(error.code(), ErrorCode::Unauthenticated, "{}", error.chain());
        let signature = token.rsplit('.').next().unwrap();
        assert!(signature.len() < 8 || !error.chain().contains(signature), "a secret in {error}");
        error.message().to_owned()
    }
}

fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test]
async fn tokens_of_all_three_algorithms_are_taken() {
    let world = World::start().await;
    for (algorithm, id) in [(Algorithm::RS256, "rsa"), (Algorithm::ES256, "ec"), (Algorithm::EdDSA, "ed")] {
        let identity = world.ask(&sign(algorithm, Some(id), &world.claims())).await.unwrap();
        assert_eq!(identity, Identity::user("ada", ["expert"]), "{algorithm:?}");
    }
    world.ask(&sign(Algorithm::ES256, None, &world.claims())).await.expect("one key of the kind, so no id is needed");
    assert_eq!(world.provider.asked(), 1);
}

#[tokio::test]
async fn expired_tokens_are_refused_also_when_they_were_good_before() {
    let world = World::start().await;
    let expired = sign(Algorithm::ES256, Some("ec"), &world.with("exp", json!(NOW_MS / 1000 - 31)));
    assert!(world.refusal(&expired).await.contains("it expired at"));
    let short = sign(Algorithm::ES256, Some("ec"), &world.with("exp", json!(NOW_MS / 1000 + 5)));
    world.ask(&short).await.unwrap();
    world.clock.advance_ms(20_000);
    world.ask(&short).await.expect("within the leeway");
    world.clock.advance_ms(15_000);
    assert!(world.refusal(&short).await.contains("it expired at"));
}

#[tokio::test]
async fn a_proven_token_expires_even_while_it_is_still_believed() {
    let world = World::start().await;
    let short = sign(Algorithm::ES256, Some("ec"), &world.with("exp", json!(NOW_MS / 1000 - 20)));
    world.ask(&short).await.expect("within the leeway of 30 s");
    world.clock.advance_ms(10_000);
    assert!(world.refusal(&short).await.contains("it expired at"));
}

#[tokio::test]
async fn tokens_for_others_or_by_others_are_refused() {
    let world = World::start().await;
    let token = |claims: &Value| sign(Algorithm::RS256, Some("rsa"), claims);
    assert!(world.refusal(&token(&world.with("aud", json!("grafana")))).await.contains("audience"));
    assert!(world.refusal(&token(&world.with("iss", json!("https://evil.example")))).await.contains("issuer"));
    assert!(world.refusal(&token(&world.with("nbf", json!(NOW_MS / 1000 + 60)))).await.contains("not valid before"));
    let good = token(&world.claims());
    let forged = format!("{}A{}", &good[..good.len() - 20], &good[good.len() - 19..]);
    assert!(world.refusal(&forged).await.contains("signature"));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let header = head.split('.').next().unwrap();
    let other_claims = URL_SAFE_NO_PAD.encode(world.with("roles", json!(["admin"])).to_string());
    assert!(world.refusal(&format!("{header}.{other_claims}.{signature}")).await.contains("signature"));
}

#[tokio::test]
async fn the_algorithm_is_never_the_tokens_choice() {
    let world = World::start().await;
    for none in ["none", "None", "NONE", ""] {
        let token = unsigned(&json!({"alg": none, "kid": "rsa"}), &world.claims(), "");
        assert!(world.refusal(&token).await.contains("not one of RS256, ES256, EdDSA"), "{none}");
    }
    // The public key as the secret of an HMAC: in every form that a careless verifier might use.
    let modulus = public_key("rsa", Algorithm::RS256)["n"].as_str().unwrap().to_owned();
    for secret in [RSA.as_bytes(), modulus.as_bytes(), &URL_SAFE_NO_PAD.decode(&modulus).unwrap()] {
        let header = Header { kid: Some("rsa".to_owned()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &world.claims(), &EncodingKey::from_secret(secret)).unwrap();
        assert!(world.refusal(&token).await.contains("\"HS256\" is not one of"));
    }
    // A key of one kind named by a token of another.
    assert!(world.refusal(&sign(Algorithm::ES256, Some("rsa"), &world.claims())).await.contains("no key \"rsa\""));
    let stronger = sign(Algorithm::RS512, Some("rsa"), &world.claims());
    assert!(world.refusal(&stronger).await.contains("not one of"));
    let for_encryption = sign(Algorithm::RS256, Some("for-encryption"), &world.claims());
    assert!(world.refusal(&for_encryption).await.contains("no key"));
    let critical = unsigned(&json!({"alg": "RS256", "kid": "rsa", "crit": ["x"]}), &world.claims(), "AAAA");
    assert!(world.refusal(&critical).await.contains("crit"));
}

#[tokio::test]
async fn what_is_no_jwt_is_refused() {
    let world = World::start().await;
    for bad in ["a.b.c", "..", "e30.e30.", "eyJhbGciOiJSUzI1NiJ9..", "x", P256] {
        world.refusal(bad).await;
    }
    assert!(world.refusal(&"x".repeat(20_000)).await.contains("longer than"));
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_most_once_a_minute() {
    let world = World::with_keys(vec![public_key("old", Algorithm::ES256)]).await;
    let (old, new) = ("old", "new");
    world.ask(&sign(Algorithm::ES256, Some(old), &world.claims())).await.unwrap();
    assert_eq!(world.provider.asked(), 1);
    world.provider.set_keys(vec![public_key(new, Algorithm::ES256)]);
    let token = sign(Algorithm::ES256, Some(new), &world.claims());
    for _ in 0..5 {
        assert!(world.refusal(&token).await.contains("no key \"new\""));
    }
    assert_eq!(world.provider.asked(), 1, "the provider was asked a moment ago");
    world.clock.advance_ms(60_000);
    let asked_together = futures_of(&world, &token, 8).await;
    assert!(asked_together.iter().all(Result::is_ok));
    assert_eq!(world.provider.asked(), 2, "one request for all who waited");
    let unknown = sign(Algorithm::ES256, Some("made-up"), &world.claims());
    assert!(world.refusal(&unknown).await.contains("no key \"made-up\""));
    assert_eq!(world.provider.asked(), 2);
}

async fn futures_of(world: &World, token: &str, count: usize) -> Vec<Result<Identity, Error>> {
    let header = format!("Bearer {token}");
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (authenticator, header) = (world.authenticator.clone(), header.clone());
            tokio::spawn(async move { authenticator.authenticate(Some(&header)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_provider_that_is_away_locks_out_nobody_whose_key_is_known() {
    let world = World::start().await;
    world.provider.set_down(true);
    let token = sign(Algorithm::RS256, Some("rsa"), &world.with("exp", json!(NOW_MS / 1000 + 100_000)));
    let error = world.ask(&token).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "not the caller's fault");
    assert_eq!(world.ask(&token).await.unwrap_err().code(), ErrorCode::Unavailable);
    assert_eq!(world.provider.asked(), 1, "asked again only after a pause");
    world.provider.set_down(false);
    world.clock.advance_ms(5_000);
    world.ask(&token).await.unwrap();
    world.provider.set_down(true);
    world.clock.advance_ms(3_600_000);
    world.ask(&token).await.expect("a key that was good an hour ago");
    assert_eq!(world.provider.asked(), 3);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_an_hour() {
    let world = World::start().await;
    let token = sign(Algorithm::RS256, Some("rsa"), &world.with("exp", json!(NOW_MS / 1000 + 100_000)));
    world.ask(&token).await.unwrap();
    world.provider.set_keys(vec![public_key("ec", Algorithm::ES256)]);
    world.clock.advance_ms(3_600_000);
    assert!(world.refusal(&token).await.contains("no key"));
}

#[tokio::test]
async fn a_provider_with_another_name_is_not_believed() {
    let world = World::start().await;
    world.provider.call_itself("https://evil.example");
    let error = world.ask(&sign(Algorithm::RS256, Some("rsa"), &world.claims())).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("calls itself"), "{error}");
}

#[test]
fn unsafe_configurations_are_refused() {
    let build = |config| Authenticator::builder(Arc::new(ManualClock::at(0))).oidc(config).build();
    assert!(build(OidcConfig::new("http://id.example", "fishy")).is_err());
    assert!(build(OidcConfig::new("https://id.example", "")).is_err());
    assert!(build(OidcConfig::new("https://id.example", "fishy")).is_ok());
    let config: OidcConfig = serde_json::from_value(json!({"issuer": "https://x", "audience": "y"})).unwrap();
    assert_eq!(config, OidcConfig::new("https://x", "y"));
    assert!(serde_json::from_value::<OidcConfig>(json!({"issuer": "x", "audience": "y", "rolesclaim": "z"})).is_err());
}
