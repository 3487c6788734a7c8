//! The settings of one member: flags and environment, checked as a whole.
//!
//! [`Config::check`] finds every bad value at once; each complaint names the flag, the value, the
//! limit, and what to write instead. What clap itself can refuse (an unknown flag) it refuses
//! first. No socket or file is opened here, but that the TLS files are looked for.

use crate::tls::TlsFiles;
use clap::Args;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The socket of the local API, unless another is chosen.
pub const SOCKET: &str = "/run/quorate/quorate.sock";
/// The longest member or cluster name: one label of a DNS name.
pub const NAME_BYTES_MAX: usize = 63;
/// Peers that can be named.
pub const PEERS_MAX: usize = 64;
/// The limits of the election timeout.
const ELECTION_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=10_000;
/// The longest delay that a measurement may add to each flush.
const FLUSH_DELAY_MAX_US: u64 = 1_000_000;

/// The flags of `quorate-sidecar run`. Each can come from the environment instead; a flag wins.
#[derive(Args, Clone, Debug)]
#[command(
    about = "One member, in the foreground",
    after_help = "\
A cluster of three on one machine, each line in a terminal of its own:
  quorate-sidecar run --name a --data-dir /tmp/a --socket /tmp/a.sock \\
      --peer a=127.0.0.1:7401,b=127.0.0.1:7411,c=127.0.0.1:7421
  ... the same for b and c, with --peer-listen, --admin-listen and --probe-listen of their own,
then Members.Bootstrap at one of them. `quorate dev` does all of this in one command.

Without --tls-cert, --tls-key and --tls-ca the peer and admin ports must be on loopback: whoever
reaches the peer port could speak as a member. With them, a member's certificate carries the DNS
name NAME.CLUSTER.quorate, and the admin port takes clients named operator.CLUSTER.quorate,
admin.CLUSTER.quorate, or as a member."
)]
pub struct SidecarArgs {
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
    /// Probes and metrics; port 0: any.
    pub probe_listen: SocketAddr,
    /// Member name to `HOST:PORT`.
    pub peers: BTreeMap<String, String>,
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
        let name = bad.take(dns_label("--name", &args.name, "member-1"));
        let data_dir = bad.take(path("--data-dir", &args.data_dir, "/var/lib/quorate"));
        let socket = bad.take(socket(&args.socket));
        let socket_mode = bad.take(mode(&args.socket_mode));
        let api_listen = bad.take(args.api_port.as_deref().map(api_port).transpose());
        let peer_listen = bad.take(listen("--peer-listen", &args.peer_listen, 7401));
        let admin_listen = bad.take(listen("--admin-listen", &args.admin_listen, 7402));
        let probe_listen = bad.take(listen("--probe-listen", &args.probe_listen, 7404));
        let peers = peers(&args.peers, &mut bad);
        let cluster = bad.take(dns_label("--cluster", &args.cluster, "quorate"));
        let tls = bad.take(tls(&args));
        if tls == Some(None) {
            let listeners = [("--peer-listen", peer_listen), ("--admin-listen", admin_listen)];
            for (flag, address) in listeners {
                bad.take(address.map_or(Ok(()), |address| on_loopback(flag, address)));
            }
        }
        ports_differ(&[peer_listen, admin_listen, probe_listen, api_listen.flatten()], &mut bad);
        let election_timeout = bad.take(election_timeout(&args.election_timeout));
        let log = bad.take(args.log.parse());
        let delay = args.flush_delay_us.as_deref().map_or(Ok(Duration::ZERO), flush_delay);
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
            probe_listen: probe_listen.expect(checked),
            peers,
            cluster: cluster.expect(checked),
            tls: tls.expect(checked),
            election_timeout: election_timeout.expect(checked),
            log: log.expect(checked),
            flush_delay: flush_delay.expect(checked),
            die_with_parent: args.die_with_parent,
        })
    }
}

/// A DNS label: what a certificate's name and a Kubernetes object can carry.
pub(crate) fn dns_label(flag: &str, value: &str, example: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err(format!("{flag} is missing; write {flag} {example}, say"));
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !value.starts_with('-') && !value.ends_with('-');
    if value.len() > NAME_BYTES_MAX || !value.bytes().all(inner) || !edges {
        return Err(format!(
            "{flag} is {value:?}; it must be 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, with - only \
             inside: {example}, say"
        ));
    }
    Ok(value.to_owned())
}

fn path(flag: &str, value: &str, example: &str) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err(format!("{flag} is missing; write {flag} {example}, say"));
    }
    Ok(PathBuf::from(value))
}

