//! A process, seen from outside: signals, its end, what it used.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::time::{Duration, Instant};

/// One process by its number.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// Held from the start, so that the number cannot come to mean another process.
    descriptor: Option<OwnedFd>,
}

/// What a process used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes that it caused to be written to a disk.
    pub write_bytes: u64,
    /// User and system time, in clock ticks of 10 ms.
    pub cpu_ticks: u64,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

impl Process {
    /// The process of this number; it may be gone.
    #[must_use]
    pub fn new(pid: u32) -> Process {
        let descriptor = raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Process { pid, descriptor }
    }

    fn signal(&self, signal: Signal) {
        // A process that is gone needs no signal.
        let _ = raw(self.pid).map(|pid| kill_process(pid, signal));
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether every thread of it is stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return false;
        };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Waits for its end; false if it did not come in time.
    pub fn await_gone(&self, most: Duration) -> bool {
        let Some(descriptor) = &self.descriptor else { return true };
        let end = Instant::now() + most;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// What it used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default()
        };
        let number = |text: &str, field: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let stat = read("stat");
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let ticks = |at: usize| fields.get(at).and_then(|n| n.parse().ok()).unwrap_or(0_u64);
        Usage {
            write_bytes: number(&read("io"), "write_bytes:"),
            cpu_ticks: ticks(11) + ticks(12),
            resident_kib: number(&read("status"), "VmRSS:"),
        }
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
