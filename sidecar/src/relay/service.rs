//! The service of the clients' port: who may attach, and the way between its socket and the driver.
//!
//! Mutual TLS alone: the certificate must be the one for clients. A member's, the operator's or an
//! administrator's is refused, as a client's is on their ports.

use super::wire::{self, Welcome};
use super::{RelayId, Relayed, Said};
use crate::agent::OPERATIONS_MAX;
use crate::driver::{Inbox, StatusView, Work};
use crate::peer::{FRAME_BYTES_MAX, STREAMS_A_CONNECTION};
use crate::tls::{Report, Tls};
use crate::transport::{PeerInfo, Wire};
use quorate_proto::peer::relay_server::{Relay, RelayServer};
use quorate_proto::peer::{RelayEvent, RelayRequest};
use quorate_raft::MemberId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// An introduction that takes longer ends the stream.
const INTRODUCTION_DEADLINE: Duration = Duration::from_secs(5);
/// Words that wait for one attached sidecar, at most: one that does not read is cut then. It may
/// ask this many things at once, and all may be answered at once.
const WORDS_MAX: usize = OPERATIONS_MAX + 1_024;
/// Bytes that wait for it, at which nothing is added: twice what a busy group writes in a second.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Messages on their way to its socket.
const MESSAGES_MAX: usize = 8;

/// See the module.
#[derive(Clone)]
pub struct RelayService {
    inbox: Inbox,
    tls: Tls,
    name: String,
    election_timeout_ms: u64,
    next: Arc<AtomicU64>,
    report: Report,
}

impl RelayService {
    /// A relay of the member of this name, in front of its inbox.
    #[must_use]
    pub fn new(
        inbox: Inbox,
        tls: Tls,
        (name, election_timeout): (&str, Duration),
        report: Report,
    ) -> RelayService {
        let election_timeout_ms = u64::try_from(election_timeout.as_millis()).unwrap_or(u64::MAX);
        let (name, next) = (name.to_owned(), Arc::new(AtomicU64::new(1)));
        RelayService { inbox, tls, name, election_timeout_ms, next, report }
    }

    /// Serves these connections until the process ends.
    ///
    /// # Errors
    /// Never by a client's doing.
    pub async fn serve<S>(self, incoming: S) -> Result<(), tonic::transport::Error>
    where
        S: Stream<Item = std::io::Result<Wire>>,
    {
        let service = RelayServer::new(self).max_decoding_message_size(FRAME_BYTES_MAX);
        Server::builder()
            .max_concurrent_streams(STREAMS_A_CONNECTION)
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
    }

    fn check(&self, info: Option<&PeerInfo>) -> Result<(), Status> {
        let certificate = info.and_then(|info| info.certificate.as_ref());
        if certificate.is_some_and(|certificate| self.tls.is_client(certificate)) {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "the certificate does not carry the name {:?}: this port is for attached sidecars",
            self.tls.client_name()
        )))
    }

    /// This member, as it introduces itself; refused where it has nothing to relay.
    async fn welcome(&self) -> Result<Welcome, Status> {
        let unavailable = |why: &str| Status::unavailable(format!("{}: {why}", self.name));
        let view = self.inbox.status().await.ok_or_else(|| unavailable("it is stopping"))?;
        let StatusView { cluster, member, unfit, retired, .. } = view;
        match cluster.filter(|_| !unfit && !retired && view.configuration.contains(member)) {
            Some(cluster) => Ok(self.introduced(cluster, member)),
            None => Err(unavailable("this member takes no part in a group; ask another")),
        }
    }

    fn introduced(&self, cluster: u128, member: MemberId) -> Welcome {
        let (name, election_timeout_ms) = (self.name.clone(), self.election_timeout_ms);
        Welcome { cluster, member, name, election_timeout_ms }
    }

    async fn admit(
        &self,
        info: Option<&PeerInfo>,
        requests: &mut Streaming<RelayRequest>,
    ) -> Result<(Said, String, Welcome), Status> {
        self.check(info)?;
        let first = tokio::time::timeout(INTRODUCTION_DEADLINE, requests.message()).await;
        let first = first.map_err(|_| {
            let limit = INTRODUCTION_DEADLINE.as_secs();
            Status::deadline_exceeded(format!("no introduction within {limit} s"))
        })??;
        let first = first.ok_or_else(|| Status::invalid_argument("there is no introduction"))?;
        match wire::from_request(first) {
            Ok((said @ Said::Began(_), name)) => Ok((said, name, self.welcome().await?)),
            Ok(_) => Err(Status::invalid_argument("the first message is no introduction")),
            Err(why) => Err(Status::invalid_argument(format!("the introduction: {why}"))),
        }
    }
}

