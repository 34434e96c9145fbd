//! Webhooks: what can be subscribed to, how a call is signed, and where it may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fishy_core::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sha2::Sha256;
use url::{Host, Url};

/// What a webhook can be called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Happening {
    /// A registered model was made.
    ModelCreated,
    /// A version was made.
    VersionCreated,
    /// A tag of a version was set.
    VersionTagSet,
    /// A tag of a version was deleted.
    VersionTagDeleted,
    /// An alias was set, or moved.
    AliasCreated,
    /// An alias was deleted.
    AliasDeleted,
}

/// Entities and actions of MLflow's that can be subscribed to there and cannot happen here.
const ELSEWHERE: [&str; 6] =
    ["PROMPT", "PROMPT_VERSION", "PROMPT_TAG", "PROMPT_VERSION_TAG", "PROMPT_ALIAS", "BUDGET_POLICY"];

impl Happening {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ModelCreated,
        Self::VersionCreated,
        Self::VersionTagSet,
        Self::VersionTagDeleted,
        Self::AliasCreated,
        Self::AliasDeleted,
    ];

    /// Entity and action, as the body of a call names them.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ModelCreated => ("registered_model", "created"),
            Self::VersionCreated => ("model_version", "created"),
            Self::VersionTagSet => ("model_version_tag", "set"),
            Self::VersionTagDeleted => ("model_version_tag", "deleted"),
            Self::AliasCreated => ("model_version_alias", "created"),
            Self::AliasDeleted => ("model_version_alias", "deleted"),
        }
    }

    /// `model_version.created` and so on: how it is kept.
    pub fn key(self) -> String {
        let (entity, action) = self.names();
        format!("{entity}.{action}")
    }

    /// Reads what [`key`](Self::key) wrote.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|happening| happening.key() == key)
    }

    /// Reads entity and action as MLflow's protocol writes them, `MODEL_VERSION` and `CREATED`.
    pub fn parse(entity: &str, action: &str) -> Result<Self> {
        let (entity, action) = (entity.to_ascii_lowercase(), action.to_ascii_lowercase());
        let found = Self::ALL.into_iter().find(|happening| happening.names() == (entity.as_str(), action.as_str()));
        found.ok_or_else(|| {
            if ELSEWHERE.contains(&entity.to_ascii_uppercase().as_str()) {
                return Error::invalid(format!(
                    "a webhook for '{entity}.{action}' would never be called: prompts and budgets are not part of this system"
                ));
            }
            let all: Vec<String> = Self::ALL.into_iter().map(Self::key).collect();
            Error::invalid(format!("Invalid webhook event '{entity}.{action}': use one of {}", all.join(", ")))
        })
    }

    /// What a test call carries.
    pub fn example(self) -> Value {
        let tags = json!({"example_key": "example_value"});
        match self {
            Self::ModelCreated => {
                json!({"name": "example_model", "tags": tags, "description": "An example registered model"})
            }
            Self::VersionCreated => json!({
                "name": "example_model", "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678",
                "tags": tags, "description": "An example model version",
            }),
            Self::VersionTagSet => {
                json!({"name": "example_model", "version": "1", "key": "example_key", "value": "example_value"})
            }
            Self::VersionTagDeleted => json!({"name": "example_model", "version": "1", "key": "example_key"}),
            Self::AliasCreated => json!({"name": "example_model", "alias": "example_alias", "version": "1"}),
            Self::AliasDeleted => json!({"name": "example_model", "alias": "example_alias"}),
        }
    }
}

impl Serialize for Happening {
    /// As MLflow's protocol writes it.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let (entity, action) = self.names();
        json!({"entity": entity.to_ascii_uppercase(), "action": action.to_ascii_uppercase()}).serialize(serializer)
    }
}

/// The body of a call.
pub fn body(happening: Happening, time: &str, data: &Value, workspace: Option<&str>) -> String {
    let (entity, action) = happening.names();
    let mut body = json!({"entity": entity, "action": action, "timestamp": time, "data": data});
    if let Some(workspace) = workspace {
        body["workspace"] = workspace.into();
    }
    body.to_string()
}

/// The signature of a call: HMAC-SHA256 over id, time and body, as the header has it.
pub fn signature(secret: &str, delivery_id: &str, unix_time: &str, body: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|_| Error::internal("a webhook cannot be signed with its secret"))?;
    mac.update(format!("{delivery_id}.{unix_time}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// Checks the name of a webhook.
pub fn check_name(name: &str) -> Result<()> {
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_valid =
        name.len() <= 63 && is_edge(name.bytes().next()) && is_edge(name.bytes().last()) && name.bytes().all(is_inner);
    if is_valid {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Webhook name {name:?} is invalid. It must start and end with a letter or digit, be less than 64 characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
    )))
}

/// Whose private addresses may be called.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    private_hosts: Vec<String>,
}

impl Reach {
    /// `private_hosts` are names or addresses; `*` stands for all.
    pub fn new(private_hosts: &[String]) -> Self {
        Self { private_hosts: private_hosts.iter().map(|host| host.trim().to_ascii_lowercase()).collect() }
    }

