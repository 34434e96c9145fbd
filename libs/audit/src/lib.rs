#![doc = include_str!("../README.md")]

mod canonical;
mod checkpoint;
mod entry;
mod export;
mod keys;
mod merkle;
mod proof;
mod statement;
mod verify;

pub use canonical::canonical_json;
pub use checkpoint::Checkpoint;
pub use entry::{Entry, Outcome};
pub use export::{ExportWriter, FORMAT};
pub use keys::{Signer, Verifier};
pub use merkle::{Appended, Hash, MerkleLog, Node, NodeId, leaf_hash, node_hash, root_of};
pub use proof::{
    ProofPlan, consistency_plan, consistency_proof, inclusion_plan, inclusion_proof, verify_consistency,
    verify_inclusion,
};
pub use verify::{Problem, ProblemKind, Report, VerifyOptions, verify_export};
