//! Where peers are: what the settings say, and what a peer said of itself.
//!
//! A `--peer` wins. Else the address that the peer showed in its hello, or where the operator found
//! it since, comes first, and its name in the domain second: the DNS of a cluster may be half a
//! minute behind. What was shown is kept in memory only, for as long as the peer is configured or
//! connected; the log has no addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Member name to `HOST:PORT`.
    pub named: BTreeMap<String, String>,
    /// Where all others have their names, and the port there.
    pub domain: Option<(String, u16)>,
}

impl Addresses {
    /// Where a member is by the settings: `HOST:PORT`.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<String> {
        let within = |(domain, port): &(String, u16)| format!("{name}.{domain}:{port}");
        self.named.get(name).cloned().or_else(|| self.domain.as_ref().map(within))
    }

    /// Where to dial it, in this order. `shown` is what it said of itself.
    #[must_use]
    pub fn to_dial(&self, name: &str, shown: Option<SocketAddr>) -> Vec<String> {
        let shown = shown.filter(|_| !self.named.contains_key(name));
        shown.map(|address| address.to_string()).into_iter().chain(self.of(name)).collect()
    }
}

/// Whether a peer may be dialled there at all.
#[must_use]
pub fn can_be_dialled(address: &SocketAddr) -> bool {
    address.port() > 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_wins_then_what_was_shown_then_the_domain() {
        let shown = Some("10.0.0.9:7401".parse().unwrap());
        let none = Addresses::default();
        assert!(none.to_dial("a", None).is_empty());
        assert_eq!(none.to_dial("a", shown), ["10.0.0.9:7401"]);
        let both = Addresses {
            named: BTreeMap::from([("a".to_owned(), "h:1".to_owned())]),
            domain: Some(("app-peers.ns.svc".to_owned(), 7401)),
        };
        assert_eq!(both.to_dial("a", shown), ["h:1"]);
        assert_eq!(both.to_dial("b", None), ["b.app-peers.ns.svc:7401"]);
        assert_eq!(both.to_dial("b", shown), ["10.0.0.9:7401", "b.app-peers.ns.svc:7401"]);
    }

    #[test]
    fn nobody_is_dialled_nowhere() {
        for address in ["0.0.0.0:7401", "[::]:7401", "224.0.0.1:7401", "10.0.0.1:0"] {
            assert!(!can_be_dialled(&address.parse().unwrap()), "{address}");
        }
        assert!(can_be_dialled(&"[fd00::1]:7401".parse().unwrap()));
    }
}
