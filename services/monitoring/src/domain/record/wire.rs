//! A record as it comes, read once: what is kept of it is written while it is read, without a tree of values in between.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A line of the prediction stream: see `fishy_contracts::deployment::PredictionRecord`.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub deployment: Cow<'a, str>,
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    pub time_ms: i64,
    #[serde(rename = "revision")]
    _revision: i64,
    #[serde(rename = "received_ms")]
    _received_ms: i64,
    #[serde(rename = "latency_us")]
    _latency_us: u64,
    pub inputs: Numbers,
    pub outputs: Outputs,
    #[serde(default)]
    pub labels: Labels,
}

/// Numbers and nulls of an object as JSON; what is neither is left out.
pub(super) struct Numbers(pub Text);

/// The numbers of an object.
pub(super) struct Outputs(pub BTreeMap<String, f64>);

/// An object of texts as JSON; empty when it has none.
#[derive(Default)]
pub(super) struct Labels(pub Text);

/// A JSON object that is being written, in the order in which its names came.
#[derive(Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    last: String,
    /// Whether a name came after a greater one, or twice.
    pub is_unordered: bool,
}

/// A text that is borrowed from the line where it stands there as it is.
struct Borrowed<'a>(Cow<'a, str>);

/// What a value is for us.
enum Found {
    Number(f64),
    Null,
    Flag(bool),
    Other,
}

impl Found {
    const fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Null | Self::Flag(_) | Self::Other => None,
        }
    }
}

impl Text {
    fn push(&mut self, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
        let is_first = self.bytes.is_empty();
        self.is_unordered |= !is_first && name <= self.last.as_str();
        self.last.clear();
        self.last.push_str(name);
        self.bytes.push(if is_first { b'{' } else { b',' });
        serde_json::to_writer(&mut self.bytes, name)?;
        self.bytes.push(b':');
        serde_json::to_writer(&mut self.bytes, value)
    }

    /// Ends the object.
    fn close(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.push(b'{');
        }
        self.bytes.push(b'}');
    }

    /// The object.
    pub fn into_json(self) -> Result<String, std::string::FromUtf8Error> {
        String::from_utf8(self.bytes)
    }
}

impl<'de> Deserialize<'de> for Borrowed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Borrowed<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Borrowed(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Borrowed(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Texts)
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Found;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("any value")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Found, E> {
                Ok(Found::Number(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
                Ok(Found::Number(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
                Ok(Found::Number(number as f64))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Found, E> {
                Ok(Found::Flag(flag))
            }

            fn visit_unit<E>(self) -> Result<Found, E> {
                Ok(Found::Null)
            }

            fn visit_str<E>(self, _: &str) -> Result<Found, E> {
                Ok(Found::Other)
            }

            /// The only element of a row is a number too.
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
                let first: Option<Found> = items.next_element()?;
                let mut is_alone = true;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    is_alone = false;
                }
                let number = first.and_then(|first| first.number()).filter(|_| is_alone);
                Ok(number.map_or(Found::Other, Found::Number))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Found, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Found::Other)
            }
        }
        deserializer.deserialize_any(Values)
    }
}

/// Reads an object entry by entry.
fn entries<'de, D, T, V>(deserializer: D, add: fn(&mut T, &str, V) -> serde_json::Result<()>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default,
    V: Deserialize<'de>,
{
    struct Entries<T, V>(fn(&mut T, &str, V) -> serde_json::Result<()>);
    impl<'de, T: Default, V: Deserialize<'de>> Visitor<'de> for Entries<T, V> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<T, A::Error> {
            let mut all = T::default();
            while let Some((Borrowed(name), value)) = entries.next_entry::<Borrowed<'de>, V>()? {
                (self.0)(&mut all, &name, value).map_err(A::Error::custom)?;
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Entries(add))
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |text: &mut Text, name: &str, value: Found| match value {
            Found::Number(number) => text.push(name, &number),
            Found::Flag(flag) => text.push(name, &f64::from(u8::from(flag))),
            Found::Null => text.push(name, &()),
            Found::Other => Ok(()),
        };
        let mut text: Text = entries(deserializer, add)?;
        text.close();
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |text: &mut Text, name: &str, Borrowed(value): Borrowed<'de>| text.push(name, &value);
        let mut text: Text = entries(deserializer, add)?;
        if !text.bytes.is_empty() {
            text.close();
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for Outputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |all: &mut BTreeMap<String, f64>, name: &str, value: Found| {
            match value.number() {
                Some(number) => drop(all.insert(name.to_owned(), number)),
                // Of a name that comes twice the last counts.
                None => drop(all.remove(name)),
            }
            Ok(())
        };
        Ok(Self(entries(deserializer, add)?))
    }
}
