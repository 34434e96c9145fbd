#![doc = include_str!("../README.md")]

mod batch;
mod db;
mod error;
mod leader;
mod migrate;
mod outbox;
mod postgres;
mod relay;
mod row;
mod sqlite;
mod statement;
mod tx;
mod value;

pub use batch::Batch;
pub use db::{Db, DbOptions, Engine};
pub use leader::Leader;
pub use migrate::Migration;
pub use outbox::OUTBOX;
pub use relay::{Relay, RelayOptions};
pub use row::Row;
pub use tx::Tx;
pub use value::{FromValue, Value};

/// Arguments of a statement, in the order of `$1`, `$2` …: `args![id, 3, None::<f64>]` is a `Vec<Value>`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        ::std::vec::Vec::<$crate::Value>::from([$($crate::Value::from($value)),*])
    };
}