    /// Whether a host may be called at any address.
    pub fn is_trusted(&self, host: &str) -> bool {
        self.private_hosts.iter().any(|trusted| trusted == "*" || *trusted == host.to_ascii_lowercase())
    }

    /// Whether a host may be called at this address.
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        is_public(address) || self.is_trusted(host)
    }

    /// Reads the URL of a webhook, and refuses one that leads nowhere or, by its address, into a private network. What
    /// the name of a host stands for is seen when it is called.
    pub fn url(&self, text: &str) -> Result<Url> {
        let invalid = |why: &str| Error::invalid(format!("Invalid webhook URL: {why}"));
        if text.len() > 2_000 {
            return Err(invalid("it is longer than 2000 characters."));
        }
        let url = Url::parse(text.trim()).map_err(|error| invalid(&format!("{error}.")))?;
        if !["https", "http"].contains(&url.scheme()) {
            return Err(invalid(&format!("scheme '{}' is not one of https, http.", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "it must not have a user or a password in it; receivers verify the signature instead.",
            ));
        }
        let host = url.host().ok_or_else(|| invalid("it must name a host."))?;
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let name = host_name(&url);
        if let Some(address) = address
            && !self.allows(&name, address)
        {
            return Err(Error::invalid(refusal(&name, Some(address))));
        }
        if name.rsplit('.').next() == Some("localhost") && !self.is_trusted(&name) {
            return Err(Error::invalid(refusal(&name, None)));
        }
        Ok(url)
    }
}

/// The host of a URL as configuration names it: no brackets.
pub fn host_name(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_owned()
}

/// Why a host is not called.
pub fn refusal(host: &str, address: Option<IpAddr>) -> String {
    let at = address.filter(|address| address.to_string() != host).map(|address| format!(" ({address})"));
    format!(
        "Webhook URL must not lead to a private address: {host}{} is one. An operator can allow it in registry.webhook_private_hosts.",
        at.unwrap_or_default()
    )
}

/// Whether an address is one of the public Internet. An IPv4 address that is wrapped into an IPv6 address counts as the
/// IPv4 address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (192, 168, _)
            | (169, 254, _)
            | (100, 64..=127, _)
            | (172, 16..=31, _)
            | (198, 18..=19, _)
            | (192, 0, 0 | 2)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // What is left of 2000::/3, the part that is given out, without documentation and what tunnels or is reserved.
        [0x2001, 0x0000..=0x01ff | 0x0db8, ..] | [0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_is_signed_over_id_time_and_body() {
        // python3 -c "import hmac,hashlib,base64; print(base64.b64encode(hmac.new(b'geheim',
        // b'id-1.1700000000.{\"a\":1}', hashlib.sha256).digest()).decode())"
        let signed = signature("geheim", "id-1", "1700000000", r#"{"a":1}"#).unwrap();
        assert_eq!(signed, "v1,TgplXfWmNBj36WwJpd9vKEkNxm5OJcLPdpFGEkbbOSI=");
    }

    #[test]
    fn what_can_happen_reads_back_and_what_cannot_says_why() {
        for happening in Happening::ALL {
            let (entity, action) = happening.names();
            assert_eq!(Happening::parse(&entity.to_uppercase(), &action.to_uppercase()).unwrap(), happening);
            assert_eq!(Happening::from_key(&happening.key()), Some(happening));
        }
        for (entity, action, why) in [
            ("PROMPT", "CREATED", "prompts and budgets"),
            ("MODEL_VERSION", "EXCEEDED", "use one of"),
            ("", "", "use one of"),
        ] {
            assert!(Happening::parse(entity, action).unwrap_err().message().contains(why), "{entity}.{action}");
        }
    }

    #[test]
    fn private_and_special_addresses_are_not_public() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.31.255.255",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.1",
            "203.0.113.9",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::808:808"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_url_must_lead_somewhere_public() {
        let reach = Reach::default();
        for text in [
            "",
            "nonsense",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://",
            "http://user:pw@example.com/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://[::1]:80/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost:5000/",
            "http://a.localhost/",
            "http://localhost./",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(reach.url(text).is_err(), "{text}");
        }
        for text in ["https://hooks.example.com/a?b=c", "http://1.1.1.1:8080/"] {
            assert!(reach.url(text).is_ok(), "{text}");
        }
        let reach = Reach::new(&["127.0.0.1".to_owned(), "Hooks.Internal".to_owned()]);
        assert!(reach.url("http://127.0.0.1:9/").is_ok() && reach.url("http://127.0.0.2:9/").is_err());
        assert!(reach.allows("hooks.internal", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert!(!reach.allows("other.internal", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert!(Reach::new(&["*".to_owned()]).url("http://localhost:1/").is_ok());
    }

    #[test]
    fn names_are_as_mlflow_has_them() {
        for name in ["a", "a.b-c_d", "A1", &"x".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "a b", "ä", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader_of_urls(text in ".{0,80}") {
            let _ = Reach::default().url(&text);
        }
    }
}
