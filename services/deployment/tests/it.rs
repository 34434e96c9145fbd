//! The service through its real router, with a fake registry and a fake governance, and a real ONNX Runtime.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "it/counted.rs"]
mod counted;
#[path = "it/doors.rs"]
mod doors;
#[path = "it/explain.rs"]
mod explain;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/foreign.rs"]
mod foreign;
#[path = "it/graph.rs"]
mod graph;
#[path = "it/grpc.rs"]
mod grpc;
#[path = "it/memory.rs"]
mod memory;
#[path = "it/prediction_log.rs"]
mod prediction_log;
#[path = "it/program.rs"]
mod program;
#[path = "it/protocol.rs"]
mod protocol;
#[path = "it/python.rs"]
mod python;
#[path = "it/queue.rs"]
mod queue;
#[path = "it/records.rs"]
mod records;
#[path = "it/replay.rs"]
mod replay;
#[path = "it/replicas.rs"]
mod replicas;
#[path = "it/rollout.rs"]
mod rollout;
#[path = "it/scale.rs"]
mod scale;
#[path = "it/scoring.rs"]
mod scoring;
#[path = "it/sinks.rs"]
mod sinks;
#[path = "it/traffic.rs"]
mod traffic;
#[path = "it/world.rs"]
mod world;
