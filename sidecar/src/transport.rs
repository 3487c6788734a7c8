//! One TCP connection of the peer or admin port, plain or TLS, accepted or dialled.
//!
//! Handshakes run beside each other, at most [`HANDSHAKES_MAX`] at once and each within
//! [`HANDSHAKE_DEADLINE`]; open connections are bounded too. What waits beyond that waits in the
//! kernel's backlog. Small messages leave at once (no Nagle), and a connection whose data stays
//! unacknowledged for [`UNACKNOWLEDGED_MAX`] breaks, which costs nothing while idle.

use crate::tls::{Report, Tls};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use std::error::Error as _;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

/// Handshakes at once, per listener.
pub const HANDSHAKES_MAX: usize = 64;
/// A handshake that takes longer is cut.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Data that a peer's machine does not acknowledge for so long breaks the connection. In ms, as the
/// kernel wants it.
pub const UNACKNOWLEDGED_MAX_MS: u32 = 3_000;
/// How long dialling and the handshake after it may take together, if nothing else is tried after
/// it.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(2);
/// Names that are looked up at once.
const RESOLVES_MAX: usize = 4;
static RESOLVING: Semaphore = Semaphore::const_new(RESOLVES_MAX);
/// After a failed accept (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of an accepted connection: an extension of each of its requests.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Its certificate, verified against the CA; none on a plain connection.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
}

/// The bytes of one connection.
#[derive(Debug)]
pub struct Wire {
    bytes: Bytes,
    info: PeerInfo,
    _open: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Bytes {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MAX_MS)?;
    Ok(())
}

/// The connections of a listener, each past its handshake, for `serve_with_incoming`: at most
/// `most` at once. Must be called within a runtime. Refused connections are told to `report`.
#[must_use]
pub fn incoming(
    (listener, most): (TcpListener, usize),
    tls: Option<Tls>,
    report: Report,
) -> ReceiverStream<io::Result<Wire>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES_MAX);
    tokio::spawn(accept((listener, most), tls, report, sender));
    ReceiverStream::new(receiver)
}

async fn accept(
    (listener, most): (TcpListener, usize),
    tls: Option<Tls>,
    report: Report,
    sender: mpsc::Sender<io::Result<Wire>>,
) {
    let open = Arc::new(Semaphore::new(most));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let permit = |of: &Arc<Semaphore>| Arc::clone(of).acquire_owned();
    loop {
        let (Ok(open), Ok(pending)) = (permit(&open).await, permit(&handshakes).await) else {
            return;
        };
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                report(format!("a connection could not be accepted: {why}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, report, sender) = (tls.clone(), Arc::clone(&report), sender.clone());
        tokio::spawn(async move {
            match accepted_wire(stream, address, tls, open).await {
                // A listener that is closing takes no more.
                Ok(wire) => drop(sender.send(Ok(wire)).await),
                Err(why) => report(format!("a connection from {address} was refused: {why}")),
            }
            drop(pending);
        });
    }
}

async fn accepted_wire(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Tls>,
    open: OwnedSemaphorePermit,
) -> io::Result<Wire> {
    tune(&stream)?;
    let mut info = PeerInfo { address, certificate: None };
    let bytes = match tls {
        None => Bytes::Plain(stream),
        Some(tls) => {
            let handshake = tls.acceptor().accept(stream);
            let stream = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake)
                .await
                .map_err(|_| late("the TLS handshake", HANDSHAKE_DEADLINE))??;
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            info.certificate = certificate.map(|der| Arc::new(der.clone().into_owned()));
            Bytes::Tls(Box::new(TlsStream::Server(stream)))
        }
    };
    Ok(Wire { bytes, info, _open: Some(open) })
}

fn late(what: &str, limit: Duration) -> io::Error {
    let why = format!("{what} took longer than {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Whom to expect at the other end: with TLS, it has to prove that it is this member.
pub type Expected<'a> = (Option<&'a Tls>, &'a str);

/// Dials `address` (`HOST:PORT`; a name is looked up anew) within `limit`, handshake included.
///
/// # Errors
/// Nobody listens, the handshake fails, or it takes longer than `limit`.
pub async fn dial(address: &str, limit: Duration, expected: Expected<'_>) -> io::Result<Wire> {
    tokio::time::timeout(limit, dialled(address, expected))
        .await
        .unwrap_or_else(|_| Err(late("connecting", limit)))
}

/// The addresses of `HOST:PORT`. A DNS that does not answer holds threads for longer than anybody
/// waits: they are counted, so that some are left for other work.
pub(crate) async fn resolved(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let permit = RESOLVING.acquire().await.map_err(io::Error::other)?;
    let address = address.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        address.to_socket_addrs().map(Iterator::collect)
    });
    found.await.map_err(io::Error::other)?
}

async fn dialled(address: &str, (tls, member): Expected<'_>) -> io::Result<Wire> {
    let addresses = resolved(address).await?;
    let stream = TcpStream::connect(&addresses[..]).await?;
    tune(&stream)?;
    let info = PeerInfo { address: stream.peer_addr()?, certificate: None };
    let bytes = match tls {
        None => Bytes::Plain(stream),
        Some(tls) => {
            let name = tls.server_name(member).ok_or_else(|| {
                let why = format!("{member:?} cannot be part of a certificate's name");
                io::Error::new(io::ErrorKind::InvalidInput, why)
            })?;
            let stream = tls.connector().connect(name, stream).await?;
            Bytes::Tls(Box::new(TlsStream::Client(stream)))
        }
    };
    Ok(Wire { bytes, info, _open: None })
}

/// Dials like [`dial`], for a gRPC client. One connection: when it breaks, so does the channel.
///
/// # Errors
/// As [`dial`].
pub async fn channel(
    address: &str,
    limit: Duration,
    expected: Expected<'_>,
) -> Result<Channel, ChannelError> {
    let wire = dial(address, limit, expected).await.map_err(ChannelError::Dial)?;
    let mut wire = Some(TokioIo::new(wire));
    let connector = tower::service_fn(move |_| {
        let again = || io::Error::new(io::ErrorKind::NotConnected, "the connection broke");
        std::future::ready(wire.take().ok_or_else(again))
    });
    Endpoint::from_static("http://member")
        .connect_with_connector(connector)
        .await
        .map_err(ChannelError::Http)
}

/// Why a channel was not made.
#[derive(Debug)]
pub enum ChannelError {
    /// No connection.
    Dial(io::Error),
    /// A connection, and nobody there who speaks HTTP/2.
    Http(tonic::transport::Error),
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChannelError::Dial(why) => write!(f, "{why}"),
            // Its own words are but "transport error"; what is behind it says more.
            ChannelError::Http(why) => match why.source() {
                Some(behind) => write!(f, "no HTTP/2 there: {behind}"),
                None => write!(f, "no HTTP/2 there: {why}"),
            },
        }
    }
}

impl std::error::Error for ChannelError {}

impl Connected for Wire {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Bytes::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Bytes::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Bytes::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Plain(stream) => stream.is_write_vectored(),
            Bytes::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_flush(context),
            Bytes::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Bytes::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
