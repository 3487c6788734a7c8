//! A process, held by its pidfd: it can be asked about, awaited and signalled, and is never
//! mistaken for another one that got its number.

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Process {
    fd: Arc<OwnedFd>,
}

impl Process {
    /// Takes hold of the process that has this number now; none if no process has it.
    ///
    /// # Errors
    /// The system's: too many descriptors, say.
    pub fn open(pid: i32) -> io::Result<Option<Process>> {
        let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => Ok(Some(Process { fd: Arc::new(fd) })),
            Err(Errno::SRCH) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// Takes hold of the process that connected this socket, also one in a process namespace that
    /// is not seen from here, as in another container of a pod; none if it is gone already.
    ///
    /// # Errors
    /// The system does not tell: before Linux 6.5 it cannot.
    pub fn of_peer(socket: &impl AsFd) -> io::Result<Option<Process>> {
        match getsockopt(socket, PeerPidfd) {
            Ok(fd) => Ok(Some(Process { fd: Arc::new(fd) })),
            Err(nix::errno::Errno::ESRCH) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// Whether it is dead: a zombie is.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let mut fds = [PollFd::new(&*self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until it is dead. Must be called within a runtime.
    ///
    /// # Errors
    /// The system's; then nothing is known.
    pub async fn dead(&self) -> io::Result<()> {
        // The other constructors are unsafe, because the descriptor must stay what it is; this one
        // does, being owned.
        #[allow(deprecated, reason = "its successor is unsafe")]
        let fd = AsyncFd::with_interest(Arc::clone(&self.fd), Interest::READABLE)?;
        loop {
            let mut ready = fd.readable().await?;
            if self.is_dead() {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Sends a signal; a dead process does not mind.
    ///
    /// # Errors
    /// Not permitted.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&*self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}
