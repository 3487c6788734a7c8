//! One connection to a sidecar, and its end.
//!
//! A [`Link`] is one socket for its whole life: it never connects again by itself, so that whoever
//! uses it decides when and how a session goes on. Invariant: a link that was cut says nothing more
//! to the sidecar. Streams that end after it are a disconnect there, never a half-close; a
//! half-close would release.

use crate::endpoint::Endpoint;
use hyper_util::rt::TokioIo;
use rustix::net::Shutdown;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Channel;
use tower::service_fn;

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    socket: OwnedFd,
    cut: AtomicBool,
}

impl Link {
    /// Connects. No ping is ever sent: an idle link costs nothing.
    pub(crate) async fn connect(endpoint: &Endpoint) -> io::Result<Link> {
        let stream = Socket::connect(endpoint).await?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let mut once = Some(stream);
        let connector = service_fn(move |_| {
            let stream = once.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe));
            async move { stream.map(TokioIo::new) }
        });
        // The name is the `:authority` of requests; no name is ever looked up.
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .map_err(io::Error::other)?;
        Ok(Link { channel, socket, cut: AtomicBool::new(false) })
    }

    /// Ends the connection at once, for all its streams, whatever they wanted to say.
    pub(crate) fn cut(&self) {
        if !self.cut.swap(true, Ordering::Relaxed) {
            // Already ended by the other side: fine.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        }
    }

    /// Whether this link was cut from here.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The socket, for those who hand it on.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Either kind of socket.
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    async fn connect(endpoint: &Endpoint) -> io::Result<Socket> {
        match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
            Endpoint::Loopback(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
