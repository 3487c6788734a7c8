//! Where the sidecar is.
//!
//! Order: what the user named (flag or environment), used alone; else the pod's socket, else the
//! socket that `quorate dev` makes. Purpose: find it once, and say what was tried when there is
//! none. Must not connect to another machine: a Unix socket, or loopback by choice.

use crate::error::Error;
use rustix::process::getuid;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The socket that a sidecar in the same pod makes.
pub const POD_SOCKET: &str = "/run/quorate/quorate.sock";
/// The environment's endpoint.
pub const VARIABLE: &str = "QUORATE_ENDPOINT";

/// One place where a sidecar may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket, as an absolute path.
    Unix(PathBuf),
    /// A port of this machine.
    Loopback(SocketAddr),
}

impl Endpoint {
    /// Reads a path, `unix:PATH`, or `http://127.0.0.1:PORT`. A relative path is made absolute, so
    /// that a child in another directory finds the same socket.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`], naming the forms.
    pub fn parse(text: &str) -> Result<Endpoint, Error> {
        if let Some(authority) = text.strip_prefix("http://") {
            return loopback(text, authority);
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        // `unix:///path`, as gRPC writes it.
        let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        if path.is_empty() || text.contains("://") && !text.starts_with("unix:") {
            return Err(bad(text));
        }
        std::path::absolute(path).map(Endpoint::Unix).map_err(|_| bad(text))
    }
}

fn bad(text: &str) -> Error {
    Error::BadEndpoint(format!(
        "endpoint {text:?} is not a path, unix:PATH or http://127.0.0.1:PORT"
    ))
}

fn loopback(text: &str, authority: &str) -> Result<Endpoint, Error> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let address = match authority.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => authority.parse::<SocketAddr>().ok(),
    };
    let address = address.ok_or_else(|| bad(text))?;
    let is_loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if !is_loopback || address.port() == 0 {
        return Err(Error::BadEndpoint(format!(
            "endpoint {text:?} is not on this machine: the local API is spoken over loopback only"
        )));
    }
    Ok(Endpoint::Loopback(address))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Loopback(address) => write!(f, "http://{address}"),
        }
    }
}

/// The endpoints to try, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// First to last, at least one.
    pub endpoints: Vec<Endpoint>,
    /// The user named it: no other is tried.
    pub explicit: bool,
}

impl Candidates {
    /// From what the user named (empty counts as unnamed) and what the environment says of the
    /// runtime directory.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`].
    pub fn from_parts(
        named: Option<&str>,
        runtime_dir: Option<&Path>,
        uid: u32,
    ) -> Result<Candidates, Error> {
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            return Ok(Candidates { endpoints: vec![Endpoint::parse(named)?], explicit: true });
        }
        let dev = match runtime_dir.filter(|dir| dir.is_absolute()) {
            Some(dir) => dir.join("quorate"),
            None => PathBuf::from(format!("/tmp/quorate-{uid}")),
        };
        let endpoints =
            vec![Endpoint::Unix(PathBuf::from(POD_SOCKET)), Endpoint::Unix(dev.join("dev.sock"))];
        Ok(Candidates { endpoints, explicit: false })
    }

    /// From the flag, or the environment of this process.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`].
    pub fn resolve(flag: Option<&str>) -> Result<Candidates, Error> {
        let variable = std::env::var(VARIABLE).ok();
        let named = flag.filter(|flag| !flag.is_empty()).or(variable.as_deref());
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Candidates::from_parts(named, runtime_dir.as_deref(), getuid().as_raw())
    }

    /// Whether the next one may be tried after this failure. A socket that is there but closed to
    /// us is not passed over: the next one may be another cluster.
    #[must_use]
    pub fn may_skip(&self, error: &io::Error) -> bool {
        use io::ErrorKind as K;
        let absent = matches!(
            error.kind(),
            K::NotFound | K::ConnectionRefused | K::NotADirectory | K::ConnectionReset
        );
        !self.explicit && absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(candidates: &Candidates) -> Vec<String> {
        candidates.endpoints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_order() {
        let run = Path::new("/run/user/7");
        let named = Candidates::from_parts(Some("/a/b.sock"), Some(run), 7).unwrap();
        assert_eq!(paths(&named), ["unix:/a/b.sock"]);
        assert!(named.explicit);
        let with_dir = Candidates::from_parts(Some(""), Some(run), 7).unwrap();
        let dev = "unix:/run/user/7/quorate/dev.sock";
        assert_eq!(paths(&with_dir), ["unix:/run/quorate/quorate.sock", dev]);
        let without = Candidates::from_parts(None, None, 7).unwrap();
        assert_eq!(paths(&without)[1], "unix:/tmp/quorate-7/dev.sock");
        let relative = Candidates::from_parts(None, Some(Path::new("x")), 7).unwrap();
        assert_eq!(paths(&relative)[1], "unix:/tmp/quorate-7/dev.sock");
    }

    #[test]
    fn only_an_absent_default_is_skipped() {
        let defaults = Candidates::from_parts(None, None, 7).unwrap();
        let named = Candidates::from_parts(Some("/a"), None, 7).unwrap();
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(defaults.may_skip(&refused) && !defaults.may_skip(&denied));
        assert!(!named.may_skip(&refused));
    }

    #[test]
    fn the_forms() {
        let good = [
            ("/x/y.sock", "unix:/x/y.sock"),
            ("unix:/x/y.sock", "unix:/x/y.sock"),
            ("unix:///x/y.sock", "unix:/x/y.sock"),
            ("http://127.0.0.1:7400", "http://127.0.0.1:7400"),
            ("http://127.0.0.2:7400/", "http://127.0.0.2:7400"),
            ("http://localhost:7400", "http://127.0.0.1:7400"),
            ("http://[::1]:7400", "http://[::1]:7400"),
        ];
        for (text, shown) in good {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(Endpoint::parse(shown).unwrap(), endpoint, "reads back");
        }
        let relative = Endpoint::parse("y.sock").unwrap().to_string();
        assert!(relative.starts_with("unix:/") && relative.ends_with("/y.sock"));
        let bads = ["", "unix:", "http://10.0.0.1:7400", "http://127.0.0.1", "https://127.0.0.1:1"];
        for text in bads {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
