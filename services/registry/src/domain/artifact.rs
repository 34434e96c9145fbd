//! Where artifacts are: paths below the root of the store, and the URIs that name them.

use fishy_core::{Error, Result, check_relative_path};

/// The scheme of artifacts that are reached through this server.
pub const SCHEME: &str = "mlflow-artifacts:";

/// The URI of a path of the store.
pub fn uri(path: &str) -> String {
    format!("{SCHEME}/{path}")
}

/// The path that a URI of our own store names; `None` for URIs of other stores.
pub fn path_of(uri: &str) -> Option<&str> {
    let path = uri.strip_prefix(SCHEME)?;
    // `mlflow-artifacts://host/…` names some server, not necessarily this one.
    if path.starts_with("//") {
        return None;
    }
    let path = path.strip_prefix('/')?.trim_end_matches('/');
    check_path(path).ok()
}

/// Checks a path below the root of the store. Paths that become others when they are decoded once more are refused too.
pub fn check_path(path: &str) -> Result<&str> {
    let invalid = || Error::invalid(format!("Invalid path: {path:?}"));
    check_relative_path(path).map_err(|_| invalid())?;
    let mut text = path.to_owned();
    for _ in 0..4 {
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8().map_err(|_| invalid())?.into_owned();
        if decoded == text {
            return Ok(path);
        }
        check_relative_path(&decoded).map_err(|_| invalid())?;
        text = decoded;
    }
    Err(invalid())
}

/// Joins a folder and a path below it; either may be empty.
pub fn join(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}

/// The folder of a path, `""` for the root; and its last segment.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The path itself and all folders above it, the root left out: `a/b/c` gives `a/b/c`, `a/b`, `a`.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path).filter(|path| !path.is_empty()), |path| {
        path.rsplit_once('/').map(|(folder, _)| folder)
    })
}

/// Whether `path` is `root` or below it.
pub fn is_within(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the source of a model version names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `models:/m-…`: a logged model.
    LoggedModel(String),
    /// `models:/name/3`: another version.
    Version(String, String),
    /// `models:/name@alias`: what an alias names now.
    Alias(String, String),
    /// `runs:/<run>/path`
    Run(String, String),
    /// `mlflow-artifacts:/path`
    Path(String),
}

/// Reads the source of a model version. Everything outside our store is refused.
pub fn source(text: &str) -> Result<Source> {
    let invalid = |why: &str| Error::invalid(format!("Invalid model version source: '{text}'. {why}"));
    if let Some(rest) = text.strip_prefix("models:/") {
        let rest = rest.trim_end_matches('/');
        if rest.starts_with('/') {
            return Err(invalid("A source in another registry cannot be used."));
        }
        return match (rest.split_once('/'), rest.rsplit_once('@')) {
            (Some((name, version)), _) if !name.is_empty() && !version.is_empty() && !version.contains('/') => {
                Ok(Source::Version(name.to_owned(), version.to_owned()))
            }
            (None, Some((name, alias))) if !name.is_empty() && !alias.is_empty() => {
                Ok(Source::Alias(name.to_owned(), alias.to_owned()))
            }
            (None, None) if rest.starts_with("m-") => Ok(Source::LoggedModel(rest.to_owned())),
            _ => Err(invalid("Use models:/m-<id>, models:/<name>/<version> or models:/<name>@<alias>.")),
        };
    }
    if let Some(rest) = text.strip_prefix("runs:/") {
        return match rest.trim_end_matches('/').split_once('/') {
            Some((run, path)) if !run.is_empty() => {
                let path = check_path(path).map_err(|_| invalid("Its path must not contain relative references."))?;
                Ok(Source::Run(run.to_owned(), path.to_owned()))
            }
            _ => Err(invalid("Use runs:/<run id>/<path of the model>.")),
        };
    }
    if text.starts_with(SCHEME) {
        let why = "Use mlflow-artifacts:/<path> without a host and without relative references.";
        return path_of(text).map(|path| Source::Path(path.to_owned())).ok_or_else(|| invalid(why));
    }
    Err(invalid("Only models:/, runs:/ and mlflow-artifacts:/ lie within the store of this registry."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_are_told_apart() {
        for (text, expected) in [
            ("models:/m-1a", Source::LoggedModel("m-1a".into())),
            ("models:/oxygen/3", Source::Version("oxygen".into(), "3".into())),
            ("models:/oxygen@champion", Source::Alias("oxygen".into(), "champion".into())),
            ("runs:/abc/a/model", Source::Run("abc".into(), "a/model".into())),
            ("mlflow-artifacts:/1/abc/artifacts/model/", Source::Path("1/abc/artifacts/model".into())),
        ] {
            assert_eq!(source(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn sources_outside_the_store_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "file:///etc/passwd",
            "s3://bucket/model",
            "http://host/api/2.0/mlflow-artifacts/artifacts/1/x",
            "mlflow-artifacts://host/1/x",
            "mlflow-artifacts:/1/../../x",
            "mlflow-artifacts:/1/%2e%2e/x",
            "mlflow-artifacts:/1/%252e%252e/x",
            "mlflow-artifacts:1/x",
            "runs:/abc",
            "runs:/abc/../x",
            "runs://host/abc/x",
            "models://host/oxygen/3",
            "models:/oxygen",
            "models:/",
            "models:/a/b/c",
        ] {
            assert!(source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_and_their_folders() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
        assert_eq!(ancestors("").count(), 0);
        assert!(is_within("a/b", "a/b") && is_within("a/b/c", "a/b"));
        assert!(!is_within("a/bc", "a/b") && !is_within("a", "a/b"));
        assert_eq!(split("a/b/c"), ("a/b", "c"));
        assert_eq!(split("c"), ("", "c"));
    }

    proptest! {
        #[test]
        fn an_accepted_path_never_leaves_the_root(path in "[a./%25eE\\\\]{1,24}") {
            if let Ok(path) = check_path(&path) {
                let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
                for text in [path, &decoded] {
                    prop_assert!(!text.starts_with('/') && text.split('/').all(|s| s != ".." && !s.is_empty()));
                }
            }
        }
    }
}
