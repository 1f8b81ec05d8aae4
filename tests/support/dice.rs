//! Chance that can be repeated, and damage done by it.

/// A generator of numbers that are the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

/// Pieces that mean something to one parser or another.
const WORDS: [&[u8]; 48] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"%",
    b"%00",
    b"%0d%0a",
    b"..",
    b"/../",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"\\u",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775808",
    b"data: ",
    b"event: ",
    b"\n\n",
    b"[DONE]",
    b"\"model\":\"x\",",
    b"\"stream\":true,",
    b"\"error\":{},",
    b"\"usage\":null,",
    b"transfer-encoding: chunked\r\n",
    b"content-length: 7\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"#",
    b"\xe2\x80\xa8",
];

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.draw() % (end.max(1) as u64)) as usize
    }

    /// Whether something happens that happens once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    pub(crate) fn noise(&mut self, longest: usize) -> Vec<u8> {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.draw() as u8).collect()
    }

    /// Visible characters, and now and then others that a header value may have.
    pub(crate) fn header_value(&mut self, longest: usize) -> String {
        let length = self.below(longest + 1);
        let byte = |dice: &mut Dice| if dice.once_in(12) { b'\t' } else { 0x20 + dice.below(95) as u8 };
        (0..length).map(|_| char::from(byte(self))).collect()
    }

    /// Damages bytes in one to four places.
    pub(crate) fn mangle(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let length = self.below(40).min(bytes.len() - at.min(bytes.len()));
            match self.below(9) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.draw() as u8,
                2 => drop(bytes.splice(at..at, self.pick(&WORDS).iter().copied())),
                3 => drop(bytes.splice(at..at + length, self.pick(&WORDS).iter().copied())),
                4 => drop(bytes.drain(at..at + length)),
                5 => {
                    let copy = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len() + 1);
                    drop(bytes.splice(to..to, copy));
                }
                6 => {
                    let noise = self.noise(12);
                    drop(bytes.splice(at..at, noise));
                }
                7 if self.once_in(3) => bytes.truncate(at),
                _ => self.change_a_number(bytes, at),
            }
        }
    }

    /// Replaces the first run of digits behind `from` by another number.
    fn change_a_number(&mut self, bytes: &mut Vec<u8>, from: usize) {
        const NUMBERS: [&str; 8] =
            ["0", "-1", "4294967296", "18446744073709551616", "1e309", "0.1", "007", "99999999999999999999999999"];
        let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| at + from) else { return };
        let end = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |at| at + start);
        drop(bytes.splice(start..end, self.pick(&NUMBERS).bytes()));
    }
}
