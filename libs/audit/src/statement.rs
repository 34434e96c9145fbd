use fishy_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::keys::{Signer, Verifier};

/// What is signed for a document. The second line is no number, so that the note is never taken for a checkpoint.
fn text_of(kind: &str, document: &[u8]) -> Result<String> {
    if kind.is_empty() || kind.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::invalid(format!("{kind:?} is no kind of document: use a word without spaces")));
    }
    Ok(format!("{kind}\nsha256:{}\n", hex::encode(Sha256::digest(document))))
}

impl Signer {
    /// The signed note of a document of a kind, such as `fishy-method-comparison/1`.
    pub fn sign_statement(&self, kind: &str, document: &[u8]) -> Result<String> {
        Ok(self.sign_text(&text_of(kind, document)?))
    }
}

impl Verifier {
    /// Whether this key signed just this document as one of this kind; an error says what does not fit.
    pub fn check_statement(&self, note: &str, kind: &str, document: &[u8]) -> Result<()> {
        if self.verified_text(note)? == text_of(kind, document)? {
            Ok(())
        } else {
            Err(Error::invalid(format!("the signature is of another document than this {kind}: it was changed")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    #[test]
    fn a_statement_is_of_one_document_of_one_kind() {
        let signer = Signer::from_random("fish.example/audit", [9; 32]).unwrap();
        let note = signer.sign_statement("report/1", b"7 fish").unwrap();
        let verifier = signer.verifier();
        assert!(verifier.check_statement(&note, "report/1", b"7 fish").is_ok());
        assert!(verifier.check_statement(&note, "report/1", b"8 fish").is_err());
        assert!(verifier.check_statement(&note, "report/2", b"7 fish").is_err());
        let other = Signer::from_random("fish.example/audit", [8; 32]).unwrap().verifier();
        assert!(other.check_statement(&note, "report/1", b"7 fish").is_err());
        assert!(signer.sign_statement("a b", b"").is_err());
        assert!(verifier.open(&note).is_err() && Checkpoint::peek(&note).is_err(), "it is no checkpoint");
    }
}
