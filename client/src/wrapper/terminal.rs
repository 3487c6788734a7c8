//! Who may read the terminal: while the command runs, its group; before and after, ours.
//!
//! A process in the background that asks for the foreground is stopped, or loops, by SIGTTOU. So
//! the foreground is given from the foreground, and taken back by a short process inside the
//! command's group.

use crate::cli::ForegroundArgs;
use crate::exit;
use rustix::process::{Pid, getpgrp};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};
use std::io::stdin;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// The wrapper gives the foreground right after the child was started.
const FOREGROUND_TRIES: u32 = 1_000;
const FOREGROUND_PAUSE: Duration = Duration::from_millis(1);

/// Standard input is our terminal, and we are in front.
pub fn is_ours() -> bool {
    isatty(stdin()) && tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
}

/// Puts the group in front, as long as we are.
pub fn give(group: Pid) {
    if is_ours() {
        // The child waits for it, and goes on without.
        let _ = tcsetpgrp(stdin(), group);
    }
}

/// In the child: until its group is in front.
pub fn await_foreground() {
    for _ in 0..FOREGROUND_TRIES {
        if tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp()) {
            return;
        }
        sleep(FOREGROUND_PAUSE);
    }
}

/// Takes the foreground back from the group, whose leader has ended and is not reaped yet. The
/// process that does it is in that group, and is reaped with it.
pub fn take_back(program: &std::ffi::OsStr, group: Pid) {
    let in_front = isatty(stdin()) && tcgetpgrp(stdin()).is_ok_and(|front| front == group);
    if !in_front {
        return;
    }
    let own = getpgrp().as_raw_nonzero().get().to_string();
    let started = Command::new(program)
        .arg0("quorate")
        .args(["__foreground", &own])
        .process_group(group.as_raw_nonzero().get())
        .spawn();
    if let Err(error) = started {
        crate::paint::say(&format!("the terminal stays with the ended command: {error}"));
    }
}

/// `quorate __foreground GROUP`.
pub fn run(args: &ForegroundArgs) -> u8 {
    let Some(group) = Pid::from_raw(args.group) else { return exit::USAGE };
    match tcsetpgrp(stdin(), group) {
        Ok(()) => exit::OK,
        Err(_) => exit::UNAVAILABLE,
    }
}
