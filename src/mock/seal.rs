//! Signatures that a client has to bring back unchanged, and the ids of answers.
//!
//! Real providers sign thinking and encrypt reasoning; a lost, cut or foreign token is refused there, so it is here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

const SECRET: &[u8] = b"sub2api mock signature";

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(SECRET);
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The signature of a text, base64.
pub(super) fn signature(text: &str) -> String {
    STANDARD.encode(digest(&["signature", text]))
}

/// Reasoning that only the account that made it can read again: `key` is that account's.
pub(super) fn encrypted(id: &str, key: &str) -> String {
    let id: String = id.chars().take(16).collect();
    format!("gAAAmock{id}{}", seal(&id, key))
}

/// Whether [`encrypted`] made this token for this key.
pub(super) fn is_encrypted_for(token: &str, key: &str) -> bool {
    let body = token.strip_prefix("gAAAmock");
    body.and_then(|body| body.split_at_checked(16)).is_some_and(|(id, tail)| tail == seal(id, key))
}

fn seal(id: &str, key: &str) -> String {
    hex(&digest(&["encrypted", id, key]), 16)
}

/// A stable id of these parts, `digits` hexadecimal digits long.
pub(super) fn id(parts: &[&str], digits: usize) -> String {
    hex(&digest(parts), digits)
}

/// The SHA-256 of some bytes, the first `digits` of its hexadecimal digits.
pub(super) fn sha256(data: &[u8], digits: usize) -> String {
    hex(&Sha256::digest(data), digits)
}

fn hex(bytes: &[u8], digits: usize) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.take(digits).filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_the_account_that_made_it_and_for_no_other() {
        let token = encrypted("0123456789abcdef0123", "sk-a");
        assert!(is_encrypted_for(&token, "sk-a"));
        assert!(!is_encrypted_for(&token, "sk-b"));
        assert!(!is_encrypted_for(token.get(..20).unwrap(), "sk-a"));
        assert!(!is_encrypted_for("gAAAé", "sk-a"));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(id(&["ab", "c"], 16), id(&["a", "bc"], 16));
        assert_eq!(id(&["a"], 16).len(), 16);
    }
}
