//! Events that come close together, which the gateway puts into one write: none is late, lost, doubled or out of order.

use crate::{
    anthropic::{ASK, delta, ending, preamble},
    client::{self, Ask, Connection},
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, stream_head},
};
use std::time::Duration;

const MESSAGES: &str = "/v1/messages";

/// What these send, in one write.
fn together(acts: impl IntoIterator<Item = Act>) -> Act {
    let pieces = acts.into_iter().map(|act| match act {
        Act::Send(bytes) => bytes,
        other => panic!("{other:?}"),
    });
    Act::Send(pieces.collect::<Vec<_>>().concat().into())
}

/// The first content, and some time later `count` events in one write, a chunk each.
fn begun(count: usize) -> (Vec<Act>, String) {
    let start = preamble("msg_1") + &delta("first");
    let events: Vec<String> = (0..count).map(|n| delta(&format!("word{n} "))).collect();
    let burst = together(events.iter().map(chunk));
    let acts = vec![stream_head(), chunk(&start), Act::Sleep(Duration::from_millis(60)), burst];
    (acts, start + &events.concat())
}

async fn gateway(acts: Vec<Act>) -> (Gateway, Upstream) {
    let upstream = Upstream::always(acts).await;
    (Gateway::start(&[account("only", "anthropic", &upstream.url(), "")], "").await, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_any_length_arrives_though_nothing_follows_it() {
    for count in [1, 3, 4, 5, 8, 9, 54, 400] {
        let (mut acts, _) = begun(count);
        acts.push(Act::Sleep(Duration::from_secs(80)));
        let (gateway, _upstream) = gateway(acts).await;
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(&Ask::post(MESSAGES, ASK)).await.unwrap();
        let last = format!("\"word{} \"", count - 1);
        let all = async {
            let mut wanted = 1;
            loop {
                let seen = connection.read_some(wanted).await.unwrap();
                if String::from_utf8_lossy(&seen).contains(&last) {
                    return;
                }
                wanted = seen.len() + 1;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), all)
            .await
            .unwrap_or_else(|_| panic!("{count}: the last is kept"));
    }
}

/// What one system call writes, one reads: the head comes with the first content, and the end with the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_together_leaves_together() {
    let start = preamble("msg_1") + &delta("first");
    let pause = Act::Sleep(Duration::from_millis(200));
    let last = together([chunk(delta("last") + &ending()), end()]);
    let acts = vec![together([stream_head(), chunk(&start)]), pause, last];
    let (gateway, _upstream) = gateway(acts).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(&Ask::post(MESSAGES, ASK)).await.unwrap();
    let begun = connection.read_some(1).await.unwrap();
    let text = String::from_utf8_lossy(&begun);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with(&(delta("first") + "\r\n")), "{text}");
    let all = connection.read_some(begun.len() + 1).await.unwrap();
    assert!(String::from_utf8_lossy(&all).ends_with(&(ending() + "\r\n0\r\n\r\n")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_arrives_whole_and_in_order_whatever_ends_it() {
    for count in [4, 7, 8, 54] {
        let (acts, text) = begun(count);
        let good = acts.iter().cloned().chain([chunk(ending()), end()]).collect();
        let cut = acts.iter().cloned().chain([Act::Close]).collect();
        let pause = Act::Sleep(Duration::from_millis(60));
        let later = acts.iter().cloned().chain([pause.clone(), chunk(delta("more")), pause, Act::Close]).collect();
        for (name, acts, wanted) in [
            ("its end", good, text.clone() + &ending()),
            ("a death", cut, text.clone()),
            ("a death after one more", later, text.clone() + &delta("more")),
        ] {
            let (gateway, _upstream) = gateway(acts).await;
            for (version, reply) in [
                ("h1", client::h1(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
                ("h2", client::h2(gateway.address, &Ask::post(MESSAGES, ASK)).await.unwrap()),
            ] {
                let (text, rest) = reply.text().split_at_checked(wanted.len()).map_or_else(
                    || panic!("{count} events and {name} over {version}: {} bytes", reply.body.len()),
                    |(text, rest)| (text.to_owned(), rest.to_owned()),
                );
                assert!(text == wanted, "{count} events and {name} over {version}");
                let is_error = rest.starts_with("event: error\n");
                assert!(if name == "its end" { rest.is_empty() } else { is_error }, "{name} over {version}: {rest}");
            }
        }
    }
}

/// A client that stops reading for a while, so that writes are interrupted where they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_gets_every_burst_once_and_in_order() {
    let start = preamble("msg_1") + &delta("first");
    let filler = "x".repeat(2_000);
    let mut acts = vec![stream_head(), chunk(&start)];
    let mut wanted = start;
    for burst in 0..200 {
        let events: Vec<String> = (0..16).map(|n| delta(&format!("{burst}-{n} {filler}"))).collect();
        acts.push(together(events.iter().map(chunk)));
        wanted += &events.concat();
    }
    acts.extend([chunk(ending()), end()]);
    let (gateway, _upstream) = gateway(acts).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(&Ask::post(MESSAGES, ASK)).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let seen = connection.read_some(1).await.unwrap().len();
        connection.read_some(seen + 1).await.unwrap();
    }
    let reply = connection.receive().await.unwrap();
    assert!(reply.complete && reply.text() == wanted + &ending(), "{} bytes", reply.body.len());
}
