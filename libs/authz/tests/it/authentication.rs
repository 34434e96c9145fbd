use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fishy_authz::{
    Authenticator, BoxFuture, Identity, MemoryTokens, StoredToken, TokenHash, TokenStore, new_token, service_bearer,
};
use fishy_core::{Clock, Error, ErrorCode, ManualClock, Result};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A store that counts, and that can be away.
#[derive(Default)]
struct Store {
    tokens: MemoryTokens,
    asked: AtomicUsize,
    is_away: AtomicBool,
}

impl TokenStore for Store {
    fn find(&self, hash: TokenHash) -> BoxFuture<'_, Result<Option<StoredToken>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(Error::unavailable("database away"))));
        }
        self.tokens.find(hash)
    }
}

struct World {
    store: Arc<Store>,
    clock: Arc<ManualClock>,
    authenticator: Authenticator,
    token: String,
    hash: TokenHash,
}

fn world(is_local: bool) -> World {
    let store = Arc::new(Store::default());
    let clock = Arc::new(ManualClock::at(0));
    let (token, hash) = new_token([3; 32]);
    let stored = StoredToken { identity: Identity::user("probe-7", ["sensor"]), expires_ms: Some(100_000_000) };
    store.tokens.insert(hash, stored);
    let builder = Authenticator::builder(Arc::clone(&clock) as Arc<dyn Clock>)
        .tokens(Arc::clone(&store) as Arc<dyn TokenStore>)
        .service_secret(SECRET);
    let authenticator = if is_local { builder.local() } else { builder }.build().unwrap();
    World { store, clock, authenticator, token, hash }
}

impl World {
    async fn ask(&self, header: &str) -> Result<Identity> {
        self.authenticator.authenticate(Some(header)).await
    }

    async fn code(&self, header: &str) -> ErrorCode {
        let error = self.ask(header).await.expect_err(header);
        for secret in [SECRET, self.token.trim_start_matches("fwt_"), "hunter2"] {
            assert!(!error.chain().contains(secret), "a secret in {}", error.chain());
        }
        error.code()
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn asked(&self) -> usize {
        self.store.asked.load(Ordering::SeqCst)
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn a_service_token_works_as_bearer_and_as_password() {
    let world = world(false);
    let sensor = Identity::user("probe-7", ["sensor"]);
    assert_eq!(world.ask(&world.bearer()).await.unwrap(), sensor);
    assert_eq!(world.ask(&format!("bearer  {}", world.token)).await.unwrap(), sensor);
    assert_eq!(world.ask(&basic("anyone", &world.token)).await.unwrap(), sensor);
    assert_eq!(world.asked(), 1, "proven once");
}

#[tokio::test]
async fn what_is_not_credible_is_unauthenticated_and_no_secret_is_repeated() {
    let world = world(false);
    let (unknown, _) = new_token([4; 32]);
    let bad = [
        format!("Bearer {unknown}"),
        "Bearer hunter2".to_owned(),
        "Bearer ".to_owned(),
        "Bearer a.b.c".to_owned(),
        basic("ada", "hunter2"),
        basic("ada", ""),
        "Basic hunter2!".to_owned(),
        format!("Basic {}", STANDARD.encode("hunter2")),
        format!("Basic {}", STANDARD.encode([0xff, 0xfe])),
        "Digest hunter2".to_owned(),
        world.token.clone(),
        service_bearer("pipelines", "hunter2"),
        service_bearer("pipelines", &SECRET[..31]),
        service_bearer("pipelines", ""),
        service_bearer("../etc", SECRET),
        service_bearer("", SECRET),
        format!("Bearer fws_{SECRET}"),
    ];
    for header in bad {
        assert_eq!(world.code(&header).await, ErrorCode::Unauthenticated, "{header}");
    }
    for nothing in [None, Some(""), Some("  ")] {
        let error = world.authenticator.authenticate(nothing).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
        assert!(error.message().contains("fwt_…"), "{error}");
    }
}

#[tokio::test]
async fn services_know_each_other_by_the_shared_secret() {
    let world = world(false);
    let identity = world.ask(&service_bearer("pipelines", SECRET)).await.unwrap();
    assert_eq!(identity, Identity::service("pipelines"));
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn a_token_ends_when_it_says_or_when_it_is_revoked() {
    let world = world(false);
    world.ask(&world.bearer()).await.unwrap();
    world.store.tokens.remove(&world.hash);
    world.ask(&world.bearer()).await.expect("believed for half a minute");
    world.clock.advance_ms(30_000);
    assert_eq!(world.code(&world.bearer()).await, ErrorCode::Unauthenticated);

    let (token, hash) = new_token([5; 32]);
    let stored = StoredToken { identity: Identity::local_admin(), expires_ms: Some(40_000) };
    world.store.tokens.insert(hash, stored);
    let bearer = format!("Bearer {token}");
    world.ask(&bearer).await.unwrap();
    world.clock.advance_ms(10_000);
    assert_eq!(world.code(&bearer).await, ErrorCode::Unauthenticated, "expired while it was believed");
    assert!(world.ask(&bearer).await.unwrap_err().message().contains("expired"));
}

#[tokio::test]
async fn a_revocation_in_this_process_counts_at_once() {
    let world = world(false);
    world.ask(&world.bearer()).await.unwrap();
    world.store.tokens.remove(&world.hash);
    world.authenticator.forget_token(&world.hash);
    assert_eq!(world.code(&world.bearer()).await, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_store_that_is_away_locks_out_only_who_was_not_proven_before() {
    let world = world(false);
    world.ask(&world.bearer()).await.unwrap();
    world.store.is_away.store(true, Ordering::SeqCst);
    world.clock.advance_ms(14 * 60_000);
    world.ask(&world.bearer()).await.expect("believed while the store is away");
    let (unknown, _) = new_token([4; 32]);
    assert_eq!(world.code(&format!("Bearer {unknown}")).await, ErrorCode::Unavailable);
    world.clock.advance_ms(60_000);
    assert_eq!(world.code(&world.bearer()).await, ErrorCode::Unavailable, "but not for ever");
}

#[tokio::test]
async fn on_a_laptop_everyone_is_the_local_administrator() {
    let local = Authenticator::local();
    for header in [None, Some("Bearer anything"), Some("Basic !!!"), Some("Bearer fwt_x")] {
        assert_eq!(local.authenticate(header).await.unwrap(), Identity::local_admin());
    }
    let world = world(true);
    assert!(world.authenticator.is_local());
    assert_eq!(world.authenticator.authenticate(None).await.unwrap(), Identity::local_admin());
    assert_eq!(world.ask(&basic("mlflow", "password")).await.unwrap(), Identity::local_admin());
    // Our own credentials are checked where there is something to check them with, so that the audit names who it was.
    assert_eq!(world.ask(&world.bearer()).await.unwrap().id, "probe-7");
    assert_eq!(world.ask(&service_bearer("monitoring", SECRET)).await.unwrap(), Identity::service("monitoring"));
    assert_eq!(world.code("Bearer fwt_wrong").await, ErrorCode::Unauthenticated);
}

#[test]
fn an_authenticator_that_nobody_could_pass_or_everybody_could_guess_is_refused() {
    let builder = || Authenticator::builder(Arc::new(ManualClock::at(0)));
    assert!(builder().build().is_err());
    assert!(builder().service_secret("short").build().is_err());
    assert!(builder().local().build().is_ok());
    assert!(!format!("{:?}", builder().service_secret(SECRET).build().unwrap()).contains(SECRET));
}
