//! What a line of `authorized_keys` leaves of what a login may do.

use std::str::FromStr;

/// What the key, its options and its certificate leave of what a login may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// A pseudo-terminal.
    pub terminal: bool,
    /// A way back to the client's agent.
    pub agent: bool,
    /// Forwarded connections, to places in `open` and from ports in `listen`.
    pub forwarding: bool,
    /// Where `-L`, `-D` and `-W` may lead; `None`: anywhere.
    pub open: Option<Vec<Place>>,
    /// Where `-R` may listen; `None`: anywhere.
    pub listen: Option<Vec<Place>>,
    /// Run instead of whatever is asked for.
    pub command: Option<String>,
}

/// A host and a port of `permitopen=` or `permitlisten=`; names are compared as they are written, never looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `None`: any.
    pub host: Option<String>,
    /// `None`: any.
    pub port: Option<u16>,
}

impl Grant {
    /// Everything there is.
    pub fn full() -> Grant {
        Grant {
            terminal: true,
            agent: true,
            forwarding: true,
            open: None,
            listen: None,
            command: None,
        }
    }

    /// Only what both allow.
    ///
    /// # Errors
    /// Each forces another command.
    pub fn and(self, other: &Grant) -> Result<Grant, String> {
        let command = match (self.command, &other.command) {
            (Some(one), Some(two)) if one != *two => {
                return Err("the key's options and the certificate force different commands".to_owned());
            }
            (one, two) => one.or_else(|| two.clone()),
        };
        Ok(Grant {
            terminal: self.terminal && other.terminal,
            agent: self.agent && other.agent,
            forwarding: self.forwarding && other.forwarding,
            open: self.open.or_else(|| other.open.clone()),
            listen: self.listen.or_else(|| other.listen.clone()),
            command,
        })
    }

    /// Whether a connection may be forwarded to there.
    pub fn may_open(&self, host: &str, port: u16) -> bool {
        self.forwarding && allowed(self.open.as_deref(), host, port)
    }

    /// Whether a listener may be made there.
    pub fn may_listen(&self, host: &str, port: u16) -> bool {
        self.forwarding && allowed(self.listen.as_deref(), host, port)
    }
}

fn allowed(places: Option<&[Place]>, host: &str, port: u16) -> bool {
    let fits = |place: &Place| {
        place.port.is_none_or(|wanted| wanted == port)
            && place
                .host
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
    };
    places.is_none_or(|places| places.iter().any(fits))
}

/// `host:port` or `[address]:port`; either may be `*`.
impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let bad = || format!("'{text}' is not HOST:PORT");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(bad)?,
            None => text.rsplit_once(':').ok_or_else(bad)?,
        };
        let plain_with_colon = !text.starts_with('[') && host.contains(':');
        if host.is_empty() || plain_with_colon {
            return Err(bad());
        }
        Ok(Place {
            host: (host != "*").then(|| host.to_owned()),
            port: port_of(port).ok_or_else(bad)?,
        })
    }
}

/// A port number, or `Some(None)` for any; `None` when it is neither.
pub fn port_of(text: &str) -> Option<Option<u16>> {
    match text {
        "*" => Some(None),
        text => text.parse().ok().filter(|port| *port > 0).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_literal_and_either_half_may_be_any() {
        let grant = Grant {
            open: Some(vec!["localhost:80".parse().unwrap(), "[::1]:*".parse().unwrap()]),
            ..Grant::full()
        };
        assert!(
            grant.may_open("localhost", 80) && grant.may_open("LOCALHOST", 80) && grant.may_open("::1", 9)
        );
        assert!(!grant.may_open("localhost", 81) && !grant.may_open("127.0.0.1", 80));
        assert!(grant.may_listen("localhost", 1));
        for bad in [
            "localhost",
            ":80",
            "::1:80",
            "[::1]80",
            "a:b",
            "a:0",
            "a:65536",
            "",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_grants_leave_what_both_allow_and_their_commands_must_agree() {
        let restricted = Grant {
            terminal: false,
            command: Some("a".to_owned()),
            ..Grant::full()
        };
        let both = Grant::full().and(&restricted).unwrap();
        assert_eq!(
            (both.terminal, both.forwarding, both.command.as_deref()),
            (false, true, Some("a"))
        );
        let other = Grant {
            command: Some("b".to_owned()),
            ..Grant::full()
        };
        assert!(restricted.and(&other).is_err());
    }
}
