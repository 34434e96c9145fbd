//! Workspaces: made, used, bounded and deleted; who may use which; and what the background does in each.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::Method;
use fishy_authz::Identity;
use fishy_config::Config;
use fishy_contracts::events::{ALIAS_MOVED, AUDIT_ENTRY};
use fishy_core::Event;
use fishy_db::Engine;
use futures::FutureExt;
use serde_json::{Value, json};

use crate::server::{On, Server};

pub const ALL: &str = "/api/3.0/mlflow/workspaces";

/// Switches workspaces on.
pub fn on(config: &mut Config) {
    config.registry.workspaces = true;
}

/// Drops the databases of a server on PostgreSQL; those on SQLite are in its folder.
pub async fn cleaned(server: Server) {
    let (db, schema) = (server.db.clone(), server.schema.clone());
    server.stop.cancel();
    server.running.shutdown().await;
    if db.engine() == Engine::Sqlite {
        return;
    }
    let sql = "SELECT nspname AS name FROM pg_namespace WHERE nspname = $1 OR nspname LIKE $2";
    let rows = db.query(sql, fishy_db::args![&schema, format!("{schema}\\_w%")]).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for row in rows {
        tx.execute(&format!("DROP SCHEMA {} CASCADE", row.get::<String>("name").unwrap()), vec![]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Waits until something is so.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let since = Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Server {
    pub async fn make_workspace(&self, name: &str) {
        let (status, answer) = self.at("", None, Method::POST, ALL, json!({ "name": name }).to_string()).await;
        assert_eq!(status, 201, "{answer}");
    }

    pub async fn post_at(&self, workspace: &str, path: &str, body: Value) -> (u16, Value) {
        self.at(workspace, None, Method::POST, &format!("/api/2.0/mlflow/{path}"), body.to_string()).await
    }

    pub async fn done_at(&self, workspace: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.post_at(workspace, path, body).await;
        assert_eq!(status, 200, "{path} in {workspace}: {answer}");
        answer
    }
}

async fn made_listed_changed_and_deleted(server: Server) {
    let call = async |method: Method, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        server.at("", None, method, &format!("{ALL}{path}"), body).await
    };
    let default = json!({"name": "default", "description": "Default workspace for legacy resources"});
    assert_eq!(call(Method::GET, "", Value::Null).await, (200, json!({ "workspaces": [default] })));
    let south = json!({"name": "south", "description": "pens 1 to 9"});
    assert_eq!(call(Method::POST, "", south.clone()).await, (201, json!({ "workspace": south })));
    let (status, answer) = call(Method::POST, "", south.clone()).await;
    assert_eq!((status, &answer["error_code"]), (400, &json!("RESOURCE_ALREADY_EXISTS")));
    assert_eq!(call(Method::POST, "", json!({"name": "north"})).await.0, 201);
    let (_, answer) = call(Method::GET, "", Value::Null).await;
    let names: Vec<_> = answer["workspaces"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["default", "north", "south"]);
    assert_eq!(call(Method::GET, "/south", Value::Null).await, (200, json!({ "workspace": south })));
    let changed = json!({"name": "south", "description": "closed"});
    assert_eq!(
        call(Method::PATCH, "/south", json!({"description": "closed"})).await,
        (200, json!({ "workspace": changed }))
    );

    for bad in ["default", "a", "A1", "../x", "a/b", "a_b", "api", "-ab"] {
        assert_eq!(call(Method::POST, "", json!({ "name": bad })).await.0, 400, "{bad}");
    }
    for (body, path) in [
        (json!({"name": "ab", "default_artifact_root": "s3://elsewhere/x"}), ""),
        (json!({"name": "ab", "trace_archival_config": {"location": "s3://x"}}), ""),
        (json!({"name": 7}), ""),
        (json!({}), ""),
    ] {
        assert_eq!(call(Method::POST, path, body.clone()).await.0, 400, "{body}");
    }
    assert_eq!(call(Method::PATCH, "/south", json!({})).await.0, 400);
    for (method, path) in [(Method::GET, "/nobody"), (Method::DELETE, "/nobody")] {
        let (status, answer) = call(method, path, Value::Null).await;
        assert_eq!((status, &answer["error_code"]), (404, &json!("RESOURCE_DOES_NOT_EXIST")));
    }
    assert_eq!(call(Method::DELETE, "/default", Value::Null).await.0, 400);
    assert_eq!(call(Method::DELETE, "/south?mode=SET_DEFAULT", Value::Null).await.0, 400);
    assert_eq!(call(Method::DELETE, "/south?mode=ALL", Value::Null).await.0, 400);

    // What is in one stays when the server starts again, and is in no other.
    server.done_at("south", "experiments/create", json!({"name": "mine"})).await;
    let server = server.start_again().await;
    let call = async |method: Method, path: &str| server.at("", None, method, &format!("{ALL}{path}"), "").await;
    let mine = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=mine";
    let (status, answer) = server.at("south", None, Method::GET, mine, "").await;
    assert_eq!((status, &answer["experiment"]["workspace"]), (200, &json!("south")));
    for other in ["north", "default", ""] {
        assert_eq!(server.at(other, None, Method::GET, mine, "").await.0, 404, "{other}");
    }
    assert_eq!(server.at("nobody", None, Method::GET, mine, "").await.0, 404);

    // Only an empty one goes without being told to take all with it.
    let (status, answer) = call(Method::DELETE, "/south").await;
    assert!(status == 400 && answer.to_string().contains("experiments: 1"), "{answer}");
    assert_eq!(call(Method::DELETE, "/north").await.0, 204);
    let run = server.done_at("south", "runs/create", json!({"experiment_id": "0", "start_time": 1})).await;
    let run = run["run"]["info"]["run_id"].clone();
    let door = format!("/api/2.0/mlflow-artifacts/artifacts/0/{}/artifacts/a.txt", run.as_str().unwrap());
    assert_eq!(server.at("south", None, Method::PUT, &door, "content").await.0, 200);
    assert!(!server.blob.list_recursive("workspaces").await.unwrap().is_empty());
    let hold = json!({"kind": "run", "id": run, "reason": "case 7"});
    let holds = "/api/v1/registry/holds";
    assert_eq!(server.at("south", None, Method::PUT, holds, hold.to_string()).await.0, 200);
    let (status, answer) = call(Method::DELETE, "/south?mode=CASCADE").await;
    assert!(status == 400 && answer.to_string().contains("case 7"), "{answer}");
    assert_eq!(server.at("south", None, Method::DELETE, holds, hold.to_string()).await.0, 200);
    assert_eq!(call(Method::DELETE, "/south?mode=CASCADE").await.0, 204);
    assert_eq!(server.at("south", None, Method::GET, mine, "").await.0, 404);
    until("databases and files of what was deleted stay", async || {
        let rows = server.db.query("SELECT id FROM workspace_garbage", vec![]).await.unwrap();
        rows.is_empty()
    })
    .await;
    assert!(server.blob.list_recursive("workspaces").await.unwrap().is_empty());

    // One of the same name begins empty.
    server.make_workspace("south").await;
    assert_eq!(server.at("south", None, Method::GET, mine, "").await.0, 404);
    let actions: Vec<String> = server
        .events()
        .await
        .into_iter()
        .filter(|event| event.kind == AUDIT_ENTRY)
        .map(|event| format!("{} {}", event.data["action"].as_str().unwrap(), event.data["resource"].as_str().unwrap()))
        .collect();
    for done in
        ["workspace.create workspaces/south", "workspace.update workspaces/south", "workspace.delete workspaces/north"]
    {
        assert!(actions.iter().any(|action| action == done), "{done}: {actions:?}");
    }
    cleaned(server).await;
}

async fn a_tenant_uses_its_own_workspace(server: Server) {
    for name in ["north", "south"] {
        server.make_workspace(name).await;
        server.done_at(name, "experiments/create", json!({"name": format!("of {name}")})).await;
    }
    let of = |tenant: &str, role: &str| Identity { tenant: tenant.to_owned(), ..Identity::user("ada", [role]) };
    let engineer = of("north", "ml_engineer");
    let search = "/api/2.0/mlflow/experiments/search?max_results=100";
    // Nobody need say what the tenant says already.
    for header in ["", "north"] {
        let (status, answer) = server.at(header, Some(&engineer), Method::GET, search, "").await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer.to_string().contains("of north") && !answer.to_string().contains("of south"), "{answer}");
    }
    // Whether another one exists is not told.
    for other in ["south", "nobody", "default"] {
        for role in ["ml_engineer", "admin"] {
            let (status, answer) = server.at(other, Some(&of("north", role)), Method::GET, search, "").await;
            assert_eq!((status, &answer["error_code"]), (403, &json!("PERMISSION_DENIED")), "{other}");
        }
    }
    let get =
        async |who: &Identity, path: &str| server.at("", Some(who), Method::GET, &format!("{ALL}{path}"), "").await;
    let (_, answer) = get(&engineer, "").await;
    assert_eq!(answer, json!({"workspaces": [{"name": "north"}]}));
    assert_eq!(get(&engineer, "/north").await.0, 200);
    let (there, not_there) = (get(&engineer, "/south").await, get(&engineer, "/nobody").await);
    assert_eq!((there.0, not_there.0), (404, 404));
    assert_eq!(there.1.to_string().replace("south", "nobody"), not_there.1.to_string());
    // Making and deleting them is for administrators, each of their own.
    let change = async |who: &Identity, method: Method, path: &str, body: Value| {
        server.at("", Some(who), method, &format!("{ALL}{path}"), body.to_string()).await.0
    };
    for (who, expected) in [(&engineer, 403), (&of("north", "admin"), 403), (&of("default", "ml_engineer"), 403)] {
        assert_eq!(change(who, Method::POST, "", json!({"name": "west"})).await, expected);
        assert_eq!(change(who, Method::PATCH, "/south", json!({"description": "x"})).await, expected);
        assert_eq!(change(who, Method::DELETE, "/south", json!({})).await, expected);
    }
    assert_eq!(change(&of("north", "admin"), Method::PATCH, "/north", json!({"description": "x"})).await, 200);
    assert_eq!(change(&of("default", "admin"), Method::POST, "", json!({"name": "west"})).await, 201);
    // A tenant without a workspace has none.
    assert_eq!(server.at("", Some(&of("east", "viewer")), Method::GET, search, "").await.0, 404);
    assert_eq!(server.at("", Some(&of("../north", "viewer")), Method::GET, search, "").await.0, 404);
    let (_, info) = server.at("nobody", Some(&engineer), Method::GET, "/api/3.0/mlflow/server-info", "").await;
    assert_eq!(info["workspaces_enabled"], true, "clients ask before they know whether there are any");
    cleaned(server).await;
}

/// The events of one kind that reach the bus.
async fn heard(server: &Server, kind: &str) -> Arc<Mutex<Vec<Event>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let handler = move |event: Event| {
        list.lock().unwrap().push(event);
        async { Ok(()) }.boxed()
    };
    server.bus.subscribe("test", &[kind], Arc::new(handler)).await.unwrap();
    heard
}

