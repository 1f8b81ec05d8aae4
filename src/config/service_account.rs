//! A Google service account: the JSON file that Google's console hands out, understood.
//!
//! Valid by construction: the key in it can sign. The key is never printed.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{self, KeyPair as _, RSA_PKCS1_SHA256},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// Where Google gives tokens out when the file names no other place.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// Who signs, and with which key.
#[derive(Clone)]
pub struct ServiceAccount {
    /// The account's address, the issuer of its assertions.
    pub email: String,
    /// The id of its key.
    pub key_id: Option<String>,
    /// Where its file says that tokens are given out: the audience of its assertions.
    pub token_uri: String,
    key: Arc<KeyPair>,
    fingerprint: String,
}

/// The fields that are read of Google's file; it holds more.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Reads the file's text. The error is a sentence for a configuration fault and repeats nothing of it.
    pub fn parse(json: &str) -> Result<ServiceAccount, &'static str> {
        let file: File = serde_json::from_str(json).map_err(|_| "is not the JSON of a service account")?;
        if file.kind.as_deref() != Some("service_account") {
            return Err("is not of a service account: its `type` must be \"service_account\"");
        }
        let email = file.client_email.filter(|text| is_word(text)).ok_or("has no `client_email`")?;
        let pem = file.private_key.ok_or("has no `private_key`")?;
        let key = read_key(&pem).ok_or("has a `private_key` that is no RSA key of at least 2048 bits in PEM")?;
        let fingerprint = Sha256::digest(key.public_key().as_ref()).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ServiceAccount {
            email,
            key_id: file.private_key_id.filter(|text| is_word(text)),
            token_uri: file.token_uri.unwrap_or_else(|| TOKEN_URI.to_owned()),
            key: Arc::new(key),
            fingerprint,
        })
    }

    /// Signs with RS256 (RFC 7518, section 3.3). `None` only where the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut signed = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signed).ok()?;
        Some(signed)
    }

    /// The public half of its key, as PKCS #1 DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    /// Tells keys apart.
    pub(super) fn key_fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("key", &"[redacted]").finish_non_exhaustive()
    }
}

fn is_word(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

/// An RSA key in PEM, as PKCS #8 or PKCS #1.
fn read_key(pem: &str) -> Option<KeyPair> {
    let is_pkcs8 = pem.contains("BEGIN PRIVATE KEY");
    if !is_pkcs8 && !pem.contains("BEGIN RSA PRIVATE KEY") {
        return None;
    }
    let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).ok()?;
    let key = if is_pkcs8 { signature::RsaKeyPair::from_pkcs8(&der) } else { signature::RsaKeyPair::from_der(&der) };
    key.ok()
}
