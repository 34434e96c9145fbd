//! The connections that read.
//!
//! Handing a statement to another thread and back costs more than most statements do. So each is begun where it is asked
//! for, and stopped when it is not done after some 50 µs; it then runs on a thread that may block, and so do all later ones of
//! the same text from their start.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fishy_core::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::Reader;
use crate::error::from_rusqlite;
use crate::statement::{Outcome, Statement};

/// How many texts of long reads are kept in mind.
const LONG: usize = 1_000;

pub(crate) struct Readers {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    max_connections: u32,
    acquire_timeout: Duration,
}

struct Shared {
    file: PathBuf,
    idle: Mutex<Vec<Reader>>,
    long: Mutex<HashSet<String>>,
}

/// Gives up what runs when it is dropped.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn closed<E>(_: E) -> Error {
    Error::unavailable("the database was closed")
}

impl Shared {
    fn is_long(&self, sql: &str) -> bool {
        self.long.lock().unwrap_or_else(PoisonError::into_inner).contains(sql)
    }

    fn remember_long(&self, sql: &str) {
        let mut long = self.long.lock().unwrap_or_else(PoisonError::into_inner);
        if long.len() >= LONG {
            long.clear();
        }
        long.insert(sql.to_owned());
    }

    fn take(&self) -> Option<Reader> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, reader: Reader) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }
}

impl Readers {
    pub fn new(file: PathBuf, max_connections: u32, acquire_timeout: Duration) -> Self {
        let shared = Shared { file, idle: Mutex::default(), long: Mutex::default() };
        let max_connections = max_connections.max(1);
        let places = Arc::new(Semaphore::new(max_connections as usize));
        Self { shared: Arc::new(shared), places, max_connections, acquire_timeout }
    }

    pub async fn read(&self, statement: Statement) -> Result<Outcome> {
        let place = timeout(self.acquire_timeout, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| Error::unavailable("the database is busy: too long a wait to read"))?
            .map_err(closed)?;
        let Some(reader) = self.shared.take() else { return self.read_long(None, statement, place).await };
        if !self.shared.is_long(&statement.sql) {
            if let Some(ran) = reader.run_quick(&statement) {
                self.shared.give_back(reader);
                return ran.map_err(from_rusqlite);
            }
            self.shared.remember_long(&statement.sql);
        }
        self.read_long(Some(reader), statement, place).await
    }

    /// Reads on a thread that may block.
    async fn read_long(
        &self,
        reader: Option<Reader>,
        statement: Statement,
        place: OwnedSemaphorePermit,
    ) -> Result<Outcome> {
        let is_given_up = Arc::new(AtomicBool::new(false));
        // When the caller is dropped, nobody waits for this any more.
        let _give_up = GiveUp(Arc::clone(&is_given_up));
        let shared = Arc::clone(&self.shared);
        let work = move || {
            // Opening a file may wait for the disk.
            let reader = match reader {
                Some(reader) => reader,
                None => Reader::open(&shared.file).map_err(from_rusqlite)?,
            };
            let ran = reader.run(&statement, is_given_up).map_err(from_rusqlite);
            shared.give_back(reader);
            drop(place);
            ran
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("a read broke off").with_source(error))?
    }

    /// Waits for the reads that run and ends all connections.
    pub async fn close(&self) {
        if let Ok(all) = self.places.acquire_many(self.max_connections).await {
            all.forget();
        }
        self.places.close();
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
