use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, RestrictedExpression, Schema,
};
use fishy_core::{Error, ErrorCode, Result};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::decision_cache::{DecisionCache, Key};
use crate::identity::{Identity, Kind};
use crate::policy_text;
use crate::policy_uses::Uses;

const SCHEMA: &str = include_str!("../policies/fishy.cedarschema");

/// How many decisions are kept: some hundred bytes each.
const CACHED_DECISIONS: usize = 16_384;

/// What is acted on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The service that keeps it, for example `registry`.
    pub service: String,
    /// What kind of thing it is, for example `model`.
    pub kind: String,
    /// Its name or id; empty for a whole collection.
    pub name: String,
}

impl Resource {
    /// One thing of a service.
    pub fn new(service: impl Into<String>, kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { service: service.into(), kind: kind.into(), name: name.into() }
    }
}

/// Whether somebody may do something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// May they?
    pub allowed: bool,
    /// The ids of the policies that decided: those that permit, or those that forbid. Empty where none permits.
    pub reasons: Vec<String>,
    /// What went wrong while deciding. A decision with errors is a denial.
    pub errors: Vec<String>,
}

impl Decision {
    fn refused(error: impl Into<String>) -> Self {
        Self { allowed: false, reasons: Vec::new(), errors: vec![error.into()] }
    }
}

/// Decides locally, by the newest policy bundle it was given. Cheap to clone; clones share the bundle.
#[derive(Clone)]
pub struct Authorizer {
    inner: Arc<Inner>,
}

struct Inner {
    model: Model,
    path: Option<PathBuf>,
    current: ArcSwap<Loaded>,
    /// One replacement at a time, so that the file and the memory agree on which was last.
    replacing: Mutex<()>,
}

/// What the schema gives; the same for every bundle.
struct Model {
    schema: Schema,
    actions: HashMap<String, EntityUid>,
    action_entities: Entities,
    user: EntityTypeName,
    service: EntityTypeName,
    anonymous: EntityTypeName,
    resource: EntityTypeName,
}

struct Loaded {
    bundle: Bundle,
    policies: PolicySet,
    uses: Uses,
    /// Belongs to the policies: a new bundle begins with an empty one. Kept when only the time stamp is new.
    cache: Arc<DecisionCache>,
}

/// The evaluator itself has no state and no settings.
static ENGINE: LazyLock<cedar_policy::Authorizer> = LazyLock::new(cedar_policy::Authorizer::new);

impl Authorizer {
    /// Decides by this bundle; an error if the bundle is not valid.
    pub fn new(bundle: Bundle) -> Result<Self> {
        Self::build(bundle, None)
    }

    /// Decides by the bundle that is compiled in, as if issued at `now_ms`.
    pub fn embedded(now_ms: i64) -> Result<Self> {
        Self::new(Bundle::embedded(now_ms))
    }

    /// Decides by the last known good bundle in this file, or by the embedded one while there is none or it cannot be
    /// used (which is logged). Every bundle that [`replace`](Self::replace) takes is written there. Reads a file: call
    /// it at start.
    pub fn open(path: PathBuf, now_ms: i64) -> Result<Self> {
        let saved = Bundle::load(&path)
            .and_then(|bundle| bundle.map(|bundle| Self::build(bundle, Some(path.clone()))).transpose());
        match saved {
            Ok(Some(authorizer)) => Ok(authorizer),
            Ok(None) => Self::build(Bundle::embedded(now_ms), Some(path)),
            Err(error) => {
                tracing::warn!(error = %error.chain(), "saved policy bundle is unusable, deciding by the embedded one");
                Self::build(Bundle::embedded(now_ms), Some(path))
            }
        }
    }

    fn build(bundle: Bundle, path: Option<PathBuf>) -> Result<Self> {
        let model = Model::new()?;
        let loaded = model.load(bundle)?;
        let current = ArcSwap::from_pointee(loaded);
        Ok(Self { inner: Arc::new(Inner { model, path, current, replacing: Mutex::default() }) })
    }

