//! Workspaces: a registry each, over a database and a folder of files of its own, so that nothing that is asked in one can
//! find what is in another.
//!
//! They are opened when they are asked for, and so many at most are open at once. What works in the background (the
//! outbox, webhooks, the sweep of what is left over) works in the open ones; a tour opens those that nobody asks for, so
//! that theirs is done as well.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fishy_authz::{Authorizer, Identity, Resource};
use fishy_bus::Bus;
use fishy_core::{Error, Result};
use fishy_db::{Db, Leader, OUTBOX, Relay};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::holds::held;
use super::{Asker, Calls, Registry};
use crate::domain::workspace::{self as rules, DEFAULT, Deletion, Workspace};
use crate::store::workspaces as store;
use crate::store::{experiments, holds};
use crate::{MIGRATIONS, SERVICE, events};

/// Makes, changes and deletes workspaces.
pub(crate) const WORKSPACE: &str = "registry:workspace";
/// Sees one.
const READ: &str = "registry:read";
/// The most connections to the database of one workspace.
const CONNECTIONS: u32 = 4;
/// The numbers of experiments begin here times the number of the workspace, so that a number names one experiment.
const EXPERIMENTS_APART: i64 = 1_000_000_000;
/// How long a deletion waits for the requests that are under way in the workspace.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the tour looks for workspaces that nobody asked for, and how long it leaves each its seat.
const TOUR: Duration = Duration::from_secs(5);
/// How long what was told in a deleted workspace may take to reach the bus before its deletion is put off.
const DRAINING: Duration = Duration::from_secs(10);

/// All workspaces.
pub(crate) struct Workspaces {
    home: Arc<Registry>,
    bus: Bus,
    authorizer: Authorizer,
    stop: CancellationToken,
    seats: Arc<Semaphore>,
    rooms: Mutex<BTreeMap<i64, Room>>,
    /// Counts what was asked for: the room with the smallest number was not used for longest.
    uses: AtomicU64,
    /// Rung when something is to be tidied away.
    bell: Notify,
    closing: TaskTracker,
}

/// The place of one workspace; readers are requests under way in it, and writers open and close it.
#[derive(Clone, Default)]
struct Room {
    open: Arc<RwLock<Option<Open>>>,
    used: Arc<AtomicU64>,
}

/// A workspace at work.
pub(crate) struct Open {
    registry: Arc<Registry>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _seat: OwnedSemaphorePermit,
}

/// The registry of the workspace that a request is about; it stays open as long as this lives.
pub(crate) enum Inside {
    /// The default one.
    Home(Arc<Registry>),
    /// Another one.
    Room(OwnedRwLockReadGuard<Option<Open>, Registry>),
}

impl Deref for Inside {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        match self {
            Self::Home(registry) => registry,
            Self::Room(registry) => registry,
        }
    }
}

impl Open {
    async fn close(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::warn!(workspace = self.registry.workspace, %error, "a task of a workspace ended badly");
            }
        }
        self.registry.db.close().await;
    }
}

fn not_found(name: &str) -> Error {
    Error::not_found(format!("Workspace '{name}' not found"))
}

fn suffix(id: i64) -> String {
    format!("w{id}")
}

/// Where the files of a workspace are in the object store.
fn folder(id: i64) -> String {
    format!("workspaces/{id}")
}

impl Workspaces {
    /// With `home` as the default workspace.
    pub fn new(home: Arc<Registry>, bus: Bus, authorizer: Authorizer, stop: CancellationToken) -> Self {
        let seats = home.config.registry.open_workspaces.max(1) as usize;
        Self {
            home,
            bus,
            authorizer,
            stop,
            seats: Arc::new(Semaphore::new(seats)),
            rooms: Mutex::default(),
            uses: AtomicU64::default(),
            bell: Notify::new(),
            closing: TaskTracker::new(),
        }
    }

    /// Whether there can be others than the default one.
    pub fn is_on(&self) -> bool {
        self.home.config.registry.workspaces
    }

    /// The default one.
    pub fn home(&self) -> Inside {
        Inside::Home(Arc::clone(&self.home))
    }

    /// The workspace of a name, opened when it is closed.
    pub async fn enter(&self, name: &str) -> Result<Inside> {
        if name == DEFAULT {
            return Ok(self.home());
        }
        let found = store::get(&mut &self.home.db, name).await?;
        self.open(&found.ok_or_else(|| not_found(name))?).await
    }

