//! The accepting side: who may talk to this member, and what they say.
//!
//! The first frame must be a hello of this cluster, meant for this member, from a certificate that
//! speaks for the sender's name, and from a disk that did not go back. Of one peer only the newest
//! stream is heard. A refusal is a status with its sentence, and one line of the log.

use super::convert::{self, Greeting, Received};
use super::known::Refusal;
use super::{HELLO_DEADLINE, Shared};
use crate::transport::PeerInfo;
use quorate_proto::peer::Frame;
use quorate_proto::peer::peer_server::Peer;
use quorate_raft::MemberId;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// The service of the peer port.
#[derive(Clone)]
pub struct PeerService {
    shared: Arc<Shared>,
}

/// An inbound stream that may be heard: its number, and the sign that a newer one replaced it.
pub(super) struct Admitted {
    from: MemberId,
    number: u64,
    replaced: oneshot::Receiver<()>,
}

/// How an inbound stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer, or its machine, broke it.
    Broken,
    /// The peer said goodbye first.
    Goodbye,
    /// We cut it.
    Cut,
}

impl PeerService {
    pub(super) fn new(shared: Arc<Shared>) -> PeerService {
        PeerService { shared }
    }

    async fn admit(
        &self,
        info: Option<&PeerInfo>,
        frames: &mut Streaming<Frame>,
    ) -> Result<Admitted, Status> {
        let first = tokio::time::timeout(HELLO_DEADLINE, frames.message()).await;
        let first = first.map_err(|_| {
            let limit = HELLO_DEADLINE.as_secs();
            Status::deadline_exceeded(format!("no hello within {limit} s"))
        })??;
        let first = first.ok_or_else(|| Status::invalid_argument("the stream has no hello"))?;
        let greeting = match convert::from_frame(first) {
            Ok(Received::Hello(greeting)) => greeting,
            Ok(_) => return Err(Status::invalid_argument("the first frame is not a hello")),
            Err(why) => return Err(Status::invalid_argument(format!("the hello: {why}"))),
        };
        self.check_name(info, &greeting)?;
        self.check_target(&greeting)?;
        self.check_cluster(&greeting)?;
        let Greeting { from, boot, boots, .. } = &greeting;
        let refused =
            |why: Refusal| Status::failed_precondition(format!("this member refuses it: {why}"));
        self.shared.meet(*from, *boot, boots).map_err(refused)?;
        self.learn_cluster(&greeting).await?;
        // Whoever was refused before is shown nothing.
        self.shared.boot_shown().await.map_err(Status::unavailable)?;
        let (number, replaced) = self.shared.inbound_began(&greeting).map_err(refused)?;
        Ok(Admitted { from: *from, number, replaced })
    }

