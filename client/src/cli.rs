//! What can be typed: verbs, flags, help.

use crate::duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;
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
64 bad usage; 65 damaged backup; 66 no such log or backup; 69 no sidecar, no majority, or \
refused; 73 a file or directory cannot be made; 74 the answer cannot be written; 75 not acquired \
in time; 76 lost while held; 77 not permitted; 126 the command cannot be run; 127 it is not there.";

const MEMBERS_EXAMPLES: &str = "Examples:
  export QUORATE_ADMIN=member-1=10.0.0.1:7402,member-2=10.0.0.2:7402,member-3=10.0.0.3:7402
  quorate members status
  quorate members change --voters member-1,member-2,member-3 --learners member-4
  quorate members change --voters member-1,member-2,member-4
  quorate members transfer member-2
  quorate members drain member-1";

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

    /// The members of the group: see, change, drain them
    ///
    /// `list` asks the sidecar beside this command, unless admin ports are named. All other verbs
    /// use the members' admin ports: name those of all members, and each verb finds the one that it
    /// needs.
    #[command(after_long_help = MEMBERS_EXAMPLES)]
    Members(MembersArgs),

    /// Save a backup, look at one, or make a new group of it
    #[command(after_long_help = "Examples:
  quorate snapshot save monday.backup --admin member-1=127.0.0.1:7402
  quorate snapshot inspect monday.backup
  quorate snapshot restore monday.backup --dir DIR --name member-1")]
    Snapshot(SnapshotArgs),

    /// Force the last member of a lost group to go on alone (starts quorate-sidecar recover)
    #[command(
        after_long_help = "Example:\n  quorate recover --dir DIR    says what it wants to hear",
        disable_help_flag = true
    )]
    Recover(SiblingArgs),

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

    /// Add the sidecar to manifests of pods that are no members (starts quorate-operator inject)
    #[command(
        after_long_help = "Example:\n  quorate inject -f deployment.yaml | kubectl apply -f -",
        disable_help_flag = true
    )]
    Inject(SiblingArgs),

    /// Run a whole group on this machine (starts quorate-sidecar dev)
    #[command(after_long_help = "Example:\n  quorate dev --members 3", disable_help_flag = true)]
    Dev(SiblingArgs),

    #[command(name = "__exec", hide = true)]
    Exec(ExecArgs),

    #[command(name = "__foreground", hide = true)]
    Foreground(ForegroundArgs),
}

/// The way to the admin ports.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// An admin port and whose it is; repeat it, or separate with commas. With TLS the names are
    /// needed [default: 127.0.0.1:7402].
    #[arg(
        long,
        global = true,
        env = "QUORATE_ADMIN",
        value_name = "[NAME=]HOST:PORT",
        value_delimiter = ','
    )]
    pub admin: Vec<String>,

    /// A certificate for admin.CLUSTER.quorate, PEM.
    #[arg(long, global = true, env = "QUORATE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(long, global = true, env = "QUORATE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// The CA that vouches for the members, PEM.
    #[arg(long, global = true, env = "QUORATE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// The cluster's label in certificates.
    #[arg(
        long,
        global = true,
        env = "QUORATE_CLUSTER",
        value_name = "NAME",
        default_value = "quorate"
    )]
    pub cluster: String,
}

#[derive(Debug, Args)]
pub struct MembersArgs {
    #[command(flatten)]
    pub admin: AdminArgs,

    #[command(subcommand)]
    pub verb: Option<MembersVerb>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum MembersVerb {
    /// Who is a member, and who votes (the default)
    List,

    /// How each member is: role, log, tokens
    Status,

    /// Found a group: every member that --admin names votes in it
    ///
    /// For sidecars with blank data directories, on hosts of your own: `quorate dev` and the
    /// operator on Kubernetes found theirs themselves. All of them have to answer.
    #[command(after_long_help = "Example:
  quorate members bootstrap --admin a=10.0.0.1:7402,b=10.0.0.2:7402,c=10.0.0.3:7402")]
    Bootstrap,

    /// Make this the membership: answered once it is committed
    ///
    /// A member is named by its name, its id, or NAME=ID. A new voter has to be a learner first,
    /// and gets the log meanwhile: two changes. Other voters make it one joint change of any size.
    #[command(after_long_help = "Examples, for a group of a, b and c:
  quorate members change --voters a,b,c --learners d     d listens
  quorate members change --voters a,b,d                  d votes in the place of c, which leaves
  quorate members change --abort                         gives up a change that is stuck")]
    Change(ChangeArgs),

    /// Hand Raft leadership to another voter
    Transfer {
        /// To whom: a name or an id; without it, to the most caught-up one.
        to: Option<String>,
    },

    /// A member gives up leadership, and stands only if nobody else can: until `undrain` or restart
    Drain {
        /// Which: a name or an id; may be left out if one admin port is given.
        member: Option<String>,
    },

    /// A member stands again
    Undrain {
        /// Which: a name or an id; may be left out if one admin port is given.
        member: Option<String>,
    },

    /// A member takes a snapshot now, so that the log before it can go
    Compact {
        /// Which: a name or an id; may be left out if one admin port is given.
        member: Option<String>,
    },

    /// Tell a member that it is retired: it never votes or serves again, restarts included
    Retire {
        /// Which: a name or an id.
        member: String,

        /// Even if it is a member of its group by its own log: for the recovery of a lost group.
        #[arg(long)]
        still_a_member: bool,
    },

    /// Force a running member of a lost group to go on alone
    ///
    /// For a group that lost its majority for ever. The member becomes the only one of a group with
    /// a new identity; every session ends, and tokens go on above all that are known. What only the
    /// lost members had is lost.
    #[command(after_long_help = "Example:
  quorate members recover member-1 --i-understand \"the other members of 5f0c... are lost\"")]
    Recover(RecoverArgs),

    /// After a recovery or restore: every old member has stopped, so grant from now on
    ///
    /// Of every old member it must be known that its applications have stopped, or that a TTL
    /// passed since the member did. Refused for as long as an application of a recovered member may
    /// hold something.
    #[command(after_long_help = "Example:
  quorate members confirm-stopped --i-understand \"every old member has stopped\"")]
    ConfirmStopped {
        /// The confirmation, in words.
        #[arg(long, value_name = "WORDS")]
        i_understand: Option<String>,
    },
}

