//! Asks the admin listener of a running gateway, for the commands that show what goes on in it.
//!
//! Blocking, one request for a connection; whatever goes wrong is one sentence.

use crate::config::Config;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

/// What the help of each of these commands says of finding the listener.
pub(super) const WHERE: &str = "\
  -c, --config FILE   take the admin listener's address and key from this configuration
Without -c, SUB2API_ADMIN (such as 127.0.0.1:9090) and SUB2API_ADMIN_KEY in the environment say them.";

const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MOST_BYTES: u64 = 256 << 20;

/// A gateway's admin listener.
pub(super) struct AdminListener {
    address: SocketAddr,
    key: String,
}

impl AdminListener {
    /// The one of this configuration, or the environment's.
    pub(super) fn find(config: Option<PathBuf>) -> Result<AdminListener, String> {
        if let Some(file) = config {
            let config = Config::load(&file).map_err(|faults| faults.to_string())?.config;
            let admin = config.admin.ok_or_else(|| format!("{} has no `admin` section", file.display()))?;
            return Ok(AdminListener { address: admin.listen, key: admin.key.expose().to_owned() });
        }
        let read =
            |name: &str| std::env::var(name).map_err(|_| format!("name the configuration with -c, or set {name}"));
        let address = read("SUB2API_ADMIN")?;
        let address = address.parse().map_err(|_| format!("SUB2API_ADMIN is no address with a port: {address}"))?;
        Ok(AdminListener { address, key: read("SUB2API_ADMIN_KEY")? })
    }

    /// The JSON at this path.
    pub(super) fn json(&self, method: &str, path: &str) -> Result<Value, String> {
        let body = self.text(method, path)?;
        serde_json::from_str(&body).map_err(|error| format!("the answer of {} is no JSON: {error}", self.address))
    }

    /// The text at this path; an error answer's message is the error.
    pub(super) fn text(&self, method: &str, path: &str) -> Result<String, String> {
        let address = self.address;
        let raw = self.exchange(method, path).map_err(|error| format!("the admin listener at {address}: {error}"))?;
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&raw).map_err(|_| format!("what listens at {address} does not speak HTTP"))?;
        let httparse::Status::Complete(start) = parsed else { return Err(format!("{address} broke off its answer")) };
        let body = String::from_utf8_lossy(raw.get(start..).unwrap_or_default()).into_owned();
        match head.code {
            Some(200..=299) => Ok(body),
            status => {
                let told: Option<Value> = serde_json::from_str(&body).ok();
                let message =
                    told.as_ref().and_then(|told| told.pointer("/error/message")?.as_str()).unwrap_or("no reason");
                Err(format!("{} ({})", message, status.unwrap_or_default()))
            }
        }
    }

    fn exchange(&self, method: &str, path: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let (address, key) = (self.address, &self.key);
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// A text as a part of a path or of a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Rows under a heading, each column as wide as its widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a    bb\nccc  d");
    }

    #[test]
    fn a_name_with_a_slash_stays_one_segment() {
        assert_eq!(escaped("a/b c"), "a%2Fb%20c");
    }
}
