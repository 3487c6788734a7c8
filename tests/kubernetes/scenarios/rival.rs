//! Rivals: a client at every pod that claims the one name that all of them claim, and records from
//! when to when it surely held it.
//!
//! What it records ends before it asks for the release, and before any doubt. All rivals read one
//! clock, so that two times that overlap are two holders at once.

use quorate_load::{Attached, Caller, Failed, boottime_ns};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name.
const NAME: &str = "rivals";
/// Short, so that a holder that went away is followed soon.
const TTL_MS: u64 = 3_000;
/// How long one holds it.
const HELD: Duration = Duration::from_millis(5);
/// A hold that took longer than this is not judged: the session might have ended in it.
const DOUBT_NS: u64 = 1_000_000_000;
/// After a refused connection.
const RECONNECT: Duration = Duration::from_millis(20);

/// One hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    from: u64,
    to: u64,
    token: u64,
}

/// Claims, holds and releases until it is dropped; every hold goes into `record`.
pub(super) async fn compete(socket: PathBuf, record: impl Fn(Held)) {
    loop {
        // Whatever ends a life, the next one is another session.
        let _ = life(&socket, &record).await;
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn life(socket: &Path, record: &impl Fn(Held)) -> Result<(), Failed> {
    let key = super::load::key().map_err(|message| Failed {
        reason: String::new(),
        message,
        unknown: false,
        generation: None,
    })?;
    let mut caller = Caller::connect(socket.to_path_buf(), key).await?;
    let Attached { events: _keep, .. } = caller.open(TTL_MS, "rival").await?;
    loop {
        let request = caller.request();
        let Some(token) = caller.acquire(NAME, request, 5_000).await? else { continue };
        let from = boottime_ns();
        tokio::time::sleep(HELD).await;
        let to = boottime_ns();
        // Where this process was not run for long, the session may have ended.
        if to - from < DOUBT_NS {
            record(Held { from, to, token });
        }
        let request = caller.request();
        caller.release(NAME, token, request).await?;
    }
}

/// No two holds overlap, and tokens rise with time. Gives how many there were.
pub(super) fn judge(mut holds: Vec<Held>) -> Result<usize, String> {
    holds.sort_unstable();
    for pair in holds.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if after.from < before.to || after.token <= before.token {
            return Err(format!("two holders at once, or tokens that fall: {before:?}, {after:?}"));
        }
    }
    Ok(holds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_and_falling_tokens_are_found() {
        let held = |from, to, token| Held { from, to, token };
        assert_eq!(judge(vec![held(3, 4, 2), held(1, 2, 1)]), Ok(2));
        assert!(judge(vec![held(1, 4, 1), held(3, 5, 2)]).is_err());
        assert!(judge(vec![held(1, 2, 2), held(3, 4, 1)]).is_err());
    }
}
