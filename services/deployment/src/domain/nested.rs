use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::Elements;

/// Deeper arrays are no tensors that anybody sends.
const MAX_DEPTH: usize = 16;

/// A JSON array of any depth as flat elements, with the shape that its brackets show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Nested {
    pub(crate) elements: Elements,
    /// The sizes by depth; `None` when the rows of some depth differ in length or depth.
    pub(crate) shape: Option<Vec<i64>>,
}

#[derive(Default)]
struct Builder {
    elements: Elements,
    sizes: Vec<Option<usize>>,
    depth: Option<usize>,
    is_ragged: bool,
}

struct Level<'a> {
    builder: &'a mut Builder,
    depth: usize,
}

impl Builder {
    fn leaf<E: Error>(&mut self, depth: usize, pushed: Result<(), &'static str>) -> Result<(), E> {
        self.is_ragged |= *self.depth.get_or_insert(depth) != depth;
        pushed.map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("numbers, texts or booleans, in arrays of any depth")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let pushed = self.builder.elements.push_bool(value);
        self.builder.leaf(self.depth, pushed)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let pushed = self.builder.elements.push_int(value);
        self.builder.leaf(self.depth, pushed)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let pushed = self.builder.elements.push_unsigned(value);
        self.builder.leaf(self.depth, pushed)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let pushed = self.builder.elements.push_float(value);
        self.builder.leaf(self.depth, pushed)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<(), E> {
        let pushed = self.builder.elements.push_text(value);
        self.builder.leaf(self.depth, pushed)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        let pushed = self.builder.elements.push_null();
        self.builder.leaf(self.depth, pushed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { builder, depth } = self;
        if depth >= MAX_DEPTH {
            return Err(A::Error::custom(format!("arrays are nested deeper than {MAX_DEPTH}")));
        }
        if builder.sizes.len() <= depth {
            builder.sizes.push(None);
        }
        let mut count = 0;
        while seq.next_element_seed(Level { builder: &mut *builder, depth: depth + 1 })?.is_some() {
            count += 1;
        }
        builder.is_ragged |= *builder.sizes[depth].get_or_insert(count) != count;
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut builder = Builder::default();
        Level { builder: &mut builder, depth: 0 }.deserialize(deserializer)?;
        // A scalar beside an array of the same depth leaves more sizes than the depth of the scalars.
        let is_ragged = builder.is_ragged || builder.depth.is_some_and(|depth| depth != builder.sizes.len());
        let sizes = builder.sizes.into_iter().map(|size| size.unwrap_or(0) as i64);
        Ok(Self { elements: builder.elements, shape: (!is_ragged).then(|| sizes.collect()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Nested {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn brackets_show_the_shape_and_data_comes_flat() {
        let nested = read("[[1, 2.5], [3, null]]");
        assert_eq!(nested.shape.as_deref(), Some(&[2, 2][..]));
        assert_eq!(nested.elements.len(), 4);
        assert_eq!(read("[[1],[2]]").elements, Elements::Int(vec![1, 2]));
        assert_eq!(read("[]").shape.as_deref(), Some(&[0][..]));
        assert_eq!(read("7").shape.as_deref(), Some(&[][..]));
    }

    #[test]
    fn ragged_arrays_have_no_shape() {
        for ragged in ["[[1,2],[3]]", "[1,[2]]", "[[1],2]", "[[], 1]"] {
            assert_eq!(read(ragged).shape, None, "{ragged}");
        }
    }

    #[test]
    fn objects_and_mixtures_are_errors_and_depth_is_bounded() {
        for bad in [r#"[{"a":1}]"#, r#"[1,"a"]"#, "[true,1]", "[-1,18446744073709551615]"] {
            assert!(serde_json::from_str::<Nested>(bad).is_err(), "{bad}");
        }
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(serde_json::from_str::<Nested>(&deep).is_err());
    }
}
