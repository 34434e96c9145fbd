use fishy_core::{Error, Result};

/// `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelUri {
    pub(crate) name: String,
    pub(crate) reference: Reference,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The one that the alias names; followed as it moves.
    Alias(String),
    /// This one, for good.
    Version(String),
}

impl ModelUri {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parsed = text.strip_prefix("models:/").and_then(|rest| {
            let (name, reference) = if let Some((name, alias)) = rest.rsplit_once('@') {
                (name, Reference::Alias(alias.to_owned()))
            } else {
                let (name, version) = rest.rsplit_once('/')?;
                version.parse::<u64>().ok()?;
                (name, Reference::Version(version.to_owned()))
            };
            let is_alias_fine = match &reference {
                Reference::Alias(alias) => {
                    !alias.is_empty()
                        && alias.len() <= 255
                        && alias.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
                }
                Reference::Version(_) => true,
            };
            let is_name_fine = !name.is_empty()
                && name.len() <= 256
                && !name.contains(['/', ':'])
                && !name.chars().any(char::is_control);
            (is_alias_fine && is_name_fine).then(|| Self { name: name.to_owned(), reference })
        });
        parsed.ok_or_else(|| {
            Error::invalid(format!("model {text:?} is neither models:/NAME@ALIAS nor models:/NAME/VERSION"))
        })
    }

    /// The alias, when one is followed.
    pub(crate) fn alias(&self) -> Option<&str> {
        match &self.reference {
            Reference::Alias(alias) => Some(alias),
            Reference::Version(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_or_a_version() {
        let followed = ModelUri::parse("models:/virtual oxygen@champion").unwrap();
        assert_eq!((followed.name.as_str(), followed.alias()), ("virtual oxygen", Some("champion")));
        let fixed = ModelUri::parse("models:/oxygen/12").unwrap();
        assert_eq!(fixed.reference, Reference::Version("12".into()));
        for bad in [
            "oxygen",
            "models:/",
            "models:/m",
            "models:/m@",
            "models:/m/latest",
            "models:/a/b@c",
            "models:/@x",
            "runs:/1/m",
        ] {
            assert!(ModelUri::parse(bad).is_err(), "{bad}");
        }
    }
}
