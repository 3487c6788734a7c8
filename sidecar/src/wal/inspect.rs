//! A log in words, for people. Opens everything read-only, writes nothing, takes no lock: on a
//! running member's directory it shows a moment that may be half written.

use super::directory::Directory;
use super::disk::{FileName, Source, narrow};
use super::format::{self, Header, HeaderFound, Mark, MarkFound, Next};
use super::identity::{self, Identity};
use super::snapshot;
use super::survey::{Survey, survey};
use super::table::{Decision, Expected};
use quorate_raft::{Entry, Kind, LogId, MemberId};
use std::io::{self, Write};
use std::path::Path;

/// Prints identity, files, records and the verdict. `payload` puts a command's bytes in
/// words.
///
/// # Errors
/// The operating system's, or those of `out`.
pub fn inspect(
    dir: &Path,
    out: &mut dyn Write,
    payload: &dyn Fn(&[u8]) -> String,
) -> io::Result<()> {
    let directory = Directory::new(dir);
    writeln!(out, "directory {}", dir.display())?;
    let identity = show_identity(dir, out)?;
    let (logs, snapshots) = files(&directory, out)?;
    let owner = identity.as_ref().map(|identity| identity.member);
    let member = owner.or_else(|| logs.iter().find_map(|number| member_of(&directory, *number)));
    let Some(member) = member else {
        return Err(no_log(dir));
    };
    for last in snapshots {
        show_snapshot(&directory, last, member, out)?;
    }
    for number in logs {
        show_segment(&directory, number, out, payload)?;
    }
    let has_log = identity.is_some_and(|identity| identity.has_log);
    let expected = if has_log { Expected::Yes } else { Expected::No };
    let found = survey(&directory, member, expected, format::newest_version());
    let found = found.map_err(io::Error::other)?;
    show_verdict(&found, out)
}

fn no_log(dir: &Path) -> io::Error {
    let below = |entry: io::Result<std::fs::DirEntry>| {
        let data = entry.ok()?.path().join("data");
        data.join("identity").is_file().then(|| data.display().to_string())
    };
    let mut found: Vec<String> =
        std::fs::read_dir(dir).into_iter().flatten().filter_map(below).collect();
    found.sort();
    let hint = if found.is_empty() {
        String::new()
    } else {
        format!("; data directories below it: {}", found.join(", "))
    };
    io::Error::new(io::ErrorKind::NotFound, format!("no member's log is here{hint}"))
}

fn show_identity(dir: &Path, out: &mut dyn Write) -> io::Result<Option<Identity>> {
    let identity = match identity::read(dir) {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            writeln!(out, "identity: none")?;
            return Ok(None);
        }
        Err(error) => {
            writeln!(out, "identity: {error}")?;
            return Ok(None);
        }
    };
    writeln!(out, "identity: member {}", identity.member)?;
    match identity.cluster {
        Some(cluster) => writeln!(out, "  cluster {cluster:032x}")?,
        None => writeln!(out, "  no cluster yet")?,
    }
    writeln!(out, "  log begun: {}", if identity.has_log { "yes" } else { "no" })?;
    for boot in &identity.boots {
        writeln!(out, "  boot {} {:016x}", boot.seq, boot.bits)?;
    }
    if !identity.shown {
        writeln!(out, "  the last boot was shown to nobody")?;
    }
    Ok(Some(identity))
}

fn files(directory: &Directory, out: &mut dyn Write) -> io::Result<(Vec<u64>, Vec<LogId>)> {
    let (mut logs, mut snapshots) = (Vec::new(), Vec::new());
    for name in directory.list()? {
        let Some(file) = FileName::parse(&name) else { continue };
        writeln!(out, "file {file}: {} bytes", directory.size(file)?)?;
        match file {
            FileName::Log(number) => logs.push(number),
            FileName::Snapshot(last) => snapshots.push(last),
            FileName::Spare(_) | FileName::Draft(_) => {}
        }
    }
    Ok((logs, snapshots))
}

fn member_of(directory: &Directory, number: u64) -> Option<MemberId> {
    match header(&directory.read(FileName::Log(number)).ok()?) {
        HeaderFound::Valid(header) => Some(header.member),
        _ => None,
    }
}

fn show_snapshot(
    directory: &Directory,
    last: LogId,
    member: MemberId,
    out: &mut dyn Write,
) -> io::Result<()> {
    let file = FileName::Snapshot(last);
    match snapshot::decode(&directory.read(file)?, member, last) {
        Ok(snapshot) => {
            let members = snapshot.configuration.members().count();
            let bytes = snapshot.data.len();
            writeln!(out, "{file}: up to {last}, {members} members, {bytes} bytes of state")
        }
        Err(why) => writeln!(out, "{file}: DAMAGED: {why}"),
    }
}

