//! Envelope encryption of what must not be read by everybody who may read the evidence bucket.
//!
//! A KMS data key per envelope, AES-256-GCM, and the encryption context twice: with KMS, where key policies
//! and CloudTrail see it, and as the cipher's associated data, so that an envelope put in another's place
//! does not open. Plaintext and data keys are zeroised; neither has a `Debug` form.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::failure::AwsFailure;
use crate::contract::Sealed;
use crate::ids::{AccountId, RemediationId};

/// Why an envelope could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// KMS did not give or decrypt the data key.
    #[error("KMS key `{key_id}`: {source}")]
    Kms {
        /// The key.
        key_id: String,
        /// What KMS said.
        source: AwsFailure,
    },
    /// KMS's data key is not of 32 bytes.
    #[error(
        "the data key from KMS key `{key_id}` is not of 32 bytes; the envelope was altered or KMS answered wrongly"
    )]
    DataKey {
        /// The key.
        key_id: String,
    },
    /// A part of the envelope is not base64 of the right length.
    #[error("the envelope's {part} is malformed; compare the object with its earlier versions")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// The tag does not fit: altered, or sealed for another remediation or account.
    #[error("the envelope does not open for {context}: it was altered, or sealed for another remediation or account")]
    Refused {
        /// The context that was tried.
        context: String,
    },
    /// The plaintext cannot be encrypted (longer than 64 GiB).
    #[error("the plaintext is too long to be encrypted")]
    TooLong,
    /// The operating system has no randomness.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// What an envelope is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    remediation: RemediationId,
    account: AccountId,
}

impl Context {
    /// The context of a remediation in an account.
    #[must_use]
    pub const fn new(remediation: RemediationId, account: AccountId) -> Self {
        Self { remediation, account }
    }

    /// As KMS takes it.
    fn pairs(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("AccountId", self.account.to_string()), ("RemediationId", self.remediation.to_string())])
    }

    /// As the cipher takes it: pairs in order of their names, each part ended by a zero byte.
    fn associated_data(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in self.pairs() {
            for part in [name, &value] {
                bytes.extend_from_slice(part.as_bytes());
                bytes.push(0);
            }
        }
        bytes
    }

    fn for_kms(&self) -> std::collections::HashMap<String, String> {
        self.pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remediation {} in account {}", self.remediation, self.account)
    }
}

/// Decrypted bytes: zeroised when dropped, and without a readable `Debug` form.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Plaintext {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plaintext({} bytes)", self.0.len())
    }
}

/// A data key in the clear and as KMS encrypted it.
pub struct DataKey {
    key_id: String,
    plain: Zeroizing<[u8; 32]>,
    encrypted: Vec<u8>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey(of {})", self.key_id)
    }
}

impl DataKey {
    /// A data key of the KMS key `key_id`.
    ///
    /// # Errors
    /// When it is not of 32 bytes.
    pub fn new(key_id: &str, plain: Vec<u8>, encrypted: Vec<u8>) -> Result<Self, EnvelopeError> {
        let plain = Zeroizing::new(plain);
        let plain = <[u8; 32]>::try_from(plain.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| EnvelopeError::DataKey { key_id: key_id.to_owned() })?;
        Ok(Self { key_id: key_id.to_owned(), plain, encrypted })
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.plain).into())
    }

    /// Encrypts. A nonce must never be used twice with one data key: [`seal`] takes a new key each time.
    ///
    /// # Errors
    /// When the plaintext is too long.
    pub fn seal(&self, nonce: [u8; 12], context: &Context, plaintext: &[u8]) -> Result<Sealed, EnvelopeError> {
        let payload = Payload { msg: plaintext, aad: &context.associated_data() };
        let ciphertext = self.cipher().encrypt(&Nonce::from(nonce), payload).map_err(|_| EnvelopeError::TooLong)?;
        Ok(Sealed {
            key_id: self.key_id.clone(),
            encrypted_data_key: STANDARD.encode(&self.encrypted),
            nonce: STANDARD.encode(nonce),
            ciphertext: STANDARD.encode(ciphertext),
        })
    }

    /// Decrypts.
    ///
    /// # Errors
    /// When the envelope is malformed, altered, or sealed in another context.
    pub fn open(&self, context: &Context, sealed: &Sealed) -> Result<Plaintext, EnvelopeError> {
        let nonce = decode(&sealed.nonce, "nonce")?;
        let nonce = <[u8; 12]>::try_from(nonce).map_err(|_| EnvelopeError::Malformed { part: "nonce" })?;
        let ciphertext = decode(&sealed.ciphertext, "ciphertext")?;
        let payload = Payload { msg: &ciphertext, aad: &context.associated_data() };
        self.cipher()
            .decrypt(&Nonce::from(nonce), payload)
            .map(Plaintext::from)
            .map_err(|_| EnvelopeError::Refused { context: context.to_string() })
    }
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, EnvelopeError> {
    STANDARD.decode(text).map_err(|_| EnvelopeError::Malformed { part })
}

