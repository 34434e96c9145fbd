use std::collections::BTreeMap;

use fishy_contracts::deployment::GRAPH_PATH_LABEL;
use fishy_inference::{Tensor, TensorData};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};

use super::Layout;

/// An array of more elements a row is not recorded value by value: an image belongs in an object store.
const MAX_RECORDED_ELEMENTS: usize = 4096;

/// The rows of one answered request, as they are recorded: the JSON of
/// [`PredictionRecord`](fishy_contracts::deployment::PredictionRecord), written without building one.
pub(crate) struct Recorded<'a> {
    /// A shadow answered.
    pub(crate) is_shadow: bool,
    pub(crate) id: &'a str,
    pub(crate) deployment: &'a str,
    pub(crate) revision: i64,
    pub(crate) version: &'a str,
    pub(crate) time_ms: i64,
    pub(crate) received_ms: i64,
    pub(crate) latency_us: u64,
    pub(crate) layout: &'a Layout,
    pub(crate) inputs: &'a [Tensor],
    pub(crate) outputs: &'a [Tensor],
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// For each row of a graph, which nodes answered; empty for a model.
    pub(crate) paths: &'a [String],
    pub(crate) rows: usize,
}

/// One of these rows.
pub(crate) struct RowOf<'a>(pub(crate) &'a Recorded<'a>, pub(crate) usize);

impl Serialize for RowOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(all, row) = self;
        let mut map = serializer.serialize_map(None)?;
        if all.is_shadow {
            map.serialize_entry("is_shadow", &true)?;
        }
        match row {
            0 => map.serialize_entry("id", all.id)?,
            row => map.serialize_entry("id", &format_args!("{}/{row}", all.id))?,
        }
        map.serialize_entry("deployment", all.deployment)?;
        map.serialize_entry("revision", &all.revision)?;
        map.serialize_entry("version", all.version)?;
        map.serialize_entry("time_ms", &all.time_ms)?;
        map.serialize_entry("received_ms", &all.received_ms)?;
        map.serialize_entry("latency_us", &all.latency_us)?;
        map.serialize_entry("inputs", &Inputs(all, *row))?;
        let (outputs, rows) = (all.outputs, all.rows);
        let outputs = OutputsOfRow { outputs, rows, row: *row, max_elements: MAX_RECORDED_ELEMENTS };
        map.serialize_entry("outputs", &outputs)?;
        match all.paths.get(*row) {
            Some(path) => map.serialize_entry("labels", &LabelsWithPath(all.labels, path))?,
            None if all.labels.is_empty() => {}
            None => map.serialize_entry("labels", all.labels)?,
        }
        map.end()
    }
}

/// How the line of a shadow's record begins.
const SHADOW: &str = r#"{"is_shadow":true,"#;

/// The lines but for those of shadows.
pub(crate) fn without_shadows(lines: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&lines) else { return lines };
    // Most have none: they are not walked through line by line.
    if !text.starts_with(SHADOW) && !text.contains("\n{\"is_shadow\":true,") {
        return lines;
    }
    text.split_inclusive('\n').filter(|line| !line.starts_with(SHADOW)).collect::<String>().into_bytes()
}

struct LabelsWithPath<'a>(&'a BTreeMap<String, String>, &'a str);

impl Serialize for LabelsWithPath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.iter().filter(|(name, _)| *name != GRAPH_PATH_LABEL) {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry(GRAPH_PATH_LABEL, self.1)?;
        map.end()
    }
}

struct Inputs<'a>(&'a Recorded<'a>, usize);

/// The outputs of one row by name: one value, or an array.
pub(crate) struct OutputsOfRow<'a> {
    pub(crate) outputs: &'a [Tensor],
    pub(crate) rows: usize,
    pub(crate) row: usize,
    /// A longer array is only counted.
    pub(crate) max_elements: usize,
}

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(all, row) = self;
        let mut map = serializer.serialize_map(None)?;
        for (index, tensor) in all.inputs.iter().enumerate() {
            let names = all.layout.features_of(index);
            let stride = tensor.data.len() / all.rows.max(1);
            let begin = row * stride;
            if names.len() == stride {
                for (offset, name) in names.iter().enumerate() {
                    map.serialize_entry(name, &Element(&tensor.data, begin + offset))?;
                }
            } else if let Some(name) = names.first() {
                let max_elements = MAX_RECORDED_ELEMENTS;
                map.serialize_entry(name, &Slice { data: &tensor.data, begin, len: stride, max_elements })?;
            }
        }
        map.end()
    }
}

