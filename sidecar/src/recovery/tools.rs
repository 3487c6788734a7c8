//! `quorate-sidecar recover` and `quorate-sidecar snapshot inspect|restore`: offline, on files.

use super::{Begun, Plan, Start, confirmation, unix_s};
use crate::backup::Backup;
use crate::config::{dns_label, duration};
use crate::wal::{DataDir, OpenError, RewriteError};
use clap::{Args, Subcommand};
use quorate_locks::{Machine, Token, limits};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Bad usage, a wrong confirmation included.
const USAGE: u8 = 64;
/// A backup that is damaged.
const DATA: u8 = 65;
/// No such backup or member.
const NO_INPUT: u8 = 66;
/// Somebody has it, or the directory cannot be made.
const CANNOT_CREATE: u8 = 73;
/// The disk.
const IO: u8 = 74;

/// The flags of `recover`.
#[derive(Args, Clone, Debug)]
#[command(
    about = "Forces the last member of a lost group to go on alone",
    after_help = "\
For a group that lost its majority for ever. Stop this member first. It becomes the only member of
a group with a new identity; every session ends, and tokens go on above all that are known. What
only the lost members had is lost. Where of every other member it is KNOWN that its applications
have stopped, or that a TTL passed since the member did, add --confirm-old-members-stopped: then
grants wait for this member's own applications, and for those of attached pods, alone. Else nothing
is granted for --hold-off after the start.

Example:
  quorate recover --dir /var/lib/quorate/data \\
      --i-understand \"the other members of 5f0c... are lost\"
Then start the member again, and add new ones: quorate members change --help"
)]
pub struct RecoverArgs {
    /// The survivor's data directory: DIR of --data-dir
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// The confirmation, in words; without it they are told
    #[arg(long, value_name = "WORDS")]
    i_understand: Option<String>,

    #[command(flatten)]
    life: LifeArgs,
}

/// What a recovery and a restore both ask.
#[derive(Args, Clone, Debug)]
pub struct LifeArgs {
    /// A token that the new ones must be above: the highest that anybody has seen, where the
    /// files may not know it
    #[arg(long, value_name = "TOKEN")]
    above_token: Option<String>,

    /// Grant nothing for so long after the start: the longest TTL of any session of the old group,
    /// 1s to 20m [default: 10m, the longest there is]
    #[arg(long, value_name = "TIME", conflicts_with = "confirm_old_members_stopped")]
    hold_off: Option<String>,

    /// Of every old member it is known that its applications have stopped, or that a TTL passed
    /// since the member did: hold off for none of them
    #[arg(long)]
    confirm_old_members_stopped: bool,

    /// What standard output is for: text or json
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

/// The verbs of `snapshot`.
#[derive(Subcommand, Clone, Debug)]
pub enum SnapshotVerb {
    /// Says what a backup is of, and whether it is whole
    #[command(after_help = "Example:\n  quorate snapshot inspect monday.backup")]
    Inspect {
        /// The backup
        file: PathBuf,
        /// What standard output is for: text or json
        #[arg(long, value_name = "FORM", default_value = "text", value_parser = ["text", "json"])]
        output: String,
    },
    /// Makes the data directory of a new group's first member from a backup
    Restore(RestoreArgs),
}

/// The flags of `snapshot restore`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
For a group that is lost as a whole. The new directory holds the only member of a group with a new
identity; every session of the backup ends, and tokens go on above all that are known. What was
granted after the backup is not in it: where the clock may be wrong or the group was recovered
since, name the highest token seen with --above-token. Where of every old member and attached pod
it is KNOWN that its applications have stopped, or that a TTL passed since it did, add
--confirm-old-members-stopped; else nothing is granted for --hold-off after the start.

Example:
  quorate snapshot restore monday.backup --dir /var/lib/quorate/data --name member-1
Then start it: quorate-sidecar run --name member-1 --data-dir /var/lib/quorate/data
and add new members: quorate members change --help")]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,

    /// The data directory to make; it must be empty, or not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// The member's name: --name of `quorate-sidecar run`
    #[arg(long, value_name = "NAME")]
    name: String,

    #[command(flatten)]
    life: LifeArgs,
}

/// A sentence, and its exit code.
struct Failed {
    code: u8,
    why: String,
}

fn failed(code: u8, why: impl std::fmt::Display) -> Failed {
    Failed { code, why: why.to_string() }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Failed {
        failed(CANNOT_CREATE, error)
    }
}

