//! The program killed at random moments under load: whoever has a whole reply is in the ledger, once.
//!
//! `SUB2API_KILLS=200` sets how often.

use crate::{
    config,
    program::{Program, Scratch, slow_upstream},
};
use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use sub2api::{
    account::schedule::mix,
    ledger::{
        FILE_NAME, LedgerError, Reader,
        query::{Filter, Page},
        recover,
    },
};

const SEED: u64 = 0x0000_dead_2026_1125;
const CLIENTS: u64 = 8;

/// Asks over and over until the connection breaks; notes the ids of the replies that came whole.
fn client(address: &str, name: &str, stop: &AtomicBool, whole: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let body = r#"{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{name}-{number}");
        write!(
            stream,
            "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        // The last event is a whole answer to a client, whether the connection's own end came or not.
        while !text.ends_with(b"0\r\n\r\n") {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                break;
            }
            text.extend_from_slice(&piece[..read]);
            if String::from_utf8_lossy(&text).contains("event: message_stop") {
                let mut ids = whole.lock().unwrap();
                if ids.last() != Some(&id) && !ids.contains(&id) {
                    ids.push(id.clone());
                }
            }
        }
        if !text.ends_with(b"0\r\n\r\n") {
            break;
        }
    }
    Ok(())
}

/// How often each request id is in the ledger.
fn ledger(data: &Path) -> HashMap<String, u32> {
    let reader = Reader::open(&data.join(FILE_NAME)).unwrap_or_else(|error| panic!("the ledger opens: {error}"));
    let (mut ids, mut all) = (HashMap::new(), 0);
    let read: Result<(), LedgerError> = reader.rows(&Filter::default(), Page::default(), |row| {
        all += 1;
        // A connection to the upstream can break for reasons of its own; then another attempt served.
        if row.outcome == "served" {
            *ids.entry(row.request.clone()).or_default() += 1;
            assert_eq!((row.input, row.output), (Some(7), Some(3)), "{row:?}");
        }
        Ok(())
    });
    read.unwrap();
    let attempts = reader.total(&Filter::default()).unwrap().attempts;
    assert_eq!(attempts, all, "the sums are those of the rows");
    ids
}

#[test]
fn whoever_has_a_whole_reply_is_in_the_ledger_once_whatever_kills_the_process() {
    let kills: u64 = std::env::var("SUB2API_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let scratch = Scratch::new();
    let upstream = slow_upstream(3, Duration::from_millis(1));
    let file = scratch.write("c.yaml", &config(&scratch, &upstream, "log: { level: warn }\n"));
    let whole: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut served = 0;
    for kill in 0..kills {
        let mut program = Program::serve(&scratch, &file, &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (address, name) = (scratch.address.clone(), format!("k{kill}-c{n}"));
                let (stop, whole) = (stop.clone(), whole.clone());
                thread::spawn(move || _ = client(&address, &name, &stop, &whole))
            })
            .collect();
        thread::sleep(Duration::from_millis(30 + mix(SEED, kill) % 400));
        program.signal("KILL");
        program.wait(Duration::from_secs(10));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        // Sometimes it is the next start that takes in what waited in the journal, sometimes whoever asks before.
        let next = (kill % 2 == 0).then(|| Program::serve(&scratch, &file, &[]));
        if next.is_none() {
            recover(&scratch.path("data")).unwrap_or_else(|error| panic!("the journal is read: {error}"));
        }
        let written = ledger(&scratch.path("data"));
        let replies = std::mem::take(&mut *whole.lock().unwrap());
        served += replies.len();
        for id in replies {
            assert_eq!(written.get(&id), Some(&1), "{id}, killed the {kill}th time");
        }
        assert!(written.values().all(|count| *count == 1), "none is there twice");
        drop(next);
    }
    println!("{kills} kills: {served} whole replies, every one in the ledger, none twice");
    assert!(served > 0);
}
