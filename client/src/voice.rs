//! Words from a thread of their own, for a process that has better things to do than to wait for
//! whoever reads them.
//!
//! Purpose: a terminal after Ctrl-S, or a pipe that nobody reads, blocks the one who writes. What
//! runs a command while it holds a grant must never be that one. Invariant: nothing here waits for
//! a write, except [`drain`], and that for a bounded time. Words that find no room are dropped.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Words that wait, at most.
const WAITING_MAX: usize = 64;

/// One line, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// An answer, for standard output.
    Answer(String),
    /// For programs, on standard error.
    Raw(String),
    /// News for people, on standard error.
    News(String),
}

#[derive(Debug, Default)]
struct Waiting {
    words: VecDeque<Word>,
    /// One was taken, and is not written yet.
    speaking: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// From here on every word of this process is written by a thread, with `write`.
///
/// # Errors
/// No thread can be started.
pub fn start(write: fn(&Word)) -> io::Result<()> {
    let queue = QUEUE.get_or_init(Queue::default);
    thread::Builder::new().name("voice".to_owned()).spawn(move || queue.serve(write)).map(drop)
}

/// Hands a word to the thread; gives it back if there is none.
pub fn hand_over(word: Word) -> Option<Word> {
    let Some(queue) = QUEUE.get() else { return Some(word) };
    queue.push(word);
    None
}

/// Waits until all is written, at most so long.
pub fn drain(patience: Duration) {
    if let Some(queue) = QUEUE.get() {
        let waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |w: &mut Waiting| w.speaking || !w.words.is_empty();
        drop(queue.changed.wait_timeout_while(waiting, patience, busy));
    }
}

impl Queue {
    fn push(&self, word: Word) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.words.len() < WAITING_MAX {
            waiting.words.push_back(word);
            self.changed.notify_all();
        }
    }

    /// The lock is not held while a word is written.
    fn serve(&self, write: fn(&Word)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(word) = waiting.words.pop_front() {
                waiting.speaking = true;
                drop(waiting);
                write(&word);
                waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.speaking = false;
                self.changed.notify_all();
            } else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped() {
        let queue = Queue::default();
        for number in 0..1000 {
            queue.push(Word::News(number.to_string()));
        }
        let waiting = queue.waiting.lock().unwrap();
        assert_eq!(waiting.words.len(), WAITING_MAX);
        assert_eq!(waiting.words.back(), Some(&Word::News((WAITING_MAX - 1).to_string())));
    }
}
