//! Lists of addresses as in `from="…"` and a certificate's `source-address`: networks, patterns, and what is not meant.
//!
//! Host names are not looked up, as in sshd(8) without `UseDNS`. There a name in the list just never fits; here the line is refused, because a
//! name behind `!` that never fits lets in whom it was to keep out.

use std::net::IpAddr;

/// A list of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    patterns: Vec<(Meaning, Pattern)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Meant,
    Excluded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// Address and length of the prefix.
    Network(IpAddr, u8),
    /// With `*` and `?`.
    Wildcard(String),
}

impl Addresses {
    /// Reads a list with commas in it.
    ///
    /// # Errors
    /// An entry that is no address, no network and no pattern for one.
    pub fn parse(list: &str) -> Result<Addresses, String> {
        let patterns = list
            .split(',')
            .map(str::trim)
            .map(|entry| match entry.strip_prefix('!') {
                Some(rest) => Ok((Meaning::Excluded, Pattern::parse(rest)?)),
                None => Ok((Meaning::Meant, Pattern::parse(entry)?)),
            })
            .collect::<Result<_, String>>()?;
        Ok(Addresses { patterns })
    }

    /// The same, networks and addresses alone, as a certificate has them.
    ///
    /// # Errors
    /// An entry that is neither.
    pub fn parse_networks(list: &str) -> Result<Addresses, String> {
        let addresses = Addresses::parse(list)?;
        let plain = |(meaning, pattern): &(Meaning, Pattern)| {
            *meaning == Meaning::Meant && matches!(pattern, Pattern::Network(..))
        };
        if addresses.patterns.iter().all(plain) {
            Ok(addresses)
        } else {
            Err(format!("'{list}' is not a list of networks"))
        }
    }

    /// Whether `address` is meant: one entry fits, and none that excludes it.
    pub fn contain(&self, address: IpAddr) -> bool {
        let fits = |wanted: Meaning| {
            self.patterns
                .iter()
                .any(|(meaning, pattern)| *meaning == wanted && pattern.fits(address))
        };
        fits(Meaning::Meant) && !fits(Meaning::Excluded)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        if let Some((address, length)) = text.split_once('/') {
            let bad = || format!("'{text}' is not a network");
            let address: IpAddr = address.parse().map_err(|_| bad())?;
            let length: u8 = length.parse().map_err(|_| bad())?;
            if length > width(address) {
                return Err(bad());
            }
            if bits(address) & !mask(length, width(address)) != 0 {
                return Err(format!("'{text}': the address has bits beyond its prefix"));
            }
            return Ok(Pattern::Network(address, length));
        }
        if let Ok(address) = text.parse() {
            return Ok(Pattern::Network(address, width(address)));
        }
        let of_addresses = |letter: char| letter.is_ascii_hexdigit() || ".:*?".contains(letter);
        let wild = text.contains(['*', '?']);
        if wild && text.chars().all(of_addresses) {
            Ok(Pattern::Wildcard(text.to_ascii_lowercase()))
        } else {
            Err(format!("'{text}' is not an address, and names are not looked up"))
        }
    }

    fn fits(&self, address: IpAddr) -> bool {
        match self {
            Pattern::Network(network, length) => {
                let width = width(*network);
                width == self::width(address) && (bits(address) ^ bits(*network)) & mask(*length, width) == 0
            }
            Pattern::Wildcard(pattern) => fits(pattern.as_bytes(), address.to_string().as_bytes()),
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `length` of `width` bits.
fn mask(length: u8, width: u8) -> u128 {
    let rest = u32::from(width.saturating_sub(length));
    u128::MAX.checked_shl(rest).unwrap_or(0)
}

/// Whether all of `text` fits `pattern`. A star gives back what it took, as far as the last star: no worse than quadratic.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while let Some(letter) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == letter => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern.iter().skip(p).all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(list: &str, address: &str) -> bool {
        Addresses::parse(list).unwrap().contain(address.parse().unwrap())
    }

    #[test]
    fn networks_patterns_and_exclusions_mean_what_sshd_says() {
        assert!(contain("10.0.0.0/8", "10.255.0.1") && !contain("10.0.0.0/8", "11.0.0.1"));
        assert!(contain("10.0.0.7", "10.0.0.7") && !contain("10.0.0.7", "10.0.0.70"));
        assert!(contain("10.0.*", "10.0.3.4") && !contain("10.0.*", "10.1.0.0"));
        assert!(contain("10.0.0.?", "10.0.0.9") && !contain("10.0.0.?", "10.0.0.10"));
        assert!(contain("2001:db8::/32,192.0.2.1", "2001:db8:1::5"));
        assert!(contain("0.0.0.0/0", "9.9.9.9") && !contain("0.0.0.0/0", "::1"));
        assert!(contain("FE80:*", "fe80::1"));
        assert!(!contain("10.0.0.0/8,!10.0.0.5", "10.0.0.5") && contain("!10.0.0.5,10.*", "10.0.0.6"));
        assert!(!contain("!10.0.0.5", "10.0.0.6"));
    }

    #[test]
    fn what_is_no_address_is_refused_rather_than_never_fitting() {
        for bad in [
            "",
            "host.example",
            "!*.example.org",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "a,,b",
            "10.0.0.0/",
            "/8",
        ] {
            assert!(Addresses::parse(bad).is_err(), "{bad}");
        }
        assert!(Addresses::parse_networks("10.0.0.0/8,::1").is_ok());
        assert!(
            Addresses::parse_networks("10.*").is_err() && Addresses::parse_networks("!10.0.0.1").is_err()
        );
    }

    #[test]
    fn a_pattern_full_of_stars_ends() {
        let pattern = "*1".repeat(60);
        assert!(!contain(&pattern, "1111:1111:1111:1111:1111:1111:1111:1112"));
    }
}
