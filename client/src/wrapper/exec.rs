//! `quorate __exec`: the first moment of a child, before it becomes the command.
//!
//! Its own group, so that the whole tree can be ended at once; killed when the wrapper dies; and if
//! the wrapper died before that was arranged, it ends here: nobody holds the grant any more. It
//! goes no further before a guardian watches over the group.

use crate::cli::ExecArgs;
use crate::exit;
use crate::paint;
use crate::wrapper::terminal;
use rustix::process::{
    Signal, getpgrp, getpid, getppid, kill_process, set_parent_process_death_signal, setpgid,
};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Becomes the command; returns only if that failed.
pub fn run(args: &ExecArgs) -> u8 {
    if let Err(error) = tie(args.parent) {
        paint::say(&error);
        return exit::NOT_EXECUTABLE;
    }
    // Until the guardian stands, and the wrapper says so with SIGCONT.
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        paint::say(&format!("cannot wait for the guardian: {error}"));
        return exit::NOT_EXECUTABLE;
    }
    if args.foreground {
        terminal::await_foreground();
    }
    let Some((program, arguments)) = args.command.split_first() else { return exit::USAGE };
    let error = Command::new(program).args(arguments).exec();
    paint::say(&format!("cannot run {}: {error}", program.display()));
    match error.kind() {
        ErrorKind::NotFound => exit::NOT_FOUND,
        _ => exit::NOT_EXECUTABLE,
    }
}

/// The signal first, the check second: a parent that dies in between is seen by one of them.
fn tie(parent: i32) -> Result<(), String> {
    if getpgrp() != getpid() {
        setpgid(None, None).map_err(|error| format!("no process group: {error}"))?;
    }
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("no parent-death signal: {error}"))?;
    let present = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if present == parent {
        Ok(())
    } else {
        Err("the process that holds the grant is gone; the command is not started".to_owned())
    }
}
