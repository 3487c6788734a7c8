//! Plain words about a connection in trouble, and none about one that is back before anybody
//! noticed.

use crate::duration;
use crate::paint;
use quorate_client::{Pulse, clock};
use std::future::pending;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Trouble shorter than this is not worth a word.
const PATIENCE: Duration = Duration::from_millis(300);

/// Watches a session for whoever reads standard error.
#[derive(Debug)]
pub struct Notices {
    pulse: watch::Receiver<Pulse>,
    trouble_since: Option<Instant>,
    told: bool,
}

impl Notices {
    pub fn new(pulse: watch::Receiver<Pulse>) -> Notices {
        Notices { pulse, trouble_since: None, told: false }
    }

    /// Never done. May be dropped and called again.
    pub async fn watch(&mut self) {
        loop {
            let pulse = self.pulse.borrow_and_update().clone();
            let in_trouble = pulse.over.is_none() && (!pulse.connected || pulse.in_jeopardy);
            if !in_trouble {
                self.trouble_since = None;
                if std::mem::take(&mut self.told) && pulse.over.is_none() {
                    paint::say("the sidecar renews again; nothing was lost");
                }
            } else if !self.told {
                let since = *self.trouble_since.get_or_insert_with(Instant::now);
                match timeout_at(since + PATIENCE, self.pulse.changed()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => pending().await,
                    Err(_) => {
                        self.told = true;
                        paint::say(&words(&pulse));
                    }
                }
            }
            if self.pulse.changed().await.is_err() {
                pending().await
            }
        }
    }
}

fn words(pulse: &Pulse) -> String {
    let left = Duration::from_nanos(pulse.deadline_ns.saturating_sub(clock::now_ns()));
    let left = duration::show(left);
    if pulse.connected {
        format!("the sidecar does not renew the session; it lasts {left} more")
    } else {
        format!("the sidecar is gone, connecting again; the session lasts {left} more")
    }
}
