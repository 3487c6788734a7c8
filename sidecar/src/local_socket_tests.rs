//! Real sockets and real processes.

use super::*;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio_stream::StreamExt as _;

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Ended(u64, bool),
    Dead(u64),
}

struct Ear(Mutex<mpsc::UnboundedSender<Heard>>);

impl ConnectionSink for Ear {
    fn ended(&self, connection: ConnectionId, by_peer: bool) {
        let _ = self.0.lock().unwrap().send(Heard::Ended(connection.0, by_peer));
    }
    fn process_dead(&self, connection: ConnectionId) {
        let _ = self.0.lock().unwrap().send(Heard::Dead(connection.0));
    }
}

fn connections() -> (Connections, mpsc::UnboundedReceiver<Heard>) {
    connections_of(Shares::of(1_024))
}

fn connections_of(shares: Shares) -> (Connections, mpsc::UnboundedReceiver<Heard>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Connections::new(shares, Arc::new(Ear(Mutex::new(sender)))), receiver)
}

/// Descriptors of processes that this one has.
fn held_processes() -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = all.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("[pidfd]")).count()
}

fn scratch(label: &str) -> PathBuf {
    std::env::temp_dir().join(format!("quorate-socket-{}-{label}", std::process::id()))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("in time");
    });
}

#[test]
fn an_end_by_the_peer_is_told_from_one_by_us() {
    run(async {
        let path = scratch("end").join("s");
        let listener = bind(&path, 0o666).unwrap();
        let (connections, mut heard) = connections();
        let mut streams = connections.unix(listener);

        let client = UnixStream::connect(&path).await.unwrap();
        let mut stream = streams.next().await.unwrap().unwrap();
        let info = stream.connect_info();
        assert_eq!(info.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(info.state.end(), End::Open);
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        drop(stream);
        assert_eq!(info.state.closed().await, End::ByPeer);
        assert_eq!(heard.recv().await, Some(Heard::Ended(1, true)));

        // Cut by us, though the peer leaves too before the socket is gone.
        let client = UnixStream::connect(&path).await.unwrap();
        let mut stream = streams.next().await.unwrap().unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        drop(stream);
        assert_eq!(heard.recv().await, Some(Heard::Ended(2, false)));

        // Dropped by us.
        let _client = UnixStream::connect(&path).await.unwrap();
        drop(streams.next().await.unwrap().unwrap());
        assert_eq!(heard.recv().await, Some(Heard::Ended(3, false)));
        // The peer leaves while this side is stopping.
        let client = UnixStream::connect(&path).await.unwrap();
        let mut stream = streams.next().await.unwrap().unwrap();
        connections.draining();
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        drop(stream);
        assert_eq!(heard.recv().await, Some(Heard::Ended(4, false)));
        // This process lives: nobody is dead.
        assert!(heard.try_recv().is_err());
        fs::remove_dir_all(scratch("end")).unwrap();
    });
}

#[test]
fn a_killed_process_is_known_dead() {
    run(async {
        let path = scratch("dead").join("s");
        let listener = bind(&path, 0o666).unwrap();
        let (connections, mut heard) = connections();
        let mut streams = connections.unix(listener);
        // The child is this test program, told to connect and wait.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "local_socket::tests::connect_and_wait", "--nocapture"])
            .env("QUORATE_TEST_CONNECT", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stream = streams.next().await.unwrap().unwrap();
        let info = stream.connect_info();
        assert_eq!(info.pid, i32::try_from(child.id()).ok());
        assert!(info.process.is_some());
        let start = std::time::Instant::now();
        child.kill().unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        drop(stream);
        assert_eq!(heard.recv().await, Some(Heard::Ended(1, true)));
        assert_eq!(heard.recv().await, Some(Heard::Dead(1)));
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
        child.wait().unwrap();
        fs::remove_dir_all(scratch("dead")).unwrap();
    });
}

/// The process that connects lives: only what bounds its watchers ends them.
#[test]
fn a_process_that_comes_and_goes_is_watched_a_few_times_only() {
    run(async {
        let path = scratch("often").join("s");
        let listener = bind(&path, 0o666).unwrap();
        let shares = Shares { watched: 3, ..Shares::of(1_024) };
        let (connections, mut heard) = connections_of(shares);
        let mut streams = connections.unix(listener);
        for number in 1..=200 {
            let client = UnixStream::connect(&path).await.unwrap();
            let mut stream = streams.next().await.unwrap().unwrap();
            drop(client);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            drop(stream);
            assert_eq!(heard.recv().await, Some(Heard::Ended(number, true)));
        }
        // Other tests of this process hold a few, too.
        let held = held_processes();
        assert!((3..50).contains(&held), "{held}");
        fs::remove_dir_all(scratch("often")).unwrap();
    });
}

/// The child of a test above; alone it does nothing.
#[test]
fn connect_and_wait() {
    let Some(path) = std::env::var_os("QUORATE_TEST_CONNECT") else { return };
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut byte = [0; 1];
    // Until the parent is gone.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut byte);
    let _ = stream.write_all(&byte);
}

#[test]
fn tcp_is_never_evidence() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, mut heard) = connections();
        let mut streams = connections.tcp(listener);
        let client = TcpStream::connect(address).await.unwrap();
        let mut stream = streams.next().await.unwrap().unwrap();
        assert_eq!(stream.connect_info().pid, None);
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        drop(stream);
        assert_eq!(heard.recv().await, Some(Heard::Ended(1, false)));
    });
}

#[test]
fn a_path_that_cannot_be_used_is_named() {
    run(async {
        let directory = scratch("path");
        let path = directory.join("a/b/s");
        let listener = bind(&path, 0o660).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let used = bind(&path, 0o666).unwrap_err();
        assert_eq!(used.kind(), io::ErrorKind::AddrInUse);
        assert!(used.to_string().contains("another process serves it"), "{used}");
        drop(listener);
        assert!(!path.exists());
        // A stale one is taken over.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(bind(&path, 0o666).unwrap());
        fs::write(&path, "text").unwrap();
        let file = bind(&path, 0o666).unwrap_err();
        assert!(file.to_string().contains("left alone"), "{file}");
        assert_eq!(fs::read(&path).unwrap(), b"text");
        let long = bind(&directory.join("x".repeat(120)), 0o666).unwrap_err();
        assert!(long.to_string().contains("107"), "{long}");
        fs::remove_dir_all(directory).unwrap();
    });
}
