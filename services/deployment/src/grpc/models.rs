//! What there is, whether it serves, and what it did: server, models, repository.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::response::Response;
use fishy_core::Result;
use fishy_http::Caller;
use fishy_http::grpc::{self, Named};
use fishy_inference::{Datatype, TensorSpec};

use super::messages::model_metadata_response::TensorMetadata;
use super::messages::repository_index_response::ModelIndex;
use super::messages::{
    DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelInput,
    ModelMetadataRequest, ModelMetadataResponse, ModelOutput, ModelReadyRequest, ModelReadyResponse, ModelStatistics,
    ModelStatisticsRequest, ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, StatisticDuration,
};
use crate::http::v2::{EXTENSIONS, GRAPH_PLATFORM, served_versions};
use crate::service::{Live, Service, Slot};

type App = State<Arc<Service>>;

/// The version that is asked for; empty is none.
fn some(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

pub(super) async fn live(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    grpc::unary(request, limit, |_: ServerLiveRequest| async { Ok(ServerLiveResponse { live: true }) }).await
}

pub(super) async fn ready(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |_: ServerReadyRequest| async move { Ok(ServerReadyResponse { ready: service.is_ready() }) };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn server_metadata(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |_: ServerMetadataRequest| async {
        Ok(ServerMetadataResponse {
            name: "fishy".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).into(),
        })
    };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn model_ready(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: ModelReadyRequest| async move {
        Ok(ModelReadyResponse { ready: service.is_model_ready(&asked.name, some(&asked.version))? })
    };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn metadata(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: ModelMetadataRequest| async move {
        let version = some(&asked.version);
        let graph = service.graph_interface(&asked.name, version).await?;
        let tensors = |specs: &[TensorSpec]| {
            let tensor = |spec: &TensorSpec| TensorMetadata {
                name: spec.name.clone(),
                datatype: spec.datatype.as_str().to_owned(),
                shape: spec.shape.clone(),
            };
            specs.iter().map(tensor).collect()
        };
        if let Some((graph, plan)) = graph {
            return Ok(ModelMetadataResponse {
                name: asked.name,
                versions: vec![graph.version()],
                platform: GRAPH_PLATFORM.to_owned(),
                inputs: tensors(plan.layout.inputs()),
                outputs: tensors(plan.layout.outputs()),
            });
        }
        let (slot, live) = service.serving(&asked.name, version).await?;
        Ok(ModelMetadataResponse {
            name: slot.name().to_owned(),
            versions: served_versions(&slot, &live, version),
            platform: live.batcher.model().platform().to_owned(),
            inputs: tensors(live.layout.inputs()),
            outputs: tensors(live.layout.outputs()),
        })
    };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn config(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: ModelConfigRequest| async move {
        let (slot, live) = service.serving(&asked.name, some(&asked.version)).await?;
        Ok(ModelConfigResponse { config: Some(config_of(&slot, &live)) })
    };
    grpc::unary(request, limit, answer).await
}

fn config_of(slot: &Slot, live: &Live) -> ModelConfig {
    let is_batchable = live.batcher.is_batchable();
    // The dimension of the batch is told by max_batch_size, and not again.
    let dims = |spec: &TensorSpec| spec.shape[usize::from(is_batchable).min(spec.shape.len())..].to_vec();
    let inputs = live.layout.inputs().iter().map(|spec| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec),
    });
    let outputs = live.layout.outputs().iter().map(|spec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec),
    });
    let platform = live.batcher.model().platform();
    let rows = i32::try_from(live.batcher.options().max_batch_rows).unwrap_or(i32::MAX);
    ModelConfig {
        name: slot.name().to_owned(),
        platform: platform.to_owned(),
        max_batch_size: if is_batchable { rows } else { 0 },
        input: inputs.collect(),
        output: outputs.collect(),
        // `onnxruntime_onnx`, `mlflow_pyfunc`
        backend: platform.split('_').next().unwrap_or(platform).to_owned(),
    }
}

const fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Bf16 => DataType::TypeBf16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    }
}

pub(super) async fn statistics(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: ModelStatisticsRequest| async move {
        Ok(ModelStatisticsResponse { model_stats: statistics_of(&service, &asked)? })
    };
    grpc::unary(request, limit, answer).await
}

fn statistics_of(service: &Service, asked: &ModelStatisticsRequest) -> Result<Vec<ModelStatistics>> {
    if asked.name.is_empty() {
        let slots = service.slots.load();
        let mut all: Vec<_> = slots.values().flat_map(|slot| of_slot(slot)).collect();
        all.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        return Ok(all);
    }
    let (slot, live) = service.known(&asked.name, some(&asked.version))?;
    // A model that is not in memory has counted nothing since it was loaded.
    Ok(if asked.version.is_empty() {
        of_slot(&slot)
    } else {
        live.iter().map(|live| of_live(slot.name(), live)).collect()
    })
}

fn of_slot(slot: &Slot) -> Vec<ModelStatistics> {
    let traffic = slot.traffic();
    let candidates = traffic.iter().flat_map(|traffic| traffic.candidates().cloned());
    slot.live().into_iter().chain(candidates).map(|live| of_live(slot.name(), &live)).collect()
}

fn of_live(name: &str, live: &Live) -> ModelStatistics {
    let timer = |(count, ns): (u64, u64)| Some(StatisticDuration { count, ns });
    let statistics = &live.statistics;
    let batches = statistics.batches().into_iter().map(|(rows, infer)| InferBatchStatistics {
        batch_size: rows as u64,
        compute_input: timer((infer.0, 0)),
        compute_infer: timer(infer),
        compute_output: timer((infer.0, 0)),
    });
    ModelStatistics {
        name: name.to_owned(),
        version: live.revision.version.clone(),
        last_inference: statistics.last_ms.load(Ordering::Relaxed) as u64,
        inference_count: statistics.inferences.load(Ordering::Relaxed),
        execution_count: statistics.executions.load(Ordering::Relaxed),
        inference_stats: Some(InferStatistics {
            success: timer(statistics.success.read()),
            fail: timer(statistics.fail.read()),
            queue: timer(statistics.queue.read()),
            compute_input: timer(statistics.input.read()),
            compute_infer: timer(statistics.infer.read()),
            compute_output: timer(statistics.output.read()),
            cache_hit: timer((0, 0)),
            cache_miss: timer((0, 0)),
        }),
        batch_stats: batches.collect(),
    }
}

pub(super) async fn index(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: RepositoryIndexRequest| async move {
        let models = service.index(asked.ready).into_iter().map(|model| ModelIndex {
            name: model.name,
            version: model.version,
            state: model.state.to_owned(),
            reason: model.reason,
        });
        Ok(RepositoryIndexResponse { models: models.collect() })
    };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn load(State(service): App, Caller(caller): Caller, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: RepositoryModelLoadRequest| async move {
        service.load(&caller.to_string(), asked.name()).await?;
        Ok(RepositoryModelLoadResponse { model_name: asked.name().to_owned(), is_loaded: true })
    };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn unload(State(service): App, Caller(caller): Caller, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: RepositoryModelUnloadRequest| async move {
        service.unload(&caller.to_string(), asked.name()).await?;
        Ok(RepositoryModelUnloadResponse { model_name: asked.name().to_owned(), is_unloaded: true })
    };
    grpc::unary(request, limit, answer).await
}
