//! What a login may do, once it is clear whose it is.

use std::str::FromStr;

/// As whom somebody logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// A shell, commands, file transfer, forwarding.
    Root,
    /// The passphrase prompt and nothing else.
    Unlock,
    /// The report and nothing else.
    Status,
}

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

impl User {
    /// The user of that name, if there is one.
    pub fn named(name: &str) -> Option<User> {
        [User::Root, User::Unlock, User::Status]
            .into_iter()
            .find(|user| user.name() == name)
    }

    /// The name at the login.
    pub fn name(self) -> &'static str {
        match self {
            User::Root => "root",
            User::Unlock => "unlock",
            User::Status => "status",
        }
    }

    /// The words for `rescue` that this user has instead of a shell, when `asked` is what the client wants to run; `None` when it has not
    /// that.
    pub fn words(self, asked: Option<&[u8]>) -> Option<&'static [&'static str]> {
        let asked = match asked.map(str::from_utf8) {
            None => "",
            Some(Ok(line)) => line.trim(),
            Some(Err(_)) => return None,
        };
        let asked = asked.strip_prefix("rescue ").unwrap_or(asked);
        match (self, asked) {
            // The second is what people are used to type into the initramfs of Debian.
            (User::Unlock, "" | "unlock" | "cryptroot-unlock") => Some(&["unlock"]),
            (User::Status, "" | "status") => Some(&["status"]),
            (User::Status, "--json" | "status --json") => Some(&["status", "--json"]),
            _ => None,
        }
    }
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

    /// What is left of it for `user`.
    ///
    /// # Errors
    /// The key is for a command of its own, which a user with one program cannot have.
    pub fn of(self, user: User) -> Result<Grant, String> {
        match (user, &self.command) {
            (User::Root, _) => Ok(self),
            (_, Some(_)) => Err(format!(
                "a key with a command of its own cannot log in as {}",
                user.name()
            )),
            (_, None) => Ok(Grant {
                agent: false,
                forwarding: false,
                ..self
            }),
        }
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
    fn a_user_with_a_role_has_its_program_and_nothing_else() {
        assert_eq!(User::Unlock.words(None), Some(&["unlock"][..]));
        assert_eq!(
            User::Unlock.words(Some(b"cryptroot-unlock")),
            Some(&["unlock"][..])
        );
        assert_eq!(
            User::Status.words(Some(b"rescue status --json")),
            Some(&["status", "--json"][..])
        );
        for line in [
            &b"sh"[..],
            b"unlock; sh",
            b"status",
            b"unlock\nsh",
            b"\xff",
            b"rescue rescue unlock",
        ] {
            assert_eq!(User::Unlock.words(Some(line)), None, "{line:?}");
        }
        assert_eq!(User::Status.words(Some(b"unlock")), None);
        assert_eq!(User::named("toor"), None);
    }

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
        assert!(restricted.clone().and(&other).is_err());
        assert!(restricted.clone().of(User::Root).is_ok());
        assert!(restricted.of(User::Status).is_err());
        assert!(!Grant::full().of(User::Unlock).unwrap().forwarding);
    }
}
