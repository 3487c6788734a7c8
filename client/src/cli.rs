//! What can be typed: verbs, flags, help.

use crate::duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;
use std::time::Duration;

/// Leader election and locks with fencing tokens.
///
/// Talks to the Quorate sidecar beside it. First steps: `quorate dev` in one terminal runs a whole
/// group; then `quorate lock backup -- ./backup.sh` in another.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// The sidecar: a socket's path, unix:PATH, or http://127.0.0.1:PORT.
    ///
    /// Without it: QUORATE_ENDPOINT, then /run/quorate/quorate.sock, then the socket that `quorate
    /// dev` makes.
    #[arg(long, global = true, value_name = "ENDPOINT")]
    pub endpoint: Option<String>,

    /// How answers are written. Tokens are strings in JSON: they need 63 bits.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: the command's own (128 + N if signal N ended it); \
64 bad usage; 66 wal: no log there; 69 no sidecar, or no majority; 73 dev: the directory cannot be \
used; 75 not acquired in time; 76 lost while held; 126 the command cannot be run; 127 it is not \
there.";

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a command while holding a lock
    ///
    /// The command sees QUORATE_NAME, QUORATE_TOKEN and QUORATE_ENDPOINT. When it ends, its process
    /// group is killed and the lock released. When the lock is lost, the command gets SIGTERM, then
    /// SIGKILL, before anybody else can hold the lock. INT, TERM and HUP are passed on to the
    /// command, and its end is awaited, however long that takes. Without a command: holds until
    /// SIGINT or SIGTERM, and prints the token.
    #[command(after_long_help = "Examples:
  quorate lock backup -- ./backup.sh           wait for the lock, run, release
  quorate lock backup --try -- ./backup.sh     exit 75 at once if it is taken
  quorate lock backup --wait 30s -- ./backup.sh")]
    Lock(LockArgs),

    /// Run a command while leading
    ///
    /// As `lock`, for elections: observers are told who leads, and the leader's value. With --again
    /// it stands for election again after any end of the command and any loss, until SIGINT or
    /// SIGTERM.
    #[command(after_long_help = "Examples:
  quorate elect scheduler --again -- ./scheduler     one of many runs it, always
  quorate elect scheduler --value 10.1.2.3:8080 -- ./scheduler")]
    Elect(ElectArgs),

    /// The group, as this sidecar sees it
    ///
    /// The exit code is 0 whenever the sidecar answers, also without a leader: scripts read .leader
    /// of --output json, which is empty then.
    #[command(after_long_help = "Example:\n  quorate status --output json")]
    Status,

    /// The names in use, who holds them, and how many wait
    #[command(after_long_help = "Examples:\n  quorate ls\n  quorate ls jobs/")]
    Ls {
        /// Only names that start so.
        #[arg(default_value = "")]
        prefix: String,
    },

    /// The members of the group
    #[command(after_long_help = "Example:\n  quorate members")]
    Members,

    /// Print who leads an election, now and at every change
    #[command(after_long_help = "Example:\n  quorate watch scheduler")]
    Watch {
        /// The election.
        name: String,
    },

    /// Say in words who holds a name, and who waits
    #[command(after_long_help = "Example:\n  quorate explain backup")]
    Explain {
        /// The name.
        name: String,
    },

    /// Print completions for a shell
    #[command(
        after_long_help = "Example:\n  quorate completions bash > /etc/bash_completion.d/quorate"
    )]
    Completions {
        /// For which shell.
        shell: Shell,
    },

    /// Look into a log on disk (starts quorate-sidecar wal)
    #[command(after_long_help = "Example:\n  quorate wal inspect DIR", disable_help_flag = true)]
    Wal(SiblingArgs),

    /// Run a whole group on this machine (starts quorate-sidecar dev)
    #[command(after_long_help = "Example:\n  quorate dev --members 3", disable_help_flag = true)]
    Dev(SiblingArgs),

    #[command(name = "__exec", hide = true)]
    Exec(ExecArgs),

    #[command(name = "__foreground", hide = true)]
    Foreground(ForegroundArgs),
}

/// What lock and elect share.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// 1 to 256 bytes of UTF-8.
    pub name: String,

    /// Wait at most so long (500ms, 5s, 1m); without it, as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub wait: Option<Duration>,

    /// Do not wait: exit 75 if it is taken. Without a majority that is not known; after 5 s: 69.
    #[arg(long = "try", conflicts_with = "wait")]
    pub try_only: bool,

    /// How long the group waits for a holder that died without a word: 1s to 10m.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_ttl, default_value = "5s")]
    pub ttl: Duration,

    /// Start over after any end of the command and any loss, until SIGINT or SIGTERM.
    #[arg(long)]
    pub again: bool,

    /// The command, after `--`.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl HoldArgs {
    /// Not to wait at all is to try.
    pub fn settle(&mut self) {
        if self.wait == Some(Duration::ZERO) {
            self.wait = None;
            self.try_only = true;
        }
    }
}

#[derive(Debug, Args)]
pub struct LockArgs {
    #[command(flatten)]
    pub hold: HoldArgs,
}

#[derive(Debug, Args)]
pub struct ElectArgs {
    #[command(flatten)]
    pub hold: HoldArgs,

    /// What observers are told of the leader, such as its address; at most 4 KiB.
    #[arg(long, default_value = "")]
    pub value: String,
}

#[derive(Debug, Args)]
pub struct SiblingArgs {
    /// As they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

/// The first moment of a child, before it becomes the command.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[arg(long)]
    pub parent: i32,
    #[arg(long)]
    pub foreground: bool,
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Gives the terminal back.
#[derive(Debug, Args)]
pub struct ForegroundArgs {
    pub group: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_lock_with_everything() {
        let words = "quorate lock a --wait 5s --ttl 2s --again --output json -- sh -c x";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Verb::Lock(LockArgs { hold }) = cli.verb else { panic!("not a lock") };
        assert_eq!(hold.wait, Some(Duration::from_secs(5)));
        assert_eq!(hold.ttl, Duration::from_secs(2));
        assert_eq!(hold.command, ["sh", "-c", "x"]);
        assert!(hold.again && !hold.try_only);
        assert_eq!(cli.output, Output::Json);
    }

    #[test]
    fn waiting_for_no_time_is_trying() {
        let cli = Cli::try_parse_from(["quorate", "lock", "a", "--wait", "0s"]).unwrap();
        let Verb::Lock(LockArgs { mut hold }) = cli.verb else { panic!("not a lock") };
        hold.settle();
        assert!(hold.try_only && hold.wait.is_none());
    }

    #[test]
    fn bad_usage_is_refused() {
        for words in [
            "quorate lock a --wait 5",
            "quorate lock a --ttl 500ms",
            "quorate lock a --try --wait 1s",
            "quorate lock",
            "quorate lock a --shared",
            "quorate fly",
        ] {
            assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }

    #[test]
    fn every_verb_teaches_with_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let after = verb.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("quorate "), "{} has no example", verb.get_name());
        }
    }
}
