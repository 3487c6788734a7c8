//! The admin ports of sidecars: the operator's only way to a group.
//!
//! Invariants: every call proves that it reaches the pod that it is meant for, by the pod's UID; a
//! call ends within its time, answered or not; connections are kept by pod and dropped when they
//! fail. Only what a sidecar says of itself is taken from it.

use crate::build::{ADMIN_PORT, PEER_PORT};
use crate::certificates::{Issued, is_due};
use crate::observed::{Configuration, Follower, Identity, Member};
use hyper_util::rt::TokioIo;
use quorate_proto::admin::maintenance_client::MaintenanceClient;
use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{
    ElectionLeader, MemberAddress, RecoverRequest, StatusRequest, StatusResponse, Voter,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Connecting and the answer to Status.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// A call that changes something: a membership change waits for learners that catch up.
const ACT_MAX: Duration = Duration::from_secs(15);
/// Guards a call against another pod of that name.
const POD_UID: &str = "quorate-pod-uid";
/// The membership contract's role of a leader.
const LEADER: &str = "leader";

/// Where a sidecar is, and who it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pod's name, for people.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The pod's address.
    pub ip: IpAddr,
    /// The group's label in certificates.
    pub label: String,
}

/// Towards all sidecars. Cheap to clone.
#[derive(Clone)]
pub struct Admins {
    inner: Arc<Inner>,
}

/// Makes the operator's certificate towards the group of a label, with the authority's.
type Issue = dyn Fn(&str) -> Result<(Issued, String), String> + Send + Sync;

struct Inner {
    issue: Box<Issue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the authorities: what was dialled under an earlier one is not kept.
    generation: u64,
    /// By label: the day on which it is made anew, and how to connect until then.
    tls: BTreeMap<String, (String, TlsConnector)>,
    channels: BTreeMap<String, Channel>,
}

