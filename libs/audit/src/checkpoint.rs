use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::keys::split_note;
use crate::merkle::Hash;

const TIME_EXTENSION: &str = "time ";

/// What a log says about itself at one moment: so many entries, this root. In the text form of C2SP tlog-checkpoint:
///
/// ```text
/// fish.example/audit
/// 7
/// CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
/// time 2012-05-01T00:00:00.000Z
/// ```
///
/// The last line is an extension line, which other readers of the format ignore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root_hash: Hash,
    /// When it was signed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> Result<String> {
        let is_line = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !is_line(&self.origin) || !self.time.as_deref().is_none_or(is_line) {
            return Err(Error::invalid("origin and time of a checkpoint are one line of text each"));
        }
        let root = STANDARD.encode(self.root_hash.0);
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        if let Some(time) = &self.time {
            text.push_str(TIME_EXTENSION);
            text.push_str(time);
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads the checkpoint of a signed note *without* looking at its signatures: to find out which one it is.
    /// [`Verifier::open`](crate::Verifier::open) is the way to trust one.
    pub fn peek(note: &str) -> Result<Self> {
        Self::parse_text(split_note(note)?.0)
    }

    pub(crate) fn parse_text(text: &str) -> Result<Self> {
        let malformed =
            || Error::invalid("a checkpoint is three lines (origin, size, base64 of the root) and extensions");
        let mut lines = text.strip_suffix('\n').ok_or_else(malformed)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed());
        };
        // One text for one size: no sign, no leading zero.
        let size = size.parse::<u64>().ok().filter(|parsed| parsed.to_string() == size).ok_or_else(malformed)?;
        let root = STANDARD.decode(root).ok().and_then(|root| <[u8; 32]>::try_from(root).ok()).ok_or_else(malformed)?;
        if origin.is_empty() {
            return Err(malformed());
        }
        let mut time = None;
        for extension in lines {
            if extension.is_empty() {
                return Err(malformed());
            }
            if let Some(value) = extension.strip_prefix(TIME_EXTENSION) {
                time = Some(value.to_owned());
            }
        }
        Ok(Self { origin: origin.to_owned(), size, root_hash: Hash(root), time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::MerkleLog;

    #[test]
    fn the_text_is_that_of_tlog_checkpoint() {
        let mut checkpoint =
            Checkpoint { origin: "o".to_owned(), size: 0, root_hash: MerkleLog::new().root(), time: None };
        let text = "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert_eq!(checkpoint.text().unwrap(), text);
        assert_eq!(Checkpoint::parse_text(text).unwrap(), checkpoint);
        assert_eq!(Checkpoint::parse_text(&format!("{text}other extension\n")).unwrap(), checkpoint);
        checkpoint.time = Some("t".to_owned());
        assert_eq!(Checkpoint::parse_text(&checkpoint.text().unwrap()).unwrap(), checkpoint);
        for bad in ["o\n00\n", "o\n+1\n", "o\n1\nAAAA\n", "\n0\n", ""] {
            let bad = text.replacen("o\n0\n", bad, 1);
            assert!(Checkpoint::parse_text(&bad).is_err(), "{bad:?}");
        }
        assert!(Checkpoint::parse_text(&format!("{text}\n")).is_err());
        for origin in ["", "a\nb"] {
            assert!(Checkpoint { origin: origin.to_owned(), ..checkpoint.clone() }.text().is_err());
        }
    }
}
