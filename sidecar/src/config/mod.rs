//! The settings of one member: flags, environment and a file, checked as a whole.
//!
//! [`Config::check`] finds every bad value at once; each complaint names the flag, the value, the
//! limit, and what to write instead. What clap itself can refuse (an unknown flag) it refuses
//! first. No socket or file is opened here, but that the TLS files are looked for.

mod attach;
mod check;
pub mod file;
mod pod;

pub use attach::{AttachArgs, AttachConfig};
pub(crate) use check::dns_label;
pub use check::{duration, election_timeout};
pub use pod::{Pod, PodArgs, Readiness, Tool};

use crate::peer::Addresses;
use crate::tls::TlsFiles;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The socket of the local API, unless another is chosen.
pub const SOCKET: &str = "/run/quorate/quorate.sock";
/// The longest member or cluster name: one label of a DNS name.
pub const NAME_BYTES_MAX: usize = 63;
/// Peers that can be named.
pub const PEERS_MAX: usize = 64;
/// The flags of `quorate-sidecar run`. Each can come from the environment instead; a flag wins.
#[derive(Args, Clone, Debug)]
#[command(
    about = "One member, in the foreground",
    after_help = "\
Every setting can stand in the environment, or in the file of --config, as KEY=VALUE lines; the keys
are the names of the variables (QUORATE_NAME=a). A flag wins over the environment, the environment
over the file. `#` begins a comment.

A cluster of three on one machine, each line in a terminal of its own:
  quorate-sidecar run --name a --data-dir /tmp/a --socket /tmp/a.sock \\
      --peer a=127.0.0.1:7401,b=127.0.0.1:7411,c=127.0.0.1:7421
  ... the same for b and c, with --peer-listen, --admin-listen and --probe-listen of their own,
then Members.Bootstrap at one of them. `quorate dev` does all of this in one command.

In a pod, --peer-domain of a headless Service takes the place of --peer, and --advertise tells peers
the pod's address before the DNS does:
  QUORATE_NAME (metadata.name), QUORATE_POD_IP (status.podIP) and QUORATE_POD_UID (metadata.uid)
  from the downward API; QUORATE_CONFIG=/etc/quorate/settings for all else;
  preStop: exec [quorate-sidecar, drain]; probes: /startupz, /livez, /readyz of --probe-listen.

Without --tls-cert, --tls-key and --tls-ca the peer and admin ports must be on loopback: whoever
reaches the peer port could speak as a member. With them, a member's certificate carries the DNS
name NAME.CLUSTER.quorate, or member.CLUSTER.quorate, which speaks for every member; the admin port
takes clients named operator.CLUSTER.quorate, admin.CLUSTER.quorate, or as one of --peer; and
--client-listen takes attached sidecars, named client.CLUSTER.quorate (`quorate-sidecar attach`)."
)]
pub struct SidecarArgs {
    /// Settings from this file, where neither a flag nor the environment has them
    #[arg(long, env = file::VARIABLE, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// This member's name: a DNS label, unique in the cluster, kept for life (a pod's name, say)
    #[arg(
        long,
        env = "QUORATE_NAME",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub name: String,

    /// Where the log is kept; made if it is not there. One process a directory
    #[arg(
        long,
        env = "QUORATE_DATA_DIR",
        value_name = "DIR",
        default_value = "",
        hide_default_value = true
    )]
    pub data_dir: String,

    /// The Unix socket of the local API
    #[arg(long, env = "QUORATE_SOCKET", value_name = "PATH", default_value = SOCKET)]
    pub socket: String,

    /// Who may connect to the socket: 0666 everybody in the pod, 0660 this user and group
    #[arg(long, env = "QUORATE_SOCKET_MODE", value_name = "MODE", default_value = "0666")]
    pub socket_mode: String,

    /// Serves the local API on loopback TCP too, on this port (0: any free one)
    #[arg(long, env = "QUORATE_API_PORT", value_name = "PORT")]
    pub api_port: Option<String>,

    /// Where other members connect
    #[arg(
        long,
        env = "QUORATE_PEER_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7401"
    )]
    pub peer_listen: String,

    /// Where the operator and administrators connect
    #[arg(
        long,
        env = "QUORATE_ADMIN_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7402"
    )]
    pub admin_listen: String,

    /// Where attached sidecars connect: those of applications that are no part of the group. Only
    /// with TLS; without it they have no way in
    #[arg(long, env = "QUORATE_CLIENT_LISTEN", value_name = "IP:PORT")]
    pub client_listen: Option<String>,

    /// Where probes and metrics are asked for, over HTTP
    #[arg(
        long,
        env = "QUORATE_PROBE_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7404"
    )]
    pub probe_listen: String,

    /// A member and where its peer port is; repeat it, or separate with commas. This member may be
    /// among them
    #[arg(
        long = "peer",
        env = "QUORATE_PEERS",
        value_name = "NAME=HOST:PORT",
        value_delimiter = ','
    )]
    pub peers: Vec<String>,

    /// The cluster's label in certificates; a DNS label
    #[arg(long, env = "QUORATE_CLUSTER", value_name = "NAME", default_value = "quorate")]
    pub cluster: String,

    /// This member's certificate chain, PEM; read again when it changes
    #[arg(long, env = "QUORATE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, env = "QUORATE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// The CA that vouches for members and administrators, PEM
    #[arg(long, env = "QUORATE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// How long a silent leader is believed, the same for all members: 100ms to 10s
    #[arg(long, env = "QUORATE_ELECTION_TIMEOUT", value_name = "TIME", default_value = "800ms")]
    pub election_timeout: String,

    /// What goes to standard error: error, warn, info or debug
    #[arg(long, env = "QUORATE_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,

    /// Microseconds that each flush of the log takes longer: for measurements
    #[arg(long, env = "QUORATE_FLUSH_DELAY_US", value_name = "US", hide = true)]
    pub flush_delay_us: Option<String>,

    /// Die with this process, which must be the parent
    #[arg(long, value_name = "PID", hide = true)]
    pub die_with_parent: Option<i32>,

    /// What only a pod needs
    #[command(flatten)]
    pub pod: PodArgs,
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what ends the process.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happened.
    Info,
    /// Everything.
    Debug,
}