fn socket(value: &str) -> Result<PathBuf, String> {
    let most = crate::local_socket::PATH_BYTES_MAX;
    if value.len() > most {
        return Err(format!(
            "--socket has {} bytes, {most} is the most that the system takes; use a shorter path",
            value.len()
        ));
    }
    path("--socket", value, SOCKET)
}

fn mode(value: &str) -> Result<u32, String> {
    u32::from_str_radix(value, 8).ok().filter(|mode| (0o600..=0o777).contains(mode)).ok_or_else(
        || format!("--socket-mode is {value:?}; it is an octal mode from 0600 to 0777: 0660, say"),
    )
}

fn api_port(value: &str) -> Result<SocketAddr, String> {
    let port = value
        .parse()
        .map_err(|_| format!("--api-port is {value:?}; it is a port, 0 to 65535: 7400, say"))?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

fn listen(flag: &str, value: &str, port: u16) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| {
        format!(
            "{flag} is {value:?}; it is IP:PORT (no name), port 0 to 65535: 127.0.0.1:{port}, say"
        )
    })
}

fn on_loopback(flag: &str, address: SocketAddr) -> Result<(), String> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{flag} is {address}, which is not loopback, and there is no TLS: anybody who reaches it \
         could speak as a member; give --tls-cert, --tls-key and --tls-ca, or use 127.0.0.1:{}",
        address.port()
    ))
}

fn ports_differ(addresses: &[Option<SocketAddr>], bad: &mut Complaints) {
    let chosen = addresses.iter().flatten().filter(|address| address.port() != 0);
    let mut seen = BTreeMap::new();
    for address in chosen {
        if seen.insert(*address, ()).is_some() {
            bad.0.push(format!(
                "{address} is given to two of --peer-listen, --admin-listen, --probe-listen and \
                 --api-port; each needs one of its own, or port 0"
            ));
        }
    }
}

fn peers(values: &[String], bad: &mut Complaints) -> BTreeMap<String, String> {
    let mut peers = BTreeMap::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        let Some((name, address)) = bad.take(peer(value)) else { continue };
        if let Some(other) = peers.insert(name.clone(), address.clone()) {
            bad.0.push(format!("--peer names {name} twice: {other} and {address}; keep one"));
        }
    }
    if peers.len() > PEERS_MAX {
        bad.0.push(format!("--peer names {} members; {PEERS_MAX} is the most", peers.len()));
    }
    peers
}

fn peer(value: &str) -> Result<(String, String), String> {
    let shape =
        || format!("--peer is {value:?}; it is NAME=HOST:PORT: member-2=10.0.0.2:7401, say");
    let (name, address) = value.split_once('=').ok_or_else(shape)?;
    let name = dns_label("--peer NAME", name, "member-2")?;
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_good = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(good),
    };
    let port_good = port.parse::<u16>().is_ok_and(|port| port > 0);
    if !host_good || !port_good {
        return Err(shape());
    }
    Ok((name, address.to_owned()))
}

fn tls(args: &SidecarArgs) -> Result<Option<TlsFiles>, String> {
    let given = [&args.tls_cert, &args.tls_key, &args.tls_ca];
    if given.iter().all(|file| file.is_none()) {
        return Ok(None);
    }
    let (Some(cert), Some(key), Some(ca)) = (&args.tls_cert, &args.tls_key, &args.tls_ca) else {
        let flags = ["--tls-cert", "--tls-key", "--tls-ca"];
        let missing: Vec<&str> = flags
            .into_iter()
            .zip(given)
            .filter_map(|(flag, file)| file.is_none().then_some(flag))
            .collect();
        return Err(format!("TLS needs all three files; missing: {}", missing.join(", ")));
    };
    Ok(Some(TlsFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() }))
}

/// A time as people write it: `800ms`, `2s`, `1m`.
///
/// # Errors
/// It is not a whole number with one of those units.
pub fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| "not a whole number with ms, s or m".to_owned())?;
    let unit = &value[digits.len()..];
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => return Err("not a whole number with ms, s or m".to_owned()),
    };
    millis.map(Duration::from_millis).ok_or_else(|| "too large".to_owned())
}

/// The election timeout, with its limits.
///
/// # Errors
/// A sentence with the flag, the value and the limits.
pub fn election_timeout(value: &str) -> Result<Duration, String> {
    let good = duration(value).ok().filter(|time| {
        u64::try_from(time.as_millis()).is_ok_and(|ms| ELECTION_TIMEOUT_MS.contains(&ms))
    });
    good.ok_or_else(|| format!("--election-timeout is {value:?}; it is 100ms to 10s: 800ms, say"))
}

