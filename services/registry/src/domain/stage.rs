//! Stages of model versions: deprecated by MLflow, still in use.

use fishy_core::{Error, Result};

/// All stages in their canonical form.
pub const ALL: [&str; 4] = ["None", "Staging", "Production", "Archived"];

/// The canonical form of a stage, whatever its case.
pub fn canonical(stage: &str) -> Result<&'static str> {
    ALL.into_iter().find(|known| known.eq_ignore_ascii_case(stage)).ok_or_else(|| {
        Error::invalid(format!("Invalid Model Version stage: {stage}. Value must be one of {}.", ALL.join(", ")))
    })
}

/// Whether versions in this stage are meant to be used; only these stages can push others out into the archive.
pub fn is_active(stage: &str) -> bool {
    matches!(stage, "Staging" | "Production")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_unknown_stages_are_named() {
        assert_eq!(canonical("staging").unwrap(), "Staging");
        assert!(canonical("live").unwrap_err().message().contains("live"));
    }
}
