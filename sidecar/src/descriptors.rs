//! How many descriptors this process may have open at once, and whose they are.
//!
//! The log needs one whenever it begins a segment or a snapshot, and a log that cannot be written
//! ends the member. So whoever connects gets a share, and all shares together leave enough over.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than all that every part has a use for.
const WANTED: u64 = 65_536;
/// What is taken from fewer descriptors still makes a member that serves.
const LEAST: usize = 4;
/// Open connections of one listener for clients, at most.
const CLIENTS_MAX: usize = 4_096;
/// Open connections of the peer port, of the admin port, and of the relay port, at most.
const PEERS_MAX: usize = 1_024;
/// Open connections of the probe port, at most.
const PROBES_MAX: usize = 64;

/// Descriptors of each part. The log, and what else there is, has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Open connections of each listener for clients; one on a Unix socket takes two descriptors,
    /// for the process behind it is held as well.
    pub clients: usize,
    /// Processes that are watched although their connection is over.
    pub watched: usize,
    /// Open connections of the peer port, of the admin port, and of the relay port.
    pub peers: usize,
    /// Open connections of the probe port.
    pub probes: usize,
}

impl Shares {
    /// What each gets of so many descriptors.
    #[must_use]
    pub fn of(descriptors: u64) -> Shares {
        let part = usize::try_from(descriptors / 16).unwrap_or(usize::MAX);
        let share = |most: usize| part.clamp(LEAST, most);
        let clients = share(CLIENTS_MAX);
        Shares { clients, watched: 2 * clients, peers: share(PEERS_MAX), probes: share(PROBES_MAX) }
    }
}

/// Allows this process as many descriptors as are wanted and it may have, and says how many it has
/// now.
#[must_use]
pub fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(WANTED, |most| most.min(WANTED));
    let current = now.current.unwrap_or(u64::MAX);
    if current >= most {
        return current;
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..now });
    // Then there are as many as before.
    if raised.is_ok() { most } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_leave_enough_for_the_log() {
        for descriptors in [128, 256, 1_024, 4_096, 65_536, u64::MAX] {
            let Shares { clients, watched, peers, probes } = Shares::of(descriptors);
            // The socket of the API, the control socket, the loopback port; peers, admin, relay.
            let taken = 2 * clients + 2 * clients + clients + watched + 3 * peers + probes;
            let over = descriptors - u64::try_from(taken).unwrap();
            assert!(over >= descriptors / 4 && over >= 32, "{over} of {descriptors}");
            assert!(clients >= 8, "{clients} of {descriptors}");
        }
        let most = Shares { clients: 4_096, watched: 8_192, peers: 1_024, probes: 64 };
        assert_eq!(Shares::of(u64::MAX), most);
        assert_eq!(Shares::of(0).clients, LEAST);
    }

    #[test]
    fn a_process_gets_what_it_may_have() {
        let got = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current.unwrap_or(u64::MAX), got);
        assert!(got >= now.maximum.map_or(WANTED, |most| most.min(WANTED)));
        assert_eq!(raise(), got);
    }
}