async fn with_a_model(server: &Server, workspace: &str) {
    let run = server.done_at(workspace, "runs/create", json!({"experiment_id": "0", "start_time": 1})).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap();
    server.done_at(workspace, "registered-models/create", json!({"name": "oxygen"})).await;
    let version = json!({"name": "oxygen", "source": format!("runs:/{run}/m"), "run_id": run});
    server.done_at(workspace, "model-versions/create", version).await;
}

async fn what_is_told_to_others_names_the_workspace(server: Server) {
    let (moved, audited) = (heard(&server, ALIAS_MOVED).await, Arc::new(Mutex::new(Vec::<Event>::new())));
    let list = Arc::clone(&audited);
    let handler = move |event: Event| {
        list.lock().unwrap().push(event);
        async { Ok(()) }.boxed()
    };
    server.bus.subscribe("audit", &[AUDIT_ENTRY], Arc::new(handler)).await.unwrap();
    server.make_workspace("north").await;
    with_a_model(&server, "north").await;
    let alias = json!({"name": "oxygen", "alias": "champion", "version": "1"});
    server.done_at("north", "registered-models/alias", alias.clone()).await;
    until("the alias of the workspace was not told", async || !moved.lock().unwrap().is_empty()).await;
    let event = moved.lock().unwrap()[0].clone();
    assert_eq!(
        (event.subject.as_deref(), &event.data["model"]),
        (Some("north/oxygen@champion"), &json!("north/oxygen"))
    );
    let resource = json!("workspaces/north/models/oxygen/aliases/champion");
    let is_audited = async || audited.lock().unwrap().iter().any(|event| event.data["resource"] == resource);
    until("the change is not on the audit trail", is_audited).await;
    // An approval for the default workspace's model of the same name is none here.
    let protect = json!({"model": "oxygen", "alias": "gated"}).to_string();
    let path = "/api/v1/registry/protected-aliases";
    assert_eq!(server.at("north", None, Method::PUT, path, protect).await.0, 200);
    server.allowed.store(7, Ordering::SeqCst);
    let gated = json!({"name": "oxygen", "alias": "gated", "version": "1"});
    assert_eq!(server.post_at("north", "registered-models/alias", gated).await.0, 403);
    assert_eq!(*server.asked.lock().unwrap(), ["north/oxygen"]);
    cleaned(server).await;
}

