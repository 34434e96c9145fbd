//! Workspaces: each has things of its own, and belongs to the tenant of its name.

use fishy_core::{Error, Result};
use serde::Serialize;

use super::{limits, names};

/// The workspace that is always there, and has what was there before there were others.
pub const DEFAULT: &str = "default";
/// The header of MLflow's clients that names the workspace a request is about.
pub const HEADER: &str = "x-mlflow-workspace";

/// Names that would be mistaken for parts of an address.
const RESERVED: [&str; 4] = ["workspaces", "api", "ajax-api", "static-files"];

/// A workspace as MLflow's protocol tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workspace {
    /// Its number, which is never given twice; the default one has 0.
    #[serde(skip)]
    pub id: i64,
    /// Unique.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Checks a name, by MLflow's rules.
pub fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let has_rim = |rim: Option<u8>| rim.is_some_and(is_plain);
    if !(2..=63).contains(&name.chars().count()) {
        return Err(Error::invalid(format!("Workspace name '{name}' must be between 2 and 63 characters.")));
    }
    if !has_rim(name.bytes().next()) || !has_rim(name.bytes().last()) || !name.bytes().all(|c| is_plain(c) || c == b'-')
    {
        return Err(Error::invalid(format!(
            "Workspace name '{name}' must match the pattern ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$ (lowercase alphanumeric with optional internal hyphens)."
        )));
    }
    if RESERVED.contains(&name) {
        return Err(Error::invalid(format!("Workspace name '{name}' is reserved and cannot be used.")));
    }
    Ok(())
}

/// Checks a description.
pub fn check_description(description: Option<&str>) -> Result<()> {
    description.map_or(Ok(()), |text| names::check_chars("description", text, limits::DESCRIPTION_CHARS))
}

/// What else than its own things a deletion does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Only when nothing is in it.
    Restrict,
    /// All that is in it goes as well.
    Cascade,
}

/// Reads the mode of a deletion.
pub fn deletion(mode: Option<&str>) -> Result<Deletion> {
    match mode {
        None | Some("RESTRICT") => Ok(Deletion::Restrict),
        Some("CASCADE") => Ok(Deletion::Cascade),
        Some("SET_DEFAULT") => Err(Error::invalid(
            "Deletion mode 'SET_DEFAULT' is not supported: each workspace has a database of its own. Copy what is to stay by `fishy registry import`, then delete with CASCADE.",
        )),
        Some(other) => Err(Error::invalid(format!(
            "Invalid deletion mode '{other}'. Must be one of: SET_DEFAULT, CASCADE, RESTRICT"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_mlflow() {
        let longest = "a".repeat(63);
        for good in ["ab", "team-a", "0-0", "default", &longest] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "a", "-a", "a-", "A1", "a_b", "a/b", "..", "a b", "ä1", "api", "workspaces", "a\n", &too_long]
        {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_workspace_is_deleted_with_what_is_in_it_only_when_asked_to() {
        assert_eq!(deletion(None).unwrap(), Deletion::Restrict);
        assert_eq!(deletion(Some("CASCADE")).unwrap(), Deletion::Cascade);
        assert!(deletion(Some("SET_DEFAULT")).is_err() && deletion(Some("cascade")).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_no_path(name in "[a-z0-9./\\\\%_:-]{0,8}") {
            if check_name(&name).is_ok() {
                prop_assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
            }
        }
    }
}