    fn room(&self, id: i64) -> Room {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    async fn open(&self, workspace: &Workspace) -> Result<Inside> {
        let room = self.room(workspace.id);
        room.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let inside = Arc::clone(&room.open).read_owned().await;
        if let Some(registry) = registry_of(inside) {
            return Ok(Inside::Room(registry));
        }
        let mut place = Arc::clone(&room.open).write_owned().await;
        self.open_in(&mut place, workspace).await?;
        registry_of(OwnedRwLockWriteGuard::downgrade(place))
            .map(Inside::Room)
            .ok_or_else(|| Error::internal("a workspace was closed while it was opened"))
    }

    async fn open_in(&self, place: &mut Option<Open>, workspace: &Workspace) -> Result<()> {
        if place.is_some() {
            return Ok(());
        }
        // It may have been deleted while we waited for the room.
        let now = store::get(&mut &self.home.db, &workspace.name).await?;
        if now.is_none_or(|now| now.id != workspace.id) {
            return Err(not_found(&workspace.name));
        }
        let seat = self.seat().await?;
        let registry = Arc::new(self.registry(workspace).await?);
        let stop = self.stop.child_token();
        let (caller, sweeper, stopped) = (Arc::clone(&registry), Arc::clone(&registry), stop.clone());
        let (settler, unsettled) = (Arc::clone(&registry), stop.clone());
        let tasks = vec![
            self.relay(&registry.db, stop.clone()),
            tokio::spawn(async move { settler.settle_until(&unsettled).await }),
            tokio::spawn(async move { caller.call_webhooks(&stopped).await }),
            tokio::spawn({
                let stop = stop.clone();
                async move { sweeper.sweep_until(&stop).await }
            }),
        ];
        *place = Some(Open { registry, stop, tasks, _seat: seat });
        metrics::gauge!("fishy_registry_open_workspaces").set(self.count_open() as f64);
        Ok(())
    }

    fn count_open(&self) -> usize {
        let seats = self.home.config.registry.open_workspaces.max(1) as usize;
        seats.saturating_sub(self.seats.available_permits())
    }

    fn relay(&self, db: &Db, stop: CancellationToken) -> JoinHandle<()> {
        let bus = self.bus.clone();
        let publish = move |event| {
            let bus = bus.clone();
            Box::pin(async move { bus.publish(event).await }) as BoxFuture<'static, Result<()>>
        };
        Relay::spawn(db.clone(), publish, self.home.env.clone(), stop)
    }

    /// The registry of a workspace, without what works in its background.
    async fn registry(&self, workspace: &Workspace) -> Result<Registry> {
        let home = &self.home;
        let db = home.db.connect_beside(&suffix(workspace.id), CONNECTIONS).await?;
        let migrations: Vec<_> = std::iter::once(OUTBOX).chain(MIGRATIONS.iter().copied()).collect();
        db.migrate(&migrations).await.map_err(|error| error.context(format_args!("workspace {}", workspace.name)))?;
        let mut tx = db.begin().await?;
        experiments::ensure_default(&mut tx, home.env.now_ms()).await?;
        experiments::begin_at(&mut tx, db.engine(), workspace.id.saturating_mul(EXPERIMENTS_APART)).await?;
        tx.commit().await?;
        Ok(Registry {
            env: home.env.clone(),
            config: home.config.clone(),
            calls: Calls::new(&home.config, &db)?,
            db,
            blob: home.blob.clone(),
            folder: format!("{}/{}", folder(workspace.id), home.folder),
            governance: home.governance.clone(),
            workspace: workspace.name.clone(),
        })
    }

    /// The right to open one more; another is closed for it where that is needed.
    async fn seat(&self) -> Result<OwnedSemaphorePermit> {
        loop {
            if let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() {
                return Ok(seat);
            }
            if !self.close_one().await {
                return Err(Error::unavailable(format!(
                    "{} workspaces are in use at this moment, more than that cannot be open (registry.open_workspaces): try again",
                    self.home.config.registry.open_workspaces
                )));
            }
        }
    }

    /// Closes the workspace that was not used for longest and in which nothing is under way; false when there is none.
    async fn close_one(&self) -> bool {
        let mut rooms: Vec<Room> =
            self.rooms.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        rooms.sort_by_key(|room| room.used.load(Ordering::Relaxed));
        for room in rooms {
            if let Ok(place) = Arc::clone(&room.open).try_write_owned()
                && place.is_some()
            {
                self.close(place).await;
                return true;
            }
        }
        false
    }

    /// Closes a workspace to its end, also when the one who asked for it goes away.
    async fn close(&self, mut place: OwnedRwLockWriteGuard<Option<Open>>) {
        let closed = self.closing.spawn(async move {
            if let Some(open) = place.take() {
                open.close().await;
            }
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "a workspace was closed badly");
        }
    }

    /// Whether somebody may, in or with one workspace.
    fn may(&self, who: &Identity, action: &str, name: &str) -> bool {
        self.authorizer
            .allow(who, action, &Resource::new(SERVICE, "workspace", name), json!({ "tenant": name }))
            .allowed
    }

    fn check_may_change(&self, who: &Identity, name: &str) -> Result<()> {
        self.authorizer.require(who, WORKSPACE, &Resource::new(SERVICE, "workspace", name), json!({ "tenant": name }))
    }

    /// The workspaces that somebody may see, by name.
    pub async fn all(&self, who: &Identity) -> Result<Vec<Workspace>> {
        let mut all = store::all(&mut &self.home.db).await?;
        all.retain(|workspace| self.may(who, READ, &workspace.name));
        Ok(all)
    }

    /// One workspace. One that somebody may not see is not there for them.
    pub async fn one(&self, who: &Identity, name: &str) -> Result<Workspace> {
        check_name(name)?;
        let found = if self.may(who, READ, name) { store::get(&mut &self.home.db, name).await? } else { None };
        found.ok_or_else(|| not_found(name))
    }

    /// Makes a workspace.
    pub async fn create(&self, asker: &Asker, name: &str, description: Option<&str>) -> Result<Workspace> {
        if name == DEFAULT {
            return Err(Error::invalid(format!("The '{DEFAULT}' workspace is reserved and cannot be created")));
        }
        rules::check_name(name)?;
        rules::check_description(description)?;
        self.check_may_change(&asker.who, name)?;
        let home = &self.home;
        let most = home.config.registry.max_workspaces;
        let mut tx = home.db.begin().await?;
        // One after the other: two at once could both find room for one more.
        store::lock(&mut tx).await?;
        if store::count(&mut tx).await? >= i64::from(most) {
            return Err(Error::exhausted(format!(
                "there are {most} workspaces (registry.max_workspaces): delete one first"
            )));
        }
        store::create(&mut tx, name, description, home.env.now_ms()).await?;
        let resource = format!("workspaces/{name}");
        let details = json!({ "description": description });
        events::audit(&mut tx, home, asker.by().actor, "workspace.create", &resource, details).await?;
        let made = store::get(&mut tx, name).await?.ok_or_else(|| not_found(name))?;
        tx.commit().await?;
        Ok(made)
    }

    /// Changes what a workspace is said to be for.
    pub async fn describe(&self, asker: &Asker, name: &str, description: Option<&str>) -> Result<Workspace> {
        check_name(name)?;
        rules::check_description(description)?;
        self.check_may_change(&asker.who, name)?;
        let home = &self.home;
        let mut tx = home.db.begin().await?;
        let before = store::get(&mut tx, name).await?.ok_or_else(|| not_found(name))?;
        store::describe(&mut tx, before.id, description, home.env.now_ms()).await?;
        let details = json!({"from": before.description, "to": description});
        let resource = format!("workspaces/{name}");
        events::audit(&mut tx, home, asker.by().actor, "workspace.update", &resource, details).await?;
        tx.commit().await?;
        Ok(Workspace { description: description.map(str::to_owned), ..before })
    }

    /// Deletes a workspace. Its name is free at once; its database and its files go after that.
    pub async fn delete(&self, asker: &Asker, name: &str, mode: Deletion) -> Result<()> {
        if name == DEFAULT {
            return Err(Error::invalid(format!("The '{DEFAULT}' workspace is reserved and cannot be deleted")));
        }
        rules::check_name(name)?;
        self.check_may_change(&asker.who, name)?;
        let home = &self.home;
        let workspace = store::get(&mut &home.db, name).await?.ok_or_else(|| not_found(name))?;
        let room = self.room(workspace.id);
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&room.open).write_owned());
        let mut place = place.await.map_err(|_| {
            Error::unavailable(format!("Workspace '{name}' is in use: requests are under way in it, try again"))
        })?;
        self.open_in(&mut place, &workspace).await?;
        let contents = match &*place {
            Some(open) => {
                let read = &mut &open.registry.db;
                if let Some(hold) = holds::all(read).await?.first() {
                    return Err(Error::precondition(format!("Cannot delete workspace '{name}': {}", held(hold))));
                }
                store::contents(read).await?
            }
            None => Vec::new(),
        };
        if mode == Deletion::Restrict && !contents.is_empty() {
            return Err(Error::precondition(format!(
                "Cannot delete workspace '{name}': it still contains {}. Remove them before deleting the workspace, or delete it with mode=CASCADE.",
                contents.join(", ")
            )));
        }
        let mut tx = home.db.begin().await?;
        if store::get(&mut tx, name).await?.is_none_or(|now| now.id != workspace.id) {
            return Err(not_found(name));
        }
        store::delete(&mut tx, workspace.id, home.env.now_ms()).await?;
        let details = json!({ "contents": contents });
        let resource = format!("workspaces/{name}");
        events::audit(&mut tx, home, asker.by().actor, "workspace.delete", &resource, details).await?;
        tx.commit().await?;
        self.close(place).await;
        self.bell.notify_one();
        Ok(())
    }

    /// Tidies away what was deleted, and visits the workspaces that nobody asks for, until the process stops.
    pub async fn tour(&self) {
        let mut leader = Leader::new(&self.home.db, "workspaces");
        while !self.stop.is_cancelled() {
            let toured = async {
                if leader.leads().await? {
                    self.tidy().await?;
                }
                self.visit().await
            };
            tokio::select! {
                toured = toured => if let Err(error) = toured {
                    tracing::warn!(error = error.chain(), "the workspaces cannot be visited now");
                },
                () = self.stop.cancelled() => break,
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep(TOUR) => {}
                () = self.stop.cancelled() => {}
            }
        }
        let rooms: Vec<Room> = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for room in rooms {
            // No request is under way any more.
            self.close(room.open.write_owned().await).await;
        }
        self.closing.close();
        self.closing.wait().await;
    }

    /// Opens each workspace that is closed, and closes those that another replica deleted.
    async fn visit(&self) -> Result<()> {
        let all = store::all(&mut &self.home.db).await?;
        let is_there = |id: i64| all.iter().any(|workspace| workspace.id == id);
        let gone: Vec<(i64, Room)> = {
            let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.iter().filter(|(id, _)| !is_there(**id)).map(|(id, room)| (*id, room.clone())).collect()
        };
        for (id, room) in gone {
            if let Ok(place) = room.open.try_write_owned() {
                self.close(place).await;
                self.rooms.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
        let others: Vec<&Workspace> = all.iter().filter(|workspace| workspace.id != 0).collect();
        let has_seats_for_all = others.len() <= self.home.config.registry.open_workspaces.max(1) as usize;
        for workspace in others {
            let is_closed = self.room(workspace.id).open.try_read().is_ok_and(|open| open.is_none());
            if !is_closed {
                continue;
            }
            if let Err(error) = self.open(workspace).await {
                tracing::warn!(workspace = workspace.name, error = error.chain(), "a workspace cannot be opened now");
            } else if !has_seats_for_all {
                // The next one may take its seat.
                tokio::time::sleep(TOUR).await;
            }
        }
        Ok(())
    }

    /// Removes databases and files of deleted workspaces, each when what was told in it has reached the bus.
    async fn tidy(&self) -> Result<()> {
        for id in store::garbage(&mut &self.home.db).await? {
            let workspace = Workspace { id, name: format!("deleted-{id}"), description: None };
            let registry = self.registry(&workspace).await?;
            registry.give_up_uploads(i64::MAX).await?;
            let stop = self.stop.child_token();
            let relay = self.relay(&registry.db, stop.clone());
            let is_told = tokio::time::timeout(DRAINING, told(&registry.db)).await;
            stop.cancel();
            let _ = relay.await;
            registry.db.close().await;
            if !matches!(is_told, Ok(Ok(()))) {
                tracing::warn!(id, "events of a deleted workspace wait for the bus: its database stays until then");
                continue;
            }
            self.home.blob.delete_prefix(&folder(id)).await?;
            self.home.db.drop_beside(&suffix(id)).await?;
            let mut tx = self.home.db.begin().await?;
            store::forget(&mut tx, id).await?;
            tx.commit().await?;
            tracing::info!(id, "a deleted workspace is gone");
        }
        Ok(())
    }
}

/// The registry in a room; none when the room is closed.
fn registry_of(open: OwnedRwLockReadGuard<Option<Open>>) -> Option<OwnedRwLockReadGuard<Option<Open>, Registry>> {
    OwnedRwLockReadGuard::try_map(open, |open| open.as_ref().map(|open| &*open.registry)).ok()
}

fn check_name(name: &str) -> Result<()> {
    if name == DEFAULT { Ok(()) } else { rules::check_name(name) }
}

/// Waits until the outbox is empty.
async fn told(db: &Db) -> Result<()> {
    while db.query_opt("SELECT seq FROM outbox LIMIT 1", Vec::new()).await?.is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
