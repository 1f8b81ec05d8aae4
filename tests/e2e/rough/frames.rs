//! HTTP/2 without a library: frames that are damaged, out of place or too many.

use crate::{dice::Dice, seeds::Seed};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The bytes of one connection.
pub(super) fn of(dice: &mut Dice, seeds: &[Seed]) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    if dice.once_in(5) {
        out.extend(dice.noise(300));
        return out;
    }
    frame(&mut out, SETTINGS, 0, 0, &[]);
    let begin = out.len();
    match dice.below(4) {
        0 => {
            requests(dice, seeds, &mut out);
            let mut tail = out.split_off(begin);
            dice.mangle(&mut tail);
            out.extend(tail);
        }
        1 => {
            for _ in 0..dice.below(30) {
                let (kind, flags) = (dice.below(12) as u8, dice.draw() as u8);
                let payload = dice.noise(40);
                let stream = dice.below(6) as u32;
                frame(&mut out, kind, flags, stream, &payload);
            }
        }
        2 => flood(dice, &mut out),
        _ => odd_headers(dice, seeds, &mut out),
    }
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A header that is put into no table, its strings as they are (RFC 7541, 6.2.2).
fn field(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    for text in [name.as_bytes(), value] {
        match text.len() {
            short @ 0..=126 => block.push(short as u8),
            long => {
                block.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
        }
        block.extend_from_slice(text);
    }
}

fn good_block(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gateway.test"),
        (":path", path),
        ("authorization", "Bearer sk-test"),
        ("content-type", "application/json"),
    ] {
        field(&mut block, name, value.as_bytes());
    }
    block
}

fn data(out: &mut Vec<u8>, stream: u32, body: &[u8]) {
    let body = &body[..body.len().min(60_000)];
    for piece in body.chunks(16_000) {
        frame(out, DATA, 0, stream, piece);
    }
    frame(out, DATA, END_STREAM, stream, &[]);
}

fn requests(dice: &mut Dice, seeds: &[Seed], out: &mut Vec<u8>) {
    for stream in (0..=dice.below(3) as u32).map(|n| 2 * n + 1) {
        let seed = dice.pick(seeds);
        frame(out, HEADERS, END_HEADERS, stream, &good_block(&seed.path));
        data(out, stream, &seed.request);
    }
}

/// Much of what costs the sender little.
fn flood(dice: &mut Dice, out: &mut Vec<u8>) {
    let times = dice.below(400);
    let block = good_block("/v1/messages");
    match dice.below(5) {
        0 => (0..times).for_each(|_| frame(out, PING, 0, 0, &[0; 8])),
        1 => (0..times).for_each(|_| frame(out, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        2 => {
            for stream in (0..times as u32).map(|n| 2 * n + 1) {
                frame(out, HEADERS, END_HEADERS, stream, &block);
                frame(out, RESET, 0, stream, &8u32.to_be_bytes());
            }
        }
        3 => {
            frame(out, HEADERS, 0, 1, &block);
            (0..times).for_each(|n| frame(out, CONTINUATION, 0, 1, &vec![0; n % 3]));
        }
        _ => (0..times).for_each(|_| frame(out, WINDOW, 0, 0, &0x7fff_ffffu32.to_be_bytes())),
    }
}

/// A sound frame whose headers are not.
fn odd_headers(dice: &mut Dice, seeds: &[Seed], out: &mut Vec<u8>) {
    let seed = dice.pick(seeds);
    let mut block = good_block(&seed.path);
    match dice.below(8) {
        0 => field(&mut block, ":path", b"/v1/models"),
        1 => field(&mut block, "X-Upper", b"x"),
        2 => field(&mut block, "anthropic-beta", b"a\r\nx-evil: 1"),
        3 => field(&mut block, "connection", b"keep-alive"),
        4 => field(&mut block, "transfer-encoding", b"chunked"),
        5 => field(&mut block, "content-length", dice.pick(&["3", "999999999999999999999", "-1", "3, 4"]).as_bytes()),
        6 => (0..dice.below(200)).for_each(|_| field(&mut block, "x-filler", &[b'y'; 100])),
        _ => {
            block.clear();
            let path = *dice.pick(&[
                "",
                "*",
                "v1/messages",
                "http://x/v1/messages",
                "/v1/mess\r\nages",
                "/\0",
                "/v1/messages?\r\n",
            ]);
            for (name, value) in [(":method", "POST"), (":scheme", "http"), (":path", path)] {
                if !dice.once_in(5) {
                    field(&mut block, name, value.as_bytes());
                }
            }
        }
    }
    if block.len() > 16_000 {
        frame(out, HEADERS, 0, 1, &block[..16_000]);
        frame(out, CONTINUATION, END_HEADERS, 1, &block[16_000..]);
    } else {
        frame(out, HEADERS, END_HEADERS, 1, &block);
    }
    data(out, 1, &seed.request);
}

/// Whether the answer on any stream has a status of 5xx. Reads the first field of each header block, which is the status:
/// by its place in the static table, or as a literal, where the first digit shows (RFC 7541, appendices A and B).
pub(super) fn has_failed(answer: &[u8]) -> bool {
    let mut rest = answer;
    while let [a, b, c, kind, _flags, _, _, _, _, payload @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (payload, after) = payload.split_at(length.min(payload.len()));
        let failed = match payload {
            [0x8e, ..] => true,
            [0x48 | 0x08 | 0x18, size, first, ..] if size & 0x80 != 0 => first >> 2 == 0b01_1011,
            [0x48 | 0x08 | 0x18, _, first, ..] => *first == b'5',
            _ => false,
        };
        if *kind == HEADERS && failed {
            return true;
        }
        rest = after;
    }
    false
}

#[test]
fn a_status_of_5xx_is_seen_however_it_is_written() {
    for (block, expected) in [
        (&[0x8e][..], true),
        (&[0x88], false),
        (&[0x48, 3, b'5', b'0', b'3'], true),
        (&[0x48, 3, b'4', b'0', b'1'], false),
        (&[0x48, 0x82, 0x6c, 0x19], true),
        (&[0x48, 0x82, 0x68, 0x01], false),
    ] {
        let mut out = Vec::new();
        frame(&mut out, SETTINGS, 0, 0, &[]);
        frame(&mut out, HEADERS, END_HEADERS, 1, block);
        assert_eq!(has_failed(&out), expected, "{block:x?}");
    }
}