impl From<RewriteError> for Failed {
    fn from(error: RewriteError) -> Failed {
        let code = match error {
            RewriteError::Open(_) => CANNOT_CREATE,
            RewriteError::Unfit(_) | RewriteError::Refused(_) => DATA,
            RewriteError::Disk(_) => IO,
        };
        failed(code, error)
    }
}

impl LifeArgs {
    fn plan(&self) -> Result<Plan, Failed> {
        let above = match &self.above_token {
            None => Token(0),
            Some(text) => token(text).ok_or_else(|| {
                let why = format!("--above-token is {text:?}; it is a token, 1 to 2^63 - 1");
                failed(USAGE, why)
            })?,
        };
        let hold_off_ms = match (&self.hold_off, self.confirm_old_members_stopped) {
            (_, true) => 0,
            (None, false) => limits::TTL_MS_MAX,
            (Some(text), false) => hold_off(text).ok_or_else(|| {
                failed(USAGE, format!("--hold-off is {text:?}; it is 1s to 20m: 10m, say"))
            })?,
        };
        let cluster = random_identity()?;
        Ok(Plan { cluster, start: Start::Above(above), hold_off_ms })
    }

    fn say(&self, begun: &Begun, plan: Plan, dir: &Path) -> Result<(), Failed> {
        let text = if self.output == "json" {
            as_json(begun, plan, dir).to_string()
        } else {
            in_words(begun, plan, dir)
        };
        say(&text)
    }
}

fn token(text: &str) -> Option<Token> {
    let token = text.parse::<u64>().ok().filter(|token| *token > 0).map(Token)?;
    (token.epoch() <= u64::from(limits::EPOCH_MAX)).then_some(token)
}

fn hold_off(text: &str) -> Option<u32> {
    let time = duration(text).ok().filter(|time| *time >= Duration::from_secs(1))?;
    u32::try_from(time.as_millis()).ok().filter(|ms| *ms <= limits::HOLD_OFF_MS_MAX)
}

fn random_identity() -> Result<u128, Failed> {
    let mut bytes = [0; 16];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        // Never 0, which means nobody.
        Ok(16) => Ok(u128::from_le_bytes(bytes).max(1)),
        _ => Err(failed(IO, "the system gives no random bytes")),
    }
}

fn as_json(begun: &Begun, plan: Plan, dir: &Path) -> Value {
    json!({
        "dir": dir.display().to_string(),
        "name": begun.name,
        "member_id": begun.member.to_string(),
        "cluster_id": format!("{:032x}", plan.cluster),
        "index": begun.entry.index.0,
        "epoch": begun.life.epoch(),
        "tokens_after": begun.life.to_string(),
        "highest_known_token": begun.known.to_string(),
        "sessions_ended": begun.sessions,
        "hold_off_ms": begun.hold_off_ms,
    })
}

fn in_words(begun: &Begun, plan: Plan, dir: &Path) -> String {
    let grants = match begun.hold_off_ms {
        0 => "grants are made at once".to_owned(),
        ms => format!("nothing is granted for {} s after the start", ms.div_ceil(1_000)),
    };
    format!(
        "{}: {} is the only member of cluster {:032x} now\n\
         tokens are above {} (epoch {}); the highest known one was {}\n\
         {} sessions ended; {grants}\n\
         next: start it, then add members: quorate members change --help",
        dir.display(),
        begun.name,
        plan.cluster,
        begun.life,
        begun.life.epoch(),
        begun.known,
        begun.sessions,
    )
}

fn say(text: &str) -> Result<(), Failed> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(IO, error)),
        _ => Ok(()),
    }
}

fn ended(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, why }) => {
            eprintln!("quorate-sidecar: {why}");
            ExitCode::from(code)
        }
    }
}

/// `quorate-sidecar recover`.
#[must_use]
pub fn recover(args: &RecoverArgs) -> ExitCode {
    ended(recovered(args))
}

