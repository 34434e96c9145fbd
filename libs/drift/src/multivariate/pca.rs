use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::rows;
use crate::linear::symmetric_eigen;

/// Most columns: the work grows with their cube.
const MAX_COLUMNS: usize = 256;

/// Principal components of a reference; what they cannot say of a row is its reconstruction error. As NannyML's data
/// reconstruction: columns are standardised (divisor `n`), components are kept until they explain more than a share of the
/// variance. When the columns begin to relate in another way, the error changes, though each column may look the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PcaReconstruction {
    /// Mean and standard deviation of each column.
    scales: Vec<(f64, f64)>,
    /// One component a row, orthonormal.
    components: Vec<Vec<f64>>,
}

/// Reconstruction error of a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReconstructionError {
    /// Mean Euclidean distance between the standardised rows and their reconstruction.
    pub mean: f64,
    /// Standard error of that mean; NaN for a single row.
    pub sampling_error: f64,
}

impl PcaReconstruction {
    /// Fits the components that explain more than `share` of the variance (0 to 1; NannyML takes 0.65). Refused for fewer
    /// than two rows, more than 256 columns, a column without a finite value, or when no column varies.
    pub fn fit(columns: &[Vec<f64>], share: f64) -> Result<Self> {
        let rows = rows(columns)?;
        if rows < 2 || columns.len() > MAX_COLUMNS || !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid(format!(
                "PCA needs at least 2 rows, at most {MAX_COLUMNS} columns, and a share between 0 and 1: {rows} rows, {} \
                 columns, share {share}",
                columns.len()
            )));
        }
        let mut means = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            let finite: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
            if finite.is_empty() {
                return Err(Error::invalid(format!("column {place} has no finite value: leave it out of the PCA")));
            }
            means.push(finite.iter().sum::<f64>() / finite.len() as f64);
        }
        let deviation = |(column, mean): (&Vec<f64>, &f64)| {
            let squares = column.iter().filter(|value| value.is_finite()).map(|value| (value - mean).powi(2));
            let deviation = (squares.sum::<f64>() / rows as f64).sqrt();
            if deviation > 0.0 { deviation } else { 1.0 }
        };
        let scales = columns.iter().zip(&means).map(|pair| (*pair.1, deviation(pair))).collect();
        let mut fitted = Self { scales, components: Vec::new() };
        let standard: Vec<Vec<f64>> = columns
            .iter()
            .enumerate()
            .map(|(c, column)| column.iter().map(|v| fitted.standard(c, *v)).collect())
            .collect();
        let covariance: Vec<f64> = standard
            .iter()
            .flat_map(|a| standard.iter().map(move |b| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / rows as f64))
            .collect();
        let (values, vectors) = symmetric_eigen(&covariance, columns.len());
        let total: f64 = values.iter().sum();
        if total <= 0.0 {
            return Err(Error::invalid("PCA needs a column that varies: all of these are constant"));
        }
        let mut explained = 0.0;
        for (value, vector) in values.iter().zip(vectors) {
            fitted.components.push(vector);
            explained += value / total;
            if explained > share {
                break;
            }
        }
        Ok(fitted)
    }

    /// Components kept.
    pub const fn components(&self) -> usize {
        self.components.len()
    }

    /// Reconstruction error of a window with the columns of the reference; an empty one is refused.
    pub fn error(&self, columns: &[Vec<f64>]) -> Result<ReconstructionError> {
        let rows = rows(columns)?;
        if rows == 0 || columns.len() != self.scales.len() {
            return Err(Error::invalid(format!(
                "the PCA was fitted with {} columns and needs a row: {} columns of {rows} rows",
                self.scales.len(),
                columns.len()
            )));
        }
        let distances: Vec<f64> = (0..rows)
            .map(|row| {
                let standard: Vec<f64> =
                    columns.iter().enumerate().map(|(place, column)| self.standard(place, column[row])).collect();
                let mut rest = standard.clone();
                for component in &self.components {
                    let along: f64 = component.iter().zip(&standard).map(|(c, x)| c * x).sum();
                    for (left, weight) in rest.iter_mut().zip(component) {
                        *left -= along * weight;
                    }
                }
                rest.iter().map(|left| left * left).sum::<f64>().sqrt()
            })
            .collect();
        let count = rows as f64;
        let mean = distances.iter().sum::<f64>() / count;
        let squares: f64 = distances.iter().map(|distance| (distance - mean).powi(2)).sum();
        Ok(ReconstructionError { mean, sampling_error: (squares / (count - 1.0) / count).sqrt() })
    }

    fn standard(&self, column: usize, value: f64) -> f64 {
        let (mean, deviation) = self.scales[column];
        if value.is_finite() { (value - mean) / deviation } else { 0.0 }
    }
}
