use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn authorizer() -> Authorizer {
    Authorizer::embedded(0).unwrap()
}

fn bundle(version: u64, policies: &str) -> Bundle {
    Bundle { version, issued_ms: version as i64, policies: policies.to_owned() }
}

fn allowed(authorizer: &Authorizer, who: &Identity, action: &str) -> bool {
    let service = action.split(':').next().unwrap();
    authorizer.allow(who, action, &Resource::new(service, "thing", "x"), Value::Null).allowed
}

/// Every action that somebody is allowed, in one line.
fn may(who: &Identity) -> String {
    let authorizer = authorizer();
    let actions = authorizer.actions().into_iter().filter(|action| allowed(&authorizer, who, action));
    actions.collect::<Vec<_>>().join(" ")
}

const READ: &str =
    "deployment:read development:read feedback:read governance:read monitoring:read pipelines:read registry:read";

fn with_read(more: &str) -> String {
    more.split(' ').chain(READ.split(' ')).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_role_may_exactly_what_it_needs() {
    let role = |role: &str| may(&Identity::user("ada", [role]));
    assert_eq!(role("admin"), authorizer().actions().join(" "));
    assert_eq!(role("viewer"), READ);
    assert_eq!(
        role("data_scientist"),
        with_read(
            "registry:write development:write pipelines:start deployment:predict deployment:replay governance:request \
             governance:decide"
        )
    );
    assert_eq!(
        role("ml_engineer"),
        with_read(
            "registry:webhook registry:write development:write deployment:write deployment:predict deployment:replay \
             monitoring:write feedback:write feedback:ground_truth pipelines:write pipelines:start governance:request governance:decide system:read"
        )
    );
    assert_eq!(role("expert"), with_read("feedback:write feedback:ground_truth deployment:predict"));
    assert_eq!(
        role("compliance"),
        with_read("audit:read audit:export governance:approve registry:hold registry:protect")
    );
    assert_eq!(role("operator"), "system:read");
    assert_eq!(role("sensor"), "deployment:predict feedback:ground_truth");
    assert_eq!(role("service:pipelines"), "", "a role claimed by a person does not make a service");
    assert_eq!(may(&Identity::anonymous()), "");
    assert_eq!(may(&Identity::user("ada", Vec::<String>::new())), "");
}

#[test]
fn a_tenant_is_kept_from_the_others() {
    let authorizer = authorizer();
    let may = |who: &Identity, tenant: &str| {
        let resource = Resource::new("registry", "run", "x");
        authorizer.allow(who, "registry:read", &resource, json!({ "tenant": tenant })).allowed
    };
    let of = |tenant: &str, role: &str| Identity { tenant: tenant.to_owned(), ..Identity::user("ada", [role]) };
    for role in ["admin", "viewer", "ml_engineer"] {
        assert!(may(&of("north", role), "north"), "{role}");
        assert!(!may(&of("north", role), "south") && !may(&of("north", role), "default"), "{role}");
    }
    assert!(may(&of("default", "viewer"), "default") && !may(&of("default", "viewer"), "north"));
    assert!(may(&of("default", "admin"), "north"), "who runs the system sees to every tenant");
    assert!(may(&Identity::service("pipelines"), "north"));
    assert!(!may(&of("north", "sensor"), "north"), "the role decides as well");
    assert!(allowed(&authorizer, &of("north", "viewer"), "registry:read"), "things of nobody are everybody's");
}

#[test]
fn each_service_may_what_the_loop_needs_of_it() {
    let service = |name: &str| may(&Identity::service(name));
    assert_eq!(service("unknown"), with_read("audit:append system:read"));
    assert_eq!(service("admin"), service("unknown"), "no service name is a person's role");
    let pipelines = service("pipelines");
    for action in ["registry:write", "deployment:write", "deployment:replay", "governance:decide", "monitoring:write"] {
        assert!(pipelines.contains(action), "{action}");
    }
    assert!(!pipelines.contains("governance:approve"));
    assert!(service("monitoring").contains("pipelines:start"));
    assert!(!service("monitoring").contains("registry:write"));
}

#[test]
fn a_decision_names_its_policies_and_a_denial_says_why() {
    let authorizer = authorizer();
    let model = Resource::new("registry", "model", "oxygen");
    let viewer = Identity::user("ada", ["viewer"]);
    assert_eq!(authorizer.allow(&viewer, "registry:read", &model, Value::Null).reasons, ["people-read"]);
    assert!(authorizer.require(&viewer, "registry:read", &model, json!({})).is_ok());
    let denied = authorizer.require(&viewer, "registry:write", &model, Value::Null).unwrap_err();
    assert_eq!(denied.code(), ErrorCode::PermissionDenied);
    assert_eq!(
        denied.message(),
        "user:ada may not registry:write on registry model oxygen: no policy permits it for the roles viewer"
    );
    let unknown = authorizer.allow(&Identity::local_admin(), "registry:destroy", &model, Value::Null);
    assert!(!unknown.allowed);
    assert_eq!(unknown.errors, ["the schema has no action \"registry:destroy\""]);
    let group = authorizer.allow(&Identity::local_admin(), "any:read", &model, Value::Null);
    assert!(!group.allowed, "a group is no action");
}

#[test]
fn a_context_that_the_schema_does_not_know_denies() {
    let authorizer = authorizer();
    let model = Resource::new("registry", "model", "oxygen");
    let admin = Identity::local_admin();
    for bad in [json!({"surprise": 1}), json!({"author": 7}), json!([1]), json!("text")] {
        let decision = authorizer.allow(&admin, "registry:read", &model, bad.clone());
        assert!(!decision.allowed, "{bad}");
        assert!(decision.errors[0].contains("context"), "{:?}", decision.errors);
    }
    assert!(authorizer.allow(&admin, "registry:read", &model, json!({"author": "bob"})).allowed);
    assert!(authorizer.allow(&admin, "registry:read", &model, json!({})).allowed);
}

#[test]
fn decisions_are_shared_between_names_that_no_policy_looks_at() {
    let authorizer = authorizer();
    for name in 0..50 {
        let who = Identity::user(format!("user-{name}"), ["sensor"]);
        let on = Resource::new("deployment", "deployment", format!("d-{name}"));
        assert!(authorizer.allow(&who, "deployment:predict", &on, Value::Null).allowed);
        assert!(!authorizer.allow(&who, "deployment:write", &on, Value::Null).allowed);
    }
    assert_eq!(authorizer.cached(), 2);
}

#[test]
fn policies_that_look_at_names_or_context_get_their_own_decisions() {
    let authorizer = authorizer();
    let policies = r#"
        @id("names") permit (principal, action, resource)
            when { resource.name == "mine" && principal.id == "ada" && principal.tenant == "t"
                   && context has author && context.author != principal.id };"#;
    let t = |id: &str, tenant: &str| Identity { tenant: tenant.to_owned(), ..Identity::user(id, ["viewer"]) };
    let ask = |who: &Identity, name: &str, author: &str| {
        let on = Resource::new("registry", "model", name);
        authorizer.allow(who, "registry:read", &on, json!({"author": author})).allowed
    };
    assert!(ask(&t("ada", "t"), "yours", "bob"), "the embedded policies permit a viewer to read");
    assert!(authorizer.replace(bundle(1, policies)).unwrap());
    for _ in 0..2 {
        assert!(ask(&t("ada", "t"), "mine", "bob"));
        assert!(!ask(&t("ada", "t"), "yours", "bob"));
        assert!(!ask(&t("bob", "t"), "mine", "bob"));
        assert!(!ask(&t("ada", "u"), "mine", "bob"));
        assert!(!ask(&t("ada", "t"), "mine", "ada"));
    }
    assert_eq!(authorizer.cached(), 5);
}

#[test]
fn a_forbid_wins_and_is_named() {
    let authorizer = authorizer();
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("frozen") forbid (principal, action in Action::"any:write", resource) when { resource.service == "registry" };"#;
    authorizer.replace(bundle(1, policies)).unwrap();
    let model = Resource::new("registry", "model", "");
    let denied = authorizer.require(&Identity::local_admin(), "registry:write", &model, Value::Null).unwrap_err();
    assert_eq!(denied.message(), "user:local-admin may not registry:write on registry model: forbidden by frozen");
}

#[test]
fn an_evaluation_error_denies() {
    let authorizer = authorizer();
    // Passes the schema, and overflows when it is evaluated.
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("broken") forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };"#;
    authorizer.replace(bundle(1, policies)).unwrap();
    let model = Resource::new("registry", "model", "x");
    let decision = authorizer.allow(&Identity::local_admin(), "registry:read", &model, Value::Null);
    assert!(!decision.allowed);
    assert!(decision.errors[0].contains("broken"), "{:?}", decision.errors);
}