impl Admins {
    /// `issue` makes the operator's certificate towards the group of a label, with the authority's.
    #[must_use]
    pub fn new(
        issue: impl Fn(&str) -> Result<(Issued, String), String> + Send + Sync + 'static,
    ) -> Admins {
        let inner = Inner { issue: Box::new(issue), state: Mutex::default() };
        Admins { inner: Arc::new(inner) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connector(&self, label: &str) -> Result<TlsConnector, String> {
        if let Some((renew_on, connector)) = self.lock().tls.get(label)
            && !is_due(renew_on)
        {
            return Ok(connector.clone());
        }
        let (own, authority) = (self.inner.issue)(label)?;
        let connector = connector(&own, &authority).map_err(|error| error.to_string())?;
        self.lock().tls.insert(label.to_owned(), (own.renew_on, connector.clone()));
        Ok(connector)
    }

    /// Forgets all certificates and connections: the authority is another one.
    pub fn renew(&self) {
        let mut state = self.lock();
        *state = State { generation: state.generation + 1, ..State::default() };
    }

    async fn channel(&self, target: &Target) -> Result<Channel, String> {
        if let Some(channel) = self.lock().channels.get(&target.uid) {
            return Ok(channel.clone());
        }
        let generation = self.lock().generation;
        let connector = self.connector(&target.label)?;
        let name = format!("member.{}.quorate", target.label);
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let address = SocketAddr::new(target.ip, ADMIN_PORT);
        let dial = tower::service_fn(move |_| {
            let (connector, name, address) = (connector.clone(), name.clone(), address);
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        // The address is dialled by ourselves; HTTP wants one.
        let endpoint = Endpoint::from_static("http://sidecar.quorate");
        let channel = endpoint.connect_with_connector(dial).await.map_err(|e| words(&e))?;
        let mut state = self.lock();
        if state.generation == generation {
            state.channels.insert(target.uid.clone(), channel.clone());
        }
        Ok(channel)
    }

    /// Forgets a connection: the next call dials anew.
    pub fn forget(&self, target: &Target) {
        self.lock().channels.remove(&target.uid);
    }

    /// What this sidecar says of itself; it is told where the others are.
    ///
    /// # Errors
    /// Why it did not answer, in words.
    pub async fn status(&self, target: &Target, request: StatusRequest) -> Result<Member, String> {
        let ask = async {
            let mut client = MembersClient::new(self.channel(target).await?);
            let answer = client.status(guarded(target, request)?).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        };
        let answer = timeout(LOOK_MAX, ask).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        if answer.is_err() {
            self.forget(target);
        }
        member(answer?).ok_or_else(|| "its answer names no member".to_owned())
    }

    /// One call that changes something.
    ///
    /// # Errors
    /// The refusal in the sidecar's words, or that the outcome is not known.
    pub async fn act<T, A>(
        &self,
        target: &Target,
        request: T,
        call: impl AsyncFnOnce(MembersClient<Channel>, Request<T>) -> Result<A, Status>,
    ) -> Result<A, String> {
        let act = async {
            let client = MembersClient::new(self.channel(target).await?);
            let answer = call(client, guarded(target, request)?).await;
            answer.map_err(|status| format!("{}: {}", target.pod, status.message()))
        };
        self.within(target, act).await
    }

    /// The member goes on alone, as another group.
    ///
    /// # Errors
    /// As of [`Admins::act`].
    pub async fn recover(&self, target: &Target, request: RecoverRequest) -> Result<(), String> {
        let act = async {
            let mut client = MaintenanceClient::new(self.channel(target).await?);
            let answer = client.recover(guarded(target, request)?).await;
            answer.map(drop).map_err(|status| format!("{}: {}", target.pod, status.message()))
        };
        self.within(target, act).await
    }

    async fn within<A>(
        &self,
        target: &Target,
        act: impl Future<Output = Result<A, String>>,
    ) -> Result<A, String> {
        let late = || Err(format!("{}: no answer in {} s", target.pod, ACT_MAX.as_secs()));
        let answer = timeout(ACT_MAX, act).await.unwrap_or_else(|_| late());
        if answer.is_err() {
            self.forget(target);
        }
        answer
    }
}

fn words(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn guarded<T>(target: &Target, message: T) -> Result<Request<T>, String> {
    let mut request = Request::new(message);
    let uid = MetadataValue::try_from(&target.uid).map_err(|error| error.to_string())?;
    request.metadata_mut().insert(POD_UID, uid);
    Ok(request)
}

fn connector(own: &Issued, authority: &str) -> Result<TlsConnector, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(own.cert.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn named(voters: Vec<Voter>) -> BTreeMap<Identity, String> {
    let voter = |voter: Voter| Some((Identity::from_bytes(&voter.member_id)?, voter.name));
    voters.into_iter().filter_map(voter).collect()
}

/// `None`: the answer is not one of a sidecar.
fn member(answer: StatusResponse) -> Option<Member> {
    let follower = |of: &quorate_proto::admin::Follower| {
        let seen =
            Follower { matched: of.matched, silent_ms: of.silent_ms, quarantined: of.quarantined };
        Some((Identity::from_bytes(&of.member_id)?, seen))
    };
    let holder = |of: ElectionLeader| Some((of.election, Identity::from_bytes(&of.member_id)?));
    Some(Member {
        id: Identity::from_bytes(&answer.member_id)?,
        cluster: Identity::from_bytes(&answer.cluster_id),
        unfit: answer.unfit,
        retired: answer.retired,
        draining: answer.draining,
        caught_up: answer.caught_up,
        leads: answer.role == LEADER,
        leader: Identity::from_bytes(&answer.leader_id),
        term: answer.term,
        last: answer.last,
        last_term: answer.last_term,
        last_token: answer.last_token,
        commit: answer.commit,
        followers: answer.followers.iter().filter_map(follower).collect(),
        version: answer.version,
        holders: answer.leaders.into_iter().filter_map(holder).collect(),
        configuration: Configuration {
            index: answer.configuration_index,
            voters: named(answer.voters),
            outgoing: named(answer.outgoing),
            learners: named(answer.learners),
        },
    })
}

/// As the contract takes the place of a member.
#[must_use]
pub fn address(member: Identity, target: &Target) -> MemberAddress {
    let address = SocketAddr::new(target.ip, PEER_PORT).to_string();
    MemberAddress { member_id: member.to_bytes(), address }
}

/// As the contract takes members.
#[must_use]
pub fn voters(of: &BTreeMap<Identity, String>) -> Vec<Voter> {
    let voter =
        |(id, name): (&Identity, &String)| Voter { member_id: id.to_bytes(), name: name.clone() };
    of.iter().map(voter).collect()
}
