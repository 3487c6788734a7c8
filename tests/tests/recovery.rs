//! Backups, restores and forced recoveries, on real processes and through the commands that people
//! type: tokens never go back, and nothing is granted before its time.

use quorate_proto::admin::RecoverRequest;
use quorate_proto::admin::maintenance_client::MaintenanceClient;
use quorate_tests::cluster::{Cluster, Process, Scratch, binary};
use quorate_tests::load::{Attached, Caller, Failed, Gaps, History, Prober, boottime_ns};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::Endpoint;

const PATIENCE: Duration = Duration::from_secs(30);
/// Of one answer with a part of a backup.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Names that are held beside the ones that a test asks for.
const MORE: u64 = 800;

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// What a command came to.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    fn refused(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
    }
}

fn ran(command: &mut Command) -> Ran {
    let done = command.stdin(Stdio::null()).output().expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let code = done.status.code().unwrap_or(-1);
    Ran { code, out: text(&done.stdout), err: text(&done.stderr) }
}

fn quorate(words: &[&str]) -> Ran {
    let program = binary("quorate").expect("it is built");
    let mut command = Command::new(program);
    let unset = ["QUORATE_ADMIN", "QUORATE_ENDPOINT"];
    for variable in unset {
        command.env_remove(variable);
    }
    ran(command.args(words))
}

/// A verb at the admin ports of all members.
fn administer(cluster: &Cluster, words: &[&str]) -> Ran {
    let ports: Vec<String> =
        cluster.members.iter().map(|member| format!("{}={}", member.name, member.admin)).collect();
    quorate(&[words, &["--admin", &ports.join(",")]].concat())
}

/// The same at the admin port of one member: the others may not answer.
fn at(cluster: &Cluster, member: usize, words: &[&str]) -> Ran {
    let member = &cluster.members[member];
    quorate(&[words, &["--admin", &format!("{}={}", member.name, member.admin)]].concat())
}