    fn check_name(&self, info: Option<&PeerInfo>, greeting: &Greeting) -> Result<(), Status> {
        let Some(tls) = &self.shared.tls else { return Ok(()) };
        let certificate = info.and_then(|info| info.certificate.as_ref());
        if certificate.is_some_and(|certificate| tls.speaks_for(certificate, &greeting.name)) {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "hello.name is {:?}, and the certificate does not carry the name {:?}",
            greeting.name,
            tls.name_of(&greeting.name)
        )))
    }

    fn check_target(&self, greeting: &Greeting) -> Result<(), Status> {
        let own = self.shared.own.id;
        if greeting.to.is_some_and(|to| to != own) {
            return Err(Status::failed_precondition(format!(
                "hello.to is another member; this one is {own}, called {:?}: \
                 its data directory is not the one that was meant",
                self.shared.own.name
            )));
        }
        if greeting.from == own {
            return Err(Status::failed_precondition(format!(
                "hello.from is {own}, this member itself: two processes have copies of one disk, \
                 or --peer gives this member's own address to another name"
            )));
        }
        Ok(())
    }

    fn check_cluster(&self, greeting: &Greeting) -> Result<(), Status> {
        match (self.shared.cluster(), greeting.cluster) {
            (_, None) => Err(Status::failed_precondition(
                "hello.cluster_id is empty: a member without a cluster has nothing to say",
            )),
            (Some(own), Some(other)) if own != other => Err(Status::failed_precondition(format!(
                "hello.cluster_id is {other:032x}, and this member belongs to {own:032x}"
            ))),
            (None, Some(_)) if greeting.to.is_none() => Err(Status::failed_precondition(
                "hello.to is empty, and this member joins only a cluster that names it",
            )),
            _ => Ok(()),
        }
    }

    /// A blank member belongs to the first cluster that calls it by its id, durably, before it
    /// answers.
    async fn learn_cluster(&self, greeting: &Greeting) -> Result<(), Status> {
        let (None, Some(cluster)) = (self.shared.cluster(), greeting.cluster) else {
            return Ok(());
        };
        let sink = Arc::clone(&self.shared.sink);
        // The sink waits for the disk.
        let learned = tokio::task::spawn_blocking(move || sink.cluster_learned(cluster)).await;
        if !learned.unwrap_or(false) {
            return Err(Status::unavailable("the cluster id could not be stored"));
        }
        self.shared.set_cluster(cluster);
        self.check_cluster(greeting)
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type StreamStream = ReceiverStream<Result<Frame, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let info = request.extensions().get::<PeerInfo>().cloned();
        let mut frames = request.into_inner();
        let admitted = self.admit(info.as_ref(), &mut frames).await.inspect_err(|status| {
            self.shared.metrics.peer_refused.add_one();
            let from = info.map(|info| info.address.to_string()).unwrap_or_default();
            self.shared.report(format!("a peer from {from} was refused: {}", status.message()));
        })?;
        let (sender, receiver) = mpsc::channel(2);
        let hello = convert::hello(&self.shared.greeting(Some(admitted.from)));
        sender.try_send(Ok(hello)).expect("the channel is new and holds two");
        tokio::spawn(listen(Arc::clone(&self.shared), frames, admitted, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Hears a peer until its stream ends.
async fn listen(
    shared: Arc<Shared>,
    mut frames: Streaming<Frame>,
    admitted: Admitted,
    sender: mpsc::Sender<Result<Frame, Status>>,
) {
    let Admitted { from, number, mut replaced } = admitted;
    let end = loop {
        let frame = tokio::select! {
            biased;
            _ = &mut replaced => {
                let status = Status::aborted("a newer stream of this member took its place");
                // It may be gone already.
                drop(sender.try_send(Err(status)));
                break End::Cut;
            }
            frame = frames.message() => frame,
        };
        match frame.map(|frame| frame.map(convert::from_frame)) {
            Ok(Some(Ok(Received::Message(message)))) => {
                shared.metrics.peer_received.add_one();
                shared.sink.received(from, message);
            }
            Ok(Some(Ok(Received::Goodbye))) => break End::Goodbye,
            Ok(Some(Ok(Received::Hello(_)))) => {
                break refuse(&shared, &sender, from, "a second hello on one stream");
            }
            Ok(Some(Err(why))) => break refuse(&shared, &sender, from, &why.to_string()),
            Ok(None) => break End::Broken,
            // A frame over the limit is the one error that is not the connection's.
            Err(status) if status.code() == Code::OutOfRange => {
                break refuse(&shared, &sender, from, status.message());
            }
            Err(_) => break End::Broken,
        }
    };
    let was_current = shared.inbound_ended(from, number);
    if was_current && end == End::Broken {
        shared.metrics.peer_lost.add_one();
        shared.sink.lost(from);
    }
}

fn refuse(
    shared: &Shared,
    sender: &mpsc::Sender<Result<Frame, Status>>,
    from: MemberId,
    why: &str,
) -> End {
    shared.metrics.peer_refused.add_one();
    shared.report(format!("a frame of {from} was refused and its stream cut: {why}"));
    drop(sender.try_send(Err(Status::invalid_argument(format!("a frame was refused: {why}")))));
    End::Cut
}
