//! `sub2api key new`: a fresh key, shown once, with the hash that goes into the configuration.

use super::help;
use lexopt::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Write},
    process::ExitCode,
};

const HELP: &str = "\
sub2api key new

Makes a key, prints it once, and prints the hash that goes into the configuration.";

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    match parser.next()? {
        Some(Value(verb)) if verb == "new" => {}
        Some(Short('h') | Long("help")) => return help(HELP),
        Some(other) => return Err(other.unexpected()),
        None => return Err("say `key new`".into()),
    }
    if let Some(extra) = parser.next()? {
        return Err(extra.unexpected());
    }
    let code = create(&mut io::stdout().lock()).map_err(|error| error.to_string())?;
    Ok(ExitCode::from(code))
}

/// What a key is made of, behind its `sk-`.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// 43 of 62 letters are 256 bits.
const LETTERS: usize = 43;

/// Prints a new key of the system's randomness, its hash, and the lines to paste; returns the exit code.
pub(super) fn create(out: &mut dyn Write) -> io::Result<u8> {
    let key = fresh(&mut |bytes| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string())))?;
    let hash = Sha256::digest(key.as_bytes());
    writeln!(out, "The key, for its owner; it is not kept anywhere and not shown again:")?;
    writeln!(out, "\n  {key}\n")?;
    writeln!(out, "Its hash, for the configuration:")?;
    writeln!(out, "\nusers:\n  - name: NAME\n    keys: [\"sha256:{hash:x}\"]")?;
    Ok(0)
}

/// `sk-` and letters, each as likely as the others: random bytes beyond a multiple of 62 are not used.
fn fresh(random: &mut dyn FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<String> {
    let mut key = String::from("sk-");
    let mut bytes = [0_u8; 64];
    while key.len() < LETTERS + "sk-".len() {
        random(&mut bytes)?;
        let usable = bytes.iter().filter(|byte| **byte < 62 * 4);
        let letters = usable.filter_map(|byte| ALPHABET.get(usize::from(byte % 62))).map(|letter| char::from(*letter));
        key.extend(letters.take(LETTERS + "sk-".len() - key.len()));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn printed() -> String {
        let mut out = Vec::new();
        assert_eq!(create(&mut out).unwrap(), 0);
        String::from_utf8(out).unwrap()
    }

    fn key_in(text: &str) -> &str {
        text.lines().map(str::trim).find(|line| line.starts_with("sk-")).unwrap()
    }

    #[test]
    fn the_printed_hash_is_the_keys_and_stands_in_lines_to_paste() {
        let text = printed();
        let hash = format!("sha256:{:x}", Sha256::digest(key_in(&text).as_bytes()));
        assert!(text.contains(&hash));
        let pasted = text.split_once("users:").map(|(_, rest)| format!("users:{rest}")).unwrap();
        let faults = Config::parse(&pasted, &|_| None).unwrap_err().to_string();
        assert!(!faults.contains("users"), "{faults}");
    }

    #[test]
    fn every_key_is_new_and_of_one_length() {
        let (one, other) = (printed(), printed());
        assert_ne!(key_in(&one), key_in(&other));
        for text in [&one, &other] {
            let key = key_in(text);
            assert_eq!(key.len(), 46);
            assert!(key[3..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn bytes_that_would_favour_some_letters_are_thrown_away() {
        let mut first = true;
        let key = fresh(&mut |bytes| {
            bytes.fill(if std::mem::take(&mut first) { 255 } else { 61 });
            Ok(())
        });
        assert_eq!(key.unwrap(), format!("sk-{}", "9".repeat(43)));
    }

    #[test]
    fn without_randomness_there_is_no_key() {
        assert!(fresh(&mut |_| Err(io::Error::other("none"))).is_err());
    }
}