/// The token of a grant.
fn granted(cluster: &Cluster, member: usize, name: &str) -> u64 {
    let endpoint = cluster.members[member].endpoint.display().to_string();
    let words = ["--endpoint", &endpoint, "lock", name, "--wait", "30s", "--", "sh", "-c"];
    let ran = quorate(&[&words[..], &["echo $QUORATE_TOKEN"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out.parse().unwrap_or_else(|why| panic!("{why}: {ran:?}"))
}

/// The status of one member; null while it does not answer.
fn status(cluster: &Cluster, member: usize) -> Value {
    let ran = at(cluster, member, &["members", "status", "--output", "json"]);
    let list: Value = serde_json::from_str(&ran.out).unwrap_or_default();
    list.get(0).cloned().unwrap_or_default()
}

/// Looks until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

/// Clients that go on beside the test, on a thread of their own.
struct Load {
    stop: watch::Sender<bool>,
    gaps: Gaps,
    thread: JoinHandle<(History, Vec<String>)>,
}

impl Load {
    fn start(cluster: &Cluster, member: usize) -> Load {
        let (stop, stopped) = watch::channel(false);
        let endpoint = cluster.members[member].endpoint.clone();
        let (prober, gaps) = Prober::new(endpoint, "probe".to_owned());
        let thread = std::thread::spawn(move || runtime().block_on(prober.run(stopped)));
        Load { stop, gaps, thread }
    }

    fn progress(&self) {
        let now = boottime_ns();
        until("clients go on", || self.gaps.succeeded_after(now));
    }

    /// Ends it: no promise was broken.
    fn end(self) {
        self.stop.send(true).expect("the prober runs");
        let (history, broken) = self.thread.join().expect("the prober ends");
        assert!(broken.is_empty(), "{broken:?}");
        history.check_tokens().expect("tokens rise");
    }
}

/// A session that holds this name, and its token.
async fn holding(cluster: &Cluster, key: u8, name: &str) -> (Caller, Attached, u64) {
    let endpoint = cluster.members[0].endpoint.clone();
    let mut caller = Caller::connect(endpoint, vec![key; 16]).await.expect("it listens");
    let attached = caller.open(60_000, "holder").await.expect("opened");
    let request = caller.request();
    let token = caller.acquire(name, request, 5_000).await.expect("answered");
    (caller, attached, token.expect("granted"))
}

/// Every session of the earlier life is over.
async fn is_over(cluster: &Cluster, key: u8, name: &str) {
    let endpoint = cluster.members[0].endpoint.clone();
    let mut caller = Caller::connect(endpoint, vec![key; 16]).await.expect("it listens");
    let Failed { reason, .. } = caller.resume(1).await.expect_err("its session is over");
    assert_eq!(reason, "SESSION_UNKNOWN");
    assert_eq!(caller.holder(name).await.expect("answered"), None, "{name} is free");
}

fn path(of: &Path) -> &str {
    of.to_str().expect("a scratch path is text")
}

/// Enough state for a backup of several answers.
async fn hold_more(caller: &mut Caller) {
    for number in 0..MORE {
        let (name, request) = (format!("{number:0250}"), caller.request());
        let token = caller.acquire(&name, request, 0).await.expect("answered");
        assert!(token.is_some(), "{name} is free");
    }
}

/// `dev` in a directory whose only member's log came from elsewhere.
fn prepared(dir: &Path) {
    drop(Cluster::start(dir, &["--members", "1"]).expect("starts"));
    std::fs::remove_dir_all(dir.join("member-1/data")).expect("its log is there");
}

/// A group of three with a held name, load, and a backup that was saved meanwhile. Gives the
/// highest token of all, granted after the backup.
fn backed_up(dir: &Path, file: &Path) -> u64 {
    let runtime = runtime();
    let old = Cluster::start(dir, &["--members", "3"]).expect("starts");
    let load = Load::start(&old, 1);
    let (mut caller, _attached, held) = runtime.block_on(holding(&old, 7, "held"));
    runtime.block_on(hold_more(&mut caller));
    load.progress();
    let saved = administer(&old, &["snapshot", "save", path(file), "--output", "json"]);
    assert!(saved.json()["bytes"].as_u64() > Some(3 * CHUNK_BYTES), "{saved:?}");
    load.progress();
    load.end();
    let highest = granted(&old, 2, "last");
    assert!(highest > held);
    let leader = status(&old, 0)["cluster_id"].clone();
    let inspected = quorate(&["snapshot", "inspect", path(file), "--output", "json"]).json();
    assert_eq!(inspected["cluster_id"], leader);
    assert_eq!(inspected["members"].as_array().map(Vec::len), Some(3));
    assert!(inspected["held"].as_u64() > Some(MORE), "{inspected}");
    let inside: u64 = inspected["last_token"].as_str().and_then(|t| t.parse().ok()).expect("one");
    assert!(held <= inside && inside < highest, "{held} {inside} {highest}");
    let again = administer(&old, &["snapshot", "save", path(file)]);
    again.refused(73, "--force");
    highest
}

#[test]
fn a_backup_becomes_a_new_group_with_higher_tokens_and_no_session() {
    let scratch = Scratch::new("restore").expect("scratch");
    let file = scratch.path().join("x.backup");
    let highest = backed_up(&scratch.path().join("old"), &file);

    let new = scratch.path().join("new");
    prepared(&new);
    let data = new.join("member-1/data");
    let restore = ["snapshot", "restore", path(&file), "--dir", path(&data), "--name", "member-1"];
    let made = quorate(&[&restore[..], &["--hold-off", "3s", "--output", "json"]].concat()).json();
    assert_eq!(made["sessions_ended"].as_u64().map(|count| count >= 1), Some(true), "{made}");
    quorate(&restore).refused(73, "it is not empty");

    let start = Instant::now();
    let group = Cluster::start(&new, &[]).expect("starts");
    let now = status(&group, 0);
    assert_eq!((&now["cluster_id"], &now["hold_off_ms"]), (&made["cluster_id"], &3_000.into()));
    // Somebody of the old group may hold it still.
    let endpoint = group.members[0].endpoint.display().to_string();
    let early = quorate(&["--endpoint", &endpoint, "lock", "held", "--try", "--", "true"]);
    if start.elapsed() < Duration::from_secs(3) {
        assert_eq!(early.code, 75, "{early:?}");
    }
    let token = granted(&group, 0, "held");
    assert!(start.elapsed() >= Duration::from_secs(3), "held off for {:?}", start.elapsed());
    assert!(token > highest, "{token} after {highest}");
    runtime().block_on(is_over(&group, 7, "held"));
    assert_eq!(status(&group, 0)["hold_off_ms"], 0);
}

#[test]
fn a_damaged_backup_is_refused_and_makes_nothing() {
    let scratch = Scratch::new("damaged").expect("scratch");
    let file = scratch.path().join("x.backup");
    backed_up(&scratch.path().join("old"), &file);
    let whole = std::fs::read(&file).expect("it was saved");
    let data = scratch.path().join("data");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for (bytes, words) in [
        (&damaged[..], "checksum"),
        (&whole[..whole.len() - 1], "checksum"),
        (&whole[..20], "checksum"),
        (b"no backup", "does not start as a backup"),
    ] {
        std::fs::write(&file, bytes).expect("written");
        let inspected = quorate(&["snapshot", "inspect", path(&file)]);
        assert_eq!(inspected.code, 65, "{inspected:?}");
        let words_of = ["snapshot", "restore", path(&file), "--dir", path(&data), "--name", "a"];
        quorate(&words_of).refused(65, if bytes.len() == 20 { "cut off" } else { words });
        assert!(!data.exists(), "nothing is made of {words}");
    }
    quorate(&["snapshot", "inspect", "/nowhere/x.backup"]).refused(66, "/nowhere/x.backup");
}

#[test]
fn a_token_that_only_people_know_of_stays_below_the_new_ones() {
    let scratch = Scratch::new("above").expect("scratch");
    let file = scratch.path().join("x.backup");
    backed_up(&scratch.path().join("old"), &file);
    let data = scratch.path().join("data");
    let restore = ["snapshot", "restore", path(&file), "--dir", path(&data), "--name", "a"];
    let above: u64 = 20_000 << 48 | 77;
    let flags = ["--above-token", &above.to_string(), "--output", "json"];
    let made = quorate(&[&restore[..], &flags, &["--confirm-old-members-stopped"]].concat()).json();
    assert_eq!(made["epoch"], 20_001, "{made}");
    assert_eq!(made["hold_off_ms"], 0);
    assert_eq!(made["tokens_after"], (20_001_u64 << 48).to_string());
    quorate(&[&restore[..], &["--above-token", "0"]].concat()).refused(64, "--above-token");
    quorate(&[&restore[..], &["--hold-off", "21m"]].concat()).refused(64, "1s to 20m");
}

/// Everything of these members is gone.
fn lost(dir: &Path, members: &[&str]) {
    for member in members {
        std::fs::remove_dir_all(dir.join(member).join("data")).expect("its log is there");
    }
}

#[test]
fn one_survivor_of_three_goes_on_and_becomes_three_again() {
    let scratch = Scratch::new("survivor").expect("scratch");
    let dir = scratch.path();
    let old = Cluster::start(dir, &["--members", "3"]).expect("starts");
    let runtime = runtime();
    let (_caller, _attached, held) = runtime.block_on(holding(&old, 9, "held"));
    let highest = granted(&old, 1, "last");
    let cluster = status(&old, 0)["cluster_id"].as_str().expect("one").to_owned();
    // The survivor has it all: it applied the last grant.
    until("member-1 knows the last token", || {
        status(&old, 0)["last_token"] == highest.to_string().as_str()
    });
    let data = dir.join("member-1/data");
    let recover = ["recover", "--dir", path(&data)];
    quorate(&[&recover[..], &["--i-understand", "yes"]].concat()).refused(73, "another process");
    drop(old);
    lost(dir, &["member-2", "member-3"]);

    let words = format!("the other members of {cluster} are lost");
    quorate(&recover).refused(64, &format!("--i-understand \"{words}\""));
    let wrong = format!("the other members of {} are lost", "0".repeat(32));
    quorate(&[&recover[..], &["--i-understand", &wrong]].concat()).refused(64, "nothing was");
    let flags = ["--i-understand", &words, "--hold-off", "2s", "--output", "json"];
    let begun = quorate(&[&recover[..], &flags].concat()).json();
    assert_ne!(begun["cluster_id"], cluster.as_str());

    let start = Instant::now();
    let group = Cluster::start(dir, &["--voters", "1"]).expect("starts");
    let token = granted(&group, 0, "held");
    assert!(start.elapsed() >= Duration::from_secs(2), "held off for {:?}", start.elapsed());
    assert!(token > highest && highest > held, "{token} after {highest} after {held}");
    runtime.block_on(is_over(&group, 9, "held"));

    let change = |words: &[&str]| {
        let all = [&["members", "change", "--output", "json"], words].concat();
        until("the change is made", || administer(&group, &all).code == 0);
    };
    change(&["--voters", "member-1", "--learners", "member-2,member-3"]);
    change(&["--voters", "member-1,member-2,member-3"]);
    assert!(granted(&group, 2, "after") > token);
    assert_eq!(status(&group, 1)["cluster_id"], begun["cluster_id"]);
    // Late, and once more: those who joined stay.
    let index = runtime.block_on(recovered_again(&group, &cluster, words));
    assert!(index < status(&group, 0)["configuration_index"].as_u64().expect("an index"));
}

/// The call that recovered the first member, once more: its answer might have been lost.
async fn recovered_again(group: &Cluster, old: &str, confirmation: String) -> u64 {
    let now = status(group, 0);
    let identity = |text: &str| {
        let id = u128::from_str_radix(text, 16).expect("32 hexadecimal digits");
        id.to_le_bytes().to_vec()
    };
    let field = |name: &str| identity(now[name].as_str().expect("a text"));
    let request = RecoverRequest {
        member_id: field("member_id"),
        cluster_id: identity(old),
        new_cluster_id: field("cluster_id"),
        old_members_stopped: true,
        confirmation,
        ..RecoverRequest::default()
    };
    let endpoint = Endpoint::from_shared(group.members[0].admin.clone()).expect("an address");
    let channel = endpoint.connect().await.expect("it listens");
    let answer = MaintenanceClient::new(channel).recover(request).await.expect("as before");
    let index = answer.into_inner().index;
    let later = status(group, 0);
    for same in ["cluster_id", "life", "boot_seq", "configuration_index", "voters"] {
        assert_eq!(later[same], now[same], "{same}");
    }
    index
}

#[test]
fn a_running_survivor_is_recovered_only_once_its_group_is_lost() {
    let scratch = Scratch::new("running").expect("scratch");
    let group = Cluster::start(scratch.path(), &["--members", "3", "--no-restart"]);
    let group = group.expect("starts");
    let highest = granted(&group, 2, "a");
    let cluster = status(&group, 0)["cluster_id"].as_str().expect("one").to_owned();
    let words = format!("the other members of {cluster} are lost");
    let recover = ["members", "recover", "member-1", "--confirm-old-members-stopped"];
    let said = [&recover[..], &["--i-understand", &words]].concat();
    at(&group, 0, &said).refused(69, "the group has a leader");
    at(&group, 0, &recover).refused(64, &words);
    let others = || group.members[1..].iter().map(|member| Process::new(member.pid));
    for process in others() {
        process.stop();
        until("it is stopped", || process.is_stopped());
    }
    // Until this member knows that nobody leads.
    until("it is recovered", || at(&group, 0, &said).code == 0);
    until("it leads alone", || status(&group, 0)["role"] == "leader");
    let token = granted(&group, 0, "a");
    assert!(token > highest, "{token} after {highest}");
    // What was said of the old group is not true of the new one.
    at(&group, 0, &said).refused(64, "wants a confirmation");

    let index = runtime().block_on(recovered_again(&group, &cluster, words));
    assert!(index > 1, "the same call is answered the same");

    // They were not lost after all: a majority of the old group, which goes on without the new one.
    others().for_each(|process| process.resume());
    let old = granted(&group, 1, "a");
    assert!(highest < old && old < token, "{highest}, {old} of the old group, {token}");
    assert!(granted(&group, 0, "a") > token);
    let (new, old) = (status(&group, 0), status(&group, 1));
    assert_ne!(new["cluster_id"], cluster.as_str());
    assert_eq!(old["cluster_id"], cluster.as_str());
    let voters = |status: &Value| status["voters"].as_array().map(Vec::len);
    assert_eq!((voters(&new), voters(&old)), (Some(1), Some(3)));
}

/// Of a running survivor whose application holds a name until a TTL has passed.
fn recovered_with_a_holder(group: &Cluster, flags: &[&str]) -> (Value, u64) {
    let runtime = runtime();
    let (_caller, _attached, held) = runtime.block_on(holding(group, 5, "held"));
    let cluster = status(group, 0)["cluster_id"].as_str().expect("one").to_owned();
    let words = format!("the other members of {cluster} are lost");
    let recover = ["members", "recover", "member-1", "--output", "json", "--i-understand", &words];
    let said = [&recover[..], flags].concat();
    group.members[1..].iter().for_each(|member| Process::new(member.pid).kill());
    let mut recovered = Value::Null;
    until("it is recovered", || {
        let ran = at(group, 0, &said);
        recovered = serde_json::from_str(&ran.out).unwrap_or_default();
        ran.code == 0
    });
    until("it leads alone", || status(group, 0)["role"] == "leader");
    (recovered, held)
}

/// They obey their grants until a TTL has passed, whoever of the others has stopped.
#[test]
fn applications_of_the_survivor_hold_grants_off() {
    let scratch = Scratch::new("own-holder").expect("scratch");
    let group = Cluster::start(scratch.path(), &["--members", "3", "--no-restart"]);
    let group = group.expect("starts");
    let (recovered, _) = recovered_with_a_holder(&group, &["--confirm-old-members-stopped"]);
    assert_eq!(recovered["hold_off_ms"], 60_000, "{recovered}");
    assert_eq!(status(&group, 0)["hold_off_ms"], 60_000);
    let endpoint = group.members[0].endpoint.display().to_string();
    let tried = quorate(&["--endpoint", &endpoint, "lock", "held", "--try", "--", "true"]);
    assert_eq!(tried.code, 75, "{tried:?}");
    let confirm = ["members", "confirm-stopped", "--i-understand", "every old member has stopped"];
    at(&group, 0, &confirm).refused(69, "applications of this member may hold");
    assert_eq!(status(&group, 0)["hold_off_ms"], 60_000);
}

#[test]
fn a_confirmation_ends_a_hold_off_once_own_applications_hold_nothing() {
    let scratch = Scratch::new("own-released").expect("scratch");
    let group = Cluster::start(scratch.path(), &["--members", "3", "--no-restart"]);
    let group = group.expect("starts");
    let before = granted(&group, 0, "a");
    let cluster = status(&group, 0)["cluster_id"].as_str().expect("one").to_owned();
    let words = format!("the other members of {cluster} are lost");
    group.members[1..].iter().for_each(|member| Process::new(member.pid).kill());
    let recover = ["members", "recover", "member-1", "--i-understand", &words];
    until("it is recovered", || at(&group, 0, &recover).code == 0);
    until("it leads alone", || status(&group, 0)["role"] == "leader");
    assert_eq!(status(&group, 0)["hold_off_ms"], 600_000);
    let confirm = ["members", "confirm-stopped", "--i-understand", "every old member has stopped"];
    until("it is confirmed", || at(&group, 0, &confirm).code == 0);
    assert!(granted(&group, 0, "a") > before);
}

#[test]
fn a_retired_member_never_votes_again() {
    let scratch = Scratch::new("retired").expect("scratch");
    let arguments = ["--members", "3", "--restart-after", "100ms"];
    let mut group = Cluster::start(scratch.path(), &arguments).expect("starts");
    administer(&group, &["members", "retire", "member-3"]).refused(69, "remove it first");
    let change = ["members", "change", "--voters", "member-1,member-2", "--output", "json"];
    administer(&group, &change).json();
    let retire = ["members", "retire", "member-3", "--still-a-member", "--output", "json"];
    for _ in 0..2 {
        assert_eq!(administer(&group, &retire).json()["retired"], "member-3");
    }
    let before: Vec<(String, u32)> =
        group.pids().into_iter().filter(|(name, _)| name == "member-3").collect();
    Process::new(before[0].1).kill();
    group.await_restart(&before).expect("it starts again");
    until("it says so", || status(&group, 2)["role"] == "retired");
    assert_eq!(status(&group, 2)["retired"], true);
    let endpoint = group.members[2].endpoint.display().to_string();
    let asked = quorate(&["--endpoint", &endpoint, "lock", "a", "--try", "--", "true"]);
    asked.refused(69, "retired");
    granted(&group, 0, "a");
}

#[test]
fn a_snapshot_is_taken_when_asked_and_found_after_a_restart() {
    let scratch = Scratch::new("compact").expect("scratch");
    let arguments = ["--members", "1", "--restart-after", "100ms"];
    let mut group = Cluster::start(scratch.path(), &arguments).expect("starts");
    let before = granted(&group, 0, "a");
    let compact = ["members", "compact", "--output", "json"];
    let index = administer(&group, &compact).json()["index"].as_u64().expect("an index");
    assert!(index > 1);
    assert_eq!(status(&group, 0)["snapshot"].as_u64(), Some(index));
    // One more entry has the log name the snapshot.
    granted(&group, 0, "a");
    let pids = group.pids();
    Process::new(pids[0].1).kill();
    group.await_restart(&pids).expect("it starts again");
    until("it leads", || status(&group, 0)["role"] == "leader");
    assert!(granted(&group, 0, "a") > before);
}

#[test]
fn grants_are_made_once_the_old_members_are_said_to_have_stopped() {
    let scratch = Scratch::new("stopped").expect("scratch");
    let file = scratch.path().join("x.backup");
    let highest = backed_up(&scratch.path().join("old"), &file);
    let new = scratch.path().join("new");
    prepared(&new);
    let data = new.join("member-1/data");
    let restore = ["snapshot", "restore", path(&file), "--dir", path(&data), "--name", "member-1"];
    // Ten minutes, the default.
    let made = quorate(&[&restore[..], &["--output", "json"]].concat()).json();
    assert_eq!(made["hold_off_ms"], 600_000);
    let group = Cluster::start(&new, &["--restart-after", "100ms"]).expect("starts");
    let endpoint = group.members[0].endpoint.clone();
    let shown = quorate(&["--endpoint", path(&endpoint), "status", "--output", "json"]).json();
    assert_eq!(shown["hold_off_ms"], 600_000);
    let tried = quorate(&["--endpoint", path(&endpoint), "lock", "a", "--try", "--", "true"]);
    assert_eq!(tried.code, 75, "{tried:?}");

    let confirm = ["members", "confirm-stopped"];
    administer(&group, &confirm).refused(64, "every old member has stopped");
    let said = ["--i-understand", "every old member has stopped", "--output", "json"];
    assert_eq!(administer(&group, &[&confirm[..], &said].concat()).json()["hold_off_ms"], 0);
    assert!(granted(&group, 0, "a") > highest);
}

#[test]
fn admin_ports_with_certificates() {
    let scratch = Scratch::new("admin-tls").expect("scratch");
    let group = Cluster::start(scratch.path(), &["--members", "3", "--tls"]).expect("starts");
    let tls = |name: &str| scratch.path().join("tls").join(name).display().to_string();
    let (ca, cert, key) = (tls("ca.pem"), tls("admin.pem"), tls("admin.key"));
    let files = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let with =
        |words: &[&str]| administer(&group, &[words, &files, &["--cluster", "dev"]].concat());
    let status = with(&["members", "status", "--output", "json"]).json();
    let answered = |one: &Value| one["role"] == "leader" || one["role"] == "follower";
    let answered = status.as_array().map(|all| all.iter().filter(|one| answered(one)).count());
    assert_eq!(answered, Some(3), "{status}");
    let file = scratch.path().join("x.backup");
    assert!(with(&["snapshot", "save", path(&file), "--output", "json"]).json()["bytes"].is_u64());
    let plain = administer(&group, &["members", "status"]);
    plain.refused(69, "no admin port answers");
    let other = administer(&group, &[&["members", "status"], &files[..]].concat());
    other.refused(69, "no admin port answers");
    let words = ["members", "status", "--admin", &group.members[0].admin];
    let unnamed = quorate(&[&words[..], &files, &["--cluster", "dev"]].concat());
    unnamed.refused(69, "--admin NAME=HOST:PORT");
}
