//! What a member says on standard error: lines that wait for a thread of their own.
//!
//! Invariants: whoever says a line neither waits for whoever reads it, nor minds that it cannot be
//! written; lines stay in order; of those that are lost, the number is said.
//!
//! Must not go through `std::io::stderr`: its lock, held over a write that nobody reads, would keep
//! the words of a panic from leaving.

use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait, at most.
const LINES_MAX: usize = 1_024;
/// How long the end of a process waits for its last lines.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// Of this process.
static LINES: LazyLock<Lines> = LazyLock::new(|| {
    let lines = Lines::new(LINES_MAX);
    let shared = Arc::clone(&lines.shared);
    let writer = move || shared.write(|bytes| write_all(rustix::stdio::stderr(), bytes));
    // Without a thread the lines are lost, and the member goes on.
    let _ = thread::Builder::new().name("lines".to_owned()).spawn(writer);
    lines
});

/// Says a line on standard error: without its end, and without waiting. In order, unless too many
/// wait; then it is lost, and counted.
pub fn say(line: String) {
    LINES.say(line);
}

/// Waits until everything said is written, at most so long.
pub fn drain(most: Duration) {
    LINES.drain(most);
}

#[derive(Debug)]
struct Lines {
    most: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    more: Condvar,
    /// All of it is written.
    done: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    /// Lost since the last line that was written.
    lost: u64,
    /// A line left the queue, and its write is not over.
    writing: bool,
}

impl Lines {
    fn new(most: usize) -> Lines {
        Lines { most, shared: Arc::default() }
    }

    fn say(&self, line: String) {
        let mut waiting = self.shared.lock();
        if waiting.lines.len() >= self.most {
            waiting.lost += 1;
            return;
        }
        waiting.lines.push_back(line);
        drop(waiting);
        self.shared.more.notify_one();
    }

    fn drain(&self, most: Duration) {
        let end = Instant::now() + most;
        let mut waiting = self.shared.lock();
        while waiting.writing || !waiting.lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.done.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere ends the process; the queue itself is always whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is said, for ever.
    fn write(&self, mut out: impl FnMut(&[u8])) -> ! {
        loop {
            out(self.next().as_bytes());
        }
    }

    /// The next line, with its end. The one before is written.
    fn next(&self) -> String {
        let mut waiting = self.lock();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.writing = true;
                return match std::mem::take(&mut waiting.lost) {
                    0 => format!("{line}\n"),
                    lost => format!(
                        "quorate-sidecar: {lost} lines are lost: nobody read this fast enough\n\
                         {line}\n"
                    ),
                };
            }
            self.done.notify_all();
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What cannot be written is lost: there is nobody to tell.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Lines that are written into a channel, each once it is asked for.
    fn written(most: usize) -> (Lines, mpsc::SyncSender<()>, mpsc::Receiver<String>) {
        let lines = Lines::new(most);
        let shared = Arc::clone(&lines.shared);
        let (ask, asked) = mpsc::sync_channel(0);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            shared.write(|bytes| {
                let text = String::from_utf8(bytes.to_vec()).expect("text");
                // The test may be over.
                let _ = asked.recv();
                let _ = sender.send(text);
            })
        });
        (lines, ask, receiver)
    }

    #[test]
    fn lines_that_nobody_reads_keep_nobody_and_are_counted() {
        let (lines, ask, read) = written(2);
        lines.say("first".to_owned());
        while !lines.shared.lock().writing {
            thread::yield_now();
        }
        for line in ["second", "third", "lost", "lost too"] {
            lines.say(line.to_owned());
        }
        let begun = Instant::now();
        lines.drain(Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20), "they are not written");
        let next = || {
            ask.send(()).expect("it writes");
            read.recv().expect("it writes")
        };
        assert_eq!(next(), "first\n");
        let second = next();
        assert!(second.contains("2 lines are lost") && second.ends_with("second\n"), "{second}");
        assert_eq!(next(), "third\n");
        lines.drain(Duration::from_secs(20));
        let waiting = lines.shared.lock();
        assert!(!waiting.writing && waiting.lines.is_empty());
    }
}
