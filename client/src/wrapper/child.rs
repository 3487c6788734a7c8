//! The thread that owns the command's processes.
//!
//! It lives as long as the wrapper: the parent-death signal comes when the THREAD that started a
//! child ends. It adopts orphans of the tree, so that it sees the last process of the group end.
//! Invariant: the end is told only when no process of the group is left; the group's number is not
//! used after its leader was reaped.

use crate::wrapper::guardian::Guardian;
use crate::wrapper::terminal;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, kill_process,
    kill_process_group, set_child_subreaper, wait, waitid, waitpgid,
};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread;
use tokio::sync::mpsc;

/// Ourselves, also when the file was replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A command to run.
#[derive(Debug)]
pub struct Start {
    pub command: Vec<OsString>,
    pub environment: Vec<(&'static str, String)>,
    /// Inherited by the whole tree and its guardian, and closed here after the start.
    pub tether: Option<OwnedFd>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    Signalled(i32),
}

/// What happens to a command.
#[derive(Debug)]
pub enum Event {
    Started,
    /// Ctrl-Z at the terminal.
    Suspended,
    /// No process of its group is left.
    Ended(Status),
    /// It could not be started at all.
    Failed(io::Error),
}

/// The group that may be signalled; none before the start and after the end.
type Group = Arc<Mutex<Option<Pid>>>;

/// The thread's handle.
#[derive(Debug)]
pub struct Keeper {
    starts: std_mpsc::Sender<Start>,
    events: mpsc::UnboundedReceiver<Event>,
    group: Group,
}

impl Keeper {
    /// Starts the thread.
    pub fn new() -> io::Result<Keeper> {
        let (starts, orders) = std_mpsc::channel();
        let (sender, events) = mpsc::unbounded_channel();
        let group = Group::default();
        let shared = Arc::clone(&group);
        set_child_subreaper(Some(getpid()))?;
        thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || serve(&orders, &sender, &shared))?;
        Ok(Keeper { starts, events, group })
    }

    /// Starts a command; its events follow. The one before must have ended.
    pub fn start(&self, start: Start) {
        // The thread ends only with us.
        let _ = self.starts.send(start);
    }

    /// The next event.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => Event::Failed(io::Error::other("the thread that starts commands is gone")),
        }
    }

    /// Signals the whole group, if there is one.
    pub fn signal(&self, signal: Signal) {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = *group {
            // Gone already: what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

fn serve(
    starts: &std_mpsc::Receiver<Start>,
    events: &mpsc::UnboundedSender<Event>,
    group: &Mutex<Option<Pid>>,
) {
    while let Ok(start) = starts.recv() {
        let end = match run(start, events, group) {
            Ok(status) => Event::Ended(status),
            Err(error) => Event::Failed(error),
        };
        if events.send(end).is_err() {
            break;
        }
    }
    // The thread must not end before the wrapper does.
    loop {
        thread::park();
    }
}

fn run(
    start: Start,
    events: &mpsc::UnboundedSender<Event>,
    group: &Mutex<Option<Pid>>,
) -> io::Result<Status> {
    let set = |to: Option<Pid>| *group.lock().unwrap_or_else(PoisonError::into_inner) = to;
    let in_front = terminal::is_ours();
    let leader = spawn(&start, in_front)?;
    let guardian = Guardian::start(OsStr::new(OWN_PROGRAM), leader);
    drop(start.tether);
    let ran = match &guardian {
        Ok(_) => await_gate(leader).and_then(|()| {
            set(Some(leader));
            attend(leader, in_front, events)
        }),
        Err(error) => Err(io::Error::new(error.kind(), format!("no guardian: {error}"))),
    };
    // Whatever happened. Its leader is not reaped yet: the number is still the group's.
    let _ = kill_process_group(leader, Signal::KILL);
    set(None);
    terminal::take_back(OsStr::new(OWN_PROGRAM), leader);
    let status = reap(leader);
    if let Ok(guardian) = guardian {
        guardian.dismiss();
    }
    // Those that left the group and became ours: no zombies.
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    ran.and(status)
}

/// Lets the leader go on to become the command, until that has ended; it is not reaped.
fn attend(leader: Pid, in_front: bool, events: &mpsc::UnboundedSender<Event>) -> io::Result<()> {
    kill_process(leader, Signal::CONT)?;
    if in_front {
        terminal::give(leader);
    }
    // The receiver lives as long as the wrapper.
    let _ = events.send(Event::Started);
    await_end(leader, events)
}

fn spawn(start: &Start, in_front: bool) -> io::Result<Pid> {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("quorate").arg("__exec");
    command.args(["--parent", &getpid().as_raw_nonzero().get().to_string()]);
    if in_front {
        command.arg("--foreground");
    }
    command.arg("--").args(&start.command);
    command.envs(start.environment.iter().map(|(name, value)| (name, value)));
    let child = command.process_group(0).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("a process number out of range"))
}

/// Until the leader has stopped itself, before it becomes the command; or ended, or was told to go
/// on by somebody else.
fn await_gate(leader: Pid) -> io::Result<()> {
    let moves = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED;
    loop {
        match waitid(WaitId::Pid(leader), moves | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) if status.stopped() => {
                let seen = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                let _ = waitid(WaitId::Pid(leader), seen);
                if status.stopping_signal() == Some(Signal::STOP.as_raw()) {
                    return Ok(());
                }
                // Not by itself: it has not come to its gate yet.
                kill_process(leader, Signal::CONT)?;
                let seen = WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
                let _ = waitid(WaitId::Pid(leader), seen);
            }
            Ok(Some(_)) => return Ok(()),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Until the leader has ended; it is not reaped.
fn await_end(leader: Pid, events: &mpsc::UnboundedSender<Event>) -> io::Result<()> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    loop {
        let status = match waitid(WaitId::Pid(leader), look) {
            Ok(status) => status,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(status) = status else { continue };
        if !status.stopped() {
            return Ok(());
        }
        if status.stopping_signal() == Some(Signal::TSTP.as_raw()) {
            let _ = events.send(Event::Suspended);
        }
        // Seen once is enough.
        let seen = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::Pid(leader), seen);
    }
}

/// Waits for every process of the killed group: its orphans are ours before their parent can be
/// reaped.
fn reap(leader: Pid) -> io::Result<Status> {
    let mut of_leader = None;
    loop {
        match waitpgid(leader, WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => of_leader = Some(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    of_leader.map(status_of).ok_or_else(|| io::Error::other("the command's end was not seen"))
}

fn status_of(status: WaitStatus) -> Status {
    match status.terminating_signal() {
        Some(signal) => Status::Signalled(signal),
        None => {
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
            Status::Exited(code.unwrap_or(u8::MAX))
        }
    }
}
