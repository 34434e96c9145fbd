//! The use cases.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fishy_audit::{Checkpoint, Entry, MerkleLog, Outcome, Signer, Verifier, leaf_hash};
use fishy_authz::{Authorizer, Bundle, DEFAULT_GATE_POLICIES, Gate, Identity, new_token};
use fishy_blob::Blob;
use fishy_contracts::events;
use fishy_contracts::governance::{
    AliasCheck, Approval, NewToken, PolicyBundle, Promotion, PromotionRequest, PromotionStatus, SequencedEntry,
    TokenHolder, TokenRequest,
};
use fishy_core::{Env, Error, Event, Result, TraceContext};
use fishy_db::{Db, Tx};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::store::{CheckpointRow, EntryRow, NewTokenRow};
use crate::{Deps, domain, store};

const SERVICE: &str = "governance";

/// The service.
pub struct Governance {
    env: Env,
    db: Db,
    blob: Blob,
    authorizer: Authorizer,
    /// The policies of the promotion gate.
    gate_policies: String,
    signer: Signer,
    origin: String,
    /// Entries since the last checkpoint.
    unsigned: AtomicU64,
    arrived: Notify,
    checkpoint_problem: Mutex<Option<String>>,
    /// Held while a head is signed: one signature for each size.
    signing: tokio::sync::Mutex<()>,
}

impl Governance {
    /// Opens the service: makes the signing key of the audit log when there is none.
    pub async fn open(deps: Deps) -> Result<Self> {
        let Deps { env, config, db, guard, blob, .. } = deps;
        let key = PathBuf::from(&config.storage.data_dir).join("governance").join("audit-key.pem");
        let signer = open_signer(&key, &config.governance.origin)?;
        let governance = Self {
            env,
            db,
            blob,
            authorizer: guard.authorizer.clone(),
            gate_policies: gate_policies(&config.governance.gate_policies)?,
            signer,
            origin: config.governance.origin.clone(),
            unsigned: AtomicU64::new(0),
            arrived: Notify::new(),
            checkpoint_problem: Mutex::new(None),
            signing: tokio::sync::Mutex::new(()),
        };
        // The recorded bundle first: a new one of the file counts up from it.
        if let Some(bundle) = governance.newest_bundle().await? {
            governance.authorizer.replace(bundle)?;
        }
        if !config.governance.policies.is_empty() {
            governance.publish_file(Path::new(&config.governance.policies)).await?;
        }
        Ok(governance)
    }

    /// Publishes the policies of a file unless they are the newest already.
    async fn publish_file(&self, path: &Path) -> Result<()> {
        let policies = std::fs::read_to_string(path)
            .map_err(|error| Error::from(error).context(format!("governance.policies {}", path.display())))?;
        let newest = store::newest_bundle(&self.db).await?;
        if newest.is_none_or(|newest| newest.policies != policies) {
            self.replace_policies(&policies, &Identity::service(SERVICE)).await?;
        }
        Ok(())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.db.ping().await
    }

    // --- promotions ---

    /// Decides a promotion and records it with its facts; a repeated id is answered from the record.
    pub async fn request_promotion(&self, request: PromotionRequest, caller: &Identity) -> Result<Promotion> {
        domain::check(&request)?;
        if let Some(known) = store::promotion(&self.db, &request.id).await? {
            return Ok(known);
        }
        domain::check_author(&request, caller)?;
        let decision = domain::decide(&self.gate_policies, &request, None)?;
        let now = self.env.now_ms();
        let is_decided = decision.status != PromotionStatus::WaitingForApproval;
        let promotion = Promotion {
            request,
            status: decision.status,
            reasons: decision.reasons,
            approver: None,
            created_ms: now,
            decided_ms: is_decided.then_some(now),
        };
        let mut tx = self.db.begin().await?;
        if store::insert_promotion(&mut tx, &promotion).await? {
            self.record_promotion(&mut tx, &promotion, caller, "promotion.requested").await?;
            tx.commit().await?;
            return Ok(promotion);
        }
        // Somebody else asked with the same id at the same time. Their transaction may share the commit with this one:
        // only after it their record can be read.
        tx.commit().await?;
        self.promotion(&promotion.request.id).await
    }

