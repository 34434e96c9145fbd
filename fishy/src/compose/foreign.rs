//! A registry that is somebody else's, by configuration: an MLflow server, or a Databricks workspace.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use fishy_config::{Config, ForeignKind, Secret};
use fishy_contracts::RegistryClient;
use fishy_http::ServiceClient;

use crate::services::Service;

/// The foreign registry as the services of this process reach it.
pub struct Foreign {
    kind: ForeignKind,
    url: String,
    token: Secret,
    client: ServiceClient,
}

impl Foreign {
    /// `None` where our own registry is meant.
    pub fn open(config: &Config, services: &[Service]) -> Result<Option<Self>> {
        let settings = &config.foreign_registry;
        if !settings.is_set() {
            let is_empty = settings.token.is_empty() && settings.token_file.is_empty();
            ensure!(is_empty, "foreign_registry has a token and no url: a token is sent nowhere without one");
            return Ok(None);
        }
        ensure!(
            !services.contains(&Service::Registry),
            "foreign_registry.url takes the place of our own registry: leave out the service registry"
        );
        ensure!(
            !config.services.urls.contains_key(Service::Registry.name()),
            "services.registry and foreign_registry.url are both set: the first is a registry of ours, the second is not"
        );
        let url = reqwest::Url::parse(&settings.url)
            .with_context(|| format!("foreign_registry.url {:?} is no URL", settings.url))?;
        ensure!(matches!(url.scheme(), "http" | "https"), "foreign_registry.url is neither http nor https");
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "foreign_registry.url must not hold a password: use foreign_registry.token or token_file"
        );
        let url = settings.url.trim_end_matches('/').to_owned();
        let token = token_of(config)?;
        let bearer = (!token.is_empty()).then(|| token.expose());
        let client =
            ServiceClient::foreign(Service::Registry.name(), &url, bearer).context("foreign_registry.token")?;
        Ok(Some(Self { kind: settings.kind, url, token, client }))
    }

    /// A client of it.
    pub fn registry(&self) -> RegistryClient {
        match self.kind {
            ForeignKind::Mlflow => RegistryClient::mlflow(self.client.clone()),
            ForeignKind::Databricks => RegistryClient::databricks(self.client.clone()),
        }
    }

    /// Where MLflow's client in a pipeline's step finds it.
    pub fn tracking_uri(&self) -> String {
        match self.kind {
            ForeignKind::Mlflow => self.url.clone(),
            ForeignKind::Databricks => "databricks".to_owned(),
        }
    }

    /// What that client needs besides.
    pub fn step_environment(&self) -> BTreeMap<String, Secret> {
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: Secret| environment.insert(name.to_owned(), value);
        match self.kind {
            ForeignKind::Mlflow if self.token.is_empty() => {}
            ForeignKind::Mlflow => {
                set("MLFLOW_TRACKING_TOKEN", self.token.clone());
            }
            ForeignKind::Databricks => {
                set("MLFLOW_REGISTRY_URI", Secret::new("databricks-uc"));
                set("DATABRICKS_HOST", Secret::new(&self.url));
                set("DATABRICKS_TOKEN", self.token.clone());
            }
        }
        environment
    }
}

fn token_of(config: &Config) -> Result<Secret> {
    let settings = &config.foreign_registry;
    if settings.token_file.is_empty() {
        return Ok(settings.token.clone());
    }
    if !settings.token.is_empty() {
        bail!("foreign_registry.token and foreign_registry.token_file are both set: one of them is enough");
    }
    let text = std::fs::read_to_string(&settings.token_file)
        .with_context(|| format!("foreign_registry.token_file {} cannot be read", settings.token_file))?;
    ensure!(!text.trim().is_empty(), "foreign_registry.token_file {} is empty", settings.token_file);
    Ok(Secret::new(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        let mut config = Config::default();
        url.clone_into(&mut config.foreign_registry.url);
        config
    }

    const OTHERS: [Service; 4] = [Service::Governance, Service::Deployment, Service::Monitoring, Service::Pipelines];

    fn problem(config: &Config, services: &[Service]) -> String {
        format!("{:#}", Foreign::open(config, services).err().unwrap())
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(Foreign::open(&Config::default(), &Service::ALL).unwrap().is_none());
        assert!(problem(&config("http://mlflow"), &Service::ALL).contains("leave out the service registry"));
        let mut both = config("http://mlflow");
        both.services.urls.insert("registry".to_owned(), "http://registry".to_owned());
        assert!(problem(&both, &OTHERS).contains("both set"));
        for (url, why) in [("mlflow", "is no URL"), ("ftp://mlflow", "neither"), ("http://me:pw@mlflow", "password")] {
            let problem = problem(&config(url), &OTHERS);
            assert!(problem.contains(why), "{problem}");
        }
        let mut lost = Config::default();
        lost.foreign_registry.token = Secret::new("t");
        assert!(problem(&lost, &Service::ALL).contains("no url"));
    }

    #[test]
    fn steps_get_the_token_of_the_foreign_registry_as_its_client_wants_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "theirs\n").unwrap();
        let mut config = config("http://mlflow/");
        config.foreign_registry.token_file = file.path().display().to_string();
        let foreign = Foreign::open(&config, &OTHERS).unwrap().unwrap();
        assert_eq!(foreign.tracking_uri(), "http://mlflow");
        let environment = foreign.step_environment();
        assert_eq!(environment["MLFLOW_TRACKING_TOKEN"].expose(), "theirs");
        assert!(!format!("{environment:?}").contains("theirs"));
        config.foreign_registry.kind = ForeignKind::Databricks;
        let foreign = Foreign::open(&config, &OTHERS).unwrap().unwrap();
        assert_eq!(foreign.tracking_uri(), "databricks");
        let environment = foreign.step_environment();
        assert_eq!(environment["DATABRICKS_HOST"].expose(), "http://mlflow");
        assert_eq!(environment["DATABRICKS_TOKEN"].expose(), "theirs");
        config.foreign_registry.token = Secret::new("another");
        assert!(problem(&config, &OTHERS).contains("one of them is enough"));
    }
}
