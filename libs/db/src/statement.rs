use fishy_core::{Error, Result};

use crate::row::Row;
use crate::value::Value;

/// One SQL statement with its arguments, ready for either engine.
#[derive(Debug)]
pub(crate) struct Statement {
    pub sql: String,
    pub args: Vec<Value>,
    /// Whether the answer is rows, or only how many rows changed.
    pub wants_rows: bool,
    /// Whether the engine should keep the prepared statement: not for texts that hardly come twice.
    pub is_cached: bool,
    /// SQLite: how many arguments one execution takes, where the text is executed again and again for all of them.
    pub args_each: Option<usize>,
}

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub changed: u64,
    pub rows: Vec<Row>,
}

impl Statement {
    pub fn new(sql: impl Into<String>, args: Vec<Value>) -> Result<Self> {
        for arg in &args {
            if matches!(arg, Value::Text(Some(text)) if text.contains('\0')) {
                return Err(Error::invalid("a text with a NUL character cannot be stored"));
            }
        }
        Ok(Self { sql: sql.into(), args, wants_rows: false, is_cached: true, args_each: None })
    }

    pub fn with_rows(mut self) -> Self {
        self.wants_rows = true;
        self
    }

    pub fn uncached(mut self) -> Self {
        self.is_cached = false;
        self
    }

    pub fn for_each(mut self, args: usize) -> Self {
        self.args_each = Some(args);
        self
    }
}