/// The settings of one member, all of them good.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's name: a DNS label.
    pub name: String,
    /// Where the log is kept.
    pub data_dir: PathBuf,
    /// The local API's socket.
    pub socket: PathBuf,
    /// Its permissions.
    pub socket_mode: u32,
    /// The local API's loopback address, if wanted; port 0: any.
    pub api_listen: Option<SocketAddr>,
    /// The peer port; port 0: any.
    pub peer_listen: SocketAddr,
    /// The admin port; port 0: any.
    pub admin_listen: SocketAddr,
    /// Where attached sidecars connect, if they may; port 0: any.
    pub client_listen: Option<SocketAddr>,
    /// Probes and metrics; port 0: any.
    pub probe_listen: SocketAddr,
    /// Where members are.
    pub addresses: Addresses,
    /// What a pod adds.
    pub pod: Pod,
    /// The label of the cluster.
    pub cluster: String,
    /// Mutual TLS of the peer and admin ports; none: they are on loopback.
    pub tls: Option<TlsFiles>,
    /// 100 ms to 10 s.
    pub election_timeout: Duration,
    /// How much is said.
    pub log: Level,
    /// Added to each flush of the log; for measurements, at most 1 s.
    pub flush_delay: Duration,
    /// The parent to die with.
    pub die_with_parent: Option<i32>,
}

/// Complaints, gathered.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.0.push(why)).ok()
    }
}

impl Config {
    /// Checks all settings.
    ///
    /// # Errors
    /// One sentence for every bad value, in the order of the flags.
    pub fn check(args: SidecarArgs) -> Result<Config, Vec<String>> {
        let mut bad = Complaints::default();
        let name = bad.take(check::member_name("--name", &args.name, "member-1"));
        let data_dir = bad.take(check::data_dir(&args.data_dir));
        let socket = bad.take(check::socket(&args.socket));
        let socket_mode = bad.take(check::mode(&args.socket_mode));
        let api_listen = bad.take(args.api_port.as_deref().map(check::api_port).transpose());
        let peer_listen = bad.take(check::listen("--peer-listen", &args.peer_listen, 7401));
        let admin_listen = bad.take(check::listen("--admin-listen", &args.admin_listen, 7402));
        let client_listen = args.client_listen.as_deref().filter(|address| !address.is_empty());
        let client_listen = client_listen.map(|at| check::listen("--client-listen", at, 7403));
        let client_listen = bad.take(client_listen.transpose());
        let probe_listen = bad.take(check::listen("--probe-listen", &args.probe_listen, 7404));
        let named = check::peers(&args.peers, &mut bad);
        let (pod, domain) = Pod::check(&args.pod, &mut bad);
        let cluster = bad.take(dns_label("--cluster", &args.cluster, "quorate"));
        let tls = bad.take(check::tls(&args));
        if tls == Some(None) {
            let listeners = [("--peer-listen", peer_listen), ("--admin-listen", admin_listen)];
            for (flag, address) in listeners {
                bad.take(address.map_or(Ok(()), |address| check::on_loopback(flag, address)));
            }
            if let Some(address) = client_listen.flatten() {
                bad.0.push(format!(
                    "--client-listen is {address}, and there is no TLS, which that port is never \
                     without; give --tls-cert, --tls-key and --tls-ca, or leave it out"
                ));
            }
        }
        let optional = [client_listen.flatten(), api_listen.flatten()];
        let listeners = [&[peer_listen, admin_listen, probe_listen][..], &optional].concat();
        check::ports_differ(&listeners, &mut bad);
        let election_timeout = bad.take(election_timeout(&args.election_timeout));
        let log = bad.take(args.log.parse());
        let delay = args.flush_delay_us.as_deref().map_or(Ok(Duration::ZERO), check::flush_delay);
        let flush_delay = bad.take(delay);
        if !bad.0.is_empty() {
            return Err(bad.0);
        }
        let checked = "a value without a complaint is there";
        Ok(Config {
            name: name.expect(checked),
            data_dir: data_dir.expect(checked),
            socket: socket.expect(checked),
            socket_mode: socket_mode.expect(checked),
            api_listen: api_listen.expect(checked),
            peer_listen: peer_listen.expect(checked),
            admin_listen: admin_listen.expect(checked),
            client_listen: client_listen.expect(checked),
            probe_listen: probe_listen.expect(checked),
            addresses: Addresses { named, domain },
            pod,
            cluster: cluster.expect(checked),
            tls: tls.expect(checked),
            election_timeout: election_timeout.expect(checked),
            log: log.expect(checked),
            flush_delay: flush_delay.expect(checked),
            die_with_parent: args.die_with_parent,
        })
    }
}

#[cfg(test)]
mod tests;
