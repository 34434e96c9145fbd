use std::collections::HashMap;

use fishy_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::args;
use crate::db::{Db, Engine};
use crate::postgres::lock_key;
use crate::statement::Statement;
use crate::tx::Tx;

/// One step of a schema, forward only: never changed once it is released.
///
/// The text is the same for both engines: BIGINT, DOUBLE PRECISION, TEXT and BYTEA columns, `SERIAL_KEY` for a key that
/// counts by itself, statements that end in `;` at the end of a line.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The order; 1 is [`OUTBOX`](crate::OUTBOX).
    pub version: i64,
    /// For people.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

impl Migration {
    fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.sql))
    }

    fn statements(&self, engine: Engine) -> Vec<String> {
        let serial = match engine {
            Engine::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
            Engine::Postgres => "BIGSERIAL PRIMARY KEY",
        };
        let mut statements = Vec::new();
        let mut statement = String::new();
        for line in self.sql.lines().map(str::trim_end).filter(|line| !line.trim_start().starts_with("--")) {
            let (line, is_last) = line.strip_suffix(';').map_or((line, false), |line| (line, true));
            statement.push_str(line);
            statement.push('\n');
            if is_last {
                statements.push(std::mem::take(&mut statement));
            }
        }
        statements.push(statement);
        statements.retain(|statement| !statement.trim().is_empty());
        statements.into_iter().map(|statement| statement.replace("SERIAL_KEY", serial)).collect()
    }
}

const TABLE: &str = "create table if not exists schema_migrations(\
    version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_ms BIGINT NOT NULL)";

pub(crate) async fn apply(db: &Db, migrations: &[Migration]) -> Result<Vec<i64>> {
    let ordered = in_order(migrations)?;
    let mut tx = locked(db).await?;
    tx.execute(TABLE, args![]).await?;
    tx.commit().await?;
    let pending = pending(db, migrations).await?;
    let mut applied = Vec::new();
    for migration in ordered.into_iter().filter(|migration| pending.contains(&migration.version)) {
        if apply_one(db, migration)
            .await
            .map_err(|error| error.context(format_args!("migration {} ({})", migration.version, migration.name)))?
        {
            tracing::info!(schema = db.schema(), version = migration.version, name = migration.name, "migrated");
            applied.push(migration.version);
        }
    }
    Ok(applied)
}

pub(crate) async fn pending(db: &Db, migrations: &[Migration]) -> Result<Vec<i64>> {
    let ordered = in_order(migrations)?;
    let exists = match db.engine() {
        Engine::Sqlite => "select 1 as n from sqlite_master where type = 'table' and name = 'schema_migrations'",
        Engine::Postgres => {
            "select 1 as n from pg_tables where schemaname = current_schema() and tablename = 'schema_migrations'"
        }
    };
    let mut applied = HashMap::new();
    if db.query_opt(exists, args![]).await?.is_some() {
        for row in db.query("select version, checksum from schema_migrations", args![]).await? {
            applied.insert(row.get::<i64>("version")?, row.get::<String>("checksum")?);
        }
    }
    let mut pending = Vec::new();
    for migration in ordered {
        match applied.get(&migration.version) {
            Some(checksum) => check(migration, checksum)?,
            None => pending.push(migration.version),
        }
    }
    Ok(pending)
}

/// False when another replica was faster.
async fn apply_one(db: &Db, migration: &Migration) -> Result<bool> {
    let mut tx = locked(db).await?;
    let sql = "select checksum from schema_migrations where version = $1";
    if let Some(row) = tx.query_opt(sql, args![migration.version]).await? {
        check(migration, &row.get::<String>("checksum")?)?;
        return Ok(false);
    }
    for statement in migration.statements(db.engine()) {
        tx.run(Statement::new(statement, Vec::new())?.uncached()).await?;
    }
    tx.execute(
        "insert into schema_migrations(version, name, checksum, applied_ms) values ($1, $2, $3, $4)",
        args![migration.version, migration.name, migration.checksum(), db.env().now_ms()],
    )
    .await?;
    tx.commit().await?;
    Ok(true)
}

/// A transaction that no other migration runs beside. SQLite has one writer at a time anyway.
async fn locked(db: &Db) -> Result<Tx> {
    let mut tx = db.begin().await?;
    if db.engine() == Engine::Postgres {
        // Rewriting a large table, or waiting for another replica that does, may take long.
        tx.execute("set local statement_timeout = '35s'", args![]).await?;
        tx.execute("set local lock_timeout = '35s'", args![]).await?;
        tx.query("select pg_advisory_xact_lock($1)", args![lock_key("migrate", db.schema())]).await?;
    }
    Ok(tx)
}

fn in_order(migrations: &[Migration]) -> Result<Vec<&Migration>> {
    let mut ordered: Vec<&Migration> = migrations.iter().collect();
    ordered.sort_by_key(|migration| migration.version);
    if let Some(twins) = ordered.windows(2).find(|pair| pair[0].version == pair[1].version) {
        let (a, b) = (twins[0], twins[1]);
        return Err(Error::internal(format!("two migrations have version {}: {} and {}", a.version, a.name, b.name)));
    }
    Ok(ordered)
}

fn check(migration: &Migration, applied: &str) -> Result<()> {
    if migration.checksum() == applied {
        return Ok(());
    }
    Err(Error::precondition(format!(
        "migration {} ({}) was changed after it had been applied: add a new one instead",
        migration.version, migration.name
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_a_semicolon_that_ends_a_line() {
        let sql = "-- a comment; with\n-- one;\ncreate table t(id SERIAL_KEY,\n  a TEXT DEFAULT ';');\n\ncreate index i on t(a);";
        let migration = Migration { version: 1, name: "t", sql };
        assert_eq!(
            migration.statements(Engine::Sqlite),
            [
                "create table t(id INTEGER PRIMARY KEY AUTOINCREMENT,\n  a TEXT DEFAULT ';')\n",
                "\ncreate index i on t(a)\n"
            ]
        );
        assert!(migration.statements(Engine::Postgres)[0].contains("BIGSERIAL PRIMARY KEY"));
    }
}