    /// Whether `who` may do `action` (`<service>:<verb>`, see the schema) to `resource`. `context` is `{}` or null
    /// where there is nothing to add. Denied: what no policy permits, an action or a context that the schema does not
    /// know, and everything whose evaluation fails.
    pub fn allow(&self, who: &Identity, action: &str, resource: &Resource, context: Value) -> Arc<Decision> {
        let loaded = self.inner.current.load();
        let has_context = context.as_object().is_none_or(|fields| !fields.is_empty()) && !context.is_null();
        let context_text = if has_context && loaded.uses.context { context.to_string() } else { String::new() };
        // A context that no policy looks at may still be one that the schema refuses: it is never cached.
        let is_cacheable = !has_context || loaded.uses.context;
        let pick = |is_used: bool, text| if is_used { text } else { "" };
        let key = Key {
            kind: who.kind,
            roles: &who.roles,
            action,
            service: &resource.service,
            resource_kind: &resource.kind,
            principal_id: pick(loaded.uses.principal_id, who.id.as_str()),
            tenant: pick(loaded.uses.principal_tenant, who.tenant.as_str()),
            resource_name: pick(loaded.uses.resource_name, resource.name.as_str()),
            context: &context_text,
        };
        if is_cacheable && let Some(decision) = loaded.cache.get(&key) {
            return decision;
        }
        let decision = Arc::new(self.inner.model.decide(&loaded.policies, who, action, resource, context));
        if is_cacheable && decision.errors.is_empty() {
            loaded.cache.put(&key, Arc::clone(&decision));
        }
        decision
    }

    /// Like [`allow`](Self::allow), with a denial as the error `PERMISSION_DENIED` that names who, what and why.
    pub fn require(&self, who: &Identity, action: &str, resource: &Resource, context: Value) -> Result<()> {
        let decision = self.allow(who, action, resource, context);
        if decision.allowed {
            return Ok(());
        }
        for error in &decision.errors {
            tracing::warn!(action, error, "authorisation failed to decide");
        }
        let why = if !decision.errors.is_empty() {
            "the decision failed".to_owned()
        } else if decision.reasons.is_empty() {
            let roles: Vec<&str> = who.roles.iter().map(String::as_str).collect();
            match roles.as_slice() {
                [] => "no policy permits it, and the caller has no role".to_owned(),
                _ => format!("no policy permits it for the roles {}", roles.join(", ")),
            }
        } else {
            format!("forbidden by {}", decision.reasons.join(", "))
        };
        let Resource { service, kind, name } = resource;
        let separator = if name.is_empty() { "" } else { " " };
        Err(Error::denied(format!("{who} may not {action} on {service} {kind}{separator}{name}: {why}")))
    }

    /// Takes a newer bundle into use. `Ok(false)`: it is not newer than the one in use, which is kept; the same version
    /// with a later stamp only renews the age. An error: it is not valid, and the last good one is kept.
    ///
    /// Where a file was given, the bundle is written to it; a failure to write is logged, the bundle is in use anyway.
    pub fn replace(&self, bundle: Bundle) -> Result<bool> {
        let _guard = self.inner.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.inner.current.load_full();
        if bundle.version < before.bundle.version {
            return Ok(false);
        }
        let is_same_text = bundle.policies == before.bundle.policies;
        if bundle.version == before.bundle.version {
            if !is_same_text {
                return Err(Error::new(
                    ErrorCode::Conflict,
                    format!("policy bundle {} differs from the one in use under the same version", bundle.version),
                ));
            }
            if bundle.issued_ms <= before.bundle.issued_ms {
                return Ok(false);
            }
        }
        let is_new_version = bundle.version > before.bundle.version;
        let loaded = if is_same_text {
            let (policies, uses, cache) = (before.policies.clone(), before.uses, Arc::clone(&before.cache));
            Loaded { bundle, policies, uses, cache }
        } else {
            let version = bundle.version;
            self.inner.model.load(bundle).map_err(|error| {
                error.context(format!("policy bundle {version} is refused, {} stays in use", before.bundle.version))
            })?
        };
        if let Some(path) = &self.inner.path
            && let Err(error) = loaded.bundle.save(path)
        {
            tracing::warn!(error = %error.chain(), "policy bundle is in use but could not be saved");
        }
        self.inner.current.store(Arc::new(loaded));
        Ok(is_new_version)
    }

    /// The bundle in use.
    pub fn bundle(&self) -> Bundle {
        self.inner.current.load().bundle.clone()
    }

    /// How long ago the bundle in use was issued, in milliseconds; never negative.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.inner.current.load().bundle.issued_ms).max(0)
    }

    /// Sets the metrics `fishy_policy_bundle_age_seconds` and `fishy_policy_bundle_version`.
    pub fn record_metrics(&self, now_ms: i64) {
        metrics::gauge!("fishy_policy_bundle_age_seconds").set(self.age_ms(now_ms) as f64 / 1000.0);
        metrics::gauge!("fishy_policy_bundle_version").set(self.inner.current.load().bundle.version as f64);
    }

    /// Every action that the policies can speak of, sorted.
    pub fn actions(&self) -> Vec<String> {
        let mut actions: Vec<String> = self.inner.model.actions.keys().cloned().collect();
        actions.sort();
        actions
    }

    #[cfg(test)]
    fn cached(&self) -> usize {
        self.inner.current.load().cache.len()
    }
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").field("bundle_version", &self.inner.current.load().bundle.version).finish()
    }
}