#[test]
fn an_invalid_bundle_is_refused_and_the_last_good_one_kept() {
    let authorizer = authorizer();
    let admin = Identity::local_admin();
    let cases = [
        ("permit (", "not valid Cedar"),
        ("permit (principal, action, resource);", "@id"),
        (r#"@id("a") permit (principal, action, resource); @id("a") permit (principal, action, resource);"#, "unique"),
        (r#"@id("a") permit (principal == ?principal, action, resource);"#, "template"),
        (r#"@id("a") permit (principal, action == Action::"registry:destroy", resource);"#, "schema"),
        (r#"@id("a") permit (principal, action, resource) when { principal.role == "admin" };"#, "schema"),
        (r#"@id("a") permit (principal, action, resource) when { context.author == "x" };"#, "schema"),
    ];
    for (policies, expected) in cases {
        let error = authorizer.replace(bundle(7, policies)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.message().contains(expected), "{policies}: {error}");
        assert!(error.message().starts_with("policy bundle 7 is refused, 0 stays in use"), "{error}");
    }
    assert_eq!(authorizer.bundle(), Bundle::embedded(0));
    assert!(allowed(&authorizer, &admin, "registry:read"));
}

#[test]
fn bundles_come_at_least_once_and_in_any_order() {
    let authorizer = Authorizer::embedded(1_000).unwrap();
    assert_eq!(authorizer.age_ms(61_000), 60_000);
    assert_eq!(authorizer.age_ms(0), 0, "a clock that went back makes no negative age");
    let (two, three) = (bundle(2, r#"@id("two") permit (principal, action, resource);"#), bundle(3, ""));
    assert!(authorizer.replace(three.clone()).unwrap());
    assert!(!authorizer.replace(three.clone()).unwrap());
    assert!(!authorizer.replace(two).unwrap());
    assert!(!allowed(&authorizer, &Identity::local_admin(), "registry:read"), "an empty bundle permits nothing");
    let stamped = Bundle { issued_ms: 90_000, ..three };
    assert!(!authorizer.replace(stamped.clone()).unwrap());
    assert_eq!(authorizer.age_ms(100_000), 10_000);
    let forged = Bundle { policies: r#"@id("x") permit (principal, action, resource);"#.to_owned(), ..stamped };
    assert_eq!(authorizer.replace(forged).unwrap_err().code(), ErrorCode::Conflict);
}

#[test]
fn the_last_known_good_bundle_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/policies.json");
    let first = Authorizer::open(path.clone(), 5).unwrap();
    assert_eq!(first.bundle(), Bundle::embedded(5));
    let newer = bundle(4, r#"@id("all") permit (principal, action, resource);"#);
    first.replace(newer.clone()).unwrap();
    assert!(first.replace(bundle(5, "nonsense")).is_err());
    drop(first);
    assert_eq!(Authorizer::open(path.clone(), 5).unwrap().bundle(), newer);
    std::fs::write(&path, "{ half a fi").unwrap();
    assert_eq!(Authorizer::open(path.clone(), 9).unwrap().bundle(), Bundle::embedded(9));
    std::fs::write(&path, serde_json::to_string(&bundle(4, "permit (")).unwrap()).unwrap();
    let recovered = Authorizer::open(path.clone(), 9).unwrap();
    assert_eq!(recovered.bundle(), Bundle::embedded(9));
    recovered.replace(newer.clone()).unwrap();
    assert_eq!(Bundle::load(&path).unwrap(), Some(newer));
}

/// Prints what a decision costs; run it by hand: `cargo nextest run -p fishy-authz --run-ignored only --no-capture`.
#[test]
#[ignore = "a measurement"]
fn measure_a_decision() {
    let authorizer = authorizer();
    let who = Identity::user("ada", ["ml_engineer"]);
    let on = Resource::new("deployment", "deployment", "oxygen");
    let rounds = 100_000;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        assert!(authorizer.allow(&who, "deployment:predict", &on, Value::Null).allowed);
    }
    eprintln!("cached: {:?} each", start.elapsed() / rounds);
    let rounds = 2_000;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        // A context that no policy looks at is not cached.
        assert!(authorizer.allow(&who, "deployment:predict", &on, json!({"alias": "champion"})).allowed);
    }
    eprintln!("evaluated: {:?} each", start.elapsed() / rounds);
}
