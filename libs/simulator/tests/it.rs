//! Whether simulated water behaves like water, and simulated faults like faults.

#![expect(clippy::unwrap_used, reason = "the scenarios of the tests are sound")]

mod it {
    mod checks;
    mod faults;
    mod water;
}
