//! What a set of policies looks at, so that decisions can be cached by that alone.

use cedar_policy::PolicySet;
use serde_json::{Map, Value};

/// The parts of a request, beyond roles, kind of principal, action, and service and kind of the resource, that some
/// policy looks at. In doubt a part counts as looked at: that costs memory, the opposite would be a wrong decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent parts")]
pub(crate) struct Uses {
    pub principal_id: bool,
    pub principal_tenant: bool,
    pub resource_name: bool,
    pub context: bool,
}

impl Uses {
    pub(crate) fn of(policies: &PolicySet) -> Self {
        let mut uses = Self::default();
        for policy in policies.policies() {
            match policy.to_json() {
                Ok(json) => uses.policy(&json),
                Err(_) => {
                    return Self { principal_id: true, principal_tenant: true, resource_name: true, context: true };
                }
            }
        }
        uses
    }

    fn policy(&mut self, policy: &Value) {
        // The scope: `==` and `in` compare the entity itself; `is` alone looks at its type, which is always in the key.
        for var in ["principal", "resource"] {
            let scope = &policy[var];
            let is_by_type = match scope["op"].as_str() {
                Some("All") => true,
                Some("is") => scope.get("in").is_none(),
                _ => false,
            };
            if !is_by_type {
                self.whole(var);
            }
        }
        self.expression(&policy["conditions"]);
    }

    fn expression(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.expression(item)),
            Value::Object(object) => {
                for (operator, operand) in object {
                    if !self.is_plain_access(operator, operand) {
                        self.operand(operator, operand);
                    }
                }
            }
            _ => {}
        }
    }

    fn operand(&mut self, operator: &str, operand: &Value) {
        match (operator, operand) {
            ("Var", Value::String(var)) => self.whole(var),
            _ => self.expression(operand),
        }
    }

    /// Notes `var.attr`, `var has attr` and `var is Type`; answers false for everything else.
    fn is_plain_access(&mut self, operator: &str, operand: &Value) -> bool {
        let Some(fields) = operand.as_object() else { return false };
        let Some(var) = var_of(fields) else { return false };
        match operator {
            "." | "has" => match fields.get("attr").and_then(Value::as_str) {
                Some(attribute) => self.attribute(var, attribute),
                None => self.whole(var),
            },
            "is" if !fields.contains_key("in") => {}
            _ => return false,
        }
        true
    }

    fn attribute(&mut self, var: &str, attribute: &str) {
        match (var, attribute) {
            ("principal", "id") => self.principal_id = true,
            ("principal", "tenant") => self.principal_tenant = true,
            ("resource", "name") => self.resource_name = true,
            ("principal", "roles") | ("resource", "service" | "kind") => {}
            _ => self.whole(var),
        }
    }

    fn whole(&mut self, var: &str) {
        match var {
            "principal" => {
                self.principal_id = true;
                self.principal_tenant = true;
            }
            "resource" => self.resource_name = true,
            "context" => self.context = true,
            _ => {}
        }
    }
}

fn var_of(fields: &Map<String, Value>) -> Option<&str> {
    fields.get("left")?.as_object().filter(|left| left.len() == 1)?.get("Var")?.as_str()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn uses(policies: &str) -> Uses {
        Uses::of(&PolicySet::from_str(policies).unwrap())
    }

    #[test]
    fn roles_kinds_and_actions_need_no_names() {
        let policies = r#"
            permit (principal is User, action in Action::"any:read", resource) when { principal.roles.contains("x") };
            permit (principal, action, resource is Resource)
                when { resource.kind == "model" && resource.service == "registry" } unless { principal is Service };
        "#;
        assert_eq!(uses(policies), Uses::default());
    }

    #[test]
    fn every_way_to_look_at_a_name_is_seen() {
        let name = |body: &str| uses(&format!("permit (principal, action, resource) when {{ {body} }};")).resource_name;
        assert!(name(r#"resource.name like "prod-*""#));
        assert!(name(r#"["a"].contains(resource.name)"#));
        assert!(name(r#"resource == Resource::"x""#));
        assert!(name(r#"resource in Resource::"x""#));
        assert!(name(r#"[resource].contains(Resource::"x")"#));
        assert!(name(r#"{a: resource.name}.a == "x""#));
        assert!(name(r#"if true then resource.name == "x" else false"#));
        assert!(name(r#"resource is Resource in Resource::"x""#));
        assert!(!name(r#"resource.kind == "name""#));
        assert!(uses(r#"permit (principal, action, resource == Resource::"x");"#).resource_name);
        assert!(uses(r#"permit (principal == User::"x", action, resource);"#).principal_id);
        assert!(uses(r#"permit (principal in User::"x", action, resource);"#).principal_id);
        assert!(uses(r#"permit (principal is User in User::"x", action, resource);"#).principal_id);
    }

    #[test]
    fn identity_tenant_and_context_are_told_apart() {
        let by = |body: &str| uses(&format!("forbid (principal, action, resource) unless {{ {body} }};"));
        assert_eq!(by(r#"principal.id == "x""#), Uses { principal_id: true, ..Uses::default() });
        assert_eq!(by(r#"principal.tenant == "x""#), Uses { principal_tenant: true, ..Uses::default() });
        assert_eq!(by("context has author"), Uses { context: true, ..Uses::default() });
        assert_eq!(
            by("context has author && context.author != principal.id"),
            Uses { context: true, principal_id: true, ..Uses::default() }
        );
    }
}
