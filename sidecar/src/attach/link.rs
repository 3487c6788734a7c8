//! The links of an attached sidecar: two tasks, each of which keeps a connection to a member up,
//! not to the same one. Which of them relays is the driver's choice.
//!
//! Members are found by name, or behind the one name of a headless Service, which is looked up for
//! each connection. A broken link is dialled again after 20 ms, doubling up to 1 s, elsewhere if
//! there is an elsewhere.

use crate::agent::OPERATIONS_MAX;
use crate::peer::FRAME_BYTES_MAX;
use crate::relay::wire::{self, Heard, Welcome};
use crate::tls::{ANY_MEMBER, Report, Tls};
use crate::transport::{self, DIAL_DEADLINE};
use quorate_locks::Attachment;
use quorate_proto::peer::RelayRequest;
use quorate_proto::peer::relay_client::RelayClient;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Connections at once.
pub const LINKS: usize = 2;
/// Words on their way to a relay; one that does not take them is left. All that waits for an answer
/// is said at once to a new leader.
const WORDS_MAX: usize = OPERATIONS_MAX + 1_024;
/// What a relay said and the driver has not taken.
const HEARD_MAX: usize = 64;
/// The welcome comes within this.
const WELCOME_DEADLINE: Duration = Duration::from_secs(5);
/// After the first failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// After many. A connection that lasted for so long was a good one.
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// Where there is no other member, for one to be added.
const ALONE: Duration = Duration::from_secs(5);

/// Where members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Each by its name: `HOST:PORT`.
    Named(BTreeMap<String, String>),
    /// All behind this name: `HOST:PORT`. Any of them may answer for any other.
    Service(String),
}

/// One connection of one link: the links are numbered from 0, their connections rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Which link.
    pub link: usize,
    /// Which of its connections.
    pub serial: u64,
}

/// What happens to links.
#[derive(Debug)]
pub enum LinkEvent {
    /// A relay introduced itself; what it is to hear goes there.
    Up(Connection, Welcome, mpsc::Sender<RelayRequest>),
    /// A relay said something.
    Heard(Connection, Heard),
    /// A connection ended.
    Down(Connection),
}

/// See the module. Dropping it ends the links.
pub struct Links {
    events: mpsc::Receiver<LinkEvent>,
    /// The connections up to which each link is to be dialled anew.
    cut: [watch::Sender<u64>; LINKS],
}

/// What the tasks share.
struct Shared {
    members: Members,
    tls: Tls,
    own: Attachment,
    name: String,
    report: Report,
    events: mpsc::Sender<LinkEvent>,
    /// Where each link is, or tries to be.
    places: Mutex<[Option<String>; LINKS]>,
}

impl Links {
    /// Starts them. Must be called within a runtime.
    #[must_use]
    pub fn start(
        members: Members,
        tls: Tls,
        (own, name): (Attachment, &str),
        report: Report,
    ) -> Links {
        let (sender, events) = mpsc::channel(HEARD_MAX);
        let places = Mutex::new([None, None]);
        let name = name.to_owned();
        let shared = Shared { members, tls, own, name, report, events: sender, places };
        let shared = Arc::new(shared);
        let cut = std::array::from_fn(|link| {
            let (sender, receiver) = watch::channel(0);
            tokio::spawn(run(Arc::clone(&shared), link, receiver));
            sender
        });
        Links { events, cut }
    }

    /// What happened next. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }

    /// What happened already.
    pub fn happened(&mut self) -> Option<LinkEvent> {
        self.events.try_recv().ok()
    }

    /// Ends this connection; its link dials anew.
    pub fn cut(&self, connection: Connection) {
        self.cut[connection.link].send_replace(connection.serial);
    }
}

async fn run(shared: Arc<Shared>, link: usize, mut cut: watch::Receiver<u64>) {
    let (mut serial, mut backoff) = (0, BACKOFF_FIRST);
    let (mut complained, mut turn) = (String::new(), turns(shared.own.boot, link));
    while !shared.events.is_closed() {
        serial += 1;
        let begun = Instant::now();
        let connection = Connection { link, serial };
        let outcome = match shared.choose(link, turn).await {
            Ok(None) => {
                tokio::time::sleep(ALONE).await;
                continue;
            }
            Ok(Some(place)) => tokio::select! {
                outcome = attempt(&shared, connection, &place) => outcome,
                // Dropped: the sidecar ends.
                _ = cut.wait_for(|upto| *upto >= serial) => Ok(()),
            },
            Err(why) => Err(why),
        };
        if outcome.is_ok() {
            complained.clear();
            if begun.elapsed() > BACKOFF_LAST {
                backoff = BACKOFF_FIRST;
            }
            // The driver is gone, or hears of it.
            let _ = shared.events.send(LinkEvent::Down(connection)).await;
        }
        if let Err(why) = outcome
            && why != complained
        {
            (shared.report)(format!("no relay at {why}"));
            complained = why;
        }
        turn = turn.wrapping_add(1);
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_LAST);
    }
}