fn recovered(args: &RecoverArgs) -> Result<(), Failed> {
    let plan = args.life.plan()?;
    if !args.dir.join("identity").is_file() {
        let why = format!("{}: no member's data is here", args.dir.display());
        return Err(failed(NO_INPUT, why));
    }
    let mut directory = DataDir::open(&args.dir, Duration::ZERO)?;
    let Some(cluster) = directory.cluster_id() else {
        return Err(failed(DATA, "this member belongs to no group: there is nothing to recover"));
    };
    if directory.is_retired()? {
        return Err(failed(DATA, "this member is retired, and never votes again"));
    }
    let words = confirmation(cluster);
    if args.i_understand.as_deref() != Some(&words) {
        let said = args.i_understand.as_deref().map_or_else(
            || "this cannot be undone, and wants a confirmation".to_owned(),
            |said| format!("--i-understand is {said:?}, which is not the confirmation"),
        );
        return Err(failed(
            USAGE,
            format!("{said}; nothing was changed. If it is so, say:\n  --i-understand \"{words}\""),
        ));
    }
    let begun = super::recover(&mut directory, plan)?;
    args.life.say(&begun, plan, &args.dir)
}

/// `quorate-sidecar snapshot`.
#[must_use]
pub fn snapshot(verb: &SnapshotVerb) -> ExitCode {
    match verb {
        SnapshotVerb::Inspect { file, output } => ended(inspected(file, output == "json")),
        SnapshotVerb::Restore(args) => ended(restored(args)),
    }
}

fn read(file: &Path) -> Result<(Backup, Machine), Failed> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let bytes = File::open(file).and_then(Backup::read).map_err(|e| failed(NO_INPUT, named(&e)))?;
    Backup::decode(&bytes).map_err(|why| failed(DATA, named(&format!("not used: {why}"))))
}

fn inspected(file: &Path, json: bool) -> Result<(), Failed> {
    let (backup, machine) = read(file)?;
    let snapshot = &backup.snapshot;
    let names: Vec<&str> = snapshot.configuration.members().map(|(_, name)| name).collect();
    let held = machine.names("").filter(|(_, name)| name.holder.is_some()).count();
    let token = machine.last_token();
    if json {
        let answer = json!({
            "cluster_id": format!("{:032x}", backup.cluster),
            "member_id": backup.member.to_string(),
            "made_unix_s": backup.made_unix_s,
            "term": snapshot.last.term.0,
            "index": snapshot.last.index.0,
            "members": names,
            "epoch": token.epoch(),
            "last_token": token.to_string(),
            "sessions": machine.session_count(),
            "names": machine.name_count(),
            "held": held,
            "hold_off_ms": machine.hold_off_ms().unwrap_or(0),
        });
        return say(&answer.to_string());
    }
    let age = unix_s().saturating_sub(backup.made_unix_s);
    say(&format!(
        "{}: whole\ncluster   {:032x}\nmade by   member {}, {age} s ago\n\
         entry     {}\nmembers   {}\ntokens    up to {token} (epoch {})\n\
         in use    {} sessions, {} names, {held} held",
        file.display(),
        backup.cluster,
        backup.member,
        snapshot.last,
        names.join(", "),
        token.epoch(),
        machine.session_count(),
        machine.name_count(),
    ))
}

fn restored(args: &RestoreArgs) -> Result<(), Failed> {
    let plan = args.life.plan()?;
    let name = dns_label("--name", &args.name, "member-1").map_err(|why| failed(USAGE, why))?;
    let (backup, _) = read(&args.file)?;
    let dir = std::path::absolute(&args.dir).map_err(|e| failed(USAGE, e))?;
    let (Some(parent), Some(last)) = (dir.parent(), dir.file_name()) else {
        return Err(failed(USAGE, format!("--dir is {}; it is a directory", dir.display())));
    };
    let named = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let cannot = |path: &Path, e: &io::Error| failed(CANNOT_CREATE, named(path, e));
    match std::fs::read_dir(&dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            let why = "it is not empty; a restore makes a new directory, and touches no other";
            return Err(failed(CANNOT_CREATE, named(&dir, &why)));
        }
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(&dir, &error)),
    }
    // Made beside it and named at the end: a crash leaves nothing that looks restored.
    let mut making = last.to_owned();
    making.push(".restoring");
    let making = parent.join(making);
    if making.exists() {
        let why = "a restore that was broken off left it: remove it, and restore again";
        return Err(failed(CANNOT_CREATE, named(&making, &why)));
    }
    let mut directory = DataDir::open(&making, Duration::ZERO)?;
    let begun = super::restore(&mut directory, &backup, &name, plan)?;
    std::fs::rename(&making, &dir).map_err(|e| cannot(&dir, &e))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|e| cannot(parent, &e))?;
    args.life.say(&begun, plan, &args.dir)
}
