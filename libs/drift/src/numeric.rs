//! Statistics of two numeric samples.

mod anderson_darling;
mod binning;
mod cramer_von_mises;
mod distances;
mod divergences;
mod epps_singleton;
mod mann_whitney;
mod student;

pub use anderson_darling::anderson_darling;
pub use binning::{BinnedShares, Binning};
pub(crate) use binning::{DISTINCT_UP_TO, MAX_BINS, equal_widths, sturges_bins};
pub use cramer_von_mises::cramer_von_mises;
pub(crate) use distances::SMALLEST_DEVIATION;
pub use distances::{energy_distance, normed_wasserstein, wasserstein};
pub use divergences::{
    LogBase, hellinger, js_distance, js_divergence, kl_divergence, kl_of_shares, l_infinity, total_variation,
};
pub use epps_singleton::epps_singleton;
pub use mann_whitney::mann_whitney;
pub use student::{student_t, welch_t};
