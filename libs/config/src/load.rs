use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use fishy_core::{Error, Result};

use crate::Config;

/// What the command line says; `None` leaves the file, the environment or the default in force.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--mlflow-ui`
    pub mlflow_ui: Option<String>,
}

/// Loads the configuration. `file` must exist when it is named; `fishy.toml` in the working folder is read when it is there.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config> {
    if let Some(file) = file.filter(|file| !file.is_file()) {
        return Err(Error::not_found(format!("configuration file {} does not exist", file.display())));
    }
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let file = file.unwrap_or(Path::new("fishy.toml"));
    if file.is_file() {
        figment = figment.merge(Toml::file_exact(file));
    }
    figment = figment.merge(Env::prefixed("FISHY__").split("__"));
    if let Some(data_dir) = &overrides.data_dir {
        figment = figment.merge(("storage.data_dir", data_dir));
    }
    if let Some(listen) = &overrides.listen {
        figment = figment.merge(("server.listen", listen));
    }
    if let Some(folder) = &overrides.mlflow_ui {
        figment = figment.merge(("registry.mlflow_ui", folder));
    }
    figment.extract().map_err(|error| Error::invalid(format!("configuration: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = write("[server]\nlisten = \"127.0.0.1:1\"\n[storage]\ndata_dir = \"/from/file\"\n");
        let overrides = Overrides { listen: Some("127.0.0.1:2".into()), ..Overrides::default() };
        let config = load(Some(file.path()), &overrides).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:2");
        assert_eq!(config.storage.data_dir, "/from/file");
        assert_eq!(config.server.max_body_bytes, 16 * 1024 * 1024);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let file = write("[server]\nlissten = \"127.0.0.1:1\"\n");
        let error = load(Some(file.path()), &Overrides::default()).unwrap_err();
        assert!(error.message().contains("lissten"), "{error}");
    }

    #[test]
    fn a_missing_file_and_a_wrong_type_are_errors() {
        assert!(load(Some(Path::new("/does/not/exist.toml")), &Overrides::default()).is_err());
        let file = write("[server]\nmax_body_bytes = \"many\"\n");
        assert!(load(Some(file.path()), &Overrides::default()).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let file = write("[bus]\nurl = \"amqp://guest:hunter2@broker\"\n");
        let config = load(Some(file.path()), &Overrides::default()).unwrap();
        assert_eq!(config.bus.url.expose(), "amqp://guest:hunter2@broker");
        let printed = format!("{config:?}{}", toml::to_string(&config).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
