//! What this machine takes for the least that a leader at rest could do: a bare thread that, once a
//! heartbeat, writes to two sockets and reads both answers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The heartbeat of a group with the default timeouts (consensus: T/5).
const BEAT: Duration = Duration::from_millis(160);
const PEERS: usize = 2;
const BYTES: usize = 64;

/// One that runs.
pub struct Beats {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64, String>>,
}

/// What the calling thread was on a core so far, in ns.
fn on_a_core() -> Result<f64, String> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(|e| e.to_string())?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().map_err(|_| format!("schedstat says {text:?}"))
}

fn peer(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut other, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    other.set_nodelay(true)?;
    std::thread::spawn(move || {
        let mut bytes = [0; BYTES];
        // Ends with its other side.
        while other.read_exact(&mut bytes).and_then(|()| other.write_all(&bytes)).is_ok() {}
    });
    Ok(stream)
}

fn beat(peers: &mut [TcpStream]) -> std::io::Result<()> {
    let mut bytes = [0; BYTES];
    peers.iter_mut().try_for_each(|peer| peer.write_all(&bytes))?;
    peers.iter_mut().try_for_each(|peer| peer.read_exact(&mut bytes))
}

impl Beats {
    /// Starts one.
    pub fn start() -> Beats {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let failed = |e: std::io::Error| e.to_string();
            let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
            let peers: Result<Vec<_>, _> = (0..PEERS).map(|_| peer(&listener)).collect();
            let mut peers = peers.map_err(failed)?;
            let (begun, before) = (Instant::now(), on_a_core()?);
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(BEAT);
                beat(&mut peers).map_err(failed)?;
            }
            Ok((on_a_core()? - before) / (begun.elapsed().as_secs_f64() * 1e9))
        });
        Beats { stop, thread }
    }

    /// Ends it; gives the share of a core that it took.
    pub fn end(self) -> Result<f64, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the reference failed".to_owned())?
    }
}
