//! `quorate-sidecar dev`: a whole cluster in the foreground, for trying things out, demos and
//! tests.
//!
//! The members are child processes, started by `run` of this very executable, which die with it.
//! Ports, names and the cluster's identity are chosen once and kept in the directory, so that the
//! same command continues from the logs. What `dev` did not make is left alone. With `--output
//! json` standard output is for programs: the first line once a leader is elected, then a line an
//! event.

pub mod certificates;
mod child;
mod group;
mod parent;
mod place;
mod show;
mod socket_link;

pub use parent::die_with;

use crate::config::{duration, election_timeout};
use child::{Child, Launch};
use clap::{Args, ValueEnum};
use group::{Group, Ready};
use place::Place;
use show::Show;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Members at most: more than that is slower and no safer.
const MEMBERS_MAX: usize = 9;
/// Unless the directory knows better.
const MEMBERS: usize = 3;
/// A restarted member waits at most so long.
const RESTART_MAX: Duration = Duration::from_secs(600);
/// From the first member's start to a leader.
const READY_MAX: Duration = Duration::from_secs(30);
/// Members that do not stop in this time are killed.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The exit code for bad usage.
const USAGE: u8 = 64;
/// Something that is needed does not work: a port, a member, the lock.
const UNAVAILABLE: u8 = 69;
/// A file or directory cannot be made or read.
const CANNOT_CREATE: u8 = 73;

/// The flags of `quorate-sidecar dev`.
#[derive(Args, Clone, Debug)]
#[command(
    about = "A whole group on this machine, in the foreground",
    after_help = "\
Then, in another terminal:
  quorate lock backup -- ./backup.sh
  quorate elect demo
  quorate status
Ctrl-C stops all members. The same command continues from their logs; --fresh begins anew."
)]
pub struct DevArgs {
    /// How many members: 1 to 9, 3 unless the directory has a cluster already
    #[arg(long, value_name = "N")]
    pub members: Option<usize>,

    /// Only the first N vote at the beginning; the others wait to be added to the group [default:
    /// all]
    #[arg(long, value_name = "N")]
    pub voters: Option<usize>,

    /// Where logs, sockets and certificates are kept [default: $XDG_STATE_HOME/quorate/dev, or
    /// ~/.local/state/quorate/dev]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Removes what an earlier `dev` made in the directory, and begins a new cluster
    #[arg(long)]
    pub fresh: bool,

    /// A member that exits is started again after this time
    #[arg(long, value_name = "TIME", default_value = "1s", conflicts_with = "no_restart")]
    pub restart_after: String,

    /// A member that exits stays down
    #[arg(long)]
    pub no_restart: bool,

    /// Peer and admin ports with mutual TLS, from a throwaway CA in the directory
    #[arg(long)]
    pub tls: bool,

    /// What standard output is for
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// How long a silent leader is believed: 100ms to 10s
    #[arg(long, value_name = "TIME", default_value = "800ms")]
    pub election_timeout: String,
}

/// What standard output is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// People.
    Text,
    /// Programs: one JSON object a line.
    Json,
}

/// The end of `dev`, when it is not the asked one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// A file or directory that cannot be used.
    fn file(path: &std::path::Path, why: impl fmt::Display) -> Failure {
        Failure::new(CANNOT_CREATE, format!("{}: {why}", path.display()))
    }
}

/// The flags, checked.
struct Plan {
    members: Option<usize>,
    voters: Option<usize>,
    dir: PathBuf,
    fresh: bool,
    restart_after: Option<Duration>,
    tls: bool,
    output: Output,
    election_timeout: Duration,
}

