//! A prober: acquires and releases a name of its own without pause, and records when that worked.

use super::client::{Attached, Caller, Failed};
use super::history::{Fact, History};
use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// After a refused connection.
const RECONNECT: Duration = Duration::from_millis(2);
/// Sessions of probers outlive every fault of the demo.
const TTL_MS: u64 = 30_000;

/// When a prober's operations succeeded, and when one failed and why: boottime in ns, rising.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    successes: Arc<Mutex<Vec<Success>>>,
    failures: Arc<Mutex<Vec<Failure>>>,
}

/// An operation that succeeded: when, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Success {
    at: u64,
    took: u64,
}

/// An operation that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it was begun: boottime in ns.
    pub begun: u64,
    /// When that was known.
    pub ended: u64,
    /// Why.
    pub why: String,
}

impl Gaps {
    fn add(&self, begun: u64) {
        let at = boottime_ns();
        let success = Success { at, took: at.saturating_sub(begun) };
        self.successes.lock().unwrap_or_else(PoisonError::into_inner).push(success);
    }

    /// How long each operation took that succeeded after this moment, in ns.
    #[must_use]
    pub fn took(&self, from: u64) -> Vec<u64> {
        let successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        let start = successes.partition_point(|success| success.at < from);
        successes[start..].iter().map(|success| success.took).collect()
    }

    /// The longest time without a success between two moments, in ns; open at its end if nothing
    /// came since.
    #[must_use]
    pub fn longest(&self, from: u64, to: u64) -> u64 {
        self.longest_of((from, to), 0)
    }

    /// The same of what there was after a third moment: before, nothing was to be expected.
    #[must_use]
    pub fn longest_of(&self, (from, to): (u64, u64), back: u64) -> u64 {
        let successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        let start = successes.partition_point(|success| success.at < from);
        let mut last = if start > 0 { successes[start - 1].at.max(back) } else { from.max(back) };
        let mut longest = 0;
        let after = successes[start..].iter().map(|success| success.at);
        for at in after.take_while(|at| *at <= to) {
            longest = longest.max(at.saturating_sub(last));
            last = at.max(back);
        }
        longest.max(to.saturating_sub(last))
    }

    /// Whether something succeeded after this moment.
    #[must_use]
    pub fn succeeded_after(&self, moment: u64) -> bool {
        let successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        successes.last().is_some_and(|success| success.at > moment)
    }

    fn fail(&self, begun: u64, why: &Failed) {
        let why = format!("{} {}", why.reason, why.message).trim().to_owned();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(Failure { begun, ended: boottime_ns(), why });
    }

    /// Operations that ended between two moments without success: refused, or without an answer.
    #[must_use]
    pub fn failed(&self, from: u64, to: u64) -> Vec<Failure> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().filter(|failure| (from..=to).contains(&failure.ended)).cloned().collect()
    }

    /// Operations that succeeded.
    #[must_use]
    pub fn count(&self) -> usize {
        self.successes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// What a prober does next, under which request id.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim(u64),
    Release { token: u64, request: u64 },
}

/// See the module.
#[derive(Debug)]
pub struct Prober {
    endpoint: PathBuf,
    name: String,
    ttl_ms: u64,
    /// Before each operation.
    pause: Duration,
    gaps: Gaps,
    history: History,
    /// Promises seen broken.
    broken: Vec<String>,
}

impl Prober {
    /// A prober at a sidecar's socket, on a name that is its own.
    #[must_use]
    pub fn new(endpoint: PathBuf, name: String) -> (Prober, Gaps) {
        let gaps = Gaps::default();
        let (pause, history, broken) = Default::default();
        let (ttl_ms, recorded) = (TTL_MS, gaps.clone());
        (Prober { endpoint, name, ttl_ms, pause, gaps: recorded, history, broken }, gaps)
    }

    /// With a pause before each operation, where other things need the machine, too.
    #[must_use]
    pub fn paced(self, pause: Duration) -> Prober {
        Prober { pause, ..self }
    }

    /// With sessions that last for so long without their sidecar, instead of 30 s.
    #[must_use]
    pub fn lasting(self, ttl_ms: u64) -> Prober {
        Prober { ttl_ms, ..self }
    }

    /// Runs until told to stop; gives what it knows, and the promises that it saw broken.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> (History, Vec<String>) {
        let work = self.work();
        tokio::select! {
            () = work => {}
            // An error means that nobody can say stop any more.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        (self.history, self.broken)
    }

