//! Whom providers are believed by: the system's root certificates together with those of `server.ca_file`.
//!
//! Pingora takes one file in the place of the system's and has no way to add to them, so both are written into one file in
//! `data_dir`, whole and put in place at once. Nothing is written where the configuration names no certificates of its own.

use crate::config::Config;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The file's name in `data_dir`.
const NAME: &str = "roots.pem";
/// Characters in a line of a PEM block.
const LINE: usize = 64;

/// The file with all of them; `None` where the system's are meant alone.
///
/// # Errors
/// The certificates cannot be read, or the file cannot be written.
pub(super) fn file(config: &Config) -> io::Result<Option<PathBuf>> {
    let Some(own) = &config.server.ca_file else { return Ok(None) };
    let mut text = fs::read_to_string(own)?;
    match pingora::tls::load_native_certs() {
        Ok(system) => system.iter().for_each(|certificate| add(&mut text, certificate)),
        Err(error) => log::warn!("the system's root certificates cannot be read, only server.ca_file is used: {error}"),
    }
    let path = config.data_dir.join(NAME);
    put(&path, text.as_bytes())?;
    Ok(Some(path))
}

fn add(text: &mut String, certificate: &[u8]) {
    text.push_str("\n-----BEGIN CERTIFICATE-----\n");
    // Base64 has only characters of one byte.
    let mut rest = STANDARD.encode(certificate);
    while !rest.is_empty() {
        let next = rest.split_off(rest.len().min(LINE));
        text.push_str(&rest);
        text.push('\n');
        rest = next;
    }
    text.push_str("-----END CERTIFICATE-----\n");
}

/// Writes the file anew beside the old one, which a process that hands over may still read.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    // One that a crash left behind may be anything.
    let _ = fs::remove_file(&draft);
    let write = || OpenOptions::new().write(true).create_new(true).open(&draft)?.write_all(bytes);
    let written = write().and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_a_pem_block_with_lines_of_64() {
        let mut text = String::from("before");
        add(&mut text, &[7; 100]);
        let lines: Vec<_> = text.lines().collect();
        let lengths: Vec<_> = lines.iter().map(|line| line.len()).collect();
        assert_eq!(lengths, [6, 27, 64, 64, 8, 25]);
        assert_eq!(STANDARD.decode(lines[2..5].concat()).unwrap(), [7; 100]);
    }
}
