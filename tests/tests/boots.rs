//! Starts that come to nothing, on real processes: however many a member has behind it, its peers
//! take it back.

use quorate_tests::cluster::{Cluster, MemberInfo, Process, Scratch, metric};
use quorate_tests::load::Caller;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than an identity lists.
const STARTS: usize = 66;

/// A member that this test started.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How `dev` started a member, but for what ties it to `dev`.
struct Launch {
    program: PathBuf,
    words: Vec<String>,
}

impl Launch {
    fn of(member: &MemberInfo) -> Launch {
        let process = PathBuf::from(format!("/proc/{}", member.pid));
        let program = process.join("exe").read_link().expect("it runs");
        let line = std::fs::read_to_string(process.join("cmdline")).expect("it runs");
        let words = line.trim_end_matches('\0').split('\0').skip(1).map(str::to_owned);
        let mut launch = Launch { program, words: words.collect() };
        let at = launch.place("--die-with-parent");
        launch.words.drain(at - 1..=at);
        launch
    }

    /// Where the value of a flag stands.
    fn place(&self, flag: &str) -> usize {
        self.words.iter().position(|word| word == flag).expect("dev gives it") + 1
    }

    fn value(&self, flag: &str) -> &str {
        &self.words[self.place(flag)]
    }

    /// The same with another value of a flag.
    fn with(&self, flag: &str, value: &str) -> Launch {
        let mut words = self.words.clone();
        words[self.place(flag)] = value.to_owned();
        Launch { program: self.program.clone(), words }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.words).stdin(Stdio::null());
        command
    }

    fn start(&self) -> Started {
        Started(self.command().stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// Starts it and ends it at the moment when it serves.
    fn start_and_kill(&self) {
        let spawned = self.command().stderr(Stdio::piped()).spawn();
        let mut started = Started(spawned.expect("it starts"));
        let told = BufReader::new(started.0.stderr.take().expect("it is piped"));
        let mut lines = told.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("listening on")), "it ended by itself");
    }

    fn identity(&self) -> Vec<u8> {
        let path = PathBuf::from(self.value("--data-dir")).join("identity");
        std::fs::read(path).expect("it has one")
    }
}

#[test]
fn a_member_whose_identity_cannot_be_stored_ends() {
    let scratch = Scratch::new("identity").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &["--no-restart"]).expect("the group starts");
    let third = &cluster.members[2];
    await_all_connected(&cluster);
    let good = Launch::of(third);
    let process = Process::new(third.pid);
    process.kill();
    assert!(process.await_gone(PATIENCE), "killed");
    // Nobody can be told of its boot, until somebody listens here.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = unused.expect("a port").to_string();
    let peers = cluster.members.iter().map(|member| format!("{}={address}", member.name));
    let peers = peers.collect::<Vec<_>>().join(",");
    let alone = good.with("--peer", &peers).with("--peer-listen", "127.0.0.1:0");
    let mut started = Started(alone.command().stderr(Stdio::piped()).spawn().expect("it starts"));
    let told = BufReader::new(started.0.stderr.take().expect("it is piped"));
    let mut lines = told.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening on")), "it ended by itself");
    // The file that the identity is first written to cannot be opened.
    let in_the_way = PathBuf::from(good.value("--data-dir")).join("identity.new");
    std::fs::create_dir(in_the_way).expect("the directory is there");
    let _listens = std::net::TcpListener::bind(&address).expect("nobody took the port");
    assert!(
        lines.any(|line| line.contains("cannot store the identity")),
        "it ended without a word"
    );
    let end = Instant::now() + PATIENCE;
    while started.0.try_wait().expect("it is ours").is_none() {
        assert!(Instant::now() < end, "it goes on");
        std::thread::yield_now();
    }
    let code = started.0.wait().expect("it ended").code();
    assert_eq!(code, Some(74));
}

/// Looks until each member can send to both others.
fn await_all_connected(cluster: &Cluster) {
    let end = Instant::now() + PATIENCE;
    for member in &cluster.members {
        while metric(member, "quorate_peers_connected") != Ok(2.0) {
            assert!(Instant::now() < end, "{} is not connected to both others", member.name);
            std::thread::yield_now();
        }
    }
}

/// A lock granted at this member, of a group that has just lost another one.
async fn granted(member: &MemberInfo) {
    let mut caller =
        Caller::connect(member.endpoint.clone(), vec![3; 16]).await.expect("it listens");
    let _attached = caller.open(30_000, "boots").await.expect("opened");
    let request = caller.request();
    assert!(caller.acquire("x", request, 20_000).await.expect("answered").is_some());
}

#[test]
fn a_member_comes_back_after_any_number_of_starts_that_nobody_heard_of() {
    let scratch = Scratch::new("boots").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &["--no-restart"]).expect("the group starts");
    let [first, second, third] = &cluster.members[..] else { panic!("three members") };
    await_all_connected(&cluster);
    let good = Launch::of(third);
    let process = Process::new(third.pid);
    process.kill();
    assert!(process.await_gone(PATIENCE), "killed");

    // Wrong settings: a port in use. Not even a boot is begun.
    let before = good.identity();
    let wrong = good.with("--admin-listen", Launch::of(first).value("--admin-listen"));
    for _ in 0..STARTS {
        let ended = wrong.command().stderr(Stdio::null()).status().expect("it starts");
        assert_eq!(ended.code(), Some(69));
    }
    assert!(before == good.identity(), "a start that failed for its settings was a boot");

    // Right ones, and a death before anybody was met: nobody is reached, nobody reaches it.
    let nobody = cluster.members.iter().map(|member| format!("{}=127.0.0.1:1", member.name));
    let nobody = nobody.collect::<Vec<_>>().join(",");
    let lonely = good.with("--peer", &nobody).with("--peer-listen", "127.0.0.1:0");
    (0..STARTS).for_each(|_| lonely.start_and_kill());
    assert!(before.len() + 16 == good.identity().len(), "the list grew by the last one alone");

    let _third = good.start();
    await_all_connected(&cluster);
    // It is heard by both: with either of them it is a majority.
    Process::new(second.pid).kill();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(granted(third));
}
