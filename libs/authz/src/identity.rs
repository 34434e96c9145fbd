use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The tenant of everything where nobody configured tenants.
pub const DEFAULT_TENANT: &str = "default";

/// What kind of caller an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person, or a program that acts with the roles of one.
    User,
    /// One of our own services.
    Service,
    /// Somebody who said nothing about who they are.
    Anonymous,
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The name in the audit trail: unique among identities of its kind.
    pub id: String,
    /// What kind of caller it is.
    pub kind: Kind,
    /// What the policies go by, for example `ml_engineer`. A service has the one role `service:<name>`.
    pub roles: BTreeSet<String>,
    /// The organisation it belongs to; [`DEFAULT_TENANT`] where there are none.
    pub tenant: String,
}

impl Identity {
    /// A user of the default tenant with these roles.
    pub fn user(id: impl Into<String>, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            id: id.into(),
            kind: Kind::User,
            roles: roles.into_iter().map(Into::into).collect(),
            tenant: DEFAULT_TENANT.to_owned(),
        }
    }

    /// The administrator that everyone is on loopback while no identity is configured.
    pub fn local_admin() -> Self {
        Self::user("local-admin", ["admin"])
    }

    /// One of our own services. Its role carries a prefix, so that no service name can be the name of a person's role.
    pub fn service(name: &str) -> Self {
        Self {
            id: name.to_owned(),
            kind: Kind::Service,
            roles: BTreeSet::from([format!("service:{name}")]),
            tenant: DEFAULT_TENANT.to_owned(),
        }
    }

    /// Somebody who said nothing about who they are: for routes that are open to all.
    pub fn anonymous() -> Self {
        Self {
            id: "anonymous".to_owned(),
            kind: Kind::Anonymous,
            roles: BTreeSet::new(),
            tenant: DEFAULT_TENANT.to_owned(),
        }
    }

    /// Whether it has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }
}

impl fmt::Display for Identity {
    /// The form used in audit entries and messages: `user:ada`, `service:pipelines`, `anonymous`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::User => write!(f, "user:{}", self.id),
            Kind::Service => write!(f, "service:{}", self.id),
            Kind::Anonymous => f.write_str("anonymous"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_named_admin_is_no_administrator() {
        assert!(!Identity::service("admin").has_role("admin"));
        assert!(Identity::local_admin().has_role("admin"));
    }

    #[test]
    fn identities_read_well_and_round_trip() {
        assert_eq!(Identity::service("pipelines").to_string(), "service:pipelines");
        assert_eq!(Identity::user("ada", ["viewer"]).to_string(), "user:ada");
        assert_eq!(Identity::anonymous().to_string(), "anonymous");
        let text = serde_json::to_string(&Identity::local_admin()).unwrap();
        assert_eq!(text, r#"{"id":"local-admin","kind":"user","roles":["admin"],"tenant":"default"}"#);
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), Identity::local_admin());
    }
}
