//! The services, and who needs whom.

use std::fmt;
use std::str::FromStr;

/// One of the services that this binary can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Policies, promotions, audit.
    Governance,
    /// Models, runs, artifacts.
    Registry,
    /// Predictions.
    Deployment,
    /// Drift, errors, triggers.
    Monitoring,
    /// Training and promotion.
    Pipelines,
}

impl Service {
    /// All, in the order in which they start.
    pub const ALL: [Self; 5] = [Self::Governance, Self::Registry, Self::Deployment, Self::Monitoring, Self::Pipelines];

    /// The name in the configuration, in URLs and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Registry => "registry",
            Self::Deployment => "deployment",
            Self::Monitoring => "monitoring",
            Self::Pipelines => "pipelines",
        }
    }

    /// The services it calls; each runs in this process or has a URL in `[services]`.
    pub const fn needs(self) -> &'static [Self] {
        match self {
            Self::Governance | Self::Monitoring => &[],
            Self::Registry => &[Self::Governance],
            Self::Deployment => &[Self::Registry, Self::Governance],
            Self::Pipelines => &[Self::Registry, Self::Deployment, Self::Monitoring, Self::Governance],
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|service| service.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|service| service.name()).collect();
            format!("no service {name:?}; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_nobody_needs_itself() {
        for service in Service::ALL {
            assert_eq!(service.name().parse(), Ok(service));
            assert!(!service.needs().contains(&service));
        }
        assert!("registri".parse::<Service>().unwrap_err().contains("registry"));
    }
}
