//! The public half of the key that signs checkpoints. Where it comes from, and whether it is trusted, is the caller's.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use redress_common::checkpoint::Statement;

use crate::problem::Problem;

/// A public key on curve P-256.
#[derive(Debug, Clone)]
pub(super) struct Key(VerifyingKey);

impl Key {
    /// From PEM; `None` when it is none, or of another kind.
    pub(super) fn of_pem(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }

    /// From what KMS says: DER.
    pub(super) fn of_der(der: &[u8]) -> Option<Self> {
        Self::of_pem(&pem(der))
    }

    /// From a file.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problem::aws(&format!("read the public key {shown}"), &error))?;
        Self::of_pem(&text).ok_or_else(|| {
            Problem::failed(format!("{shown} is no public key on curve P-256 in PEM"))
                .help("it begins with `-----BEGIN PUBLIC KEY-----`; docs/audit.md says how to get it")
        })
    }

    /// Whether this key's other half signed the statement. Signatures are DER in Base64, as KMS makes them.
    pub(super) fn signed(&self, statement: &Statement, signature: &str) -> bool {
        let der = STANDARD.decode(signature).ok();
        let signature = der.and_then(|der| Signature::from_der(&der).ok());
        signature.is_some_and(|signature| self.0.verify_prehash(&statement.sha256(), &signature).is_ok())
    }
}

/// DER of a public key as PEM.
pub(super) fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for (at, letter) in STANDARD.encode(der).chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str("\n-----END PUBLIC KEY-----\n");
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use p256::pkcs8::{EncodePublicKey as _, LineEnding};

    use super::*;
    use crate::fixture;

    #[test]
    fn a_key_is_the_same_from_der_and_from_pem() {
        let public = *fixture::signing_key(7).verifying_key();
        let der = public.to_public_key_der().unwrap();
        assert_eq!(pem(der.as_bytes()), public.to_public_key_pem(LineEnding::LF).unwrap());
        assert_eq!(Key::of_der(der.as_bytes()).unwrap().0, public);
        assert!(Key::of_pem("-----BEGIN PUBLIC KEY-----\nMAo=\n-----END PUBLIC KEY-----\n").is_none());
        assert!(Key::of_pem("").is_none());
    }

    #[test]
    fn only_what_its_other_half_signed_is_signed() {
        let key = |seed| Key(*fixture::signing_key(seed).verifying_key());
        let checkpoints = fixture::checkpoints(&fixture::verified(), &[2, 3]);
        let (first, second) = (&checkpoints[0], &checkpoints[1]);
        assert!(key(7).signed(&first.statement, &first.signature));
        assert!(!key(8).signed(&first.statement, &first.signature));
        assert!(!key(7).signed(&second.statement, &first.signature));
        for wrong in ["", "?", "AAAA", &first.signature[..8]] {
            assert!(!key(7).signed(&first.statement, wrong), "{wrong}");
        }
    }
}
