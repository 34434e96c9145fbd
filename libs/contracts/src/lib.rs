#![doc = include_str!("../README.md")]

pub mod deployment;
pub mod events;
pub mod governance;
pub mod monitoring;
pub mod pipelines;
pub mod registry;

pub use deployment::DeploymentClient;
pub use governance::GovernanceClient;
pub use monitoring::MonitoringClient;
pub use pipelines::PipelinesClient;
pub use registry::RegistryClient;

/// A name or id as one segment of a URL's path.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A list as our own API sends it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
