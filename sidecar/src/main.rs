//! `quorate-sidecar`: a member of a group beside an application, and its offline tools.

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use quorate_locks::Logged;
use quorate_sidecar::config::file::File;
use quorate_sidecar::config::{AttachArgs, AttachConfig, Config, SidecarArgs};
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
    Attach(Box<AttachArgs>),
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

/// A verb whose settings may stand in a file, too.
trait Settings: Sized {
    /// Its name.
    const VERB: &'static str;
    /// The settings, checked.
    type Checked;
    /// Its part of what was given.
    fn of(verb: Verb) -> Option<Self>;
    /// The file that was named.
    fn file(&self) -> Option<PathBuf>;
    /// All that is wrong with them, or they are good.
    fn check(self) -> Result<Self::Checked, Vec<String>>;
}

impl Settings for SidecarArgs {
    const VERB: &'static str = "run";
    type Checked = Config;

    fn of(verb: Verb) -> Option<SidecarArgs> {
        if let Verb::Run(args) = verb { Some(*args) } else { None }
    }

    fn file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    fn check(self) -> Result<Config, Vec<String>> {
        Config::check(self)
    }
}

impl Settings for AttachArgs {
    const VERB: &'static str = "attach";
    type Checked = AttachConfig;

    fn of(verb: Verb) -> Option<AttachArgs> {
        if let Verb::Attach(args) = verb { Some(*args) } else { None }
    }

    fn file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    fn check(self) -> Result<AttachConfig, Vec<String>> {
        AttachConfig::check(self)
    }
}

/// The settings, with a file below flags and environment; or all that is wrong with them.
fn settings<S: Settings>(args: S) -> Result<S::Checked, Vec<String>> {
    let Some(path) = args.file() else { return args.check() };
    let file = File::read(&path).map_err(|why| vec![why])?;
    let command = Arguments::command().mut_subcommand(S::VERB, |verb| file.defaults(verb));
    // These words were taken before, with fewer defaults.
    let matches = command.clone().try_get_matches().map_err(|why| vec![why.to_string()])?;
    let again = Arguments::from_arg_matches(&matches).map_err(|why| vec![why.to_string()])?;
    let (Some(args), Some((_, given))) = (S::of(again.verb), matches.subcommand()) else {
        return args.check();
    };
    let verb = command.find_subcommand(S::VERB).expect("it is a verb of this program");
    let mut complaints = file.complaints(verb);
    match args.check() {
        Ok(config) if complaints.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(found) => {
            complaints.extend(found.into_iter().map(|why| file.placed(why, verb, given)));
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

/// Checked settings; else what is wrong with them is said.
fn checked<S: Settings>(args: S) -> Result<S::Checked, ExitCode> {
    settings(args).map_err(|complaints| {
        for complaint in complaints {
            said(&complaint);
        }
        ExitCode::from(64)
    })
}

fn run_member(args: SidecarArgs) -> ExitCode {
    let config = match checked(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Some(parent) = config.die_with_parent
        && let Err(why) = dev::die_with(parent)
    {
        said(&why);
        return ExitCode::from(70);
    }
    foreground(run::run(config))
}

fn run_attached(args: AttachArgs) -> ExitCode {
    match checked(args) {
        Ok(config) => foreground(run::attach(config)),
        Err(code) => code,
    }
}

/// With everything said that was to be said.
fn heard(code: ExitCode) -> ExitCode {
    lines::drain(lines::LAST_WORDS);
    code
}

fn foreground(work: impl Future<Output = Result<run::Ended, run::Failed>>) -> ExitCode {
    end_with_a_panic();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().max_blocking_threads(8).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            said(&format!("no runtime: {error}"));
            return ExitCode::from(71);
        }
    };
    let ended = runtime.block_on(work);
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
    said(&format!("it has to begin anew; start it again ({why})"));
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
        Ok(Arguments { verb: Verb::Run(args) }) => heard(run_member(*args)),
        Ok(Arguments { verb: Verb::Attach(args) }) => heard(run_attached(*args)),
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
