//! The directory of a `dev` cluster: what was chosen once and is kept, and what may be removed.
//!
//! `dev.json` is the mark of a directory that `dev` made; without it nothing is removed and nothing
//! is taken over. One `dev` a directory: `dev.lock`.

use super::{CANNOT_CREATE, Failure, MEMBERS, MEMBERS_MAX, UNAVAILABLE, USAGE, certificates};
use crate::control;
use crate::life::Life;
use crate::local_socket::PATH_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const STATE: &str = "dev.json";
const LOCK: &str = "dev.lock";
const TLS: &str = "tls";
/// The name under which `dev` itself calls the admin ports.
pub(super) const ADMIN: &str = "admin";
/// The label of the cluster in certificates.
pub(super) const CLUSTER: &str = "dev";
/// The form of `dev.json`.
const VERSION: u32 = 1;
/// Ports are looked for below the range that outgoing connections take theirs from, else a
/// connection could sit on a member's port while it restarts.
const PORTS_FROM: u16 = 10_000;
/// Attempts to find one.
const PORT_TRIES: usize = 1_000;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    version: u32,
    cluster_id: String,
    epoch: u32,
    last_n: u64,
    members: Vec<SavedMember>,
    /// How many of them found the group; all, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    voters: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedMember {
    name: String,
    peer: u16,
    admin: u16,
    probe: u16,
}

/// One member's part of the directory, and its ports on 127.0.0.1.
#[derive(Clone, Debug)]
pub(super) struct MemberPlace {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) peer: u16,
    pub(super) admin: u16,
    pub(super) probe: u16,
}

/// What makes the cluster's first entry, the same each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Founding {
    pub(super) cluster: u128,
    pub(super) epoch: u32,
    pub(super) last_n: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    founding: Founding,
    members: Vec<MemberPlace>,
    founders: usize,
    _lock: File,
}

/// `$XDG_STATE_HOME/quorate/dev`, or `~/.local/state/quorate/dev`.
pub(super) fn default_directory() -> Option<PathBuf> {
    let absolute = |variable| {
        std::env::var_os(variable).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME");
    let state = state.or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("quorate/dev"))
}

fn name(number: usize) -> String {
    format!("member-{number}")
}

/// A local address.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Place {
    /// With so many members, of which so many found the group; not said: as before. Said of one
    /// that is there: so many have to be its members, as after a recovery.
    pub(super) fn open(
        dir: &Path,
        (members, voters): (Option<usize>, Option<usize>),
        fresh: bool,
    ) -> Result<Place, Failure> {
        make_directory(dir, 0o700)?;
        let lock = lock(dir)?;
        if fresh {
            remove_own(dir)?;
        }
        let saved = match read(dir)? {
            Some(saved) => saved,
            None => {
                let count = members.unwrap_or(MEMBERS);
                if let Some(voters) = voters.filter(|voters| *voters > count) {
                    let why = format!("--voters is {voters}; it is 1 to the {count} members");
                    return Err(Failure::new(USAGE, why));
                }
                choose(dir, count, voters)?
            }
        };
        let count = saved.members.len();
        if let Some(asked) = members.filter(|asked| *asked != count) {
            return Err(Failure::new(
                USAGE,
                format!(
                    "--members is {asked}, and the cluster in {} has {count}; leave the flag out, \
                     choose another --dir, or begin anew with --fresh",
                    dir.display()
                ),
            ));
        }
        let saved = Saved { voters: voters.or(saved.voters), ..saved };
        let place = Place::of(dir, &saved, lock)?;
        for member in &place.members {
            make_directory(&member.directory, 0o700)?;
        }
        Ok(place)
    }

    fn of(dir: &Path, saved: &Saved, lock: File) -> Result<Place, Failure> {
        let state = dir.join(STATE);
        let cluster = u128::from_str_radix(&saved.cluster_id, 16).ok().filter(|id| *id != 0);
        let cluster = cluster.ok_or_else(|| spoilt(&state, "cluster_id is no number"))?;
        if saved.members.is_empty() || saved.members.len() > MEMBERS_MAX {
            return Err(spoilt(&state, "it has no members, or too many"));
        }
        let mut members = Vec::new();
        for (number, member) in (1..).zip(&saved.members) {
            if member.name != name(number) {
                return Err(spoilt(&state, "a member has an unexpected name"));
            }
            let directory = dir.join(&member.name);
            members.push(MemberPlace {
                name: member.name.clone(),
                data: directory.join("data"),
                socket: directory.join("quorate.sock"),
                log: directory.join("log"),
                directory,
                peer: member.peer,
                admin: member.admin,
                probe: member.probe,
            });
        }
        let sockets = members.iter().map(|member| control::socket(&member.data));
        let longest = sockets.map(|socket| socket.as_os_str().len()).max();
        if longest.is_some_and(|bytes| bytes > PATH_BYTES_MAX) {
            let most = PATH_BYTES_MAX - "/member-N/data/control.sock".len();
            let bytes = dir.as_os_str().len();
            let why = format!(
                "--dir has {bytes} bytes; {most} is the most, because a socket's path in it may \
                 have {PATH_BYTES_MAX}; choose a shorter one"
            );
            return Err(Failure::new(USAGE, why));
        }
        let Saved { epoch, last_n, .. } = *saved;
        let founding = Founding { cluster, epoch, last_n };
        let founders = saved.voters.unwrap_or(members.len());
        Ok(Place { dir: dir.to_owned(), founding, members, founders, _lock: lock })
    }

    /// How many members found the group: the first ones.
    pub(super) fn founders(&self) -> usize {
        self.founders
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn members(&self) -> &[MemberPlace] {
        &self.members
    }

    pub(super) fn founding(&self) -> Founding {
        self.founding
    }

    /// Whether every port can be had.
    pub(super) fn check_ports(&self) -> Result<(), Failure> {
        let mut bad = Vec::new();
        for member in &self.members {
            let ports = [("peer", member.peer), ("admin", member.admin), ("probe", member.probe)];
            for (what, port) in ports {
                if let Err(why) = TcpListener::bind(loopback(port)) {
                    let name = &member.name;
                    bad.push(format!("the {what} port of {name}, 127.0.0.1:{port}: {why}"));
                }
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        bad.push(format!(
            "these ports are kept in {}; stop what has them, or begin anew with --fresh",
            self.dir.join(STATE).display()
        ));
        Err(Failure::new(UNAVAILABLE, bad.join("\n")))
    }

    /// Where the certificates are.
    pub(super) fn tls_directory(&self) -> PathBuf {
        self.dir.join(TLS)
    }

    pub(super) fn make_certificates(&self) -> Result<(), Failure> {
        let directory = self.tls_directory();
        certificates::make(&directory, CLUSTER, &certified(self.members.len()))
            .map_err(|why| Failure::file(&directory, why))
    }
}

/// Who gets a certificate.
fn certified(members: usize) -> Vec<String> {
    let mut names: Vec<String> = (1..=members).map(name).collect();
    names.push(ADMIN.to_owned());
    names
}

fn spoilt(state: &Path, why: &str) -> Failure {
    let text = format!("{}: {why}; it is not as `dev` made it: remove it by hand", state.display());
    Failure::new(CANNOT_CREATE, text)
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|why| Failure::file(path, format!("the directory cannot be made: {why}")))
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|why| Failure::file(&path, why))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            UNAVAILABLE,
            format!("another `dev` runs in {}; choose another --dir", dir.display()),
        )),
        Err(TryLockError::Error(why)) => Err(Failure::file(&path, why)),
    }
}

