//! Where log lines go out: access lines many at a time, from a thread of their own, so that no request waits for a write.
//!
//! What waits is bounded: whoever adds to a full outlet writes it out first. Invariant: lines leave in the order in which
//! they came and whole; none is lost while the process lives, and [`Outlet::flush`] leaves none behind.

use std::{
    io::Write,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// The lines that wait, and the way out.
pub(super) struct Outlet {
    waiting: Mutex<Vec<u8>>,
    /// Rung when a line comes and none waits.
    bell: Condvar,
    /// Held while lines are taken and written, so that none overtakes another.
    way: Mutex<Way>,
    most_bytes: AtomicUsize,
}

struct Way {
    out: Box<dyn Write + Send>,
    /// Room for what is being written, used again and again.
    taken: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outlet {
    /// An outlet that keeps lines back for at most `wait`, and never more than `most_bytes` of them. Without a thread to
    /// do that, or with no wait, each line goes out by itself.
    pub(super) fn new(out: Box<dyn Write + Send>, wait: Duration, most_bytes: usize) -> Arc<Outlet> {
        let way = Mutex::new(Way { out, taken: Vec::new() });
        let most_bytes = AtomicUsize::new(most_bytes);
        let outlet = Arc::new(Outlet { waiting: Mutex::default(), bell: Condvar::new(), way, most_bytes });
        let carried = outlet.clone();
        let carry = move || carried.carry(wait);
        if wait.is_zero() || thread::Builder::new().name("log".to_owned()).spawn(carry).is_err() {
            outlet.most_bytes.store(0, Ordering::Relaxed);
        }
        outlet
    }

    /// Adds a line, which `write` appends with its line end. What is `urgent` goes out before this returns.
    pub(super) fn put(&self, urgent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = lock(&self.waiting);
        let is_first = waiting.is_empty();
        write(&mut waiting);
        let is_full = waiting.len() >= self.most_bytes.load(Ordering::Relaxed);
        drop(waiting);
        if urgent || is_full {
            self.flush();
        } else if is_first {
            self.bell.notify_one();
        }
    }

    /// Writes all that waits.
    pub(super) fn flush(&self) {
        let mut way = lock(&self.way);
        let Way { out, taken } = &mut *way;
        std::mem::swap(&mut *lock(&self.waiting), taken);
        // Nobody is left to be told that the log cannot be written.
        let _ = out.write_all(taken).and_then(|()| out.flush());
        taken.clear();
    }

    fn carry(&self, wait: Duration) {
        loop {
            let mut waiting = lock(&self.waiting);
            while waiting.is_empty() {
                waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            drop(waiting);
            thread::sleep(wait);
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io, sync::mpsc};

    /// A destination that tells of each write.
    struct Told(mpsc::Sender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() {
                self.0.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    fn outlet(wait: Duration, most_bytes: usize) -> (Arc<Outlet>, mpsc::Receiver<String>) {
        let (sender, written) = mpsc::channel();
        (Outlet::new(Box::new(Told(sender)), wait, most_bytes), written)
    }

    fn line(outlet: &Outlet, text: &str, urgent: bool) {
        outlet.put(urgent, |out| out.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn lines_go_out_together_by_themselves() {
        let (outlet, written) = outlet(Duration::from_millis(1), 1 << 20);
        for text in ["a\n", "b\n"] {
            line(&outlet, text, false);
        }
        let mut all = String::new();
        while all != "a\nb\n" {
            all += &written.recv_timeout(Duration::from_secs(20)).unwrap();
        }
    }

    #[test]
    fn what_is_urgent_goes_out_at_once_behind_what_waited() {
        let (outlet, written) = outlet(LONG, 1 << 20);
        line(&outlet, "a\n", false);
        assert!(written.try_recv().is_err());
        line(&outlet, "b\n", true);
        assert_eq!(written.try_recv().unwrap(), "a\nb\n");
    }

    #[test]
    fn a_full_outlet_is_written_by_whoever_fills_it() {
        let (outlet, written) = outlet(LONG, 4);
        line(&outlet, "a\n", false);
        assert!(written.try_recv().is_err());
        line(&outlet, "b\n", false);
        assert_eq!(written.try_recv().unwrap(), "a\nb\n");
        assert!(outlet.waiting.lock().unwrap().is_empty());
    }

    #[test]
    fn without_a_wait_each_line_goes_out_by_itself() {
        let (outlet, written) = outlet(Duration::ZERO, 1 << 20);
        line(&outlet, "a\n", false);
        assert_eq!(written.try_recv().unwrap(), "a\n");
    }

    #[test]
    fn nothing_is_lost_or_torn_when_many_write_at_once() {
        let (outlet, written) = outlet(Duration::from_micros(50), 200);
        thread::scope(|scope| {
            for writer in 0..4 {
                let outlet = outlet.clone();
                scope.spawn(move || {
                    for count in 0..2_000 {
                        line(&outlet, &format!("{writer} {count}\n"), count % 97 == 0);
                    }
                });
            }
        });
        outlet.flush();
        let all: String = written.try_iter().collect();
        for writer in 0..4 {
            let prefix = format!("{writer} ");
            let counts = all.lines().filter_map(|line| line.strip_prefix(&prefix));
            assert!(counts.map(|count| count.parse::<u32>().unwrap()).eq(0..2_000));
        }
    }
}
