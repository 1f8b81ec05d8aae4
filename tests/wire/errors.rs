//! Every recorded error is read.

use crate::traffic;
use bytes::Bytes;
use sub2api::wire::tap::{Shape, Tap};

#[test]
fn every_error_reply_gives_a_message_and_no_content() {
    let Some(exchanges) = traffic::load("every_error_reply_gives_a_message_and_no_content") else { return };
    let (mut passed, mut told) = (0, 0);
    let mut untold = Vec::new();
    for exchange in exchanges.iter().filter(|e| e.status >= 400) {
        let Some(endpoint) = exchange.endpoint() else { continue };
        let mut tap = Tap::new(endpoint.format(), Shape::Json, 1_000);
        tap.feed(Bytes::from(exchange.reply_bytes()));
        tap.finish();
        let error = tap.seen.error.unwrap_or_else(|| panic!("{}: no error seen", exchange.id));
        assert!(!error.message.is_empty() && !tap.seen.content, "{}", exchange.id);
        match error.status {
            Some(status) if status == exchange.status => told += 1,
            status => {
                untold.push(format!("{} {} {status:?} {}/{}", exchange.id, exchange.status, error.code, error.kind))
            }
        }
        passed += 1;
    }
    println!("errors: {passed} read; {told} name their own status; the others:\n  {}", untold.join("\n  "));
    assert!(passed > 0);
}
