//! Secrets at rest: AES-256-GCM, with a key that is not in the database.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fishy_config::Config;
use fishy_core::{Error, Result};
use fishy_db::{Db, Engine};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// Encrypts and decrypts secrets.
pub(crate) struct Seal {
    /// None where replicas would each have a key of their own.
    key: Option<LessSafeKey>,
    random: SystemRandom,
}

impl Seal {
    /// With the configured key, or with one in a file that is made when it is missing.
    pub fn open(config: &Config, db: &Db) -> Result<Self> {
        let random = SystemRandom::new();
        let text = config.registry.webhook_key.expose();
        let material: [u8; 32] = if !text.is_empty() {
            if text.len() < 32 {
                return Err(Error::invalid("registry.webhook_key must have 32 or more characters"));
            }
            Sha256::digest(text).into()
        } else if db.engine() == Engine::Sqlite {
            key_file(&Path::new(&config.storage.data_dir).join("webhook.key"), &random)?
        } else {
            return Ok(Self { key: None, random });
        };
        let key = UnboundKey::new(&AES_256_GCM, &material).map_err(|_| Error::internal("the key of webhooks"))?;
        Ok(Self { key: Some(LessSafeKey::new(key)), random })
    }

    fn key(&self) -> Result<&LessSafeKey> {
        self.key.as_ref().ok_or_else(|| {
            Error::precondition("secrets of webhooks need registry.webhook_key: the same for all replicas")
        })
    }

    /// Encrypts a secret; it can be opened for the same owner only.
    pub fn close(&self, owner: &str, secret: &str) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| Error::internal("the system gives no random numbers"))?;
        let mut sealed = secret.as_bytes().to_vec();
        self.key()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(owner), &mut sealed)
            .map_err(|_| Error::internal("a secret cannot be encrypted"))?;
        Ok(STANDARD.encode([&nonce, sealed.as_slice()].concat()))
    }

    /// Decrypts a secret.
    pub fn open_secret(&self, owner: &str, sealed: &str) -> Result<String> {
        let broken =
            || Error::internal("the secret of a webhook cannot be decrypted: was registry.webhook_key changed?");
        let bytes = STANDARD.decode(sealed).map_err(|_| broken())?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut sealed = sealed.to_vec();
        let opened = self.key()?.open_in_place(nonce, Aad::from(owner), &mut sealed).map_err(|_| broken())?;
        String::from_utf8(opened.to_vec()).map_err(|_| broken())
    }
}

/// Reads the key, or makes one that only this user can read.
fn key_file(path: &Path, random: &SystemRandom) -> Result<[u8; 32]> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let context = |error: std::io::Error| Error::from(error).context(format_args!("{}", path.display()));
    if !path.is_file() {
        let mut key = [0; 32];
        random.fill(&mut key).map_err(|_| Error::internal("the system gives no random numbers"))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(context)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(context)?;
        file.write_all(hex::encode(key).as_bytes()).and_then(|()| file.sync_all()).map_err(context)?;
    }
    let text = std::fs::read_to_string(path).map_err(context)?;
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key)
        .map_err(|_| Error::internal(format!("{} is no key: 64 hexadecimal digits are expected", path.display())))?;
    Ok(key)
}