    /// A person's word on a waiting promotion.
    pub async fn approve(&self, id: &str, approval: &Approval, caller: &Identity) -> Result<Promotion> {
        let mut promotion = self.promotion(id).await?;
        if promotion.status != PromotionStatus::WaitingForApproval {
            return Err(Error::precondition(format!("promotion {id} was decided already: {:?}", promotion.status)));
        }
        let approver = caller.to_string();
        if approver == promotion.request.author {
            return Err(Error::denied(format!("{approver} is the author of promotion {id} and may not decide it")));
        }
        if approval.is_approved {
            let decision = domain::decide(&self.gate_policies, &promotion.request, Some(&approver))?;
            (promotion.status, promotion.reasons) = (decision.status, decision.reasons);
            if !approval.reason.is_empty() {
                promotion.reasons.push(format!("approved by {approver}: {}", approval.reason));
            }
        } else {
            promotion.status = PromotionStatus::Rejected;
            promotion.reasons = vec![format!("rejected by {approver}: {}", approval.reason)];
        }
        promotion.approver = Some(approver);
        promotion.decided_ms = Some(self.env.now_ms());
        let mut tx = self.db.begin().await?;
        if !store::decide_promotion(&mut tx, &promotion).await? {
            return Err(Error::new(
                fishy_core::ErrorCode::Conflict,
                format!("promotion {id} was decided by somebody else"),
            ));
        }
        self.record_promotion(&mut tx, &promotion, caller, "promotion.decided").await?;
        tx.commit().await?;
        Ok(promotion)
    }

    /// Writes the event and the audit entry of a promotion into the transaction that changes it.
    async fn record_promotion(
        &self,
        tx: &mut Tx,
        promotion: &Promotion,
        caller: &Identity,
        action: &str,
    ) -> Result<()> {
        let request = &promotion.request;
        let subject = format!("models/{}@{}", request.model, request.alias);
        let outcome = match promotion.status {
            PromotionStatus::Approved => Outcome::Allowed,
            PromotionStatus::Rejected => Outcome::Denied,
            PromotionStatus::WaitingForApproval => Outcome::Done,
        };
        let details = json!({
            "promotion": request.id,
            "status": promotion.status,
            "reasons": promotion.reasons,
            "approver": promotion.approver,
            "request": request,
        });
        if promotion.status != PromotionStatus::WaitingForApproval {
            let data = json!(promotion);
            self.emit(tx, events::PROMOTION_DECIDED, &subject, data).await?;
        }
        self.record(tx, caller, action, &subject, outcome, details).await
    }

    /// One promotion.
    pub async fn promotion(&self, id: &str) -> Result<Promotion> {
        let found = store::promotion(&self.db, id).await?;
        found.ok_or_else(|| Error::not_found(format!("no promotion {id:?}")))
    }

    /// Promotions of a model, newest first.
    pub async fn promotions(&self, model: &str) -> Result<Vec<Promotion>> {
        store::promotions(&self.db, model, 200).await
    }

    /// Whether a protected alias may name a version.
    pub async fn check_alias(&self, model: &str, alias: &str, version: &str) -> Result<AliasCheck> {
        store::check_alias(&self.db, model, alias, version).await
    }

    // --- policies ---

    /// The access policies that were published last; `None` while the built-in ones are in force.
    pub async fn newest_bundle(&self) -> Result<Option<Bundle>> {
        let newest = store::newest_bundle(&self.db).await?;
        Ok(newest.map(|bundle| Bundle {
            version: bundle.version.unsigned_abs(),
            issued_ms: bundle.issued_ms,
            policies: bundle.policies,
        }))
    }

    /// The access policies in force.
    pub fn bundle(&self) -> PolicyBundle {
        let bundle = self.authorizer.bundle();
        PolicyBundle { version: bundle.version as i64, issued_ms: bundle.issued_ms, policies: bundle.policies }
    }