fn header(segment: &[u8]) -> HeaderFound {
    Header::decode(segment, format::newest_version())
}

fn show_segment(
    directory: &Directory,
    number: u64,
    out: &mut dyn Write,
    payload: &dyn Fn(&[u8]) -> String,
) -> io::Result<()> {
    let file = FileName::Log(number);
    let segment = directory.read(file)?;
    let header = match header(&segment) {
        HeaderFound::Zero => return writeln!(out, "{file}: not begun"),
        HeaderFound::Damaged => return writeln!(out, "{file}: DAMAGED: its header does not read"),
        HeaderFound::Version(version) => {
            return writeln!(out, "{file}: of format version {version}, which this does not know");
        }
        HeaderFound::Valid(header) => header,
    };
    let Header { number, member, version, .. } = header;
    writeln!(out, "{file}: segment {number} of member {member}, format version {version}")?;
    write!(out, "  starts with term {}, vote {}", header.term.0, vote(header.vote))?;
    writeln!(out, ", snapshot {}, last entry {}", header.snapshot, header.last)?;
    for offset in format::MARK_OFFSETS {
        match Mark::decode(&segment, number, offset) {
            MarkFound::Zero => writeln!(out, "  mark: none")?,
            MarkFound::Damaged => writeln!(out, "  mark: DAMAGED")?,
            MarkFound::Valid(mark) => {
                let (count, offset, chain) = (mark.count, mark.offset, mark.chain);
                writeln!(out, "  mark {count}: synced up to byte {offset}, chain {chain:016x}")?;
            }
        }
    }
    let mut at = narrow(format::PAGE_BYTES);
    let mut chain = format::seed(header.number, header.member);
    loop {
        match format::next_record(&segment, at, chain) {
            Next::Record { kind, body, end, chain: next } => {
                writeln!(out, "  {at:>8}  {}", record(kind, body, payload))?;
                (at, chain) = (end, next);
                if kind == format::SEAL {
                    return Ok(());
                }
            }
            Next::End => return writeln!(out, "  {at:>8}  end"),
            Next::Broken(why) => return writeln!(out, "  {at:>8}  no record: {why}"),
        }
    }
}

fn record(kind: u8, body: &[u8], payload: &dyn Fn(&[u8]) -> String) -> String {
    let length = body.len();
    let words = match kind {
        format::HARD_STATE => format::hard_state(body)
            .map(|(term, voted)| format!("term {}, vote {}", term.0, vote(voted))),
        format::ENTRY => Entry::decode(body.into()).ok().map(|entry| self::entry(&entry, payload)),
        format::SNAPSHOT => format::snapshot_record(body).map(|(last, how)| {
            let how = match how {
                format::BUILT => "built here",
                format::INSTALLED => "installed, nothing after it kept",
                _ => "installed, the log after it kept",
            };
            format!("snapshot {last}, {how}")
        }),
        format::OPENED => format::number_record(body).map(|count| format!("opened, time {count}")),
        format::SEAL => format::number_record(body).map(|next| format!("goes on in {next:016x}")),
        _ => None,
    };
    words.unwrap_or_else(|| format!("kind {kind}, {length} bytes that make no sense here"))
}

fn entry(entry: &Entry, payload: &dyn Fn(&[u8]) -> String) -> String {
    let (id, bytes) = (entry.id(), entry.payload().len());
    match entry.kind() {
        Kind::Noop => format!("entry {id} no-op"),
        Kind::Command => format!("entry {id} command, {bytes} bytes: {}", payload(entry.payload())),
        Kind::Configuration => format!("entry {id} configuration, {bytes} bytes"),
    }
}

fn vote(vote: Option<MemberId>) -> String {
    vote.map_or_else(|| "none".to_owned(), |member| member.to_string())
}

fn show_verdict(found: &Survey, out: &mut dyn Write) -> io::Result<()> {
    let (tail, last) = (found.tail, found.replay.last());
    match found.decision {
        Decision::Begin => writeln!(out, "verdict: blank, no log was begun"),
        Decision::Continue => writeln!(out, "verdict: clean, the log ends with entry {last}"),
        Decision::Cut => writeln!(
            out,
            "verdict: torn tail ({}); the log ends with entry {last} at byte {} of {}",
            found.detail,
            tail.offset,
            FileName::Log(tail.number)
        ),
        Decision::Unfit(what) => {
            let colon = if found.detail.is_empty() { "" } else { ": " };
            writeln!(out, "verdict: UNFIT, {what}{colon}{}", found.detail)
        }
    }
}
