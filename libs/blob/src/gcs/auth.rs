use crate::options::GcsAuth;
use fishy_core::{Error, Result};
use reqwest::Client;
use serde::Deserialize;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token is renewed this long before it ends, so that a request under way does not lose it.
const MARGIN: Duration = Duration::from_mins(1);

/// Gives the tokens we sign in with.
pub(super) struct Auth {
    kind: GcsAuth,
    client: Client,
    cached: Mutex<Option<(String, Instant)>>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Auth {
    pub(super) const fn new(kind: GcsAuth, client: Client) -> Self {
        Self { kind, client, cached: Mutex::new(None) }
    }

    /// The token to send; `None` when we do not sign in.
    pub(super) async fn token(&self) -> Result<Option<String>> {
        let url = match &self.kind {
            GcsAuth::Anonymous => return Ok(None),
            GcsAuth::Bearer { token } => return Ok(Some(token.clone())),
            GcsAuth::MetadataServer { url } => url,
        };
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((token, until)) = cached
            && Instant::now() < until
        {
            return Ok(Some(token));
        }
        // Several requests may ask at once; the server answers all of them with the same token.
        let asked = Instant::now();
        let granted = self.ask(url).await.map_err(|error| {
            Error::unavailable(format!(
                "the metadata server at {url} gives no token for Google Cloud Storage: outside of Google's machines, \
                 set gcs.auth to another kind"
            ))
            .with_source(error)
        })?;
        let until = asked + Duration::from_secs(granted.expires_in).saturating_sub(MARGIN);
        let token = granted.access_token;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((token.clone(), until));
        Ok(Some(token))
    }

    /// The store refused the token.
    pub(super) fn forget(&self) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn ask(&self, url: &str) -> reqwest::Result<Granted> {
        let url = format!("{}/computeMetadata/v1/instance/service-accounts/default/token", url.trim_end_matches('/'));
        let request = self.client.get(url).header("Metadata-Flavor", "Google");
        request.send().await?.error_for_status()?.json().await
    }
}
