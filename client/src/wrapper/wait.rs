//! What a wait for a grant says while it lasts, and why it may be in vain. What is not known at
//! once is left out.

use crate::cli::Output;
use crate::paint;
use quorate_client::{Client, Error, Holder};
use std::future::pending;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// A shorter wait is not worth a word.
const SILENCE: Duration = Duration::from_secs(1);
/// What is not answered by then is not known.
const LOOK_MAX: Duration = Duration::from_millis(300);

/// Why a name is not granted.
#[derive(Debug)]
pub enum Why {
    Held(Holder),
    /// Nobody holds it, and the group grants nothing for so many ms more.
    HeldOff(u64),
    Unknown,
}

impl Why {
    /// Asks the sidecar; a failure is no error.
    pub async fn of(client: &Client, name: &str) -> Why {
        let look = async {
            let info = client.get(name).await?;
            if let Some(holder) = info.and_then(|info| info.holder) {
                return Ok(Why::Held(holder));
            }
            Ok(match client.status().await?.hold_off_ms {
                0 => Why::Unknown,
                ms => Why::HeldOff(ms),
            })
        };
        let seen: Result<Result<Why, Error>, _> = timeout(LOOK_MAX, look).await;
        seen.ok().and_then(Result::ok).unwrap_or(Why::Unknown)
    }

    /// Behind other words.
    pub fn behind(&self, words: &str) -> String {
        match self {
            Why::Held(holder) => {
                let who = paint::safe(&holder.who());
                format!("{words}: held by {who} with token {}", holder.token)
            }
            Why::HeldOff(ms) => format!("{words}: {}", held_off(*ms)),
            Why::Unknown => words.to_owned(),
        }
    }
}

/// Nothing is granted for so many ms.
pub fn held_off(ms: u64) -> String {
    format!(
        "grants are held off after a restore or recovery, up to {} s more: see `quorate status`",
        ms.div_ceil(1_000)
    )
}

/// One wait, from its begin to a grant.
#[derive(Debug)]
pub struct Wait {
    /// The first claim waits since then.
    since: Option<Instant>,
    output: Output,
    told: bool,
    told_of_sidecar: bool,
}

impl Wait {
    pub fn new(output: Output) -> Wait {
        Wait { since: None, output, told: false, told_of_sidecar: false }
    }

    /// Says once for what it waits. Never done. May be dropped and called again.
    pub async fn tell(&mut self, client: &Client, name: &str) {
        if !self.told && self.output == Output::Text {
            sleep_until(*self.since.get_or_insert_with(Instant::now) + SILENCE).await;
            let words = format!("waiting for {}", paint::safe(name));
            let why = Why::of(client, name).await;
            self.told = true;
            paint::say(&why.behind(&words));
        }
        pending().await
    }

    /// Says once that no sidecar is there.
    pub fn no_sidecar(&mut self, error: &Error) {
        let Error::Unreachable(tried) = error else { return };
        if self.output == Output::Text && !std::mem::replace(&mut self.told_of_sidecar, true) {
            let places = tried.iter().map(|(place, why)| format!("{place}: {why}"));
            let places = paint::safe(&places.collect::<Vec<_>>().join(", nor at "));
            paint::say(&format!("no sidecar at {places}; trying again"));
        }
    }
}
