use crate::{Error, Result};

/// Checks the name of one of our own resources: 1 to 128 of letters, digits, `-`, `_` and `.`, starting with a letter or digit.
pub fn check_name<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    let starts_well = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    let all_well = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if starts_well && all_well && name.len() <= 128 {
        Ok(name)
    } else {
        Err(Error::invalid(format!(
            "{what} {name:?} is not a valid name: use 1 to 128 letters, digits, '-', '_' or '.', starting with a letter or digit"
        )))
    }
}

/// Checks a path below some root: relative, no `..`, no empty or `.` segment, no backslash, no control character.
pub fn check_relative_path(path: &str) -> Result<&str> {
    let is_fine = !path.is_empty()
        && path.len() <= 1024
        && !path.chars().any(|c| c == '\\' || c.is_control())
        && path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..");
    if is_fine { Ok(path) } else { Err(Error::invalid(format!("Invalid path: {path:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for bad in ["", "/etc/passwd", "a/../b", "..", "a//b", "a/./b", "a\\b", "a\0b", "a/"] {
            assert!(check_relative_path(bad).is_err(), "{bad:?}");
        }
        assert!(check_relative_path("a/b.c/d-e").is_ok());
    }

    #[test]
    fn names_are_plain() {
        assert!(check_name("deployment", "oxygen-v2.1").is_ok());
        for bad in ["", "-x", "a b", "a/b", "ä"] {
            assert!(check_name("deployment", bad).is_err(), "{bad:?}");
        }
    }
}
