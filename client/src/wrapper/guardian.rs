//! `quorate __guardian GROUP`: ends the command when the wrapper cannot any more.
//!
//! A wrapper that is killed leaves a process group that nobody renews for. The kernel ends only the
//! command itself then, not what it started. So a small process stands beside it, in a group of its
//! own, with the tether and the reading end of a pipe whose other end only the wrapper has. End of
//! file means that the wrapper is gone: the group is killed, and the tether let go once none of it
//! is left. Invariants: there before the command's first instruction, gone before its end is told;
//! the tether is held as long as anybody of the group lives, also if all of them closed theirs.
//! Must not: talk to the sidecar, grow while it waits, outlive the group.

use crate::exit;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const VERB: &str = "__guardian";

/// The first pause before a killed group is looked at again; each later one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// Its handle, in the wrapper.
#[derive(Debug)]
pub struct Guardian {
    process: Child,
    /// Closed by our end, however that comes.
    _life: OwnedFd,
}

impl Guardian {
    /// Starts one for this group. It inherits what can be inherited now: the tether.
    ///
    /// # Errors
    /// No process or pipe can be made.
    pub fn start(program: &OsStr, group: Pid) -> io::Result<Guardian> {
        let (watched, life) = pipe_with(PipeFlags::CLOEXEC)?;
        let process = Command::new(program)
            .arg0("quorate")
            .args([VERB, &group.as_raw_nonzero().get().to_string()])
            // Who kills our group leaves it.
            .process_group(0)
            // It keeps no file system busy.
            .current_dir("/")
            .stdin(Stdio::from(watched))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Guardian { process, _life: life })
    }

    /// Ends it, also if it is stopped. Its group is gone.
    pub fn dismiss(mut self) {
        // It may have been killed by others.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Before anything else is set up: it stays as small as it can.
pub fn if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<u8> {
    if arguments.nth(1)? != VERB {
        return None;
    }
    let group = arguments.next().and_then(|word| word.to_str()?.parse().ok());
    // The groups 0 and 1 would be our own and everybody.
    match group.filter(|group| *group > 1).and_then(Pid::from_raw) {
        Some(group) => Some(watch(group)),
        None => Some(exit::USAGE),
    }
}

fn watch(group: Pid) -> u8 {
    // Without that it watches as well.
    let _ = outlive_requests();
    let mut byte = [0; 1];
    while matches!(rustix::io::read(io::stdin(), &mut byte), Ok(1..) | Err(Errno::INTR)) {}
    let mut pause = PAUSE_MIN;
    while kill_process_group(group, Signal::KILL) != Err(Errno::SRCH) && any_lives(group) {
        sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    exit::OK
}

/// Who asks all processes of a service to end means the command, which may take its time.
fn outlive_requests() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _within = runtime.enter();
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()] {
        // A handler stays when its stream is dropped.
        drop(signal(kind)?);
    }
    Ok(())
}

/// Whether a process of the group is more than a zombie: that one may wait for a parent that never
/// looks. Of what cannot be read the worst is believed.
fn any_lives(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.as_raw_nonzero().get();
    processes.flatten().any(|process| {
        let name = process.file_name();
        let is_process = name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        // One whose file is gone is gone.
        let stat = is_process.then(|| fs::read(process.path().join("stat")).ok()).flatten();
        stat.is_some_and(|stat| lives_in(&String::from_utf8_lossy(&stat), group))
    })
}

/// From `/proc/PID/stat`: `PID (NAME) STATE PPID GROUP …`, the number of threads as the 20th.
fn lives_in(stat: &str, group: i32) -> bool {
    // A name may hold anything, parentheses too.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<i32>().ok());
    let ended = matches!(words.first(), Some(&"Z" | &"X"));
    // The first thread of a process can end before the others.
    number(2) == Some(group) && !(ended && number(17).is_none_or(|threads| threads <= 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, state: &str, group: i32, threads: u32) -> String {
        format!("7 ({name}) {state} 1 {group} 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 9 0 0")
    }

    #[test]
    fn who_lives_in_a_group() {
        assert!(lives_in(&stat("sleep", "S", 7, 1), 7));
        assert!(lives_in(&stat("a) Z 1 (b", "D", 7, 1), 7));
        assert!(!lives_in(&stat("sleep", "S", 8, 1), 7));
        assert!(!lives_in(&stat("sleep", "Z", 7, 1), 7));
        assert!(!lives_in(&stat("sleep", "X", 7, 0), 7));
        assert!(lives_in(&stat("java", "Z", 7, 12), 7), "its other threads run");
        assert!(!lives_in("", 7));
    }

    #[test]
    fn other_verbs_are_left_alone() {
        let ask = |text: &str| if_asked(text.split(' ').map(OsString::from));
        assert_eq!((ask("quorate"), ask("quorate lock __guardian")), (None, None));
        for refused in ["quorate __guardian", "quorate __guardian 1", "quorate __guardian -5"] {
            assert_eq!(ask(refused), Some(exit::USAGE), "{refused}");
        }
    }

    #[test]
    fn this_group_lives_and_an_ended_one_does_not() {
        assert!(any_lives(rustix::process::getpgrp()));
        let mut child = Command::new("true").process_group(0).spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let exited =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(group), exited).unwrap();
        assert!(!any_lives(group), "a zombie");
        child.wait().unwrap();
        assert_eq!(kill_process_group(group, Signal::KILL), Err(Errno::SRCH));
    }
}