impl Plan {
    fn check(args: DevArgs) -> Result<Plan, Failure> {
        let mut bad = Vec::new();
        if let Some(members) = args.members.filter(|count| !(1..=MEMBERS_MAX).contains(count)) {
            bad.push(format!("--members is {members}; it is 1 to {MEMBERS_MAX}: 3, say"));
        }
        let most = args.members.unwrap_or(MEMBERS_MAX);
        if let Some(voters) = args.voters.filter(|voters| !(1..=most).contains(voters)) {
            bad.push(format!("--voters is {voters}; it is 1 to the number of --members"));
        }
        let restart_after = duration(&args.restart_after).ok().filter(|time| *time <= RESTART_MAX);
        if restart_after.is_none() {
            let value = &args.restart_after;
            bad.push(format!("--restart-after is {value:?}; it is 0ms to 10m: 500ms, say"));
        }
        let timeout = election_timeout(&args.election_timeout);
        if let Err(why) = &timeout {
            bad.push(why.clone());
        }
        let dir = args.dir.or_else(place::default_directory);
        let dir = dir.and_then(|dir| std::path::absolute(dir).ok());
        if dir.is_none() {
            bad.push("--dir is missing, and neither XDG_STATE_HOME nor HOME is set".to_owned());
        }
        match (dir, restart_after, timeout) {
            (Some(dir), Some(restart_after), Ok(election_timeout)) if bad.is_empty() => Ok(Plan {
                members: args.members,
                voters: args.voters,
                dir,
                fresh: args.fresh,
                restart_after: (!args.no_restart).then_some(restart_after),
                tls: args.tls,
                output: args.output,
                election_timeout,
            }),
            _ => Err(Failure::new(USAGE, bad.join("\n"))),
        }
    }
}