impl Serialize for OutputsOfRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { outputs, rows, row, max_elements } = *self;
        let mut map = serializer.serialize_map(Some(outputs.len()))?;
        for tensor in outputs {
            // An output that has no row for each row of the input belongs to all of them.
            let is_by_row = rows == 1 || tensor.shape.first() == Some(&(rows as i64));
            let len = if is_by_row { tensor.data.len() / rows.max(1) } else { tensor.data.len() };
            let begin = if is_by_row { row * len } else { 0 };
            match len {
                1 => map.serialize_entry(&tensor.name, &Element(&tensor.data, begin))?,
                len => map.serialize_entry(&tensor.name, &Slice { data: &tensor.data, begin, len, max_elements })?,
            }
        }
        map.end()
    }
}

/// One element; NaN and infinities become null, since JSON has no word for them.
pub(crate) struct Element<'a>(pub(crate) &'a TensorData, pub(crate) usize);

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! element {
            ($($variant:ident),*) => {
                match self.0 {
                    $(TensorData::$variant(values) => values.get(self.1).map(|v| v.serialize(serializer)),)*
                    TensorData::Fp16(values) => values.get(self.1).map(|v| f32::from(*v).serialize(serializer)),
                    TensorData::Bf16(values) => values.get(self.1).map(|v| f32::from(*v).serialize(serializer)),
                }
            };
        }
        element!(Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Fp32, Fp64, Bytes)
            .unwrap_or_else(|| Err(S::Error::custom("an element outside its tensor")))
    }
}

struct Slice<'a> {
    data: &'a TensorData,
    begin: usize,
    len: usize,
    max_elements: usize,
}

impl Serialize for Slice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.len > self.max_elements {
            return serializer.collect_str(&format_args!("{} {} values, not recorded", self.len, self.data.datatype()));
        }
        serializer.collect_seq((self.begin..self.begin + self.len).map(|index| Element(self.data, index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signature::{Column, Kind, Signature};
    use fishy_contracts::deployment::PredictionRecord;
    use fishy_inference::{Datatype, TensorSpec};
    use serde_json::json;

    #[test]
    fn a_row_reads_back_as_the_contracts_record() {
        let spec =
            |name: &str, shape: &[i64]| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: shape.into() };
        let column = |name: &str| Column { name: name.into(), kind: Kind::Double, is_required: true };
        let signature = Signature::Columns(vec![column("t"), column("s")]);
        let layout =
            Layout::new(&[spec("x", &[-1, 2])], &[spec("y", &[-1, 1]), spec("p", &[-1, 2])], Some(&signature)).unwrap();
        let fp32 =
            |name: &str, shape: &[i64], values: &[f32]| Tensor::new(name, shape, TensorData::Fp32(values.into()));
        let labels = BTreeMap::from([("pen".to_owned(), "4".to_owned())]);
        let mut recorded = Recorded {
            is_shadow: false,
            id: "p",
            deployment: "oxygen",
            revision: 3,
            version: "7",
            time_ms: 1,
            received_ms: 2,
            latency_us: 5,
            layout: &layout,
            inputs: &[fp32("x", &[2, 2], &[11.2, 30.0, f32::NAN, 31.0])],
            outputs: &[fp32("y", &[2, 1], &[8.5, 9.0]), fp32("p", &[2, 2], &[0.1, 0.9, 0.2, 0.8])],
            labels: &labels,
            paths: &[],
            rows: 2,
        };
        let text = serde_json::to_string(&RowOf(&recorded, 1)).unwrap();
        let record: PredictionRecord = serde_json::from_str(&text).unwrap();
        assert_eq!((record.id.as_str(), record.revision, record.version.as_str()), ("p/1", 3, "7"));
        assert_eq!(json!(record.inputs), json!({"t": null, "s": 31.0}));
        assert_eq!(record.outputs["y"], json!(9.0));
        assert_eq!(json!(record.outputs["p"]), json!([0.2, 0.8]));
        assert_eq!(record.labels, labels);
        let first = serde_json::to_value(RowOf(&recorded, 0)).unwrap();
        assert_eq!((&first["id"], &first["inputs"]["t"]), (&json!("p"), &json!(11.2_f32)));
        let line = serde_json::to_string(&RowOf(&recorded, 0)).unwrap();
        assert!(line.contains(r#""t":11.2,"#));
        recorded.is_shadow = true;
        let shadow = serde_json::to_string(&RowOf(&recorded, 0)).unwrap();
        let read: PredictionRecord = serde_json::from_str(&shadow).unwrap();
        assert!(read.is_shadow && !record.is_shadow);
        assert!(shadow.starts_with(SHADOW) && serde_json::to_string(&read).unwrap().starts_with(SHADOW));
        let lines = |all: &[&str]| (all.join("\n") + "\n").into_bytes();
        assert_eq!(without_shadows(lines(&[&shadow, &line, &shadow])), lines(&[&line]));
        assert_eq!(without_shadows(lines(&[&line])), lines(&[&line]));
    }
}