/// Seals under a new data key of `key_id`, with a nonce from the operating system. The envelope names the key as KMS
/// does: by its own ARN, also when `key_id` is an alias's.
///
/// # Errors
/// When KMS gives no data key, or there is no randomness.
pub async fn seal(
    kms: &aws_sdk_kms::Client,
    key_id: &str,
    context: &Context,
    plaintext: &Plaintext,
) -> Result<Sealed, EnvelopeError> {
    let answer = kms
        .generate_data_key()
        .key_id(key_id)
        .key_spec(DataKeySpec::Aes256)
        .set_encryption_context(Some(context.for_kms()))
        .send()
        .await
        .map_err(|e| EnvelopeError::Kms { key_id: key_id.to_owned(), source: AwsFailure::of("GenerateDataKey", &e) })?;
    let plain = answer.plaintext.map(Blob::into_inner).unwrap_or_default();
    let encrypted = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
    let key = DataKey::new(answer.key_id.as_deref().unwrap_or(key_id), plain, encrypted)?;
    let mut nonce = [0; 12];
    SysRng.try_fill_bytes(&mut nonce).map_err(|_| EnvelopeError::NoRandomness)?;
    key.seal(nonce, context, plaintext.as_bytes())
}

/// Opens an envelope with the KMS key `key_id`, or with the one that it names. A caller that acts on the plaintext names
/// its own: KMS refuses what another key has sealed.
///
/// # Errors
/// When KMS does not decrypt the data key for this context, or the envelope does not open with it.
pub async fn open(
    kms: &aws_sdk_kms::Client,
    key_id: Option<&str>,
    context: &Context,
    sealed: &Sealed,
) -> Result<Plaintext, EnvelopeError> {
    let key_id = key_id.unwrap_or(&sealed.key_id);
    let encrypted = decode(&sealed.encrypted_data_key, "data key")?;
    let answer = kms
        .decrypt()
        .key_id(key_id)
        .ciphertext_blob(Blob::new(encrypted))
        .set_encryption_context(Some(context.for_kms()))
        .send()
        .await
        .map_err(|e| EnvelopeError::Kms { key_id: key_id.to_owned(), source: AwsFailure::of("Decrypt", &e) })?;
    let plain = answer.plaintext.map(Blob::into_inner).unwrap_or_default();
    DataKey::new(&sealed.key_id, plain, Vec::new())?.open(context, sealed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/k";

    fn context(n: u8, account: &str) -> Context {
        Context::new(RemediationId::of_rejected(&[n]), account.parse().unwrap())
    }

    fn key(bytes: [u8; 32]) -> DataKey {
        DataKey::new(KEY, bytes.to_vec(), vec![1, 2, 3]).unwrap()
    }

    /// Flips one bit of what a base64 text stands for.
    fn flipped(text: &str, at: usize) -> String {
        let mut bytes = STANDARD.decode(text).unwrap();
        let index = at % (bytes.len() * 8);
        bytes[index / 8] ^= 1 << (index % 8);
        STANDARD.encode(bytes)
    }

    fn refused<T>(result: &Result<T, EnvelopeError>) -> bool {
        matches!(result, Err(EnvelopeError::Refused { .. }))
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_to_the_same_bytes(bytes: Vec<u8>, k: [u8; 32], nonce: [u8; 12], n: u8) {
            let context = context(n, "111122223333");
            let sealed = key(k).seal(nonce, &context, &bytes).unwrap();
            let opened = key(k).open(&context, &sealed).unwrap();
            prop_assert_eq!(opened.as_bytes(), bytes);
        }

        #[test]
        fn any_flipped_bit_is_refused(bytes: Vec<u8>, k: [u8; 32], nonce: [u8; 12], at: usize) {
            let context = context(0, "111122223333");
            let sealed = key(k).seal(nonce, &context, &bytes).unwrap();
            let cipher = Sealed { ciphertext: flipped(&sealed.ciphertext, at), ..sealed.clone() };
            let nonce = Sealed { nonce: flipped(&sealed.nonce, at), ..sealed };
            prop_assert!(refused(&key(k).open(&context, &cipher)));
            prop_assert!(refused(&key(k).open(&context, &nonce)));
        }

        #[test]
        fn another_remediation_account_or_key_does_not_open_it(k: [u8; 32], other: [u8; 32], nonce: [u8; 12]) {
            prop_assume!(k != other);
            let right = context(1, "111122223333");
            let sealed = key(k).seal(nonce, &right, b"pre-image").unwrap();
            for wrong in [context(2, "111122223333"), context(1, "444455556666")] {
                prop_assert!(refused(&key(k).open(&wrong, &sealed)));
            }
            prop_assert!(refused(&key(other).open(&right, &sealed)));
        }
    }

    #[test]
    fn a_truncated_or_malformed_envelope_is_a_typed_error() {
        let context = context(0, "111122223333");
        let sealed = key([7; 32]).seal([9; 12], &context, b"x").unwrap();
        let short = Sealed { ciphertext: STANDARD.encode([0; 5]), ..sealed.clone() };
        assert!(refused(&key([7; 32]).open(&context, &short)));
        let nonce = Sealed { nonce: STANDARD.encode([0; 11]), ..sealed.clone() };
        assert!(matches!(key([7; 32]).open(&context, &nonce), Err(EnvelopeError::Malformed { part: "nonce" })));
        let text = Sealed { ciphertext: "not base64!".to_owned(), ..sealed };
        assert!(matches!(key([7; 32]).open(&context, &text), Err(EnvelopeError::Malformed { part: "ciphertext" })));
        assert!(matches!(DataKey::new(KEY, vec![0; 31], vec![]), Err(EnvelopeError::DataKey { .. })));
    }

    #[test]
    fn nothing_secret_is_in_a_debug_form_or_an_error() {
        let shown =
            format!("{:?} {:?}", Plaintext::from(b"hunter2".to_vec()), key(*b"0123456789abcdef0123456789abcdef"));
        assert_eq!(shown, format!("Plaintext(7 bytes) DataKey(of {KEY})"));
    }
}