async fn more_workspaces_than_are_open_at_once(server: Server) {
    let moved = heard(&server, ALIAS_MOVED).await;
    let names = ["aa", "bb", "cc"];
    for name in names {
        server.make_workspace(name).await;
        with_a_model(&server, name).await;
        let alias = json!({"name": "oxygen", "alias": "champion", "version": "1"});
        server.done_at(name, "registered-models/alias", alias).await;
    }
    // Each is closed for the next, and opened again when it is asked for.
    for name in names.into_iter().chain(names) {
        let path = "/api/2.0/mlflow/registered-models/get?name=oxygen";
        assert_eq!(server.at(name, None, Method::GET, path, "").await.0, 200, "{name}");
    }
    // What was told in each reaches the bus, also while nobody asks for it.
    until("the outbox of a closed workspace waits", async || {
        let moved = moved.lock().unwrap();
        names.iter().all(|name| moved.iter().any(|event| event.data["model"] == format!("{name}/oxygen")))
    })
    .await;
    let body = json!({"name": "dd"}).to_string();
    let (status, answer) = server.at("", None, Method::POST, ALL, body).await;
    assert_eq!((status, &answer["error_code"]), (429, &json!("RESOURCE_EXHAUSTED")), "{answer}");
    cleaned(server).await;
}