    async fn work(&mut self) {
        loop {
            let mut key = [0; 16];
            let filled =
                rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty());
            if filled != Ok(16) {
                return self.broken.push("no random bytes for a key".to_owned());
            }
            self.life(key.to_vec()).await;
        }
    }

    /// One session, through as many connections as it takes.
    async fn life(&mut self, key: Vec<u8>) {
        let mut caller = loop {
            match Caller::connect(self.endpoint.clone(), key.clone()).await {
                Ok(caller) => break caller,
                Err(_) => tokio::time::sleep(RECONNECT).await,
            }
        };
        let mut generation = 0;
        let mut step = Step::Claim(caller.request());
        loop {
            let attached = if generation == 0 {
                caller.open(self.ttl_ms, &self.name).await
            } else {
                caller.resume(generation).await
            };
            match attached {
                Ok(attached) => {
                    generation = attached.generation;
                    if self.probe(&mut caller, attached, &mut step).await.is_err() {
                        return;
                    }
                }
                Err(Failed { generation: Some(present), .. }) if generation > 0 => {
                    generation = present;
                }
                Err(failed) if over(&failed) => return self.session_lost(&step, &failed),
                // One that starts, or knows no leader yet, takes nobody.
                Err(_) => tokio::time::sleep(RECONNECT).await,
            }
            while caller.reconnect().await.is_err() {
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }

    fn session_lost(&mut self, step: &Step, failed: &Failed) {
        self.gaps.fail(boottime_ns(), failed);
        if let Step::Release { token, .. } = step {
            self.broken.push(format!(
                "{}: token {token} was granted, and its session is gone: {}",
                self.name, failed.message
            ));
        }
    }

    /// Acquires and releases until the connection fails (Ok) or the session is no good any more
    /// (Err). What is not answered is asked again under the same request id.
    async fn probe(
        &mut self,
        caller: &mut Caller,
        attached: Attached,
        step: &mut Step,
    ) -> Result<(), ()> {
        let Attached { events: _keep, .. } = attached;
        let name = self.name.clone();
        loop {
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
            let begun = boottime_ns();
            match *step {
                Step::Claim(request) => match caller.acquire(&name, request, 5_000).await {
                    Ok(Some(token)) => {
                        self.done(begun, Fact::Granted { name: name.clone(), token });
                        *step = Step::Release { token, request: caller.request() };
                    }
                    Ok(None) => *step = Step::Claim(caller.request()),
                    // Withdrawn, or ended with an earlier connection: definitely not held under
                    // this id.
                    Err(failed) if matches!(failed.reason.as_str(), "NO_QUORUM" | "NOT_HOLDER") => {
                        self.gaps.fail(begun, &failed);
                        *step = Step::Claim(caller.request());
                    }
                    Err(failed) => return self.failed(begun, &failed),
                },
                Step::Release { token, request } => {
                    // Until it is acknowledged it may or may not have been done.
                    self.history.add(Fact::ReleaseUnknown { name: name.clone(), token });
                    match caller.release(&name, token, request).await {
                        Ok(()) => self.done(begun, Fact::Released { name: name.clone(), token }),
                        Err(failed) if failed.reason == "NOT_HOLDER" => {
                            self.gaps.fail(begun, &failed);
                            self.broken.push(format!(
                                "{name}: token {token} was granted, and is not held: {}",
                                failed.message
                            ));
                        }
                        Err(failed) => return self.failed(begun, &failed),
                    }
                    *step = Step::Claim(caller.request());
                }
            }
        }
    }

    fn done(&mut self, begun: u64, fact: Fact) {
        self.gaps.add(begun);
        self.history.add(fact);
    }

    fn failed(&self, begun: u64, failed: &Failed) -> Result<(), ()> {
        self.gaps.fail(begun, failed);
        if over(failed) { Err(()) } else { Ok(()) }
    }
}

/// Whether the session is no good any more.
fn over(failed: &Failed) -> bool {
    matches!(failed.reason.as_str(), "SESSION_EXPIRED" | "SESSION_UNKNOWN" | "SESSION_CLOSED")
}

/// CLOCK_BOOTTIME in ns.
#[must_use]
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |of: i64| u64::try_from(of).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_expected_of_a_member_before_it_is_back() {
        let gaps = Gaps::default();
        for at in [10, 20, 90, 95] {
            gaps.successes.lock().unwrap().push(Success { at, took: 1 });
        }
        assert_eq!(gaps.longest(15, 100), 70);
        assert_eq!(gaps.longest(30, 80), 60);
        assert_eq!(gaps.longest_of((30, 80), 60), 20);
        assert_eq!(gaps.longest_of((15, 100), 60), 30);
        assert_eq!(gaps.longest_of((15, 100), 94), 5);
    }
}
