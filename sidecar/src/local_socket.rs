//! The listeners of the local API: a Unix socket and, by choice, loopback TCP. Each connection says
//! who is behind it and how it ended.
//!
//! The end of a connection is evidence only if the PEER caused it on the Unix socket: an
//! end-of-file, or a broken pipe, that came before this side closed anything.
//! Whatever this side cut, and all of TCP, is no evidence. The process behind a Unix connection is
//! held by a pidfd from the moment of accepting, so that "it is dead" can never mean another
//! process with its number.
//!
//! Open connections are bounded a listener, and further ones wait in the kernel's backlog. Bounded
//! is also how many processes are watched past the end of their connection: of one that is not,
//! nobody says that it is dead, and the TTL of its session decides.

use crate::agent::ConnectionId;
use crate::descriptors::Shares;
use crate::process::Process;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// The longest path of a Unix socket, in bytes: the kernel's 108 less the final zero.
pub const PATH_BYTES_MAX: usize = 107;
/// How long the process behind an ended connection is watched: longer than any session lives by
/// itself.
const WATCH_MAX: Duration = Duration::from_secs(11 * 60);
/// After a failed accept (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whoever hears how connections end. Called on the thread of the sockets: must not block.
pub trait ConnectionSink: Send + Sync + 'static {
    /// A connection ended; told once for each. `by_peer`: on the Unix socket, and not by this
    /// side's doing.
    fn ended(&self, connection: ConnectionId, by_peer: bool);
    /// The process that made a connection is dead. Told after `ended` of a connection that ended
    /// `by_peer`, at most once, and never if it is not known for certain.
    fn process_dead(&self, connection: ConnectionId);
}

/// How a connection ended, as far as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// The peer closed it, or its process died.
    ByPeer,
    /// This side closed it; or nobody can say.
    ByUs,
}

const OPEN: u8 = 0;
const BY_PEER: u8 = 1;
const BY_US: u8 = 2;

/// What is known of one connection, for as long as anybody asks.
#[derive(Debug)]
pub struct ConnectionState {
    /// The first sign of an end decides who caused it.
    cause: AtomicU8,
    over: watch::Sender<bool>,
}

impl ConnectionState {
    fn new() -> ConnectionState {
        ConnectionState { cause: AtomicU8::new(OPEN), over: watch::Sender::new(false) }
    }

    /// Who ended it, if it is ending.
    #[must_use]
    pub fn end(&self) -> End {
        match self.cause.load(Ordering::Acquire) {
            OPEN => End::Open,
            BY_PEER => End::ByPeer,
            _ => End::ByUs,
        }
    }

    /// Waits until the connection is over, and says who caused it.
    pub async fn closed(&self) -> End {
        // The sender lives as long as `self`.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
        self.end()
    }

