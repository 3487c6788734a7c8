//! The dialling side: one task a peer, which keeps one stream to it up and sends on it what waits.
//!
//! Nothing but a hello leaves before the acceptor's own hello proved that it is the member meant,
//! of this cluster, on a disk that did not go back. Where the peer said that it is comes first, and
//! at once what the settings say, if it is not there. A broken stream is dialled again after 20 ms,
//! doubling up to 500 ms, and at once when the peer itself shows up.

use super::convert::{self, Greeting, Received};
use super::outbox::Outbox;
use super::{HELLO_BYTES_MAX, HELLO_DEADLINE, Shared};
use crate::transport::{self, DIAL_DEADLINE};
use quorate_proto::peer::Frame;
use quorate_proto::peer::peer_client::PeerClient;
use quorate_raft::MemberId;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// After the first failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// After many.
const BACKOFF_LAST: Duration = Duration::from_millis(500);
/// Where the peer said that it is has so long to answer, if there is another address to try.
const SHOWN_DEADLINE: Duration = Duration::from_secs(1);
/// A link that was told to end has so long to send what waits.
const END_GRACE: Duration = Duration::from_millis(300);

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) member: MemberId,
    pub(super) name: String,
    pub(super) outbox: Arc<Outbox>,
    /// The peer showed up: dial without waiting.
    pub(super) poke: Notify,
    pub(super) connected: AtomicBool,
    ending: watch::Sender<bool>,
}

impl Link {
    pub(super) fn new(shared: &Shared, member: MemberId, name: &str) -> Link {
        Link {
            member,
            name: name.to_owned(),
            outbox: Arc::new(Outbox::new(Arc::clone(&shared.metrics))),
            poke: Notify::new(),
            connected: AtomicBool::new(false),
            ending: watch::Sender::new(false),
        }
    }

    /// Sends what waits, then a goodbye; then the task ends.
    pub(super) fn end(&self) {
        self.outbox.end();
        self.ending.send_replace(true);
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Resolves once the link is to end.
    async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    async fn ended_and_overdue(&self) {
        self.ended().await;
        tokio::time::sleep(END_GRACE).await;
    }
}

/// Runs a link until it is told to end.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>) {
    let mut backoff = Backoff::new(shared.own.boot.bits ^ (shared.number()));
    let mut complained = String::new();
    while !link.is_ending() {
        tokio::select! {
            _ = shared.cluster_known() => {}
            () = link.ended() => break,
        }
        link.outbox.connecting();
        let outcome = tokio::select! {
            outcome = attempt(&shared, &link) => outcome,
            () = link.ended_and_overdue() => break,
        };
        if link.connected.swap(false, Ordering::Relaxed) {
            backoff.reset();
            complained.clear();
        }
        link.outbox.away();
        if let Err(why) = outcome
            && why != complained
        {
            shared.report(format!("no stream to {} at {why}", link.name));
            complained = why;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = link.poke.notified() => {}
            () = link.ended() => break,
        }
    }
    link.connected.store(false, Ordering::Relaxed);
    link.outbox.away();
}

/// Dials each address that the peer may have, and sends until the stream ends. An error names the
/// address.
async fn attempt(shared: &Arc<Shared>, link: &Link) -> Result<(), String> {
    let shown = shared.shown(link.member);
    let mut failed = Err("no known address".to_owned());
    let mut addresses = shared.addresses.to_dial(&link.name, shown).into_iter().peekable();
    while let Some(address) = addresses.next() {
        // A pod that is gone does not even refuse.
        let limit = if addresses.peek().is_some() { SHOWN_DEADLINE } else { DIAL_DEADLINE };
        let expected = (shared.tls.as_ref(), link.name.as_str());
        let channel = match transport::channel(&address, limit, expected).await {
            Ok(channel) => channel,
            Err(why) => {
                failed = Err(format!("{address}: {why}"));
                continue;
            }
        };
        let outcome = once(shared, link, channel).await.map_err(|why| format!("{address}: {why}"));
        if link.connected.load(Ordering::Relaxed) {
            return outcome;
        }
        // Somebody else is there, or it is another process of it: what it said is old.
        shared.forget_address(link.member, &address);
        failed = outcome;
    }
    failed
}

