use std::io::Write;
use std::path::Path;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

const DEFAULT_POLICIES: &str = include_str!("../policies/default.cedar");

/// The access policies that governance publishes: one text, one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Counts up with every change; the embedded bundle is version 0.
    pub version: u64,
    /// When governance last said that this is the newest bundle, in milliseconds since the epoch. Governance stamps an
    /// unchanged bundle anew from time to time, so that its age tells how long a service has not heard from it.
    pub issued_ms: i64,
    /// Cedar policies, each with an `@id`.
    pub policies: String,
}

impl Bundle {
    /// The bundle that is compiled in, as if issued at `issued_ms` (normally: now).
    pub fn embedded(issued_ms: i64) -> Self {
        Self { version: 0, issued_ms, policies: DEFAULT_POLICIES.to_owned() }
    }

    /// Reads a bundle from a file; `None` where there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::from(error).context(format!("cannot read the policy bundle {}", path.display())));
            }
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::invalid(format!("the policy bundle {} is not readable: {error}", path.display())).with_source(error)
        })
    }

    /// Writes the bundle to a file so that a crash leaves the old file or the new one, never half of one.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.write(path)
            .map_err(|error| Error::from(error).context(format!("cannot write the policy bundle {}", path.display())))
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        let mut partial = path.as_os_str().to_owned();
        // The process id keeps two services with one path from writing into each other's half-finished file.
        partial.push(format!(".{}.partial", std::process::id()));
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&partial, path)
    }
}
