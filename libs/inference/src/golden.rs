use crate::{Tensor, TensorData, validate::show_shape};
use fishy_core::{Error, Result};
use std::fmt::Display;

/// Compares outputs with those that were recorded; see [`Model::reproduces`](crate::Model::reproduces).
pub(crate) fn compare(outputs: &[Tensor], golden: &[Tensor], rtol: f64, atol: f64) -> Result<()> {
    for expected in golden {
        let name = &expected.name;
        let output = outputs.iter().find(|output| output.name == *name).ok_or_else(|| {
            let known = outputs.iter().map(|output| format!("{:?}", output.name)).collect::<Vec<_>>().join(", ");
            Error::precondition(format!("golden output {name:?} is not one of the model's: it gives {known}"))
        })?;
        let (came, wanted) = (output.data.datatype(), expected.data.datatype());
        if came != wanted {
            return Err(Error::precondition(format!(
                "output {name:?} has datatype {came}: the golden one has {wanted}"
            )));
        }
        if output.shape != expected.shape || output.data.len() != expected.data.len() {
            return Err(Error::precondition(format!(
                "output {name:?} has shape {}: the golden one has {} with {} elements",
                show_shape(&output.shape),
                show_shape(&expected.shape),
                expected.data.len()
            )));
        }
        compare_data(&output.data, &expected.data, rtol, atol)
            .map_err(|error| error.context(format_args!("output {name:?}")))?;
    }
    Ok(())
}

#[expect(clippy::float_cmp, reason = "infinities are close to nothing but themselves")]
fn is_close(value: f64, golden: f64, rtol: f64, atol: f64) -> bool {
    if golden.is_finite() {
        (value - golden).abs() <= atol + rtol * golden.abs()
    } else {
        value == golden || (value.is_nan() && golden.is_nan())
    }
}

fn compare_data(output: &TensorData, golden: &TensorData, rtol: f64, atol: f64) -> Result<()> {
    use TensorData::{Bf16, Bool, Bytes, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    match (output, golden) {
        (Fp16(a), Fp16(b)) => each(a, b, |a, b| is_close(f64::from(*a), f64::from(*b), rtol, atol)),
        (Bf16(a), Bf16(b)) => each(a, b, |a, b| is_close(f64::from(*a), f64::from(*b), rtol, atol)),
        (Fp32(a), Fp32(b)) => each(a, b, |a, b| is_close(f64::from(*a), f64::from(*b), rtol, atol)),
        (Fp64(a), Fp64(b)) => each(a, b, |a, b| is_close(*a, *b, rtol, atol)),
        (Bool(a), Bool(b)) => each(a, b, bool::eq),
        (Int8(a), Int8(b)) => each(a, b, i8::eq),
        (Int16(a), Int16(b)) => each(a, b, i16::eq),
        (Int32(a), Int32(b)) => each(a, b, i32::eq),
        (Int64(a), Int64(b)) => each(a, b, i64::eq),
        (Uint8(a), Uint8(b)) => each(a, b, u8::eq),
        (Uint16(a), Uint16(b)) => each(a, b, u16::eq),
        (Uint32(a), Uint32(b)) => each(a, b, u32::eq),
        (Uint64(a), Uint64(b)) => each(a, b, u64::eq),
        (Bytes(a), Bytes(b)) => each(a, b, String::eq),
        _ => Err(Error::internal("two datatypes were compared")),
    }
}

fn each<T: Display>(output: &[T], golden: &[T], is_equal: impl Fn(&T, &T) -> bool) -> Result<()> {
    match output.iter().zip(golden).position(|(a, b)| !is_equal(a, b)) {
        None => Ok(()),
        Some(index) => Err(Error::precondition(format!(
            "element {index} is {}: the golden one is {}",
            output[index], golden[index]
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> Vec<Tensor> {
        vec![Tensor::new("y", [values.len() as i64], TensorData::Fp64(values.to_vec()))]
    }

    #[test]
    fn floats_may_differ_by_the_tolerances_and_no_more() {
        let golden = floats(&[100.0, f64::NAN, f64::INFINITY]);
        assert!(compare(&floats(&[100.9, f64::NAN, f64::INFINITY]), &golden, 0.01, 0.0).is_ok());
        assert!(compare(&floats(&[100.9, f64::NAN, f64::INFINITY]), &golden, 0.0, 1.0).is_ok());
        let error = compare(&floats(&[101.1, f64::NAN, f64::INFINITY]), &golden, 0.01, 0.0).unwrap_err();
        assert_eq!(error.message(), r#"output "y": element 0 is 101.1: the golden one is 100"#);
        assert!(compare(&floats(&[100.0, 0.0, f64::INFINITY]), &golden, 1.0, 1.0).is_err());
        assert!(compare(&floats(&[100.0, f64::NAN, 5.0]), &golden, 1.0, 1.0).is_err());
        assert!(compare(&floats(&[f64::NAN, f64::NAN, f64::INFINITY]), &golden, 1.0, 1.0).is_err());
    }

    #[test]
    fn names_datatypes_shapes_and_texts_must_be_equal() {
        let text = |value: &str| vec![Tensor::new("y", [1], TensorData::Bytes(vec![value.to_owned()]))];
        assert!(compare(&text("a"), &text("a"), 1.0, 1.0).is_ok());
        assert!(compare(&text("a"), &text("b"), 1.0, 1.0).is_err());
        assert!(compare(&text("a"), &floats(&[0.0]), 1.0, 1.0).is_err());
        assert!(compare(&floats(&[0.0]), &floats(&[0.0, 0.0]), 1.0, 1.0).is_err());
        assert!(compare(&[], &floats(&[0.0]), 1.0, 1.0).is_err());
    }
}