impl Model {
    fn new() -> Result<Self> {
        let schema = policy_text::schema(SCHEMA)?;
        let type_name = |name: &str| {
            name.parse::<EntityTypeName>().map_err(|error| Error::internal(format!("entity type {name}: {error}")))
        };
        let action_entities = schema
            .action_entities()
            .map_err(|error| Error::internal(format!("the actions of the embedded schema are not valid: {error}")))?;
        let groups: HashSet<&EntityUid> = schema.action_groups().collect();
        let actions = schema
            .actions()
            .filter(|action| !groups.contains(action))
            .map(|action| (action.id().unescaped().to_owned(), action.clone()))
            .collect();
        Ok(Self {
            actions,
            action_entities,
            user: type_name("User")?,
            service: type_name("Service")?,
            anonymous: type_name("Anonymous")?,
            resource: type_name("Resource")?,
            schema,
        })
    }

    fn load(&self, bundle: Bundle) -> Result<Loaded> {
        let policies = policy_text::policy_set(&bundle.policies, self.schema.clone())?;
        let uses = Uses::of(&policies);
        Ok(Loaded { bundle, policies, uses, cache: Arc::new(DecisionCache::new(CACHED_DECISIONS)) })
    }

    fn decide(&self, policies: &PolicySet, who: &Identity, action: &str, on: &Resource, context: Value) -> Decision {
        let Some(action_uid) = self.actions.get(action) else {
            return Decision::refused(format!("the schema has no action {action:?}"));
        };
        match self.ask(policies, who, action_uid, on, context) {
            Ok(decision) => decision,
            Err(error) => Decision::refused(format!("{action}: {error}")),
        }
    }

    fn ask(
        &self,
        policies: &PolicySet,
        who: &Identity,
        action: &EntityUid,
        on: &Resource,
        context: Value,
    ) -> Result<Decision, String> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let uid = |kind: &EntityTypeName, id: &str| EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id));
        let principal = uid(
            match who.kind {
                Kind::User => &self.user,
                Kind::Service => &self.service,
                Kind::Anonymous => &self.anonymous,
            },
            &who.id,
        );
        let resource = uid(&self.resource, &format!("{}/{}/{}", on.service, on.kind, on.name));
        let roles = RestrictedExpression::new_set(who.roles.iter().map(|role| text(role)));
        let principal_attributes = HashMap::from([
            ("id".to_owned(), text(&who.id)),
            ("tenant".to_owned(), text(&who.tenant)),
            ("roles".to_owned(), roles),
        ]);
        let resource_attributes = HashMap::from([
            ("service".to_owned(), text(&on.service)),
            ("kind".to_owned(), text(&on.kind)),
            ("name".to_owned(), text(&on.name)),
        ]);
        let entities = [
            Entity::new(principal.clone(), principal_attributes, HashSet::new()),
            Entity::new(resource.clone(), resource_attributes, HashSet::new()),
        ];
        let entities: Vec<Entity> =
            entities.into_iter().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let entities =
            self.action_entities.clone().add_entities(entities, None).map_err(|error| policy_text::flat(&error))?;
        let context = match context {
            Value::Null => Context::empty(),
            context => Context::from_json_value(context, Some((&self.schema, action)))
                .map_err(|error| format!("the context does not fit the schema: {}", policy_text::flat(&error)))?,
        };
        // Reading the context checks its names, this its types; the attributes are built here to fit the schema.
        let request = Request::new(principal, action.clone(), resource, context, Some(&self.schema))
            .map_err(|error| policy_text::flat(&error))?;
        let answer = ENGINE.is_authorized(&request, policies, &entities);
        let errors: Vec<String> = answer.diagnostics().errors().map(ToString::to_string).collect();
        let mut reasons: Vec<String> = answer.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort();
        // Cedar skips a policy that fails, which for a `forbid` would open a door: any error denies.
        let allowed = errors.is_empty() && answer.decision() == cedar_policy::Decision::Allow;
        Ok(Decision { allowed, reasons, errors })
    }
}

#[cfg(test)]
mod tests;