fn read(dir: &Path) -> Result<Option<Saved>, Failure> {
    let path = dir.join(STATE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(Failure::file(&path, why)),
    };
    let saved: Saved =
        serde_json::from_slice(&text).map_err(|why| spoilt(&path, &why.to_string()))?;
    if saved.version != VERSION {
        return Err(spoilt(&path, "it is of another version"));
    }
    Ok(Some(saved))
}

/// Chooses ports and identity, and keeps them.
fn choose(dir: &Path, count: usize, voters: Option<usize>) -> Result<Saved, Failure> {
    for name in (1..=MEMBERS_MAX).map(name) {
        let path = dir.join(name).join("data");
        if path.exists() {
            let why = format!("was not made by `dev` (there is no {STATE}); choose another --dir");
            return Err(Failure::file(&path, why));
        }
    }
    let mut ports = Vec::new();
    for _ in 0..count * 3 {
        // Held until all are chosen: none twice.
        ports.push(free_port().map_err(|why| {
            Failure::new(UNAVAILABLE, format!("no free port on 127.0.0.1: {why}"))
        })?);
    }
    let numbers: Vec<u16> = ports.iter().map(|(port, _)| *port).collect();
    let members = numbers.chunks_exact(3).zip(1..).map(|(ports, number)| SavedMember {
        name: name(number),
        peer: ports[0],
        admin: ports[1],
        probe: ports[2],
    });
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let life = Life::founded(since.as_secs());
    let saved = Saved {
        version: VERSION,
        cluster_id: format!("{:032x}", u128::from_le_bytes(random()?) | 1),
        epoch: u32::from(life.epoch),
        last_n: life.last_n,
        members: members.collect(),
        voters,
    };
    let text = serde_json::to_string_pretty(&saved).unwrap_or_default();
    let (path, fresh) = (dir.join(STATE), dir.join("dev.json.new"));
    // Durable before any member relies on it: it holds the call that founds the cluster.
    fs::write(&fresh, text + "\n")
        .and_then(|()| fs::File::open(&fresh)?.sync_all())
        .and_then(|()| fs::rename(&fresh, &path))
        .and_then(|()| fs::File::open(dir)?.sync_all())
        .map_err(|why| Failure::file(&path, why))?;
    Ok(saved)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(count) if count == N => Ok(bytes),
        _ => Err(Failure::new(UNAVAILABLE, "the system gives no random bytes")),
    }
}