    fn caused(&self, by: u8) {
        // Only the first counts.
        let _ = self.cause.compare_exchange(OPEN, by, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Who is behind a connection: an extension of each of its requests.
#[derive(Clone)]
pub struct ConnectionInfo {
    id: ConnectionId,
    /// The process that connected; none over TCP, or if it lives in a process namespace that is not
    /// seen from here.
    pub pid: Option<i32>,
    /// Its user; none over TCP.
    pub uid: Option<u32>,
    /// The process itself.
    pub process: Option<Process>,
    /// How the connection is.
    pub state: Arc<ConnectionState>,
}

impl ConnectionInfo {
    /// The connection's number: from 1, never used again while this process lives.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} of process {:?}", self.id.0, self.pid)
    }
}

/// Gives connections their numbers and tells how they end. One for all listeners of a process.
#[derive(Clone)]
pub struct Connections {
    inner: Arc<Inner>,
}

struct Inner {
    next: AtomicU64,
    draining: AtomicBool,
    /// Open connections a listener.
    most: usize,
    /// Of processes whose connection is over.
    watched: Arc<Semaphore>,
    sink: Arc<dyn ConnectionSink>,
}

/// The bytes of one connection.
pub struct LocalStream {
    bytes: Bytes,
    info: ConnectionInfo,
    /// Known to be dead when it was accepted.
    stillborn: bool,
    inner: Arc<Inner>,
    _open: OwnedSemaphorePermit,
}

enum Bytes {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A bound Unix socket. Dropping it removes the path first, while nobody else could have taken it.
#[derive(Debug)]
pub struct LocalListener {
    path: SocketPath,
    listener: UnixListener,
}

#[derive(Debug)]
struct SocketPath {
    path: PathBuf,
    inode: u64,
}

impl LocalListener {
    /// Where it is bound.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path.path
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Somebody may have put another file there by hand.
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            // Left over, it is found stale at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn error(kind: io::ErrorKind, path: &Path, why: &str) -> io::Error {
    io::Error::new(kind, format!("socket {}: {why}", path.display()))
}

/// Binds a Unix socket at `path` with these permissions (0666, say); must be called within a
/// runtime. Makes the parent directory (0755) if there is none, and takes the place of a socket
/// that nobody serves.
///
/// # Errors
/// The path is longer than [`PATH_BYTES_MAX`], something that is no socket is there, another
/// process serves it, or what the system says.
pub fn bind(path: &Path, mode: u32) -> io::Result<LocalListener> {
    let bytes = path.as_os_str().len();
    if bytes > PATH_BYTES_MAX {
        let why = format!("the path has {bytes} bytes, {PATH_BYTES_MAX} is the most; shorten it");
        return Err(error(io::ErrorKind::InvalidInput, path, &why));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(|e| error(e.kind(), path, &format!("its directory cannot be made: {e}")))?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(|e| error(e.kind(), path, &e.to_string()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok(LocalListener { path: SocketPath { path: path.to_owned(), inode }, listener })
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(error(e.kind(), path, &e.to_string())),
    };
    if !meta.file_type().is_socket() {
        let why = "something that is no socket is there; it was left alone";
        return Err(error(io::ErrorKind::AlreadyExists, path, why));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(error(io::ErrorKind::AddrInUse, path, "another process serves it"));
    }
    fs::remove_file(path).map_err(|e| error(e.kind(), path, &e.to_string()))
}

impl Connections {
    /// Tells `sink` how connections end. Takes no more descriptors than its shares.
    #[must_use]
    pub fn new(shares: Shares, sink: Arc<dyn ConnectionSink>) -> Connections {
        Connections {
            inner: Arc::new(Inner {
                next: AtomicU64::new(1),
                draining: AtomicBool::new(false),
                most: shares.clients,
                watched: Arc::new(Semaphore::new(shares.watched)),
                sink,
            }),
        }
    }

    /// This side is stopping: clients that leave now do so because they were told to, and no end is
    /// evidence any more.
    pub fn draining(&self) {
        self.inner.draining.store(true, Ordering::Release);
    }

    /// The connections of a Unix socket, for `serve_with_incoming`. Must be called within a
    /// runtime.
    #[must_use]
    pub fn unix(&self, listener: LocalListener) -> ReceiverStream<io::Result<LocalStream>> {
        self.accept(move || {
            let listener = Arc::new(listener);
            move || {
                let listener = Arc::clone(&listener);
                async move {
                    let (stream, _) = listener.listener.accept().await?;
                    Ok(Bytes::Unix(stream))
                }
            }
        })
    }

    /// The connections of a TCP listener, which the caller has bound to loopback. Must be called
    /// within a runtime.
    #[must_use]
    pub fn tcp(&self, listener: TcpListener) -> ReceiverStream<io::Result<LocalStream>> {
        self.accept(move || {
            let listener = Arc::new(listener);
            move || {
                let listener = Arc::clone(&listener);
                async move {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    Ok(Bytes::Tcp(stream))
                }
            }
        })
    }

    fn accept<A, F>(&self, make: impl FnOnce() -> A) -> ReceiverStream<io::Result<LocalStream>>
    where
        A: Fn() -> F + Send + 'static,
        F: Future<Output = io::Result<Bytes>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(1);
        let (accept, inner) = (make(), Arc::clone(&self.inner));
        tokio::spawn(async move {
            let open = Arc::new(Semaphore::new(inner.most));
            while let Ok(permit) = Arc::clone(&open).acquire_owned().await {
                let accepted = tokio::select! {
                    () = sender.closed() => return,
                    accepted = accept() => accepted,
                };
                match accepted {
                    Ok(bytes) => {
                        let stream = LocalStream::new(bytes, Arc::clone(&inner), permit);
                        // A server that stopped takes no more: the stream ends by our doing.
                        drop(sender.send(Ok(stream)).await);
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

impl LocalStream {
    fn new(bytes: Bytes, inner: Arc<Inner>, open: OwnedSemaphorePermit) -> LocalStream {
        let mut info = ConnectionInfo {
            id: ConnectionId(inner.next.fetch_add(1, Ordering::Relaxed)),
            pid: None,
            uid: None,
            process: None,
            state: Arc::new(ConnectionState::new()),
        };
        let mut stillborn = false;
        if let Bytes::Unix(stream) = &bytes
            && let Ok(credentials) = stream.peer_cred()
        {
            info.uid = Some(credentials.uid());
            // 0: of a process namespace that is not seen from here.
            info.pid = credentials.pid().filter(|pid| *pid > 0);
            // Where the system does not tell, by the number. Had that gone to another process
            // meanwhile, we would hold that one, and not call this one dead before it: the safe
            // side.
            let peer = Process::of_peer(stream).or_else(|why| match info.pid {
                Some(pid) => Process::open(pid),
                None => Err(why),
            });
            // None: gone already.
            if let Ok(process) = peer {
                stillborn = process.is_none();
                info.process = process;
            }
        }
        LocalStream { bytes, info, stillborn, inner, _open: open }
    }

    fn is_unix(&self) -> bool {
        matches!(self.bytes, Bytes::Unix(_))
    }

    /// The peer's end shows in what a read or a write gives.
    fn peer_ended(&self) {
        self.info.state.caused(if self.is_unix() { BY_PEER } else { BY_US });
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(why)) = result {
            match why.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.peer_ended(),
                _ => self.info.state.caused(BY_US),
            }
        }
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        let ConnectionInfo { id, state, process, .. } = &self.info;
        // Nothing came from the peer: whoever drops this ended it.
        state.caused(BY_US);
        let draining = self.inner.draining.load(Ordering::Acquire);
        let by_peer = state.end() == End::ByPeer && !draining;
        let sink = &self.inner.sink;
        sink.ended(*id, by_peer);
        if by_peer && self.stillborn {
            sink.process_dead(*id);
        } else if by_peer
            && let Some(process) = process
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Ok(watched) = Arc::clone(&self.inner.watched).try_acquire_owned()
        {
            // A process closes its descriptors a moment before it is dead.
            let (id, process, inner) = (*id, process.clone(), Arc::clone(&self.inner));
            runtime.spawn(async move {
                if matches!(tokio::time::timeout(WATCH_MAX, process.dead()).await, Ok(Ok(()))) {
                    inner.sink.process_dead(id);
                }
                drop((process, watched));
            });
        }
        state.over.send_replace(true);
    }
}

impl Connected for LocalStream {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = match &mut self.bytes {
            Bytes::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Bytes::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        let nothing = buffer.filled().len() == before && buffer.remaining() > 0;
        if nothing && matches!(result, Poll::Ready(Ok(()))) {
            self.peer_ended();
        }
        self.note(&result);
        result
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.bytes {
            Bytes::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Bytes::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.bytes {
            Bytes::Unix(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Bytes::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        };
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Unix(stream) => stream.is_write_vectored(),
            Bytes::Tcp(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Unix(stream) => Pin::new(stream).poll_flush(context),
            Bytes::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.info.state.caused(BY_US);
        match &mut self.bytes {
            Bytes::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Bytes::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
#[path = "local_socket_tests.rs"]
mod tests;
