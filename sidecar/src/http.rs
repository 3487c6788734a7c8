//! The probe port: `/startupz`, `/livez`, `/readyz` and `/metrics`, and nothing else. HTTP/1.
//!
//! Answers carry numbers and fixed sentences, never the names, keys or tokens of clients.
//! Connections are few and short: a slow one is cut, so that it cannot keep a probe out.

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// A connection, kept alive or not, ends after this.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// A metrics answer waits so long for numbers that others keep; then it shows the last ones.
const REFRESH_MAX: Duration = Duration::from_secs(1);
/// After a failed accept (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the probes ask. Sentences are fixed: they go out to whoever asks.
#[tonic::async_trait]
pub trait Health: Send + Sync + 'static {
    /// Whether this process got through its start: the log is read and the sockets are open.
    ///
    /// # Errors
    /// What it waits for.
    fn started(&self) -> Result<(), &'static str>;
    /// Whether it is worth keeping: the driver turns.
    ///
    /// # Errors
    /// What is stuck.
    fn live(&self) -> Result<(), &'static str>;
    /// Whether it can serve clients.
    ///
    /// # Errors
    /// What is missing.
    async fn ready(&self) -> Result<(), &'static str>;
    /// Brings [`Metrics::shown`] up to date.
    async fn refresh(&self);
}

/// The faces' common state.
#[derive(Clone)]
struct Face {
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
}

/// The four paths.
pub fn router(metrics: Arc<Metrics>, health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/startupz", get(async |State(face): State<Face>| probe(face.health.started())))
        .route("/livez", get(async |State(face): State<Face>| probe(face.health.live())))
        .route("/readyz", get(async |State(face): State<Face>| probe(face.health.ready().await)))
        .route("/metrics", get(show_metrics))
        .with_state(Face { metrics, health })
}

/// Serves the probe port until the process ends: at most `most` connections at once.
///
/// # Errors
/// Never by a client's doing.
pub async fn serve(
    (listener, most): (TcpListener, usize),
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
) -> io::Result<()> {
    let open = Arc::new(Semaphore::new(most));
    axum::serve(Bounded { listener, open }, router(metrics, health)).await
}

fn probe(state: Result<(), &'static str>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn show_metrics(State(face): State<Face>) -> Response {
    // A driver that is stuck must not hide the numbers that say so.
    let _ = tokio::time::timeout(REFRESH_MAX, face.health.refresh()).await;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, face.metrics.render()).into_response()
}

/// A listener whose connections are few and short.
struct Bounded {
    listener: TcpListener,
    open: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Short;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Short, SocketAddr) {
        let open = Arc::clone(&self.open).acquire_owned().await;
        let open = open.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let end = Box::pin(tokio::time::sleep_until(Instant::now() + CONNECTION_LIFE));
                    return (Short { stream, end, _open: open }, address);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends after [`CONNECTION_LIFE`].
struct Short {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _open: OwnedSemaphorePermit,
}

impl Short {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Short {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Short {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    struct Patient {
        ready: AtomicBool,
        metrics: Arc<Metrics>,
    }

    #[tonic::async_trait]
    impl Health for Patient {
        fn started(&self) -> Result<(), &'static str> {
            Ok(())
        }
        fn live(&self) -> Result<(), &'static str> {
            Ok(())
        }
        async fn ready(&self) -> Result<(), &'static str> {
            self.ready.load(Ordering::Relaxed).then_some(()).ok_or("no leader is known")
        }
        async fn refresh(&self) {
            self.metrics.shown.names.set(4);
        }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn probes_and_metrics_answer_and_nothing_else_does() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let metrics = Arc::new(Metrics::default());
            let patient = Patient { ready: AtomicBool::new(false), metrics: Arc::clone(&metrics) };
            let patient = Arc::new(patient);
            tokio::spawn(serve((listener, 8), metrics, Arc::clone(&patient) as Arc<dyn Health>));
            assert!(get(address, "/startupz").await.starts_with("HTTP/1.1 200"));
            assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
            let unready = get(address, "/readyz").await;
            assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
            assert!(unready.ends_with("no leader is known\n"), "{unready}");
            patient.ready.store(true, Ordering::Relaxed);
            assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
            let metrics = get(address, "/metrics").await;
            assert!(metrics.contains("\nquorate_names 4\n"), "{metrics}");
            assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
            assert!(get(address, "/v1/locks").await.starts_with("HTTP/1.1 404"));
        });
    }
}
