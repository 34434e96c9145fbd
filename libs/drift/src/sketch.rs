//! Summaries of bounded size that merge: a window of any length costs the same memory, and windows put together give the
//! summary of both.

mod distinct;
mod frequent;
mod quantiles;

pub use distinct::DistinctSketch;
pub use frequent::{Frequent, FrequentSketch};
pub use quantiles::QuantileSketch;
