//! What one setting may be. Each refusal is a sentence with the flag, the value, the limit, and
//! what to write instead.

use super::{Complaints, Level, NAME_BYTES_MAX, PEERS_MAX, SOCKET, SidecarArgs};
use crate::local_socket::PATH_BYTES_MAX;
use crate::tls::{RESERVED_NAMES, TlsFiles};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The limits of the election timeout.
const ELECTION_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=10_000;
/// The longest delay that a measurement may add to each flush.
const FLUSH_DELAY_MAX_US: u64 = 1_000_000;
/// The longest domain of peers, in bytes: with a name before it, it is a DNS name.
const DOMAIN_BYTES_MAX: usize = 253 - NAME_BYTES_MAX - 1;
/// The longest UID of a pod, in bytes.
const POD_UID_BYTES_MAX: usize = 128;

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

/// A member's name: a label that no certificate of others has.
pub(super) fn member_name(flag: &str, value: &str, example: &str) -> Result<String, String> {
    let name = dns_label(flag, value, example)?;
    if RESERVED_NAMES.contains(&name.as_str()) {
        return Err(format!(
            "{flag} is {name:?}, which stands for somebody else in certificates; choose another: \
             {example}, say"
        ));
    }
    Ok(name)
}

/// Where the log is, and the control socket beside it.
pub(super) fn data_dir(value: &str) -> Result<PathBuf, String> {
    let path = path("--data-dir", value, "/var/lib/quorate")?;
    let (control, most) = (crate::control::socket(&path), PATH_BYTES_MAX);
    let bytes = control.as_os_str().len();
    if bytes > most {
        return Err(format!(
            "--data-dir has {} bytes, and the socket in it, {}, would have {bytes}; {most} is the \
             most that the system takes; use a shorter path",
            value.len(),
            control.file_name().map(Path::new).unwrap_or(&control).display()
        ));
    }
    Ok(path)
}

/// The domain in which peers have their names, with the port.
pub(super) fn domain(domain: &str, port: &str) -> Result<(String, u16), String> {
    let label = |label: &str| dns_label("", label, "").is_ok();
    let name = domain.strip_suffix('.').unwrap_or(domain);
    if name.len() > DOMAIN_BYTES_MAX || !name.split('.').all(label) {
        return Err(format!(
            "--peer-domain is {domain:?}; it is a DNS name of at most {DOMAIN_BYTES_MAX} bytes: \
             app-peers.default.svc, say"
        ));
    }
    let number = port.parse().ok().filter(|port| *port > 0);
    let number = number
        .ok_or_else(|| format!("--peer-port is {port:?}; it is a port, 1 to 65535: 7401, say"))?;
    Ok((domain.to_owned(), number))
}

/// This pod's address.
pub(super) fn advertise(value: &str) -> Result<IpAddr, String> {
    let good = value.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast());
    good.ok_or_else(|| {
        format!("--advertise is {value:?}; it is this pod's IP, without a port: 10.0.0.1, say")
    })
}

/// What a pod is known by.
pub(super) fn pod_uid(value: &str) -> Result<String, String> {
    if value.len() > POD_UID_BYTES_MAX || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "--pod-uid is {value:?}; it is at most {POD_UID_BYTES_MAX} letters, digits and signs"
        ));
    }
    Ok(value.to_owned())
}

pub(super) fn path(flag: &str, value: &str, example: &str) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err(format!("{flag} is missing; write {flag} {example}, say"));
    }
    Ok(PathBuf::from(value))
}

pub(super) fn socket(value: &str) -> Result<PathBuf, String> {
    let most = PATH_BYTES_MAX;
    if value.len() > most {
        return Err(format!(
            "--socket has {} bytes, {most} is the most that the system takes; use a shorter path",
            value.len()
        ));
    }
    path("--socket", value, SOCKET)
}

pub(super) fn mode(value: &str) -> Result<u32, String> {
    u32::from_str_radix(value, 8).ok().filter(|mode| (0o600..=0o777).contains(mode)).ok_or_else(
        || format!("--socket-mode is {value:?}; it is an octal mode from 0600 to 0777: 0660, say"),
    )
}

pub(super) fn api_port(value: &str) -> Result<SocketAddr, String> {
    let port = value
        .parse()
        .map_err(|_| format!("--api-port is {value:?}; it is a port, 0 to 65535: 7400, say"))?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

pub(super) fn listen(flag: &str, value: &str, port: u16) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| {
        format!(
            "{flag} is {value:?}; it is IP:PORT (no name), port 0 to 65535: 127.0.0.1:{port}, say"
        )
    })
}

pub(super) fn on_loopback(flag: &str, address: SocketAddr) -> Result<(), String> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{flag} is {address}, which is not loopback, and there is no TLS: anybody who reaches it \
         could speak as a member; give --tls-cert, --tls-key and --tls-ca, or use 127.0.0.1:{}",
        address.port()
    ))
}

pub(super) fn ports_differ(addresses: &[Option<SocketAddr>], bad: &mut Complaints) {
    let chosen = addresses.iter().flatten().filter(|address| address.port() != 0);
    let mut seen = BTreeMap::new();
    for address in chosen {
        if seen.insert(*address, ()).is_some() {
            bad.0.push(format!(
                "{address} is given to two of --peer-listen, --admin-listen, --client-listen, \
                 --probe-listen and --api-port; each needs one of its own, or port 0"
            ));
        }
    }
}

pub(super) fn peers(values: &[String], bad: &mut Complaints) -> BTreeMap<String, String> {
    named("--peer", values, bad)
}

pub(super) fn members(values: &[String], bad: &mut Complaints) -> BTreeMap<String, String> {
    named("--member", values, bad)
}

fn named(flag: &str, values: &[String], bad: &mut Complaints) -> BTreeMap<String, String> {
    let mut peers = BTreeMap::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        let Some((name, address)) = bad.take(peer(flag, value)) else { continue };
        if let Some(other) = peers.insert(name.clone(), address.clone()) {
            bad.0.push(format!("{flag} names {name} twice: {other} and {address}; keep one"));
        }
    }
    if peers.len() > PEERS_MAX {
        bad.0.push(format!("{flag} names {} members; {PEERS_MAX} is the most", peers.len()));
    }
    peers
}

fn peer(flag: &str, value: &str) -> Result<(String, String), String> {
    let shape =
        || format!("{flag} is {value:?}; it is NAME=HOST:PORT: member-2=10.0.0.2:7401, say");
    let (name, address) = value.split_once('=').ok_or_else(shape)?;
    let name = member_name(&format!("{flag} NAME"), name, "member-2")?;
    if host_and_port(address) { Ok((name, address.to_owned())) } else { Err(shape()) }
}

/// Whether this is `HOST:PORT`, with an address of version 6 in brackets.
pub(super) fn host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_good = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(good),
    };
    host_good && port.parse::<u16>().is_ok_and(|port| port > 0)
}

pub(super) fn tls(args: &SidecarArgs) -> Result<Option<TlsFiles>, String> {
    tls_files([&args.tls_cert, &args.tls_key, &args.tls_ca].map(Option::as_ref))
}

/// Certificate, key and CA: all of them, or none.
pub(super) fn tls_files(given: [Option<&PathBuf>; 3]) -> Result<Option<TlsFiles>, String> {
    if given.iter().all(|file| file.is_none()) {
        return Ok(None);
    }
    let [Some(cert), Some(key), Some(ca)] = given else {
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

pub(super) fn flush_delay(value: &str) -> Result<Duration, String> {
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
