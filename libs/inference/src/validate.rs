use crate::{Tensor, TensorData, TensorSpec, tensor::element_count};
use fishy_core::{Error, Result};

/// Checks inputs against what a model takes and puts them into the model's order.
///
/// `InvalidArgument` names the input, what came and what is expected.
pub fn check_inputs(specs: &[TensorSpec], inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let mut slots: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
    for input in inputs {
        let Some(index) = specs.iter().position(|spec| spec.name == input.name) else {
            let known = specs.iter().map(|spec| format!("{:?}", spec.name)).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(format!("unknown input {:?}: the model takes {known}", input.name)));
        };
        check(&specs[index], &input)?;
        if slots[index].is_some() {
            return Err(Error::invalid(format!("input {:?} was given twice: give it once", input.name)));
        }
        slots[index] = Some(input);
    }
    slots
        .into_iter()
        .zip(specs)
        .map(|(slot, spec)| {
            slot.ok_or_else(|| {
                Error::invalid(format!(
                    "input {:?} is missing: the model takes it as {} {}",
                    spec.name,
                    spec.datatype,
                    show_shape(&spec.shape)
                ))
            })
        })
        .collect()
}

fn check(spec: &TensorSpec, input: &Tensor) -> Result<()> {
    let name = &input.name;
    let datatype = input.data.datatype();
    if datatype != spec.datatype {
        return Err(Error::invalid(format!(
            "input {name:?} has datatype {datatype}: the model takes {}",
            spec.datatype
        )));
    }
    let fits = input.shape.len() == spec.shape.len()
        && input.shape.iter().zip(&spec.shape).all(|(&came, &takes)| came >= 0 && (takes < 0 || came == takes));
    if !fits {
        return Err(Error::invalid(format!(
            "input {name:?} has shape {}: the model takes {}{}",
            show_shape(&input.shape),
            show_shape(&spec.shape),
            if spec.shape.iter().any(|size| *size < 0) { ", where -1 is any size" } else { "" }
        )));
    }
    let count = input.data.len();
    if element_count(&input.shape) != Some(count) {
        let expected = element_count(&input.shape).map_or_else(|| "too many".to_owned(), |n| n.to_string());
        return Err(Error::invalid(format!(
            "input {name:?} has {count} elements: its shape {} holds {expected}",
            show_shape(&input.shape)
        )));
    }
    // Text crosses into the engine as C strings, which end at the first zero byte.
    if let TensorData::Bytes(texts) = &input.data
        && let Some(index) = texts.iter().position(|text| text.contains('\0'))
    {
        return Err(Error::invalid(format!(
            "input {name:?} has a zero byte in element {index}: the model takes text without any"
        )));
    }
    Ok(())
}

pub(crate) fn show_shape(shape: &[i64]) -> String {
    let sizes = shape.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    format!("[{sizes}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Datatype;
    use fishy_core::ErrorCode;

    fn specs() -> Vec<TensorSpec> {
        vec![
            TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1, 3] },
            TensorSpec { name: "pen".into(), datatype: Datatype::Bytes, shape: vec![-1] },
        ]
    }

    fn x(shape: &[i64], count: usize) -> Tensor {
        Tensor::new("x", shape, TensorData::Fp32(vec![0.0; count]))
    }

    fn pen(text: &str) -> Tensor {
        Tensor::new("pen", [1], TensorData::Bytes(vec![text.to_owned()]))
    }

    #[test]
    fn inputs_are_put_into_the_order_of_the_model() {
        let ordered = check_inputs(&specs(), vec![pen("a"), x(&[1, 3], 3)]).unwrap();
        assert_eq!(ordered, [x(&[1, 3], 3), pen("a")]);
        assert!(check_inputs(&specs(), vec![pen("a"), x(&[0, 3], 0)]).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        let doubles = Tensor::new("x", [1, 3], TensorData::Fp64(vec![0.0; 3]));
        let cases = [
            (vec![pen("a")], r#"input "x" is missing: the model takes it as FP32 [-1,3]"#),
            (
                vec![Tensor::new("z", [1], TensorData::Bool(vec![true]))],
                r#"unknown input "z": the model takes "x", "pen""#,
            ),
            (vec![pen("a"), pen("b")], r#"input "pen" was given twice: give it once"#),
            (vec![doubles], r#"input "x" has datatype FP64: the model takes FP32"#),
            (vec![x(&[3], 3)], r#"input "x" has shape [3]: the model takes [-1,3], where -1 is any size"#),
            (vec![x(&[1, 4], 4)], r#"input "x" has shape [1,4]: the model takes [-1,3], where -1 is any size"#),
            (vec![x(&[-1, 3], 3)], r#"input "x" has shape [-1,3]: the model takes [-1,3], where -1 is any size"#),
            (vec![x(&[2, 3], 5)], r#"input "x" has 5 elements: its shape [2,3] holds 6"#),
            (
                vec![x(&[i64::MAX, 3], 3)],
                r#"input "x" has 3 elements: its shape [9223372036854775807,3] holds too many"#,
            ),
            (vec![pen("a\0b")], r#"input "pen" has a zero byte in element 0: the model takes text without any"#),
        ];
        for (inputs, message) in cases {
            let error = check_inputs(&specs(), inputs).unwrap_err();
            assert_eq!((error.code(), error.message()), (ErrorCode::InvalidArgument, message));
        }
    }
}