#[tonic::async_trait]
impl Relay for RelayService {
    type AttachStream = ReceiverStream<Result<RelayEvent, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<RelayRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let info = request.extensions().get::<PeerInfo>().cloned();
        let mut requests = request.into_inner();
        let (began, name, welcome) =
            self.admit(info.as_ref(), &mut requests).await.inspect_err(|status| {
                let from = info.map(|info| info.address.to_string()).unwrap_or_default();
                let why = status.message();
                (self.report)(format!("an attached sidecar from {from} was refused: {why}"));
            })?;
        let Said::Began(attachment) = began else {
            return Err(Status::internal("an introduction is one"));
        };
        let id = RelayId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, words) = words();
        let (events, receiver) = mpsc::channel(MESSAGES_MAX);
        events.try_send(Ok(wire::welcome(&welcome))).expect("the channel is new and not full");
        self.inbox.push(Work::Attached(id, attachment, sender));
        let relay = (id, name, Arc::clone(&self.report));
        tokio::spawn(hear(self.inbox.clone(), relay, requests, events.clone()));
        tokio::spawn(tell(words, events));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Where the driver puts what one attached sidecar is to hear.
#[derive(Clone, Debug)]
pub struct Words {
    sender: mpsc::Sender<Relayed>,
    waiting: Arc<AtomicUsize>,
}

/// Its other end.
struct Waiting {
    receiver: mpsc::Receiver<Relayed>,
    bytes: Arc<AtomicUsize>,
}

fn words() -> (Words, Waiting) {
    let (sender, receiver) = mpsc::channel(WORDS_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Words { sender, waiting: Arc::clone(&bytes) }, Waiting { receiver, bytes })
}

impl Words {
    /// Adds one; false: too many wait, or nobody takes them any more.
    #[must_use]
    pub fn put(&self, relayed: Relayed) -> bool {
        // A whole state may be larger than that, and goes if there is room for anything.
        if self.waiting.load(Ordering::Relaxed) >= BYTES_MAX {
            return false;
        }
        self.waiting.fetch_add(relayed.weight(), Ordering::Relaxed);
        self.sender.try_send(relayed).is_ok()
    }
}

/// Carries words down. Ends when the driver has no more, or the sidecar is gone.
async fn tell(mut words: Waiting, events: mpsc::Sender<Result<RelayEvent, Status>>) {
    while let Some(relayed) = words.receiver.recv().await {
        for event in wire::events(&relayed) {
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        words.bytes.fetch_sub(relayed.weight(), Ordering::Relaxed);
    }
    let end = Status::unavailable("this relay has no more to say; attach to another, or again");
    let _ = events.send(Err(end)).await; // It may be gone.
}

/// Carries words up, until there are no more.
async fn hear(
    inbox: Inbox,
    (id, name, report): (RelayId, String, Report),
    mut requests: Streaming<RelayRequest>,
    events: mpsc::Sender<Result<RelayEvent, Status>>,
) {
    let mut follows = false;
    loop {
        let message = tokio::select! {
            biased;
            () = events.closed() => break,
            message = requests.message() => message,
        };
        match message.map(|message| message.map(wire::from_request)) {
            Ok(Some(Ok((Said::Began(_), _)))) => {
                refuse(&events, &report, &name, "a second introduction");
                break;
            }
            // Each costs this member a whole state, perhaps.
            Ok(Some(Ok((Said::Follow(_), _)))) if follows => {
                refuse(&events, &report, &name, "it follows already");
                break;
            }
            // Before whatever it says next.
            Ok(Some(Ok((said @ Said::Follow(_), _)))) => {
                follows = true;
                inbox.push(Work::Event(crate::member::Event::Relay(id, said)));
            }
            Ok(Some(Ok((said, _)))) => inbox.relay(id, said),
            Ok(Some(Err(why))) => {
                refuse(&events, &report, &name, &why.to_string());
                break;
            }
            Ok(None) | Err(_) => break,
        }
    }
    // After what it said.
    inbox.client(crate::member::Event::Relay(id, Said::Ended));
}

fn refuse(
    events: &mpsc::Sender<Result<RelayEvent, Status>>,
    report: &Report,
    name: &str,
    why: &str,
) {
    report(format!("a message of {name:?}, attached, was refused and its stream cut: {why}"));
    drop(events.try_send(Err(Status::invalid_argument(format!("a message was refused: {why}")))));
}
