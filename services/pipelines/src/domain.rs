//! The rules of pipelines, without I/O: what a definition may say, which rows a run may see, how models are compared.

pub mod definition;
pub mod figures;
pub mod held_out;
pub mod mlmodel;
pub mod progress;
pub mod schedule;
pub mod split;
pub mod tensors;