    /// Takes new access policies, when they are valid.
    pub async fn replace_policies(&self, policies: &str, caller: &Identity) -> Result<PolicyBundle> {
        // The newest on record may be another replica's, which this process has not loaded.
        let recorded = store::newest_bundle(&self.db).await?.map_or(0, |newest| newest.version);
        let version = self.bundle().version.max(recorded) + 1;
        let bundle = PolicyBundle { version, issued_ms: self.env.now_ms(), policies: policies.to_owned() };
        let checked = Bundle { version: version as u64, issued_ms: bundle.issued_ms, policies: policies.to_owned() };
        // Refused here when it is not valid, before anything is written.
        Authorizer::new(checked.clone())?;
        let mut tx = self.db.begin().await?;
        store::insert_bundle(&mut tx, &bundle, &caller.to_string()).await?;
        self.emit(&mut tx, events::POLICIES_REPLACED, "policies", json!(bundle)).await?;
        let details = json!({"version": version, "sha256": hex::encode(sha256(policies.as_bytes()))});
        self.record(&mut tx, caller, "policies.replaced", "policies", Outcome::Done, details).await?;
        tx.commit().await?;
        self.authorizer.replace(checked)?;
        Ok(bundle)
    }

    // --- tokens ---

    /// Makes a service token; its text is in this answer and nowhere else.
    pub async fn create_token(&self, request: &TokenRequest, caller: &Identity) -> Result<NewToken> {
        create_token(&self.db, &self.env, request, caller).await
    }