/// Sends on a new connection until its stream ends.
async fn once(shared: &Arc<Shared>, link: &Link, channel: Channel) -> Result<(), String> {
    // Only now: while nobody answers, nothing is shown.
    shared.boot_shown().await?;
    let mut client = PeerClient::new(channel).max_decoding_message_size(HELLO_BYTES_MAX);
    let outgoing = link.outbox.stream(convert::hello(&shared.greeting(Some(link.member))));
    let answer = async {
        let mut frames = client.stream(outgoing).await?.into_inner();
        let first = frames.message().await?;
        Ok::<_, Status>((frames, first))
    };
    let (mut frames, first) = tokio::time::timeout(HELLO_DEADLINE, answer)
        .await
        .map_err(|_| format!("no hello within {} s", HELLO_DEADLINE.as_secs()))?
        .map_err(|status| sentence(&status))?;
    accept(shared, link, first)?;
    shared.metrics.peer_dials.add_one();
    link.connected.store(true, Ordering::Relaxed);
    link.outbox.open();
    ended(&mut frames).await
}

/// Checks the acceptor's introduction.
fn accept(shared: &Shared, link: &Link, first: Option<Frame>) -> Result<(), String> {
    let first = first.ok_or("it ended the stream without a hello")?;
    let greeting = match convert::from_frame(first) {
        Ok(Received::Hello(greeting)) => greeting,
        Ok(_) => return Err("its first frame is no hello".to_owned()),
        Err(why) => return Err(format!("its hello: {why}")),
    };
    let Greeting { cluster, from, boot, boots, name, address, .. } = greeting;
    if from != link.member {
        return Err(format!(
            "the member there is {from} and {} was meant; its data directory is another one",
            link.member
        ));
    }
    if name != link.name {
        return Err(format!("the member there is called {name:?}; see --peer and --name"));
    }
    if cluster != shared.cluster() {
        return Err("the member there belongs to another cluster".to_owned());
    }
    shared.meet(from, boot, &boots).map_err(|why| {
        shared.metrics.peer_refused.add_one();
        why.to_string()
    })?;
    shared.lock().learn_address(from, address);
    Ok(())
}

/// Waits for the end of a stream on which nothing more is expected.
async fn ended(frames: &mut Streaming<Frame>) -> Result<(), String> {
    match frames.message().await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("it sent a frame where only its hello is allowed".to_owned()),
        Err(status) => Err(sentence(&status)),
    }
}

fn sentence(status: &Status) -> String {
    match status.code() {
        // What a refusing member says is a sentence of its own; everything else is the transport's.
        Code::FailedPrecondition | Code::PermissionDenied | Code::InvalidArgument => {
            format!("refused: {}", status.message())
        }
        // Its own words are often but "transport error"; what is behind it says more.
        _ => match status.source().map(|behind| behind.source().unwrap_or(behind)) {
            Some(behind) => format!("the connection broke ({behind})"),
            None => format!("the connection broke ({})", status.message()),
        },
    }
}

/// Waits between attempts: doubling, less a random part of up to a half, so that members do not
/// dial in step.
struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    fn new(seed: u64) -> Backoff {
        Backoff { next: BACKOFF_FIRST, random: seed | 1 }
    }

    fn reset(&mut self) {
        self.next = BACKOFF_FIRST;
    }

    fn next(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let full = self.next;
        self.next = (full * 2).min(BACKOFF_LAST);
        let off = u32::try_from(self.random % 512).unwrap_or(0);
        full - full / 1024 * off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_never_shrink_below_a_half() {
        let mut backoff = Backoff::new(42);
        let mut full = BACKOFF_FIRST;
        for _ in 0..20 {
            let wait = backoff.next();
            assert!(wait <= full && wait >= full / 2, "{wait:?} of {full:?}");
            full = (full * 2).min(BACKOFF_LAST);
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_FIRST);
    }
}
