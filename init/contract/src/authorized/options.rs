//! The options of a line of an `authorized_keys` file, as sshd(8) has them.
//!
//! What cannot be carried out refuses the key by name: half of a restriction would give more than its owner meant.

use super::address::Addresses;
use super::grant::{Grant, Place, port_of};
use std::net::IpAddr;

/// What stands before a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What its owner may do.
    pub grant: Grant,
    /// The key is an authority's: it makes certificates and does not log in itself.
    pub authority: bool,
    /// Names one of which a certificate must have, instead of the user's.
    pub principals: Option<Vec<String>>,
    from: Option<Addresses>,
    /// Seconds since 1970.
    expires: Option<u64>,
}

/// Taken and without effect: they are about things that are never done here.
const HARMLESS: [&str; 6] = [
    "no-user-rc",
    "user-rc",
    "no-x11-forwarding",
    "x11-forwarding",
    "no-touch-required",
    "tunnel",
];

impl Default for Options {
    fn default() -> Options {
        Options {
            grant: Grant::full(),
            authority: false,
            principals: None,
            from: None,
            expires: None,
        }
    }
}

impl Options {
    /// Reads the options, in their order: what `restrict` takes away, a later word gives back.
    ///
    /// # Errors
    /// The first that is not understood or not carried out here, by name.
    pub fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options::default();
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_ascii_lowercase(), Some(value)),
                None => (word.to_ascii_lowercase(), None),
            };
            let done = match value {
                None => options.take(&name),
                Some(value) => {
                    let value =
                        unquoted(value).ok_or_else(|| format!("option {name}: its value is not quoted"))?;
                    options.take_value(&name, &value)?
                }
            };
            if !done {
                return Err(format!(
                    "option {name} is not supported here, so the key is not taken"
                ));
            }
        }
        Ok(options)
    }

    fn take(&mut self, name: &str) -> bool {
        let grant = &mut self.grant;
        match name {
            "restrict" => (grant.terminal, grant.agent, grant.forwarding) = (false, false, false),
            "pty" => grant.terminal = true,
            "no-pty" => grant.terminal = false,
            "agent-forwarding" => grant.agent = true,
            "no-agent-forwarding" => grant.agent = false,
            "port-forwarding" => grant.forwarding = true,
            "no-port-forwarding" => grant.forwarding = false,
            "cert-authority" => self.authority = true,
            name => return HARMLESS.contains(&name),
        }
        true
    }

    fn take_value(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let named = |error: String| format!("option {name}: {error}");
        match name {
            "command" => once(name, &mut self.grant.command, value.to_owned())?,
            "from" => once(name, &mut self.from, Addresses::parse(value).map_err(named)?)?,
            "expiry-time" => {
                // Several: the earliest counts.
                let time = time_of(value)
                    .ok_or_else(|| format!("option {name}: '{value}' is not YYYYMMDD[HHMM[SS]][Z]"))?;
                self.expires = Some(self.expires.map_or(time, |before| before.min(time)));
            }
            "principals" => {
                let names = value.split(',').map(|name| name.trim().to_owned()).collect();
                once(name, &mut self.principals, names)?;
            }
            "permitopen" => {
                let place = value.parse().map_err(named)?;
                self.grant.open.get_or_insert_default().push(place);
            }
            "permitlisten" => {
                let place = match port_of(value) {
                    Some(port) => Place { host: None, port },
                    None => value.parse().map_err(named)?,
                };
                self.grant.listen.get_or_insert_default().push(place);
            }
            name => return Ok(HARMLESS.contains(&name)),
        }
        Ok(true)
    }

    /// What is granted to somebody who comes from `client` at `now`, seconds since 1970.
    ///
    /// # Errors
    /// Why nothing is.
    pub fn granted(&self, client: IpAddr, now: u64) -> Result<Grant, String> {
        if self.from.as_ref().is_some_and(|from| !from.contain(client)) {
            return Err(format!("it may not be used from {client}"));
        }
        if self.expires.is_some_and(|time| now >= time) {
            return Err("its time has run out".to_owned());
        }
        Ok(self.grant.clone())
    }
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("option {name} is given twice")),
    }
}

