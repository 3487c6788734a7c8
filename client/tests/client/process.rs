//! The command as a process, and the ends of processes.

use crate::fake::Sidecar;
use quorate_client::clock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");

/// A directory of this test's own, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("quorate-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A wrapper, and the lines of its command.
pub struct Wrapper {
    pub child: Child,
    pub lines: BufReader<ChildStdout>,
}

impl Wrapper {
    pub fn start(sidecar: &Sidecar, arguments: &[&str]) -> Wrapper {
        Wrapper::spawn(sidecar, Command::new(QUORATE).args(arguments).stderr(Stdio::piped()))
    }

    /// From a command that is, or becomes, `quorate`.
    pub fn spawn(sidecar: &Sidecar, command: &mut Command) -> Wrapper {
        let mut child = command
            .env("QUORATE_ENDPOINT", &sidecar.socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Wrapper { child, lines }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// A line that is a process number.
    pub fn process(&mut self) -> OwnedFd {
        let line = self.line();
        let pid = Pid::from_raw(line.parse().unwrap_or_else(|_| panic!("no pid: {line:?}")));
        pidfd_open(pid.unwrap(), PidfdFlags::empty()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Kills it, alone or with its process group.
    pub fn kill(&self, whole_group: bool) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        match whole_group {
            true => kill_process_group(pid, Signal::KILL).unwrap(),
            false => kill_process(pid, Signal::KILL).unwrap(),
        }
    }

    /// The process that watches over the command.
    pub fn guardian(&self) -> OwnedFd {
        let own = self.child.id().to_string();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let read = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let is_it = |pid: &i32| {
            let stat = read(*pid, "stat").unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2));
            let words = read(*pid, "cmdline").unwrap_or_default();
            parent == Some(own.as_str()) && words.split('\0').nth(1) == Some("__guardian")
        };
        let found: Vec<i32> = pids.filter(is_it).collect();
        assert_eq!(found.len(), 1, "guardians");
        pidfd_open(Pid::from_raw(found[0]).unwrap(), PidfdFlags::empty()).unwrap()
    }

    pub fn end(mut self) -> (i32, String) {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), errors)
    }
}

/// A pipe of 4 KiB, full, and the end that nobody reads.
pub fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let size = fcntl_setpipe_size(&writer, 4096).unwrap();
    assert_eq!(rustix::io::write(&writer, &vec![b'.'; size]).unwrap(), size);
    (reader, writer)
}

/// Waits for the process's end; when it was seen.
pub fn gone(process: &OwnedFd) -> u64 {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let patience = rustix::time::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "the process lives on");
    clock::now_ns()
}

pub fn is_gone(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).unwrap() == 1
}

/// What of a process's memory is its own: neither a file's pages nor shared ones.
pub fn own_memory_kib(process: &OwnedFd) -> u64 {
    let of = |path: String, key: &str| {
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let pid = of(format!("/proc/self/fdinfo/{}", process.as_raw_fd()), "Pid:");
    of(format!("/proc/{pid}/status"), "RssAnon:").parse().unwrap()
}

/// A shell script at a terminal of its own, as its session's leader, in front.
pub struct Terminal {
    master: fs::File,
    seen: String,
    shell: Child,
}

impl Terminal {
    pub fn run(sidecar: &Sidecar, script: &str) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let noctty = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), noctty, Mode::empty()).unwrap();
        // `setsid --ctty` makes the terminal the controlling one.
        let shell = Command::new("setsid")
            .args(["--ctty", "sh", "-c", script])
            .env("QUORATE_ENDPOINT", &sidecar.socket)
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        Terminal { master: fs::File::from(master), seen: String::new(), shell }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    /// Reads until this was shown; what came before it is forgotten.
    pub fn expect(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let patience = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
            let ready = poll(&mut fds, Some(&patience)).unwrap();
            assert_eq!(ready, 1, "{text:?} did not come; seen: {:?}", self.seen);
            let mut bytes = [0; 4096];
            let count = self.master.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}