/// A port that nobody has, and the listener that keeps it.
fn free_port() -> io::Result<(u16, TcpListener)> {
    let below = outgoing_from().unwrap_or(32_768).max(PORTS_FROM + 1_000);
    for _ in 0..PORT_TRIES {
        let random: [u8; 2] = random().map_err(|failure| io::Error::other(failure.text))?;
        let port = PORTS_FROM + u16::from_le_bytes(random) % (below - PORTS_FROM);
        if let Ok(listener) = TcpListener::bind(loopback(port)) {
            return Ok((port, listener));
        }
    }
    let listener = TcpListener::bind(loopback(0))?;
    Ok((listener.local_addr()?.port(), listener))
}

/// Where the ports of outgoing connections begin.
fn outgoing_from() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

/// Removes what an earlier `dev` made here, and nothing else.
fn remove_own(dir: &Path) -> Result<(), Failure> {
    if !dir.join(STATE).exists() {
        return Ok(());
    }
    let gone = |path: &Path, result: io::Result<()>| match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Failure::file(path, format!("it cannot be removed: {e}")))
        }
        _ => Ok(()),
    };
    for name in (1..=MEMBERS_MAX).map(name) {
        let member = dir.join(name);
        let data = member.join("data");
        gone(&data, fs::remove_dir_all(&data))?;
        for file in ["quorate.sock", "log"] {
            let path = member.join(file);
            gone(&path, fs::remove_file(&path))?;
        }
        // Only when nothing foreign is in it.
        let _ = fs::remove_dir(&member);
    }
    let tls = dir.join(TLS);
    for path in certificates::all_files(&tls, &certified(MEMBERS_MAX)) {
        gone(&path, fs::remove_file(&path))?;
    }
    let _ = fs::remove_dir(&tls);
    // Last: without it the rest is not ours.
    let state = dir.join(STATE);
    gone(&state, fs::remove_file(&state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(label: &str) -> PathBuf {
        std::env::temp_dir().join(format!("quorate-place-{}-{label}", std::process::id()))
    }

    #[test]
    fn what_was_chosen_is_kept_and_one_dev_has_the_directory() {
        let dir = scratch("kept");
        let first = Place::open(&dir, (Some(3), None), false).unwrap();
        let busy = Place::open(&dir, (None, None), false).unwrap_err();
        assert_eq!(busy.code, UNAVAILABLE);
        assert!(busy.text.contains("another `dev` runs in"), "{busy:?}");
        let (founding, peer) = (first.founding, first.members[2].peer);
        drop(first);
        let again = Place::open(&dir, (None, None), false).unwrap();
        assert_eq!((again.founding, again.members[2].peer), (founding, peer));
        assert_eq!(again.members.len(), 3);
        drop(again);
        let fewer = Place::open(&dir, (None, Some(2)), false).unwrap();
        assert_eq!(fewer.founders(), 2);
        drop(fewer);
        let other = Place::open(&dir, (Some(5), None), false).unwrap_err();
        assert_eq!(other.code, USAGE);
        let fresh = Place::open(&dir, (Some(5), None), true).unwrap();
        assert_ne!(fresh.founding.cluster, founding.cluster);
        assert_eq!((fresh.members.len(), fresh.founders()), (5, 5));
        drop(fresh);
        let some = Place::open(&dir, (Some(5), Some(3)), true).unwrap();
        assert_eq!(some.founders(), 3);
        drop(some);
        assert_eq!(Place::open(&dir, (None, None), false).unwrap().founders(), 3);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn foreign_files_stay() {
        let dir = scratch("foreign");
        fs::create_dir_all(dir.join("member-1/data")).unwrap();
        fs::write(dir.join("member-1/data/precious"), "x").unwrap();
        let refused = Place::open(&dir, (None, None), true).unwrap_err();
        assert_eq!(refused.code, CANNOT_CREATE);
        assert!(refused.text.contains("was not made by `dev`"), "{refused:?}");
        fs::rename(dir.join("member-1"), dir.join("mine")).unwrap();
        drop(Place::open(&dir, (None, None), false).unwrap());
        fs::create_dir_all(dir.join("member-1/data")).unwrap();
        fs::write(dir.join("member-2/notes"), "y").unwrap();
        fs::write(dir.join("top"), "z").unwrap();
        drop(Place::open(&dir, (Some(1), None), true).unwrap());
        assert!(dir.join("member-2/notes").exists() && dir.join("top").exists());
        assert!(dir.join("mine/data/precious").exists());
        assert!(!dir.join("member-1/data").exists() && !dir.join("member-3").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_port_in_use_and_a_long_path_are_named() {
        let dir = scratch("port");
        let place = Place::open(&dir, (Some(1), None), false).unwrap();
        place.check_ports().unwrap();
        let _taken = TcpListener::bind(loopback(place.members[0].admin)).unwrap();
        let busy = place.check_ports().unwrap_err();
        assert_eq!(busy.code, UNAVAILABLE);
        assert!(busy.text.contains("the admin port of member-1, 127.0.0.1:"), "{busy:?}");
        assert!(busy.text.contains("--fresh"), "{busy:?}");
        let long = Place::open(&dir.join("x".repeat(80)), (Some(1), None), false).unwrap_err();
        assert_eq!(long.code, USAGE);
        assert!(long.text.contains("80 is the most"), "{long:?}");
        fs::remove_dir_all(dir).unwrap();
    }
}
