//! `quorate-sidecar`: a member of a group beside an application, and its offline tools.

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use quorate_locks::Logged;
use quorate_sidecar::config::file::File;
use quorate_sidecar::config::{Config, SidecarArgs};
use quorate_sidecar::recovery::tools;
use quorate_sidecar::{control, dev, lines, run, wal};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Leader election and locks with fencing tokens, from a Raft group that lives beside the
/// applications.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One member, in the foreground
    Run(Box<SidecarArgs>),
    Drain(control::DrainArgs),
    /// A whole group on this machine, in the foreground: for trying out, demos and tests
    Dev(dev::DevArgs),
    /// Looks at a log without touching it
    #[command(subcommand)]
    Wal(WalVerb),
    /// Looks at a backup, or makes a new group of it
    #[command(subcommand)]
    Snapshot(tools::SnapshotVerb),
    Recover(tools::RecoverArgs),
}

#[derive(Subcommand)]
enum WalVerb {
    /// Prints identity, segments, records and the verdict of recovery; never writes
    Inspect {
        /// A data directory: DIR of --data-dir
        dir: PathBuf,
    },
}

fn command_words(bytes: &[u8]) -> String {
    match Logged::decode(bytes) {
        Ok(Logged::Command(command)) => format!("{command:?}"),
        Ok(Logged::Life(command)) => format!("{command:?}"),
        Err(error) => format!("{} bytes that are no command: {error}", bytes.len()),
    }
}

/// The settings, with a file below flags and environment; or all that is wrong with them.
fn settings(args: SidecarArgs) -> Result<Config, Vec<String>> {
    let Some(path) = args.config.clone() else { return Config::check(args) };
    let file = File::read(&path).map_err(|why| vec![why])?;
    let command = Arguments::command().mut_subcommand("run", |run| file.defaults(run));
    // These words were taken before, with fewer defaults.
    let matches = command.clone().try_get_matches().map_err(|why| vec![why.to_string()])?;
    let again = Arguments::from_arg_matches(&matches).map_err(|why| vec![why.to_string()])?;
    let (Verb::Run(args), Some(("run", given))) = (again.verb, matches.subcommand()) else {
        return Config::check(args);
    };
    let run = command.find_subcommand("run").expect("it is a verb of this program");
    let mut complaints = file.complaints(run);
    match Config::check(*args) {
        Ok(config) if complaints.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(found) => {
            complaints.extend(found.into_iter().map(|why| file.placed(why, run, given)));
        }
    }
    Err(complaints)
}

/// For a person, or a log: a member does not mind if nobody can read it.
fn said(why: &str) {
    lines::say(format!("quorate-sidecar: {why}"));
}

/// A member that lost one of its threads must not seem alive, whoever hears what it was.
fn end_with_a_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Its words are written here and now, and perhaps nobody reads them.
        let alarm = || {
            std::thread::sleep(lines::LAST_WORDS);
            std::process::abort();
        };
        // Without a thread for it, the words may keep the end.
        let _ = std::thread::Builder::new().spawn(alarm);
        hook(info);
        std::process::abort();
    }));
}

fn run_member(args: SidecarArgs) -> ExitCode {
    let config = match settings(args) {
        Ok(config) => config,
        Err(complaints) => {
            for complaint in complaints {
                said(&complaint);
            }
            return ExitCode::from(64);
        }
    };
    if let Some(parent) = config.die_with_parent
        && let Err(why) = dev::die_with(parent)
    {
        said(&why);
        return ExitCode::from(70);
    }
    end_with_a_panic();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().max_blocking_threads(8).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            said(&format!("no runtime: {error}"));
            return ExitCode::from(71);
        }
    };
    let ended = runtime.block_on(run::run(config));
    // Sockets and the directory's lock are free before anything else.
    drop(runtime);
    match ended {
        Ok(run::Ended::Asked) => ExitCode::SUCCESS,
        Ok(run::Ended::Recovered) => again(),
        Err(failed) => {
            said(&failed.why);
            ExitCode::from(failed.code)
        }
    }
}

/// Begins anew in this very process, as another group's member: whoever started it sees no end.
fn again() -> ExitCode {
    // Their thread ends here.
    lines::drain(lines::LAST_WORDS);
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new("/proc/self/exe");
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let why = command.args(words).exec();
    said(&format!("recovered; start it again ({why})"));
    ExitCode::from(75)
}

fn inspect(dir: &std::path::Path) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match wal::inspect(dir, &mut out, &command_words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-sidecar: {}: {error}", dir.display());
            ExitCode::from(66)
        }
    }
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { verb: Verb::Run(args) }) => {
            let code = run_member(*args);
            lines::drain(lines::LAST_WORDS);
            code
        }
        Ok(Arguments { verb: Verb::Drain(args) }) => control::drain(&args),
        Ok(Arguments { verb: Verb::Dev(args) }) => dev::run(args),
        Ok(Arguments { verb: Verb::Snapshot(verb) }) => tools::snapshot(&verb),
        Ok(Arguments { verb: Verb::Recover(args) }) => tools::recover(&args),
        Ok(Arguments { verb: Verb::Wal(WalVerb::Inspect { dir }) }) => inspect(&dir),
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print(); // A closed pipe needs no help text.
            ExitCode::from(code)
        }
    }
}
