use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use fishy_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;

/// The algorithm byte of Ed25519 in signed notes.
const ED25519: u8 = 1;
/// What every signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// More signatures than any log collects; a bound on the work that a note can cause.
const MAX_SIGNATURES: usize = 100;

/// Signs checkpoints: a named Ed25519 key.
pub struct Signer {
    name: String,
    key: SigningKey,
}

/// Verifies checkpoints: the public half of a [`Signer`].
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Signer {
    /// A key from 32 random bytes. The name stands in every signature: usually the origin of the log. It has no space
    /// and no `+`.
    pub fn from_random(name: &str, random: [u8; 32]) -> Result<Self> {
        check_key_name(name)?;
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&random) })
    }

    /// Reads a private key that [`to_pem`](Self::to_pem), or OpenSSL, wrote (PKCS #8).
    pub fn from_pem(name: &str, pem: &str) -> Result<Self> {
        check_key_name(name)?;
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|error| {
            Error::invalid("the signing key is not an Ed25519 key in PKCS #8 PEM").with_source(error)
        })?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The private key as PKCS #8 PEM: a secret.
    pub fn to_pem(&self) -> Result<String> {
        let pem = self.key.to_pkcs8_pem(LineEnding::LF);
        pem.map(|pem| pem.as_str().to_owned())
            .map_err(|error| Error::internal("the signing key cannot be written as PEM").with_source(error))
    }

    /// The public half.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// The signed note of a checkpoint: its text, an empty line, and one signature line.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<String> {
        Ok(self.sign_text(&checkpoint.text()?))
    }

    /// The signed note of a text, which ends with a newline.
    pub(crate) fn sign_text(&self, text: &str) -> String {
        let mut signature = self.verifier().key_id().to_vec();
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n{SIGNATURE_PREFIX}{} {}\n", self.name, STANDARD.encode(signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier())
    }
}

impl Verifier {
    /// Reads the text form of a public key: `<name>+<key id>+<base64>`, as printed by [`Display`](fmt::Display).
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = || Error::invalid(format!("{text:.200?} is not a public key of the form name+keyid+base64"));
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        check_key_name(name)?;
        let bytes = STANDARD.decode(key).map_err(|_| malformed())?;
        let (Some(&ED25519), Some(key)) = (bytes.first(), bytes.get(1..)) else { return Err(malformed()) };
        let key: [u8; 32] = key.try_into().map_err(|_| malformed())?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| malformed())?;
        let verifier = Self { name: name.to_owned(), key };
        if hex::encode(verifier.key_id()) != id {
            return Err(Error::invalid(format!("the key id {id:.16} does not belong to this key of {name}")));
        }
        Ok(verifier)
    }

    /// Reads a public key in PEM (SubjectPublicKeyInfo), as OpenSSL writes it.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self> {
        check_key_name(name)?;
        let key = VerifyingKey::from_public_key_pem(pem)
            .map_err(|error| Error::invalid("the public key is not an Ed25519 key in PEM").with_source(error))?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The public key as PEM (SubjectPublicKeyInfo).
    pub fn to_pem(&self) -> Result<String> {
        self.key
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::internal("the public key cannot be written as PEM").with_source(error))
    }

    /// The name in the signatures of this key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The checkpoint of a signed note, if this key signed it. Signatures of other keys (witnesses) are left alone.
    pub fn open(&self, note: &str) -> Result<Checkpoint> {
        let text = self.verified_text(note)?;
        Checkpoint::parse_text(text)
    }

    pub(crate) fn verified_text<'a>(&self, note: &'a str) -> Result<&'a str> {
        let (text, signatures) = split_note(note)?;
        let lines: Vec<&str> = signatures.lines().collect();
        if lines.len() > MAX_SIGNATURES {
            return Err(Error::invalid(format!("a signed note has more than {MAX_SIGNATURES} signatures")));
        }
        let mut is_signed = false;
        for line in lines {
            let malformed = || Error::invalid(format!("{line:.120?} is not a signature line"));
            let (name, signature) =
                line.strip_prefix(SIGNATURE_PREFIX).and_then(|line| line.split_once(' ')).ok_or_else(malformed)?;
            let bytes = STANDARD.decode(signature).map_err(|_| malformed())?;
            let (Some(id), Some(signature)) = (bytes.get(..4), bytes.get(4..)) else { return Err(malformed()) };
            if name != self.name || id != self.key_id() {
                continue;
            }
            let signature = Signature::from_slice(signature).map_err(|_| malformed())?;
            self.key
                .verify_strict(text.as_bytes(), &signature)
                .map_err(|_| Error::invalid(format!("the signature of {name} does not fit the text")))?;
            is_signed = true;
        }
        if is_signed { Ok(text) } else { Err(Error::invalid(format!("the note is not signed by {self}"))) }
    }

    /// The first four bytes of SHA-256 of name, newline, algorithm and key.
    fn key_id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        let mut id = [0; 4];
        id.copy_from_slice(&hash[..4]);
        id
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.key_id()), STANDARD.encode(key))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({self})")
    }
}