fn flush_delay(value: &str) -> Result<Duration, String> {
    let good = value.parse::<u64>().ok().filter(|delay| *delay <= FLUSH_DELAY_MAX_US);
    good.map(Duration::from_micros).ok_or_else(|| {
        format!("QUORATE_FLUSH_DELAY_US is {value:?}; it is 0 to {FLUSH_DELAY_MAX_US}")
    })
}

impl FromStr for Level {
    type Err = String;

    fn from_str(value: &str) -> Result<Level, String> {
        match value {
            "error" => Ok(Level::Error),
            "warn" => Ok(Level::Warn),
            "info" => Ok(Level::Info),
            "debug" => Ok(Level::Debug),
            _ => Err(format!("--log is {value:?}; it is error, warn, info or debug")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SidecarArgs,
    }

    fn check(flags: &[&str]) -> Result<Config, Vec<String>> {
        let line = Line::try_parse_from([&["run"], flags].concat()).unwrap();
        Config::check(line.args)
    }

    #[test]
    fn the_defaults_need_only_a_name_and_a_directory() {
        let config = check(&["--name", "a", "--data-dir", "/d"]).unwrap();
        assert_eq!(config.socket, PathBuf::from(SOCKET));
        assert_eq!(config.peer_listen.to_string(), "127.0.0.1:7401");
        assert_eq!(config.election_timeout, Duration::from_millis(800));
        assert_eq!((config.tls, config.api_listen), (None, None));
        assert_eq!(config.socket_mode, 0o666);
    }

    #[test]
    fn every_bad_value_is_reported_at_once() {
        let long = "s".repeat(108);
        let flags = [
            "--name=Not A Label",
            "--socket",
            &long,
            "--socket-mode=9",
            "--api-port=70000",
            "--peer-listen=localhost:1",
            "--admin-listen=0.0.0.0:7402",
            "--probe-listen=x",
            "--peer=a,b=,c=h:0,d=h:1,d=h:2,-x=h:1",
            "--cluster=",
            "--election-timeout=99ms",
            "--log=loud",
            "--flush-delay-us=1000001",
        ];
        let complaints = check(&flags).unwrap_err();
        let parts = [
            "--name is \"Not A Label\"",
            "--data-dir is missing",
            "--socket has 108 bytes, 107",
            "--socket-mode is \"9\"",
            "--api-port is \"70000\"",
            "--peer-listen is \"localhost:1\"",
            "--probe-listen is \"x\"",
            "--peer is \"a\"",
            "--peer is \"b=\"",
            "--peer is \"c=h:0\"",
            "--peer names d twice: h:1 and h:2",
            "--peer NAME is \"-x\"",
            "--cluster is missing",
            "--admin-listen is 0.0.0.0:7402, which is not loopback",
            "--election-timeout is \"99ms\"; it is 100ms to 10s",
            "--log is \"loud\"",
            "QUORATE_FLUSH_DELAY_US is \"1000001\"",
        ];
        assert_eq!(complaints.len(), parts.len(), "{complaints:#?}");
        for (complaint, part) in complaints.iter().zip(parts) {
            assert!(complaint.starts_with(part), "{complaint:?} for {part:?}");
        }
    }

    #[test]
    fn tls_is_all_or_nothing_and_frees_the_addresses() {
        let base = ["--name=a", "--data-dir=/d", "--peer-listen=0.0.0.0:7401"];
        let one = check(&[&base[..], &["--tls-cert=c", "--tls-ca=a"]].concat()).unwrap_err();
        assert_eq!(one, ["TLS needs all three files; missing: --tls-key"]);
        let all = [&base[..], &["--tls-cert=c", "--tls-key=k", "--tls-ca=a"]].concat();
        assert_eq!(check(&all).unwrap().tls.unwrap().key, PathBuf::from("k"));
    }

    #[test]
    fn peers_and_ports() {
        let base = ["--name=a", "--data-dir=/d", "--api-port=0"];
        let peers = "--peer=a=h.example:1,b=[::1]:2";
        let config = check(&[&base[..], &[peers, "--peer=c=10.0.0.3:3"]].concat()).unwrap();
        assert_eq!(config.peers["b"], "[::1]:2");
        assert_eq!(config.peers.len(), 3);
        assert_eq!(config.api_listen.unwrap().to_string(), "127.0.0.1:0");
        let same = check(&["--name=a", "--data-dir=/d", "--api-port=7401"]).unwrap_err();
        assert!(same[0].starts_with("127.0.0.1:7401 is given to two"), "{same:?}");
    }
}