/// The value within double quotes, in which `\"` is a quote.
fn unquoted(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let text = inner.replace("\\\"", "\u{0}");
    (!text.contains('"') && !inner.contains('\0')).then(|| text.replace('\0', "\""))
}

/// Seconds since 1970 of `YYYYMMDD[HHMM[SS]][Z]`; there is no time zone here but UTC.
fn time_of(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let plain = digits.bytes().all(|letter| letter.is_ascii_digit());
    if !plain || ![8, 12, 14].contains(&digits.len()) {
        return None;
    }
    let number = |from: usize, to: usize| match digits.get(from..to) {
        Some(part) => part.parse::<u64>().ok(),
        None => Some(0),
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    let fits = (1..=*lengths.get(before)?).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !fits || year < 1970 {
        return None;
    }
    // Years of 365 days since 1970, and a day for each leap year before this one.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days =
        (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + lengths.iter().take(before).sum::<u64>() + day
            - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));

    #[test]
    fn restrict_takes_everything_and_later_words_give_back() {
        let grant = Options::parse(&["restrict", "pty", "command=\"echo \\\"a\\\", b\""])
            .unwrap()
            .grant;
        assert_eq!(
            (grant.terminal, grant.agent, grant.forwarding),
            (true, false, false)
        );
        assert_eq!(grant.command.as_deref(), Some("echo \"a\", b"));
        let forward =
            Options::parse(&["restrict", "port-forwarding", "permitopen=\"localhost:80\""]).unwrap();
        assert!(forward.grant.may_open("localhost", 80) && !forward.grant.may_open("localhost", 81));
        let open = Options::parse(&["permitlisten=\"8080\"", "permitlisten=\"localhost:*\""])
            .unwrap()
            .grant;
        assert!(
            open.may_listen("0.0.0.0", 8080) && open.may_listen("localhost", 1) && !open.may_listen("::1", 1)
        );
        assert!(
            !Options::parse(&["no-pty", "No-Agent-Forwarding", "no-X11-forwarding"])
                .unwrap()
                .grant
                .terminal
        );
    }

    #[test]
    fn place_and_time_decide_at_each_login() {
        let options =
            Options::parse(&["from=\"10.0.0.0/8,!10.0.0.6\"", "expiry-time=\"20300101Z\""]).unwrap();
        assert!(options.granted(CLIENT, 1_893_455_999).is_ok());
        assert!(options.granted(CLIENT, 1_893_456_000).is_err());
        assert!(options.granted("10.0.0.6".parse().unwrap(), 0).is_err());
        assert!(options.granted("::1".parse().unwrap(), 0).is_err());
    }

    #[test]
    fn times_are_utc_and_those_that_do_not_exist_are_refused() {
        assert_eq!(time_of("19700101"), Some(0));
        assert_eq!(time_of("200002291230"), Some(951_827_400));
        assert_eq!(time_of("20260301123456Z"), Some(1_772_368_496));
        for bad in [
            "",
            "2026",
            "20260229",
            "20261301",
            "202601012460",
            "2026010112",
            "+2026010",
            "19691231",
            "20260101X",
        ] {
            assert_eq!(time_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_carried_out_or_not_understood_refuses_the_key() {
        for bad in [
            "environment=\"A=b\"",
            "verify-required",
            "nonsense",
            "command=echo",
            "command=\"a",
            "command=\"a\"b\"",
            "from=\"\"",
            "from=\"host.example\"",
            "permitopen=\"localhost\"",
            "permitlisten=\"a:b\"",
            "expiry-time=\"soon\"",
            "pty=\"yes\"",
            "command",
            "principals=root",
            "",
        ] {
            assert!(Options::parse(&[bad]).is_err(), "{bad}");
        }
        assert!(Options::parse(&["command=\"a\"", "command=\"b\""]).is_err());
        assert!(Options::parse(&["tunnel=\"0\"", "no-user-rc"]).is_ok());
    }
}
