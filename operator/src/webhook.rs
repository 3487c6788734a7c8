//! The webhook by which the API server has the sidecar added to pods with the label
//! `quorate.dev/attach`.
//!
//! Its certificate is made when it is needed, by the operator's authority, and anew when that is
//! another one, or at half its life; whoever holds the Lease writes the authority into the
//! configuration of the webhook, where the API server finds it. Each replica serves, whether it
//! has the Lease or waits.
//!
//! Invariants: what is answered is [`crate::inject::pod`]'s, and nothing is read or written for it;
//! the configuration is written only where it is not as wanted.

use crate::authority::Current;
use crate::certificates::{Issued, is_due};
use crate::inject;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::Listener;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Bytes of a question, at most: a pod, old and new, has three at the most.
const QUESTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Connections between their accept and the end of their handshake.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// After a failed accept (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Connection = (TlsStream<TcpStream>, SocketAddr);

/// The webhook's own certificate, made anew in time.
struct Certificate {
    authority: Current,
    /// Of who signed it.
    mark: String,
    /// The names and addresses at which the API server calls.
    hosts: Vec<String>,
    renew_on: String,
    config: Arc<ServerConfig>,
}

impl Certificate {
    fn new(authority: Current, hosts: Vec<String>) -> Result<Certificate, String> {
        let by = authority.get();
        let mark = by.mark();
        let issued = by.signer.issue_for(&hosts).map_err(|why| why.to_string())?;
        let config = server(&issued)?;
        Ok(Certificate { authority, mark, hosts, renew_on: issued.renew_on, config })
    }

    /// The present one.
    fn acceptor(&mut self) -> Result<TlsAcceptor, String> {
        if is_due(&self.renew_on) || self.mark != self.authority.get().mark() {
            *self = Certificate::new(self.authority.clone(), self.hosts.clone())?;
        }
        Ok(TlsAcceptor::from(Arc::clone(&self.config)))
    }
}

fn server(issued: &Issued) -> Result<Arc<ServerConfig>, String> {
    let words = |why: &dyn std::fmt::Display| why.to_string();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).map_err(|why| words(&why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // What the API server may do is whatever its build allows, 1.2 and 1.3.
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| words(&why))?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|why| words(&why))?, key)
        .map_err(|why| words(&why))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connections past their handshake.
struct Secured {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connection {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The accepting task lives as long as the process.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    mut certificate: Certificate,
    sender: mpsc::Sender<Connection>,
    say: fn(String),
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await {
        // The certificate is that of the moment in which somebody came, however long that took.
        let accepted = listener.accept().await;
        let (Ok((stream, address)), Ok(acceptor)) = (accepted, certificate.acceptor()) else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                // A server that stopped takes no more.
                Ok(Ok(stream)) => drop(sender.send((stream, address)).await),
                Ok(Err(why)) => say(format!("webhook: a connection from {address}: {why}")),
                Err(_) => {}
            }
            drop(permit);
        });
    }
}

/// Serves until the process ends. `hosts`: the names and addresses at which the API server calls;
/// `image`: the sidecar's.
///
/// # Errors
/// The cryptography's, in words.
pub async fn serve(
    listener: TcpListener,
    authority: Current,
    hosts: Vec<String>,
    image: String,
    say: fn(String),
) -> Result<(), String> {
    let certificate = Certificate::new(authority, hosts)?;
    let address = listener.local_addr().map_err(|why| why.to_string())?;
    let (sender, connections) = mpsc::channel(HANDSHAKES_MAX);
    tokio::spawn(accept(listener, certificate, sender, say));
    let router = Router::new()
        .route("/inject", post(answer))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
        .with_state(Arc::<str>::from(image));
    axum::serve(Secured { connections, address }, router).await.map_err(|why| why.to_string())
}

async fn answer(State(image): State<Arc<str>>, question: Bytes) -> Response {
    match review(&question, &image) {
        Ok(answer) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, answer.to_string()).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// Answers an AdmissionReview about a pod that is about to be made.
///
/// # Errors
/// It is no AdmissionReview.
pub fn review(question: &[u8], image: &str) -> Result<Value, String> {
    let question: Value =
        serde_json::from_slice(question).map_err(|why| format!("no JSON: {why}"))?;
    let request = &question["request"];
    let uid = request["uid"].as_str().ok_or("no AdmissionReview: request.uid is missing")?;
    let mut pod = request["object"].clone();
    if question["apiVersion"] != "admission.k8s.io/v1" || request["kind"]["kind"] != "Pod" {
        return Err("this webhook answers admission.k8s.io/v1 about pods alone".to_owned());
    }
    let mut response = json!({ "uid": uid, "allowed": true });
    match inject::pod(&mut pod, "", image) {
        Ok(false) => {}
        Ok(true) => {
            let patch = json!([
                { "op": "add", "path": "/metadata/annotations",
                  "value": pod["metadata"]["annotations"] },
                { "op": "replace", "path": "/spec", "value": pod["spec"] },
            ]);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(ByteString(patch.to_string().into_bytes()));
        }
        Err(why) => {
            response["allowed"] = json!(false);
            response["status"] = json!({ "code": 422, "reason": "Invalid", "message": why });
        }
    }
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    }))
}

/// Has the API server trust these certificates, PEM, in the configuration of this name.
///
/// # Errors
/// There is none, or the API server's, in words.
pub async fn trust(client: &Client, name: &str, authority: &str) -> Result<(), String> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let words = |why: kube::Error| {
        format!("the webhook is not trusted: MutatingWebhookConfiguration {name}: {why}")
    };
    let mut found = configurations.get(name).await.map_err(words)?;
    let wanted = ByteString(authority.as_bytes().to_vec());
    let mut same = true;
    for webhook in found.webhooks.iter_mut().flatten() {
        same &= webhook.client_config.ca_bundle.as_ref() == Some(&wanted);
        webhook.client_config.ca_bundle = Some(wanted.clone());
    }
    if same {
        return Ok(());
    }
    // As it was read: lists are replaced as a whole.
    let patch = json!({
        "metadata": { "resourceVersion": found.metadata.resource_version },
        "webhooks": found.webhooks,
    });
    let field_manager = Some("quorate-operator".into());
    let params = PatchParams { field_manager, ..PatchParams::default() };
    configurations.patch(name, &params, &Patch::Merge(&patch)).await.map_err(words)?;
    Ok(())
}
