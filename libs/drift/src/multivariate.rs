//! Drift that no single column shows: the columns together have changed.
//!
//! Data comes by columns of equal length. A value that is not finite is missing: PCA takes the mean of the reference for
//! it, the domain classifier knows that it is missing, MMD leaves the row out.

mod domain;
mod mmd;
mod pca;

use fishy_core::{Error, Result};

pub use domain::{DomainClassifier, domain_classifier};
pub use mmd::{MmdTest, mmd};
pub use pca::{PcaReconstruction, ReconstructionError};

/// The common number of rows of the columns; refused when there is no column, or lengths differ.
fn rows(columns: &[Vec<f64>]) -> Result<usize> {
    let rows = columns.first().map_or(0, Vec::len);
    if columns.is_empty() || columns.iter().any(|column| column.len() != rows) {
        return Err(Error::invalid(format!(
            "multivariate drift needs at least one column, all of one length, and has lengths {:?}",
            columns.iter().map(Vec::len).take(8).collect::<Vec<_>>()
        )));
    }
    Ok(rows)
}

/// As [`rows`] of two samples, which must have the same number of columns.
fn both_rows(reference: &[Vec<f64>], current: &[Vec<f64>]) -> Result<(usize, usize)> {
    let counts = (rows(reference)?, rows(current)?);
    if reference.len() == current.len() {
        Ok(counts)
    } else {
        Err(Error::invalid(format!(
            "both samples need the same columns, and they have {} and {}",
            reference.len(),
            current.len()
        )))
    }
}