    /// Who a token stands for, by the hash of its text.
    pub async fn token_holder(&self, hash: &str) -> Result<TokenHolder> {
        let found = store::token_holder(&self.db, hash).await?;
        found.ok_or_else(|| Error::not_found("no such token"))
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &str, caller: &Identity) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::revoke_token(&mut tx, id, self.env.now_ms()).await? {
            return Err(Error::not_found(format!("no token {id:?} in force")));
        }
        self.record(&mut tx, caller, "token.revoked", &format!("tokens/{id}"), Outcome::Done, Value::Null).await?;
        tx.commit().await
    }

    // --- audit ---

    /// Puts an entry into the log; one that is there already is taken as done.
    pub async fn append(&self, entry: &Entry) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let state = store::lock_log(&mut tx, &text_of(&MerkleLog::new())?).await?;
        if store::has_entry(&mut tx, &entry.id).await? {
            // The first one may be of the same shared commit: done is done only after it.
            return tx.commit().await;
        }
        let mut log = log_of(Some(state))?;
        let canonical = entry.canonical()?;
        let leaf = leaf_hash(canonical.as_bytes());
        let index = log.append(leaf).index;
        store::save_log(&mut tx, &text_of(&log)?).await?;
        store::insert_entry(&mut tx, index, &leaf.to_string(), entry, &canonical, self.env.now_ms()).await?;
        tx.commit().await?;
        metrics::counter!("fishy_audit_entries_total", "service" => entry.service.clone()).increment(1);
        self.unsigned.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits until so many entries have no checkpoint yet.
    pub async fn entries_waiting(&self, count: u64) {
        while self.unsigned.load(Ordering::SeqCst) < count {
            self.arrived.notified().await;
        }
    }

    /// Signs the head of the log unless the newest checkpoint covers it, and writes it outside.
    pub async fn sign_checkpoint(&self) -> Result<Option<String>> {
        let signed = self.sign().await;
        let problem = signed.as_ref().err().map(|error| format!("audit checkpoint: {error}"));
        *self.checkpoint_problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = problem;
        signed
    }

    async fn sign(&self) -> Result<Option<String>> {
        let _one_at_a_time = self.signing.lock().await;
        self.unsigned.store(0, Ordering::SeqCst);
        // The head is read before the log, so that the log of an honest database is never the shorter one.
        let signed = store::newest_checkpoint(&self.db).await?.map_or(0, |newest| newest.size);
        let log = log_of(store::log_state(&self.db).await?)?;
        let size = log.size();
        if size < signed {
            return Err(Error::precondition(format!(
                "the audit log has {size} entries, a head of {signed} was signed: entries were cut off"
            )));
        }
        if size == signed {
            return Ok(None);
        }
        let now_ms = self.env.now_ms();
        // Outside first: while it cannot be written there, the head counts as missing and is tried again.
        let note = self.keep_outside(&log, now_ms).await?;
        let row = CheckpointRow { size, note: note.clone() };
        if store::insert_checkpoint(&self.db, &row, now_ms).await? {
            tracing::info!(size, root_hash = %log.root(), "audit log checkpoint");
        }
        Ok(Some(note))
    }

    /// Signs the head of the log and writes it outside. A head that is there already is never overwritten: it is taken
    /// when it is of this log, else it shows that the database was set back or rewritten.
    async fn keep_outside(&self, log: &MerkleLog, now_ms: i64) -> Result<String> {
        let size = log.size();
        let path = format!("audit/checkpoints/{size:012}.txt");
        if self.blob.exists(&path).await? {
            let note = self.blob.get_bytes(&path, 64 * 1024).await?;
            let note = String::from_utf8_lossy(&note).into_owned();
            let kept = self.signer.verifier().open(&note).ok();
            if kept.is_some_and(|kept| kept.origin == self.origin && kept.root_hash == log.root()) {
                return Ok(note);
            }
            return Err(Error::precondition(format!(
                "{path} in the object store is not the head of this audit log: the log was written anew, or the key is another one"
            )));
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size,
            root_hash: log.root(),
            time: Some(fishy_core::time::rfc3339(now_ms)),
        };
        let note = self.signer.sign(&checkpoint)?;
        self.blob.put(&path, note.clone().into()).await?;
        Ok(note)
    }

    /// Why the newest checkpoint could not be signed or written outside.
    pub fn checkpoint_problem(&self) -> Option<String> {
        self.checkpoint_problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Entries from an index on.
    pub async fn entries(&self, from: u64, limit: i64) -> Result<Vec<SequencedEntry>> {
        let rows = store::entries(&self.db, from, limit).await?;
        rows.iter().map(|row| Ok(SequencedEntry { index: row.index, entry: row.entry()? })).collect()
    }

    /// Entries from an index on as they are stored.
    pub async fn stored_entries(&self, from: u64, limit: i64) -> Result<Vec<EntryRow>> {
        store::entries(&self.db, from, limit).await
    }

    /// The newest signed head.
    pub async fn newest_checkpoint(&self) -> Result<Option<CheckpointRow>> {
        store::newest_checkpoint(&self.db).await
    }

    /// All signed heads, oldest first.
    pub async fn checkpoints(&self) -> Result<Vec<CheckpointRow>> {
        store::all_checkpoints(&self.db).await
    }

    /// The key that the heads are signed with.
    pub fn verifier(&self) -> Verifier {
        self.signer.verifier()
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many entries the log has, in all and by service and action.
    pub async fn summary(&self) -> Result<Value> {
        let size = log_of(store::log_state(&self.db).await?)?.size();
        let rows = store::summary(&self.db).await?;
        let by_action: Vec<Value> = rows
            .into_iter()
            .map(|(service, action, entries)| json!({"service": service, "action": action, "entries": entries}))
            .collect();
        Ok(json!({"size": size, "by_action": by_action}))
    }

    // --- what every change writes ---

    async fn emit(&self, tx: &mut Tx, kind: &str, subject: &str, data: Value) -> Result<()> {
        let event = Event::new(self.env.new_id(), SERVICE, kind, subject, self.env.now_ms(), data);
        tx.emit(&event).await
    }

    async fn record(
        &self,
        tx: &mut Tx,
        caller: &Identity,
        action: &str,
        resource: &str,
        outcome: Outcome,
        details: Value,
    ) -> Result<()> {
        record(tx, &self.env, caller, action, resource, outcome, details).await
    }
}

/// Writes an audit entry into the transaction of the change.
async fn record(
    tx: &mut Tx,
    env: &Env,
    caller: &Identity,
    action: &str,
    resource: &str,
    outcome: Outcome,
    details: Value,
) -> Result<()> {
    let entry = Entry {
        id: env.new_id(),
        time: fishy_core::time::rfc3339(env.now_ms()),
        service: SERVICE.to_owned(),
        actor: caller.to_string(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        outcome,
        details,
        traceparent: TraceContext::current().map(|trace| trace.traceparent()),
    };
    let data = serde_json::to_value(&entry).map_err(|error| Error::internal("an audit entry").with_source(error))?;
    let event = Event::new(entry.id.clone(), SERVICE, events::AUDIT_ENTRY, resource, env.now_ms(), data);
    tx.emit(&event).await
}

/// Makes a service token in the database: its text is in this answer and nowhere else.
pub(crate) async fn create_token(db: &Db, env: &Env, request: &TokenRequest, caller: &Identity) -> Result<NewToken> {
    fishy_core::check_name("token name", &request.name)?;
    if request.roles.is_empty() {
        return Err(Error::invalid("a token needs at least one role, for example data_scientist or sensor"));
    }
    for role in &request.roles {
        fishy_core::check_name("role", role)?;
    }
    if let Some(ttl) = request.ttl_ms.filter(|ttl| *ttl <= 0) {
        return Err(Error::invalid(format!("ttl_ms is {ttl}: use 1 or more, or leave it out for a token without end")));
    }
    let (token, hash) = new_token(random_bytes());
    let id = env.new_id();
    let created_ms = env.now_ms();
    let mut tx = db.begin().await?;
    let row = NewTokenRow {
        id: &id,
        hash: &hash.to_hex(),
        name: &request.name,
        roles: &request.roles,
        created_ms,
        expires_ms: request.ttl_ms.map(|ttl| created_ms.saturating_add(ttl)),
    };
    store::insert_token(&mut tx, &row).await?;
    let details = json!({"name": request.name, "roles": request.roles, "expires_ms": row.expires_ms});
    record(&mut tx, env, caller, "token.created", &format!("tokens/{id}"), Outcome::Done, details).await?;
    tx.commit().await?;
    Ok(NewToken { id, token })
}

/// 32 bytes from the system's random source.
fn random_bytes() -> [u8; 32] {
    let mut random = [0_u8; 32];
    for part in random.chunks_mut(8) {
        // A UUIDv4 has six fixed bits; its low eight bytes hold 62 random ones, and four of them are 248.
        part.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[8..]);
    }
    random
}

fn text_of(log: &MerkleLog) -> Result<String> {
    serde_json::to_string(log).map_err(|error| Error::internal("the audit log's state").with_source(error))
}

fn log_of(state: Option<String>) -> Result<MerkleLog> {
    match state {
        None => Ok(MerkleLog::new()),
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| Error::internal("the audit log's state cannot be read").with_source(error)),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// Reads the signing key, or makes one that only this user can read.
fn open_signer(path: &Path, name: &str) -> Result<Signer> {
    if path.is_file() {
        let pem = std::fs::read_to_string(path).map_err(|error| Error::from(error).context("the audit signing key"))?;
        return Signer::from_pem(name, &pem);
    }
    let signer = Signer::from_random(name, random_bytes())?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_private(path, &signer.to_pem()?)?;
    Ok(signer)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// The gate's policies in a file, or the built-in ones.
fn gate_policies(path: &str) -> Result<String> {
    if path.is_empty() {
        return Ok(DEFAULT_GATE_POLICIES.to_owned());
    }
    let in_file = |error: Error| error.context(format!("governance.gate_policies {path}"));
    let policies = std::fs::read_to_string(path).map_err(|error| in_file(error.into()))?;
    Gate::check(&policies).map_err(in_file)?;
    Ok(policies)
}
