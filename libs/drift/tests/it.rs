//! The crate against the reference libraries, real data and the laws of its statistics.

#![expect(clippy::unwrap_used, reason = "a test that finds no data should stop")]

mod it {
    mod agreement;
    mod drawn;
    mod estimation;
    mod estuary;
    mod golden;
    mod laws;
    mod multivariate;
    mod performance;
    pub mod shared;
    mod sketches;
    mod streams;
}
