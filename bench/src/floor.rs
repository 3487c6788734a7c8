//! What this machine can do at best: one flush, one round trip.

use hyper_util::rt::TokioIo;
use quorate_proto::peer::peer_client::PeerClient;
use quorate_proto::peer::peer_server::{Peer, PeerServer};
use quorate_proto::peer::{Frame, Goodbye, frame};
use quorate_tests::cluster::Scratch;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Instant;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// A log record of one command, about.
const RECORD_BYTES: usize = 160;
/// The file that is overwritten, like a segment of the log.
const FILE_BYTES: usize = 4 << 20;

/// The median, in ns.
pub fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// F: one write into a zero-filled file, and its fdatasync.
pub fn flush(samples: usize) -> Result<u64, String> {
    let scratch = Scratch::new("flush")?;
    let path = scratch.path().join("file");
    let file = std::fs::File::create(path).map_err(|e| e.to_string())?;
    file.write_all_at(&vec![0; FILE_BYTES], 0).map_err(|e| e.to_string())?;
    file.sync_all().map_err(|e| e.to_string())?;
    let record = [7_u8; RECORD_BYTES];
    let mut taken = Vec::with_capacity(samples);
    for i in 0..samples {
        let offset = (i * RECORD_BYTES) % (FILE_BYTES - RECORD_BYTES);
        let offset = u64::try_from(offset).map_err(|e| e.to_string())?;
        let begun = Instant::now();
        file.write_all_at(&record, offset).map_err(|e| e.to_string())?;
        file.sync_data().map_err(|e| e.to_string())?;
        taken.push(nanos(begun));
    }
    Ok(median(taken))
}

struct Echo;

#[tonic::async_trait]
impl Peer for Echo {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}

fn serve(path: &Path) -> Result<(), String> {
    let path = path.to_owned();
    let (ready, listening) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<(), String> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async move {
            let listener = UnixListener::bind(path).map_err(|e| e.to_string())?;
            ready.send(()).map_err(|e| e.to_string())?;
            let server = Server::builder().add_service(PeerServer::new(Echo));
            let incoming = UnixListenerStream::new(listener);
            server.serve_with_incoming(incoming).await.map_err(|e| e.to_string())
        })
    });
    listening.recv().map_err(|e| e.to_string())
}

/// R: one small message there and back, on a stream over a Unix socket, server and client each on a
/// thread.
pub async fn round_trip(samples: usize) -> Result<u64, String> {
    let scratch = Scratch::new("echo")?;
    let path = scratch.path().join("echo.sock");
    serve(&path)?;
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://echo.invalid")
        .connect_with_connector(connect)
        .await
        .map_err(|e| e.to_string())?;
    let (sender, receiver) = mpsc::channel(1);
    let frame = || Frame { frame: Some(frame::Frame::Goodbye(Goodbye {})) };
    let mut client = PeerClient::new(channel);
    let stream = ReceiverStream::new(receiver);
    sender.send(frame()).await.map_err(|e| e.to_string())?;
    let answer = client.stream(stream).await.map_err(|e| e.to_string())?;
    let mut echoes = answer.into_inner();
    let _first = echoes.next().await;
    let mut taken = Vec::with_capacity(samples);
    for _ in 0..samples {
        let begun = Instant::now();
        sender.send(frame()).await.map_err(|e| e.to_string())?;
        echoes.next().await.ok_or("the echo ended")?.map_err(|e| e.to_string())?;
        taken.push(nanos(begun));
    }
    Ok(median(taken))
}
