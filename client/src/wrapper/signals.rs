//! The signals that the wrapper is sent. SIGTSTP and SIGTTOU do nothing: a stopped wrapper could
//! not end its command.

use rustix::process::Signal;
use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// The signals that end a wait, or are passed on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Stream,
    terminate: Stream,
    /// None under `nohup`, which must stay what it is.
    hangup: Option<Stream>,
}

impl Signals {
    /// Takes them over for the rest of the process's life.
    pub fn new() -> io::Result<Signals> {
        for ignored in [Signal::TSTP, Signal::TTOU] {
            // A handler stays when its stream is dropped.
            drop(signal(SignalKind::from_raw(ignored.as_raw()))?);
        }
        // Ignored, as we may have inherited it, it would let the kernel reap the command: its exit
        // code would be lost, and its group's number free before the group is killed.
        drop(signal(SignalKind::child())?);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = match is_ignored(&status, Signal::HUP) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let (interrupt, terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Signals { interrupt, terminate, hangup })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = hangup => Signal::HUP,
        }
    }
}

/// Whether whoever started us ignored this signal: from the mask in `/proc/self/status`.
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, Signal::HUP) && is_ignored(status, Signal::PIPE));
        assert!(!is_ignored(status, Signal::INT) && !is_ignored("", Signal::HUP));
    }
}
