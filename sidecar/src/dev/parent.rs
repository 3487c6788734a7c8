//! Dying with the process that started this one.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Asks the kernel to kill this process when its parent ends, and makes sure that the parent is
/// still `parent`. To be called first thing in `run --die-with-parent PID`.
///
/// # Errors
/// The parent is gone already, or is another one.
pub fn die_with(parent: i32) -> Result<(), String> {
    let failed = |why| format!("--die-with-parent: {why}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|why| failed(why.to_string()))?;
    // Only now: a parent that ended in between sent nothing.
    if getppid() == Pid::from_raw(parent) {
        return Ok(());
    }
    Err(failed(format!("process {parent} is not the parent of this one; it may have ended")))
}