fn two_open(config: &mut Config) {
    on(config);
    config.registry.open_workspaces = 2;
    config.registry.max_workspaces = 3;
}

/// Runs a test on both databases, each with a configuration.
macro_rules! with_workspaces {
    ($($name:ident: $configure:expr),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let on = crate::server::On::Sqlite;
                super::$name(crate::server::Server::start_with(on, $configure, None).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let on = crate::server::On::Postgres;
                super::$name(crate::server::Server::start_with(on, $configure, None).await).await;
            }
        }
    )*};
}
pub(crate) use with_workspaces;

with_workspaces!(
    made_listed_changed_and_deleted: super::on,
    a_tenant_uses_its_own_workspace: super::on,
    what_is_told_to_others_names_the_workspace: super::on,
    more_workspaces_than_are_open_at_once: super::two_open,
);

#[tokio::test]
async fn without_workspaces_there_is_one() {
    let server = Server::start(On::Sqlite).await;
    let info = "/api/3.0/mlflow/server-info";
    assert_eq!(server.at("", None, Method::GET, info, "").await.1["workspaces_enabled"], false);
    let search = "/api/2.0/mlflow/experiments/search?max_results=5";
    let (status, answer) = server.at("north", None, Method::GET, search, "").await;
    assert!(status == 400 && answer.to_string().contains("not enabled"), "{answer}");
    assert_eq!(server.at("default", None, Method::GET, search, "").await.0, 200);
    assert_eq!(server.at("", None, Method::GET, ALL, "").await.0, 501);
}
