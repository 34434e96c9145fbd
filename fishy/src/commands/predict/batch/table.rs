use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use fishy_inference::TensorData;

use super::ask::Predicted;

/// Columns of the input beside the predictions: an output of one number a row is a column of its name, one of several has
/// a column for each (`name_0`, or `name_key` where they have names).
pub fn beside(rows: &RecordBatch, keep: &[String], predicted: Vec<Predicted>) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for name in keep {
        let column = rows.column_by_name(name).with_context(|| format!("no column {name}"))?;
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(Arc::clone(column));
    }
    for Predicted { tensor, keys } in predicted {
        if tensor.shape.first() != Some(&(rows.num_rows() as i64)) {
            bail!(
                "output {:?} has the shape {:?} for {} rows: only models with a row for each row can be run over a file",
                tensor.name,
                tensor.shape,
                rows.num_rows()
            );
        }
        let width = tensor.data.len() / rows.num_rows();
        for element in 0..width {
            let key = keys.as_ref().and_then(|keys| keys.get(element).cloned()).unwrap_or_else(|| element.to_string());
            let name = if width == 1 { tensor.name.clone() } else { format!("{}_{key}", tensor.name) };
            let column = column(&tensor.data, element, width);
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Every `width`th element from `element` on.
fn column(data: &TensorData, element: usize, width: usize) -> ArrayRef {
    macro_rules! every {
        ($values:expr, $array:ty) => {
            Arc::new(
                $values
                    .iter()
                    .skip(element)
                    .step_by(width)
                    .copied()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .collect::<$array>(),
            )
        };
    }
    match data {
        TensorData::Bool(values) => {
            let picked: Vec<bool> = values.iter().skip(element).step_by(width).copied().collect();
            Arc::new(BooleanArray::from(picked))
        }
        TensorData::Int8(values) => every!(values, Int8Array),
        TensorData::Int16(values) => every!(values, Int16Array),
        TensorData::Int32(values) => every!(values, Int32Array),
        TensorData::Int64(values) => every!(values, Int64Array),
        TensorData::Uint8(values) => every!(values, UInt8Array),
        TensorData::Uint16(values) => every!(values, UInt16Array),
        TensorData::Uint32(values) => every!(values, UInt32Array),
        TensorData::Uint64(values) => every!(values, UInt64Array),
        TensorData::Fp32(values) => every!(values, Float32Array),
        TensorData::Fp64(values) => every!(values, Float64Array),
        TensorData::Fp16(values) => Arc::new(
            values.iter().skip(element).step_by(width).map(|value| f32::from(*value)).collect::<Float32Array>(),
        ),
        TensorData::Bf16(values) => Arc::new(
            values.iter().skip(element).step_by(width).map(|value| f32::from(*value)).collect::<Float32Array>(),
        ),
        TensorData::Bytes(texts) => {
            Arc::new(texts.iter().skip(element).step_by(width).map(|text| Some(text.as_str())).collect::<StringArray>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_inference::Tensor;

    #[test]
    fn outputs_become_columns_with_the_names_of_their_elements() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let rows = RecordBatch::try_from_iter([("pen", ids)]).unwrap();
        let probabilities = Tensor::new("p", [2, 2], TensorData::Fp32(vec![0.25, 0.75, 0.5, 0.5]));
        let label = Tensor::new("label", [2], TensorData::Bytes(vec!["lice".into(), "none".into()]));
        let keys = Some(vec!["none".to_owned(), "lice".to_owned()]);
        let predicted = vec![Predicted { tensor: label, keys: None }, Predicted { tensor: probabilities, keys }];
        let found = beside(&rows, &["pen".into()], predicted).unwrap();
        let names: Vec<String> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["pen", "label", "p_none", "p_lice"]);
        let lice: ArrayRef = Arc::new(Float32Array::from(vec![0.75, 0.5]));
        assert_eq!(found.column(3), &lice);
        let lone = Tensor::new("y", [1], TensorData::Fp32(vec![1.0]));
        assert!(beside(&rows, &[], vec![Predicted { tensor: lone, keys: None }]).is_err());
    }
}
