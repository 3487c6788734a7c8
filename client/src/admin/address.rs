//! Where an admin port is, and whose it is.

use std::fmt;

/// `HOST:PORT`, or `NAME=HOST:PORT`; a scheme before the host is left away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub name: Option<String>,
    pub place: String,
}

impl Address {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Address, String> {
        let bad =
            || format!("--admin is {text:?}; it is NAME=HOST:PORT: member-1=127.0.0.1:7402, say");
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) => (Some(name.to_owned()), rest),
            None => (None, text),
        };
        let rest = rest.strip_prefix("https://").or(rest.strip_prefix("http://")).unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let port_good = port.parse::<u16>().is_ok_and(|port| port > 0);
        let host_good = !host.is_empty() && !host.contains(['/', '@', ' ']);
        if !port_good || !host_good || name.as_ref().is_some_and(String::is_empty) {
            return Err(bad());
        }
        Ok(Address { name, place: rest.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.place),
            None => f.write_str(&self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms() {
        for (text, shown) in [
            ("127.0.0.1:7402", "127.0.0.1:7402"),
            ("http://127.0.0.1:7402", "127.0.0.1:7402"),
            ("a=https://[::1]:1", "a=[::1]:1"),
            ("member-1=h.example:7402", "member-1=h.example:7402"),
        ] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()), Ok(shown.to_owned()));
        }
        for text in ["", "h", "h:0", "h:70000", "=h:1", "a=:1", "http://h:1/x"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
