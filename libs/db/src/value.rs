use fishy_core::{Error, Result};

/// A value that goes into a statement or comes out of a row. A NULL has a type, since PostgreSQL asks for one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// BIGINT.
    I64(Option<i64>),
    /// DOUBLE PRECISION. SQLite keeps NaN as NULL, PostgreSQL keeps it as NaN: store neither.
    F64(Option<f64>),
    /// TEXT, without NUL characters: PostgreSQL has no place for them, so they are refused on both engines.
    Text(Option<String>),
    /// BYTEA.
    Bytes(Option<Vec<u8>>),
}

impl Value {
    /// Whether it is a NULL of any type.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::I64(None) | Self::F64(None) | Self::Text(None) | Self::Bytes(None))
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::I64(_) => "BIGINT",
            Self::F64(_) => "DOUBLE PRECISION",
            Self::Text(_) => "TEXT",
            Self::Bytes(_) => "BYTEA",
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident($convert:expr)),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                let convert: fn($from) -> _ = $convert;
                Self::$variant(Some(convert(value)))
            }
        }

        impl From<Option<$from>> for Value {
            fn from(value: Option<$from>) -> Self {
                let convert: fn($from) -> _ = $convert;
                Self::$variant(value.map(convert))
            }
        }
    )*};
}

value_from! {
    i64 => I64(|value| value),
    i32 => I64(i64::from),
    u32 => I64(i64::from),
    u64 => I64(|value| value as i64),
    usize => I64(|value| value as i64),
    bool => I64(i64::from),
    f64 => F64(|value| value),
    f32 => F64(f64::from),
    String => Text(|value| value),
    Vec<u8> => Bytes(|value| value),
}

// Borrowed texts and bytes have a lifetime, which the macro above cannot say in its function pointers.
macro_rules! value_from_borrowed {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<&$from> for Value {
            fn from(value: &$from) -> Self {
                Self::$variant(Some(value.into()))
            }
        }

        impl From<Option<&$from>> for Value {
            fn from(value: Option<&$from>) -> Self {
                Self::$variant(value.map(Into::into))
            }
        }
    )*};
}

value_from_borrowed! { str => Text, String => Text, [u8] => Bytes }

/// What [`Row::get`](crate::Row::get) can give: `i64`, `f64`, `bool`, `String`, `Vec<u8>`, and `Option` of those.
pub trait FromValue: Sized {
    /// Takes the value out; an error when it is NULL or of another type.
    fn from_value(value: &Value) -> Result<Self>;
}

fn mismatch(value: &Value, wanted: &str) -> Error {
    let found = if value.is_null() { "NULL" } else { value.kind() };
    Error::internal(format!("expected {wanted}, found {found}"))
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Result<Self> {
        match value {
            Value::I64(Some(number)) => Ok(*number),
            other => Err(mismatch(other, "BIGINT")),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self> {
        match value {
            Value::F64(Some(number)) => Ok(*number),
            Value::I64(Some(number)) => Ok(*number as Self),
            other => Err(mismatch(other, "DOUBLE PRECISION")),
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self> {
        match value {
            Value::Text(Some(text)) => Ok(text.clone()),
            other => Err(mismatch(other, "TEXT")),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Result<Self> {
        match value {
            Value::Bytes(Some(bytes)) => Ok(bytes.clone()),
            other => Err(mismatch(other, "BYTEA")),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Self> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_keep_the_type_of_their_option() {
        assert_eq!(
            crate::args![1, None::<f64>, "a", None::<&str>, true, Some(vec![1_u8]), Some(&"b".to_owned())],
            vec![
                Value::I64(Some(1)),
                Value::F64(None),
                Value::Text(Some("a".into())),
                Value::Text(None),
                Value::I64(Some(1)),
                Value::Bytes(Some(vec![1])),
                Value::Text(Some("b".into())),
            ]
        );
        assert!(crate::args![].is_empty());
    }

    #[test]
    fn a_null_is_none_of_any_type_and_an_error_where_a_value_is_needed() {
        assert_eq!(Option::<i64>::from_value(&Value::Text(None)).unwrap(), None);
        assert_eq!(i64::from_value(&Value::Text(None)).unwrap_err().message(), "expected BIGINT, found NULL");
        assert_eq!(f64::from_value(&Value::I64(Some(2))).unwrap().to_bits(), 2.0_f64.to_bits());
        assert!(String::from_value(&Value::I64(Some(2))).is_err());
    }
}
