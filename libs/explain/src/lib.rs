#![doc = include_str!("../README.md")]

mod importance;
mod shapley;
mod worth;

pub use importance::{Importance, Shuffled, permutation_importance};
pub use shapley::{Choice, Explanation, MAX_EXACT_FEATURES, Method, Options, sample, shapley};
pub use worth::{Coalition, Model};