#[derive(Clone, Debug, Args)]
pub struct ChangeArgs {
    /// All who shall vote.
    #[arg(
        long,
        value_name = "MEMBERS",
        value_delimiter = ',',
        required_unless_present = "abort",
        conflicts_with = "abort"
    )]
    pub voters: Vec<String>,

    /// All who shall listen.
    #[arg(long, value_name = "MEMBERS", value_delimiter = ',', conflicts_with = "abort")]
    pub learners: Vec<String>,

    /// The configuration that is meant to be changed, as `status` says it: refused if somebody
    /// else changed it meanwhile. Without it: the present one.
    #[arg(long, value_name = "N")]
    pub expected_index: Option<u64>,

    /// Give up the joint change under way: its old voters decide alone again.
    #[arg(long)]
    pub abort: bool,
}

#[derive(Clone, Debug, Args)]
pub struct RecoverArgs {
    /// Which: a name or an id.
    pub member: String,

    /// The confirmation, in words; without it they are told.
    #[arg(long, value_name = "WORDS")]
    pub i_understand: Option<String>,

    /// A token that the new ones must be above: the highest that anybody has seen.
    #[arg(long, value_name = "TOKEN", default_value_t = 0, hide_default_value = true)]
    pub above_token: u64,

    /// Grant nothing for so long: the longest TTL of any session of the old group, up to 20m.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse,
        default_value = "10m",
        conflicts_with = "confirm_old_members_stopped"
    )]
    pub hold_off: Duration,

    /// Of every other member it is known that its applications have stopped, or that a TTL passed
    /// since the member did: grants wait for the recovered member's own applications alone.
    #[arg(long)]
    pub confirm_old_members_stopped: bool,
}

#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    pub admin: AdminArgs,

    #[command(subcommand)]
    pub verb: SnapshotVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Save a backup of the group's state, from its leader if that is reached
    ///
    /// The file is checked, and gets its name only once it is whole. It holds the secrets of
    /// sessions: only its owner may read it.
    #[command(after_long_help = "Example:
  quorate snapshot save monday.backup --admin member-1=127.0.0.1:7402")]
    Save {
        /// The backup.
        file: PathBuf,

        /// From this member: a name or an id.
        #[arg(long, value_name = "MEMBER")]
        from: Option<String>,

        /// Replace the file if it is there.
        #[arg(long)]
        force: bool,
    },

    /// Say what a backup is of, and whether it is whole (starts quorate-sidecar snapshot inspect)
    #[command(disable_help_flag = true)]
    Inspect(SiblingArgs),

    /// Make a new group of a backup (starts quorate-sidecar snapshot restore)
    #[command(disable_help_flag = true)]
    Restore(SiblingArgs),
}

/// What lock and elect share.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// 1 to 256 bytes of UTF-8.
    pub name: String,

    /// Wait at most so long (500ms, 5s, 1m); without it, as long as it takes. A sidecar that is not
    /// up yet is waited for only with --wait or --again.
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
    /// Whether to wait for a sidecar that is not there at the start.
    pub fn awaits_a_sidecar(&self) -> bool {
        (self.again || self.wait.is_some()) && !self.try_only
    }

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

#[derive(Clone, Debug, Args)]
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
    fn admin_ports_come_before_or_after_the_verb() {
        let before = "quorate members --admin a=h:1,b=h:2 status";
        let after = "quorate members status --admin a=h:1 --admin b=h:2";
        for words in [before, after] {
            let cli = Cli::try_parse_from(words.split(' ')).unwrap();
            let Verb::Members(args) = cli.verb else { panic!("not members") };
            assert_eq!(args.admin.admin, ["a=h:1", "b=h:2"]);
            assert!(matches!(args.verb, Some(MembersVerb::Status)));
        }
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
            "quorate members change",
            "quorate members change --abort --voters a",
            "quorate members retire",
            "quorate snapshot",
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
