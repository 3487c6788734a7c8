//! All bugs that can be planted, and where each lives.

/// Which part of the product a bug is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Consensus.
    Raft,
    /// The state machine.
    Locks,
    /// Sessions, deadlines, the log on disk.
    Sidecar,
    /// The holder's own end.
    Client,
}

/// A bug that can be planted.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// Its stable name.
    pub name: &'static str,
    /// Where it is.
    pub home: Home,
}

/// All of them.
pub fn all() -> Vec<Bug> {
    let bug = |home| move |name| Bug { name, home };
    let raft = quorate_raft::planted::Bug::ALL.iter().map(|bug| bug.name());
    let locks = quorate_locks::planted::Bug::ALL.iter().map(|bug| bug.name());
    let sidecar = quorate_sidecar::planted::Bug::ALL.iter().map(|bug| bug.name());
    let client = quorate_client::planted::Bug::ALL.iter().map(|bug| bug.name());
    raft.map(bug(Home::Raft))
        .chain(locks.map(bug(Home::Locks)))
        .chain(sidecar.map(bug(Home::Sidecar)))
        .chain(client.map(bug(Home::Client)))
        .collect()
}

/// Plants the bug of this name in this process, and no other; an unknown name: none.
pub fn plant(name: &str) {
    let raft = quorate_raft::planted::Bug::ALL.iter().find(|bug| bug.name() == name);
    let locks = quorate_locks::planted::Bug::ALL.iter().find(|bug| bug.name() == name);
    let sidecar = quorate_sidecar::planted::Bug::ALL.iter().find(|bug| bug.name() == name);
    let client = quorate_client::planted::Bug::ALL.iter().find(|bug| bug.name() == name);
    quorate_raft::planted::plant(raft.copied());
    quorate_locks::planted::plant(locks.copied());
    quorate_sidecar::planted::plant(sidecar.copied());
    quorate_client::planted::plant(client.copied());
}

/// Whether `docs/zoo.md` tells of each, and no name stands for two.
pub fn documented(all: &[Bug]) -> Result<(), String> {
    const FILE: &str = "docs/zoo.md";
    let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
    for (at, bug) in all.iter().enumerate() {
        if !text.contains(&format!("| `{}` |", bug.name)) {
            return Err(format!("{FILE} has no row of {}", bug.name));
        }
        if all[..at].iter().any(|other| other.name == bug.name) {
            return Err(format!("two bugs are called {}", bug.name));
        }
    }
    Ok(())
}