/// The text of a signed note, with its last newline, and its signature lines.
pub(crate) fn split_note(note: &str) -> Result<(&str, &str)> {
    let is_clean = note.ends_with('\n') && !note.chars().any(|c| c < ' ' && c != '\n');
    let at = note.rfind("\n\n").filter(|_| is_clean);
    let (Some(text), Some(signatures)) = (at.and_then(|at| note.get(..=at)), at.and_then(|at| note.get(at + 2..)))
    else {
        return Err(Error::invalid("a signed note is a text, an empty line and signature lines"));
    };
    Ok((text, signatures))
}

fn check_key_name(name: &str) -> Result<()> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        return Err(Error::invalid(format!("{name:?} cannot name a key: use a name without spaces and without '+'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    /// The example of the Go package golang.org/x/mod/sumdb/note.
    #[test]
    fn notes_are_those_of_the_reference_implementation() {
        let verifier = Verifier::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(verifier.verified_text(note).unwrap().ends_with("your problem is.\n"));
        assert!(verifier.verified_text(&note.replace("answer", "amswer")).is_err());
        assert_eq!(verifier.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    }

    fn signer() -> Signer {
        Signer::from_random("fish.example/audit", [9; 32]).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "fish.example/audit".to_owned(),
            size: 7,
            root_hash: leaf_hash(b"x"),
            time: Some("2012-05-01T00:00:00.000Z".to_owned()),
        }
    }

    #[test]
    fn a_signed_checkpoint_opens_with_its_key_alone() {
        let note = signer().sign(&checkpoint()).unwrap();
        let verifier = signer().verifier();
        assert_eq!(verifier.open(&note).unwrap(), checkpoint());
        assert!(note.contains("\n\n\u{2014} fish.example/audit "), "{note}");
        for (from, to) in [
            ("\n7\n", "\n8\n"),
            ("2012", "2013"),
            ("fish.example/audit\n7", "fish.example/other\n7"),
            ("\n\n", "\nx\n\n"),
        ] {
            assert!(verifier.open(&note.replacen(from, to, 1)).is_err(), "{from:?}");
        }
        let other = Signer::from_random("fish.example/audit", [8; 32]).unwrap().verifier();
        assert!(other.open(&note).unwrap_err().message().contains("is not signed by"));
        let renamed = Signer::from_random("other", [9; 32]).unwrap().verifier();
        assert!(renamed.open(&note).is_err());
        for bad in
            ["", "\n", "\n\n", "x", &note[..note.len() - 1], &note.replace('\n', "\r\n"), &note[..note.len() / 2]]
        {
            assert!(verifier.open(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_witness_may_sign_below() {
        let note = signer().sign(&checkpoint()).unwrap();
        let witness = Signer::from_random("witness", [1; 32]).unwrap();
        let co_signed = format!("{note}{}", witness.sign(&checkpoint()).unwrap().rsplit_once("\n\n").unwrap().1);
        assert_eq!(signer().verifier().open(&co_signed).unwrap(), checkpoint());
        assert_eq!(witness.verifier().open(&co_signed).unwrap(), checkpoint());
    }

    #[test]
    fn keys_are_stored_as_pem_and_named_in_text() {
        let pem = signer().to_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let again = Signer::from_pem("fish.example/audit", &pem).unwrap();
        assert_eq!(again.verifier(), signer().verifier());
        let verifier = signer().verifier();
        assert_eq!(Verifier::parse(&verifier.to_string()).unwrap(), verifier);
        assert_eq!(Verifier::from_pem(verifier.name(), &verifier.to_pem().unwrap()).unwrap(), verifier);
        assert!(Signer::from_pem("x", &verifier.to_pem().unwrap()).is_err());
        assert!(Signer::from_random("a b", [0; 32]).is_err());
        assert!(Signer::from_random("a+b", [0; 32]).is_err());
        for bad in ["", "a", "a+b", "a+00000000+AQ==", &verifier.to_string().replacen("audit+", "audit+0", 1)] {
            assert!(Verifier::parse(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", signer()).contains("PRIVATE"));
    }

    /// Made by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    #[test]
    fn keys_of_openssl_are_read() {
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEICcYc83oAqXlSTSww2FMmtl72re/5cq0g4z+UOSU3qG8\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAvA1ZPG/XRFw/j/UiHmi0Wduvuj0k2PAv1jD5vHb3Amg=\n-----END PUBLIC KEY-----\n";
        assert_eq!(Signer::from_pem("x", private).unwrap().verifier(), Verifier::from_pem("x", public).unwrap());
    }
}
