use bytes::Bytes;
use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::DynValue;
use prost::Message;
use std::path::Path;
use std::sync::Arc;

/// Smaller ones are not worth the trouble.
const MIN_BYTES: usize = 1024;
/// `FLOAT` in `onnx.proto`'s `TensorProto.DataType`. Other types stay in each session.
const FLOAT: i32 = 1;

/// The large weights of a model, held once and lent to all of its sessions, together with what the engine makes of them
/// when it packs them for its kernels.
#[derive(Default)]
pub(super) struct SharedWeights {
    initializers: Vec<(String, Arc<DynValue>)>,
    packed: Option<PrepackedWeights>,
    size_bytes: usize,
}

/// What is read of `onnx.proto`; everything else is skipped.
#[derive(Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

#[derive(Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
}

impl SharedWeights {
    /// The weights of a file; none when it is not the plain form that this knows, which the engine then reads itself.
    pub(super) fn of_file(path: &Path) -> Self {
        let read = std::fs::read(path).ok().and_then(|bytes| ModelProto::decode(Bytes::from(bytes)).ok());
        let Some(graph) = read.and_then(|model| model.graph) else { return Self::default() };
        let mut shared = Self::default();
        for tensor in graph.initializer {
            let count =
                tensor.dims.iter().try_fold(1_usize, |count, size| count.checked_mul(usize::try_from(*size).ok()?));
            let is_plain = tensor.data_type == FLOAT
                && count.and_then(|count| count.checked_mul(4)) == Some(tensor.raw_data.len());
            if !is_plain || tensor.raw_data.len() < MIN_BYTES {
                continue;
            }
            let values: Vec<f32> =
                tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if let Ok(value) = ort::value::Tensor::from_array((tensor.dims, values)) {
                shared.size_bytes += tensor.raw_data.len();
                shared.initializers.push((tensor.name, Arc::new(value.into_dyn())));
            }
        }
        if !shared.initializers.is_empty() {
            shared.packed = Some(PrepackedWeights::new());
        }
        shared
    }

    pub(super) fn is_empty(&self) -> bool {
        self.initializers.is_empty()
    }

    pub(super) const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) fn give_to(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        for (name, value) in &self.initializers {
            builder = builder.with_initializer(name, Arc::clone(value))?;
        }
        match &self.packed {
            Some(packed) => Ok(builder.with_prepacked_weights(packed)?),
            None => Ok(builder),
        }
    }
}
