//! Where the outer parts hand over: peers and clients' connections, into the driver's inbox. And
//! who may use the admin port.

use crate::agent::ConnectionId;
use crate::driver::{Inbox, Work};
use crate::frame::PeerMessage;
use crate::local_socket::ConnectionSink;
use crate::member::Event;
use crate::peer::PeerSink;
use crate::replica::Event as ReplicaEvent;
use crate::tls::{Report, Tls};
use crate::transport::PeerInfo;
use quorate_raft::MemberId;
use std::sync::mpsc;
use std::time::Duration;
use tonic::{Request, Status};

/// A blank member's disk takes this long, at most, to remember its cluster.
const LEARN_MAX: Duration = Duration::from_secs(10);

/// What peers say goes to the driver.
pub struct Sink {
    inbox: Inbox,
    report: Report,
}

impl Sink {
    pub fn new(inbox: Inbox, report: Report) -> Sink {
        Sink { inbox, report }
    }
}

impl PeerSink for Sink {
    fn received(&self, from: MemberId, message: PeerMessage) {
        // Dropped when too many wait: every message is sent again by its sender.
        let _ = self.inbox.peer(from, message);
    }

    fn lost(&self, peer: MemberId) {
        self.inbox.after_messages(ReplicaEvent::PeerLost(peer));
    }

    fn restarted(&self, peer: MemberId) {
        self.inbox.after_messages(ReplicaEvent::PeerRestarted(peer));
    }

    fn cluster_learned(&self, cluster: u128) -> bool {
        let (sender, receiver) = mpsc::channel();
        self.inbox.push(Work::LearnCluster(cluster, sender));
        receiver.recv_timeout(LEARN_MAX).unwrap_or(false)
    }

    fn reported(&self, line: String) {
        (self.report)(line);
    }
}

/// How clients' connections end goes to the driver.
pub struct ClientSink {
    inbox: Inbox,
}

impl ClientSink {
    pub fn new(inbox: Inbox) -> ClientSink {
        ClientSink { inbox }
    }
}

impl ConnectionSink for ClientSink {
    fn ended(&self, connection: ConnectionId, by_peer: bool) {
        self.inbox.client(Event::ConnectionEnded { connection, by_peer });
    }

    fn process_dead(&self, connection: ConnectionId) {
        self.inbox.client(Event::ProcessDead(connection));
    }
}

/// The metadata in which a caller of the admin port says which pod it means.
pub const POD_UID: &str = "quorate-pod-uid";

/// Refuses a call that means another pod than this one, whose UID is `own`; empty: nobody said.
fn means_this_pod(request: &Request<()>, own: &str) -> Result<(), Status> {
    let Some(meant) = request.metadata().get(POD_UID) else { return Ok(()) };
    if !own.is_empty() && meant.as_bytes() == own.as_bytes() {
        return Ok(());
    }
    let own = match own {
        "" => "was not told its pod's".to_owned(),
        own => format!("runs in {own}"),
    };
    Err(Status::failed_precondition(format!(
        "{POD_UID} is {meant:?}, and this member {own}: the call reached another pod than was \
         meant; nothing was done"
    )))
}

/// Who may use the admin port: with certificates, an operator, an administrator or a member by its
/// own name; without, whoever reaches loopback. And only if this is the pod that is meant.
pub fn admin_guard(
    tls: Option<Tls>,
    members: Vec<String>,
    pod_uid: String,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| {
        if let Some(tls) = &tls {
            let info = request.extensions().get::<PeerInfo>();
            let certificate = info.and_then(|info| info.certificate.clone());
            let mut members = members.iter().map(String::as_str);
            if !certificate.is_some_and(|it| tls.may_administer(&it, &mut members)) {
                return Err(Status::permission_denied(
                    "the certificate is no operator's, administrator's or single member's of this \
                     cluster",
                ));
            }
        }
        means_this_pod(&request, &pod_uid)?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_for_another_pod_is_refused_and_names_both() {
        let ask = |own: &str, meant: Option<&'static str>| {
            let mut request = Request::new(());
            if let Some(meant) = meant {
                request.metadata_mut().insert(POD_UID, meant.parse().unwrap());
            }
            admin_guard(None, Vec::new(), own.to_owned())(request).map(|_| ())
        };
        assert!(ask("a1", Some("a1")).is_ok());
        assert!(ask("a1", None).is_ok() && ask("", None).is_ok());
        for (own, meant) in [("a1", "b2"), ("", "b2"), ("a1", ""), ("", "")] {
            let refused = ask(own, Some(meant)).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
            let message = refused.message();
            assert!(message.contains(own) && message.contains(meant), "{message}");
        }
    }
}
