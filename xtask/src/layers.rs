//! `cargo xtask layers`: dependencies point one way.
//!
//! core <- libraries <- contracts <- services <- the binary. A service never depends on another service.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{cargo, output};

/// From the bottom up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Core,
    Library,
    Contracts,
    Service,
    Binary,
}

/// Fails on a dependency that points up or sideways between services.
pub fn run() -> Result<()> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut forbidden = Vec::new();
    let mut edges = 0;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let layer = layer_of(package["manifest_path"].as_str().unwrap_or_default());
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // What only tests use may come from any layer.
            let (Some(path), true) = (dependency["path"].as_str(), dependency["kind"] != "dev") else { continue };
            edges += 1;
            let below = layer_of(&format!("{path}/Cargo.toml"));
            let is_sideways = layer == below && matches!(layer, Layer::Service | Layer::Binary | Layer::Core);
            if below > layer || is_sideways {
                forbidden.push(format!("{name} ({layer:?}) -> {} ({below:?})", dependency["name"]));
            }
        }
    }
    if !forbidden.is_empty() {
        bail!("dependencies that point the wrong way:\n  {}", forbidden.join("\n  "));
    }
    println!("layers: {} crates, {edges} dependencies, all point down", packages.len());
    Ok(())
}

fn layer_of(manifest: &str) -> Layer {
    let parts: Vec<&str> = manifest.rsplit('/').collect();
    match (parts.get(1).copied(), parts.get(2).copied()) {
        (Some("core"), Some("libs")) => Layer::Core,
        (Some("contracts"), Some("libs")) => Layer::Contracts,
        (_, Some("libs")) => Layer::Library,
        (_, Some("services")) => Layer::Service,
        _ => Layer::Binary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_the_layer() {
        assert_eq!(layer_of("/x/libs/core/Cargo.toml"), Layer::Core);
        assert_eq!(layer_of("/x/libs/drift/Cargo.toml"), Layer::Library);
        assert_eq!(layer_of("/x/libs/contracts/Cargo.toml"), Layer::Contracts);
        assert_eq!(layer_of("/x/services/registry/Cargo.toml"), Layer::Service);
        assert_eq!(layer_of("/x/fishy/Cargo.toml"), Layer::Binary);
        assert!(Layer::Library < Layer::Contracts && Layer::Contracts < Layer::Service);
    }
}