/// Where a link begins: not where all others do.
fn turns(bits: u64, link: usize) -> usize {
    usize::try_from(bits % 1_024).unwrap_or(0) + link
}

impl Shared {
    /// The places of members, with the names that they have to prove.
    async fn known(&self) -> Result<Vec<(String, String)>, String> {
        match &self.members {
            Members::Named(named) => {
                Ok(named.iter().map(|(name, place)| (name.clone(), place.clone())).collect())
            }
            Members::Service(service) => {
                let found = transport::resolved(service).await;
                let found = found.map_err(|why| format!("{service}: {why}"))?;
                let mut places: Vec<String> = found.iter().map(ToString::to_string).collect();
                places.sort();
                places.dedup();
                Ok(places.into_iter().map(|place| (ANY_MEMBER.to_owned(), place)).collect())
            }
        }
    }

    /// The next place where the other link is not, if there is one.
    async fn choose(&self, link: usize, turn: usize) -> Result<Option<(String, String)>, String> {
        let known = self.known().await?;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |place: &str| {
            places.iter().enumerate().any(|(at, of)| at != link && of.as_deref() == Some(place))
        };
        let count = known.len();
        let free =
            (0..count).map(|at| &known[(turn + at) % count]).find(|(_, place)| !taken(place));
        let free = free.cloned();
        places[link] = free.as_ref().map(|(_, place)| place.clone());
        if count == 0 {
            return Err("any member: none is known".to_owned());
        }
        Ok(free)
    }
}

/// Dials a member, and passes on what it says until that ends. An error, from before it was up,
/// names the place.
async fn attempt(
    shared: &Shared,
    connection: Connection,
    (name, place): &(String, String),
) -> Result<(), String> {
    let named = |why: String| format!("{place}: {why}");
    let expected = (Some(&shared.tls), name.as_str());
    let channel = transport::channel(place, DIAL_DEADLINE, expected).await;
    let channel = channel.map_err(|why| named(why.to_string()))?;
    let mut client = RelayClient::new(channel).max_decoding_message_size(FRAME_BYTES_MAX);
    let (sender, words) = mpsc::channel(WORDS_MAX);
    let introduction = tokio_stream::once(wire::introduction(shared.own, &shared.name));
    let answer = async {
        let outgoing = introduction.chain(ReceiverStream::new(words));
        let mut events = client.attach(outgoing).await?.into_inner();
        let first = events.message().await?;
        Ok::<_, Status>((events, first))
    };
    let (events, first) = tokio::time::timeout(WELCOME_DEADLINE, answer)
        .await
        .map_err(|_| named(format!("no welcome within {} s", WELCOME_DEADLINE.as_secs())))?
        .map_err(|status| named(sentence(&status)))?;
    let first = first.ok_or_else(|| named("it ended the stream without a welcome".to_owned()))?;
    let welcome = match wire::from_event(first) {
        Ok(Heard::Welcome(welcome)) => welcome,
        Ok(_) => return Err(named("its first message is no welcome".to_owned())),
        Err(why) => return Err(named(format!("its welcome: {why}"))),
    };
    // The driver is gone only when all ends.
    let _ = shared.events.send(LinkEvent::Up(connection, welcome, sender)).await;
    if let Err(why) = pass_on(shared, connection, events).await {
        (shared.report)(format!("the relay at {}", named(why)));
    }
    Ok(())
}

async fn pass_on(
    shared: &Shared,
    connection: Connection,
    mut events: Streaming<quorate_proto::peer::RelayEvent>,
) -> Result<(), String> {
    while let Some(event) = events.message().await.map_err(|status| sentence(&status))? {
        let heard = wire::from_event(event).map_err(|why| format!("said nonsense: {why}"))?;
        if shared.events.send(LinkEvent::Heard(connection, heard)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn sentence(status: &Status) -> String {
    match status.code() {
        Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition => {
            format!("refused: {}", status.message())
        }
        _ => format!("the connection ended ({})", status.message()),
    }
}
