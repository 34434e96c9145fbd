use fishy_core::{Error, Result};
use fishy_inference::{Datatype, TensorData, bf16, f16};

/// The elements of one array of a JSON request, flat, in the narrowest form that holds them all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Elements {
    /// Nothing yet.
    #[default]
    Empty,
    Bool(Vec<bool>),
    Int(Vec<i64>),
    /// Numbers; a JSON `null` is NaN.
    Float(Vec<f64>),
    Text(Vec<String>),
    /// Integers of which one is above 2^63 - 1.
    Unsigned(Vec<u64>),
    /// Elements that came in binary, of the type that the request declares.
    Typed(TensorData),
}

const NEGATIVE: &str = "an array with a number above 2^63 - 1 cannot hold a negative one";
const MIXED: &str = "numbers, texts and booleans cannot be mixed in one array";

impl Elements {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bool(v) => v.len(),
            Self::Int(v) => v.len(),
            Self::Float(v) => v.len(),
            Self::Text(v) => v.len(),
            Self::Unsigned(v) => v.len(),
            Self::Typed(v) => v.len(),
        }
    }

    pub(crate) fn push_int(&mut self, value: i64) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Int(vec![value]),
            Self::Int(v) => v.push(value),
            Self::Float(v) => v.push(value as f64),
            Self::Unsigned(v) => v.push(u64::try_from(value).map_err(|_| NEGATIVE)?),
            Self::Bool(_) | Self::Text(_) | Self::Typed(_) => return Err(MIXED),
        }
        Ok(())
    }

    pub(crate) fn push_unsigned(&mut self, value: u64) -> Result<(), &'static str> {
        if let Ok(value) = i64::try_from(value) {
            return self.push_int(value);
        }
        match self {
            Self::Empty => *self = Self::Unsigned(vec![value]),
            Self::Unsigned(v) => v.push(value),
            Self::Float(v) => v.push(value as f64),
            Self::Int(v) => {
                let mut all: Vec<u64> =
                    v.iter().map(|v| u64::try_from(*v).map_err(|_| NEGATIVE)).collect::<Result<_, _>>()?;
                all.push(value);
                *self = Self::Unsigned(all);
            }
            Self::Bool(_) | Self::Text(_) | Self::Typed(_) => return Err(MIXED),
        }
        Ok(())
    }

    pub(crate) fn push_float(&mut self, value: f64) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Float(vec![value]),
            Self::Float(v) => v.push(value),
            Self::Int(v) => {
                let mut floats: Vec<f64> = v.iter().map(|value| *value as f64).collect();
                floats.push(value);
                *self = Self::Float(floats);
            }
            Self::Unsigned(v) => {
                let mut floats: Vec<f64> = v.iter().map(|value| *value as f64).collect();
                floats.push(value);
                *self = Self::Float(floats);
            }
            Self::Bool(_) | Self::Text(_) | Self::Typed(_) => return Err(MIXED),
        }
        Ok(())
    }

    pub(crate) fn push_bool(&mut self, value: bool) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Bool(vec![value]),
            Self::Bool(v) => v.push(value),
            _ => return Err(MIXED),
        }
        Ok(())
    }

    pub(crate) fn push_text(&mut self, value: String) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Text(vec![value]),
            Self::Text(v) => v.push(value),
            _ => return Err(MIXED),
        }
        Ok(())
    }

    /// A missing value: NaN among numbers, which neither a text nor a boolean can be.
    pub(crate) fn push_null(&mut self) -> Result<(), &'static str> {
        match self {
            Self::Bool(_) | Self::Text(_) | Self::Typed(_) => {
                Err("a missing value (null) is possible among numbers only")
            }
            _ => self.push_float(f64::NAN),
        }
    }

    /// The elements as the type a model takes. Numbers become floats and whole floats become integers; nothing else changes its kind.
    pub(crate) fn into_data(self, datatype: Datatype, what: &dyn std::fmt::Display) -> Result<TensorData> {
        let this = match self {
            Self::Typed(data) if data.datatype() == datatype => return Ok(data),
            Self::Typed(data) => Self::of_typed(data),
            other => other,
        };
        this.cast(datatype, what)
    }

    fn cast(self, datatype: Datatype, what: &dyn std::fmt::Display) -> Result<TensorData> {
        let refuse = |has: &str| {
            Error::invalid(format!("{what} holds {has}, which cannot be {datatype}, the type that the model takes"))
        };
        if datatype == Datatype::Bool {
            return match self {
                Self::Bool(v) => Ok(TensorData::Bool(v)),
                Self::Empty => Ok(TensorData::Bool(Vec::new())),
                other => Err(refuse(other.kind())),
            };
        }
        if datatype == Datatype::Bytes {
            return match self {
                Self::Text(v) => Ok(TensorData::Bytes(v)),
                Self::Empty => Ok(TensorData::Bytes(Vec::new())),
                other => Err(refuse(other.kind())),
            };
        }
        if let Self::Text(_) = self {
            return Err(refuse("texts"));
        }
        let outside =
            |value: &dyn std::fmt::Display| Error::invalid(format!("{what} holds {value}, which is no {datatype}"));
        macro_rules! whole {
            ($variant:ident, $kind:ty) => {{
                if let Self::Unsigned(values) = self {
                    let cast = values.into_iter().map(|v| <$kind>::try_from(v).map_err(|_| outside(&v)));
                    return Ok(TensorData::$variant(cast.collect::<Result<_>>()?));
                }
                let ints = self.into_ints().map_err(|value| outside(&value))?;
                let cast = ints.into_iter().map(|v| <$kind>::try_from(v).map_err(|_| outside(&v)));
                TensorData::$variant(cast.collect::<Result<_>>()?)
            }};
        }
        Ok(match datatype {
            Datatype::Fp16 => TensorData::Fp16(self.into_floats().into_iter().map(f16::from_f64).collect()),
            Datatype::Bf16 => TensorData::Bf16(self.into_floats().into_iter().map(bf16::from_f64).collect()),
            Datatype::Fp32 => TensorData::Fp32(self.into_floats().into_iter().map(|v| v as f32).collect()),
            Datatype::Fp64 => TensorData::Fp64(self.into_floats()),
            Datatype::Int8 => whole!(Int8, i8),
            Datatype::Int16 => whole!(Int16, i16),
            Datatype::Int32 => whole!(Int32, i32),
            Datatype::Int64 => whole!(Int64, i64),
            Datatype::Uint8 => whole!(Uint8, u8),
            Datatype::Uint16 => whole!(Uint16, u16),
            Datatype::Uint32 => whole!(Uint32, u32),
            Datatype::Uint64 => whole!(Uint64, u64),
            Datatype::Bool | Datatype::Bytes => return Err(refuse(self.kind())),
        })
    }

    /// What the elements are, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::Bool(_) => "booleans",
            Self::Int(_) | Self::Unsigned(_) => "integers",
            Self::Float(_) => "numbers",
            Self::Text(_) => "texts",
            Self::Typed(data) => match data.datatype() {
                Datatype::Bool => "booleans",
                Datatype::Bytes => "texts",
                Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => "numbers",
                _ => "integers",
            },
        }
    }

    /// Elements that came in binary in the widest form of their kind.
    pub(crate) fn of_typed(data: TensorData) -> Self {
        fn ints<T: Into<i64>>(values: Vec<T>) -> Elements {
            Elements::Int(values.into_iter().map(Into::into).collect())
        }
        fn floats<T: Into<f64>>(values: Vec<T>) -> Elements {
            Elements::Float(values.into_iter().map(Into::into).collect())
        }
        match data {
            TensorData::Bool(v) => Self::Bool(v),
            TensorData::Int8(v) => ints(v),
            TensorData::Int16(v) => ints(v),
            TensorData::Int32(v) => ints(v),
            TensorData::Int64(v) => Self::Int(v),
            TensorData::Uint8(v) => ints(v),
            TensorData::Uint16(v) => ints(v),
            TensorData::Uint32(v) => ints(v),
            TensorData::Uint64(v) => Self::Unsigned(v),
            TensorData::Fp16(v) => floats(v),
            TensorData::Bf16(v) => floats(v),
            TensorData::Fp32(v) => floats(v),
            TensorData::Fp64(v) => Self::Float(v),
            TensorData::Bytes(v) => Self::Text(v),
        }
    }

    fn into_floats(self) -> Vec<f64> {
        match self {
            Self::Float(v) => v,
            Self::Int(v) => v.into_iter().map(|v| v as f64).collect(),
            Self::Bool(v) => v.into_iter().map(f64::from).collect(),
            Self::Unsigned(v) => v.into_iter().map(|v| v as f64).collect(),
            Self::Empty | Self::Text(_) | Self::Typed(_) => Vec::new(),
        }
    }

    /// Whole numbers, or the first that is not one.
    fn into_ints(self) -> Result<Vec<i64>, f64> {
        match self {
            Self::Int(v) => Ok(v),
            Self::Bool(v) => Ok(v.into_iter().map(i64::from).collect()),
            Self::Float(v) => {
                let whole = |v: f64| if v.fract() == 0.0 && v.abs() < 9e15 { Ok(v as i64) } else { Err(v) };
                v.into_iter().map(whole).collect()
            }
            Self::Empty | Self::Text(_) | Self::Unsigned(_) | Self::Typed(_) => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_become_floats_when_a_float_or_a_null_comes() {
        let mut elements = Elements::default();
        elements.push_int(1).unwrap();
        elements.push_float(1.5).unwrap();
        elements.push_null().unwrap();
        let Elements::Float(values) = &elements else { panic!("{elements:?}") };
        assert_eq!(values[..2], [1.0, 1.5]);
        assert!(values[2].is_nan());
        assert!(elements.push_bool(true).is_err() && elements.push_text("x".into()).is_err());
    }

    #[test]
    fn values_that_do_not_fit_the_models_type_are_named() {
        let error = Elements::Int(vec![1, 300]).into_data(Datatype::Uint8, &"input \"x\"").unwrap_err();
        assert_eq!(error.message(), "input \"x\" holds 300, which is no UINT8");
        assert!(Elements::Float(vec![1.5]).into_data(Datatype::Int64, &"x").is_err());
        assert!(Elements::Float(vec![f64::NAN]).into_data(Datatype::Int64, &"x").is_err());
        assert!(Elements::Text(vec!["1".into()]).into_data(Datatype::Fp32, &"x").is_err());
        let negative = Elements::Int(vec![-1]).into_data(Datatype::Uint64, &"x");
        assert_eq!(negative.unwrap_err().message(), "x holds -1, which is no UINT64");
        let whole = Elements::Float(vec![2.0]).into_data(Datatype::Int64, &"x").unwrap();
        assert_eq!(whole, TensorData::Int64(vec![2]));
    }

    #[test]
    fn the_whole_range_of_64_bits_without_a_sign_is_held() {
        let mut elements = Elements::default();
        elements.push_unsigned(1).unwrap();
        elements.push_unsigned(u64::MAX).unwrap();
        assert!(elements.push_int(-1).is_err());
        let data = elements.into_data(Datatype::Uint64, &"x").unwrap();
        assert_eq!(data, TensorData::Uint64(vec![1, u64::MAX]));
        assert!(Elements::Unsigned(vec![u64::MAX]).into_data(Datatype::Int64, &"x").is_err());
    }

    #[test]
    fn binary_elements_of_another_type_are_cast_as_numbers_are() {
        let typed = |data| Elements::Typed(data).into_data(Datatype::Fp32, &"x");
        let expected = TensorData::Fp32(vec![1.5]);
        assert_eq!(typed(TensorData::Fp32(vec![1.5])).unwrap(), expected);
        assert_eq!(typed(TensorData::Fp64(vec![1.5])).unwrap(), expected);
        assert_eq!(typed(TensorData::Fp16(vec![f16::from_f32(1.5)])).unwrap(), expected);
        assert!(typed(TensorData::Bytes(vec!["a".into()])).is_err());
    }
}