/// Runs a cluster until SIGINT or SIGTERM. Call it on the process's main thread: the members die
/// with the thread that started them.
#[must_use]
pub fn run(args: DevArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match (Plan::check(args), runtime) {
        (Ok(plan), Ok(runtime)) => runtime.block_on(foreground(plan)),
        (Err(failure), _) => Err(failure),
        (_, Err(why)) => Err(Failure::new(UNAVAILABLE, format!("no runtime: {why}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            for line in text.lines() {
                eprintln!("quorate-sidecar dev: {line}");
            }
            ExitCode::from(code)
        }
    }
}

/// What the foreground waits for.
enum Happening {
    /// The process of a member ended.
    Exited(usize),
    /// It is time to start it again.
    Restart(usize),
}

/// SIGINT, SIGTERM or SIGHUP.
struct Stops([Signal; 3]);

impl Stops {
    fn new() -> Result<Stops, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|why| Failure::new(UNAVAILABLE, format!("no signals: {why}")))
        };
        let hangup = listen(SignalKind::hangup())?;
        Ok(Stops([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, hangup]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn foreground(plan: Plan) -> Result<(), Failure> {
    let mut stops = Stops::new()?;
    let place = Place::open(&plan.dir, (plan.members, plan.voters), plan.fresh)?;
    place.check_ports()?;
    if plan.tls {
        place.make_certificates()?;
    }
    let mut cluster = Cluster::start(&place, &plan)?;
    let outcome = tokio::select! {
        outcome = cluster.life() => outcome,
        () = stops.next() => Ok(()),
    };
    cluster.stop().await;
    outcome
}

/// The running members.
struct Cluster<'a> {
    place: &'a Place,
    launch: Launch,
    restart_after: Option<Duration>,
    show: Show,
    children: Vec<Option<Child>>,
    sender: mpsc::UnboundedSender<Happening>,
    happenings: mpsc::UnboundedReceiver<Happening>,
    tls: bool,
}

impl<'a> Cluster<'a> {
    fn start(place: &'a Place, plan: &Plan) -> Result<Cluster<'a>, Failure> {
        let (sender, happenings) = mpsc::unbounded_channel();
        let launch = Launch::new(place, plan.tls, plan.election_timeout)?;
        let show = Show::new(plan.output, plan.restart_after);
        let children = place.members().iter().map(|_| None).collect();
        let (restart_after, tls) = (plan.restart_after, plan.tls);
        let mut cluster =
            Cluster { place, launch, restart_after, show, children, sender, happenings, tls };
        for member in 0..place.members().len() {
            cluster.start_member(member)?;
        }
        Ok(cluster)
    }

    /// Starts one member's process and watches for its end.
    fn start_member(&mut self, member: usize) -> Result<u32, Failure> {
        let child = self.launch.start(self.place, member)?;
        let (pid, process, sender) = (child.pid(), child.process().clone(), self.sender.clone());
        self.children[member] = Some(child);
        tokio::spawn(async move {
            // Without knowledge of its end, it is taken as running.
            if process.dead().await.is_ok() {
                let _ = sender.send(Happening::Exited(member));
            }
        });
        Ok(pid)
    }

    /// From the start to the first failure that ends everything.
    async fn life(&mut self) -> Result<(), Failure> {
        let ready = self.become_ready().await?;
        let members = group::described(self.place, &ready, |member| self.pid(member), self.tls);
        let _link = match self.show.wants_link() {
            true => socket_link::make(&self.place.members()[0].socket),
            false => None,
        };
        let linked = _link.as_ref().map(socket_link::Link::path);
        let shown = self.show.ready(self.place.dir(), &members, &ready, linked);
        shown.map_err(|why| lost_output(&why))?;
        self.keep().await
    }

    fn pid(&self, member: usize) -> u32 {
        self.children[member].as_ref().map_or(0, Child::pid)
    }

    /// Waits for a leader. A member that exits meanwhile is the end.
    async fn become_ready(&mut self) -> Result<Ready, Failure> {
        let mut group = Group::new(self.place, self.tls)?;
        tokio::select! {
            ready = tokio::time::timeout(READY_MAX, group.become_ready()) => match ready {
                Ok(ready) => ready,
                Err(_) => Err(Failure::new(UNAVAILABLE, format!(
                    "no leader within {} s: {}\nthe members' logs are {}/member-*/log",
                    READY_MAX.as_secs(), group.last_word(), self.place.dir().display()
                ))),
            },
            Some(happening) = self.happenings.recv() => {
                let (Happening::Exited(member) | Happening::Restart(member)) = happening;
                let child = self.children[member].take();
                let status = child.and_then(Child::status);
                Err(child::died_at_start(self.place, member, status.as_deref()))
            }
        }
    }

    /// Restarts members for ever.
    async fn keep(&mut self) -> Result<(), Failure> {
        while let Some(happening) = self.happenings.recv().await {
            let shown = match happening {
                Happening::Exited(member) => {
                    let Some(child) = self.children[member].take() else { continue };
                    let pid = child.pid();
                    if let Some(wait) = self.restart_after {
                        let sender = self.sender.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(wait).await;
                            let _ = sender.send(Happening::Restart(member));
                        });
                    }
                    let name = &self.place.members()[member].name;
                    let status = child.status();
                    self.show.exited(name, pid, status.as_deref())
                }
                Happening::Restart(member) => {
                    let pid = self.start_member(member)?;
                    self.show.started(&self.place.members()[member].name, pid)
                }
            };
            shown.map_err(|why| lost_output(&why))?;
        }
        Ok(())
    }

    /// Ends all members: SIGTERM, and SIGKILL for those that take too long.
    async fn stop(&mut self) {
        self.show.stopping();
        let children: Vec<Child> = self.children.iter_mut().filter_map(Option::take).collect();
        for child in &children {
            child.terminate();
        }
        let all = async {
            for child in &children {
                // A member that cannot be awaited is killed below.
                let _ = child.process().dead().await;
            }
        };
        let late = tokio::time::timeout(STOP_MAX, all).await.is_err();
        for child in children {
            if late && !child.process().is_dead() {
                eprintln!(
                    "quorate-sidecar dev: process {} did not stop within {} s and is killed",
                    child.pid(),
                    STOP_MAX.as_secs()
                );
            }
            child.kill();
        }
    }
}

/// Whoever read standard output is gone: nobody is left to run this for.
fn lost_output(why: &std::io::Error) -> Failure {
    Failure::new(UNAVAILABLE, format!("standard output is closed ({why})"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
