//! `ip=`, `vlan=` and `BOOTIF=`.
//!
//! Source: the kernel's Documentation/admin-guide/nfs/nfsroot.rst and dracut.cmdline(7). The seven-field form separates
//! with `:`, so an IPv6 address stands in brackets.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// How one interface, or every wired one, gets its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// `None`: every wired interface.
    pub interface: Option<String>,
    /// How.
    pub method: Method,
    /// Host name given in the fifth field.
    pub hostname: Option<String>,
    /// Name servers of the eighth and ninth field.
    pub dns: Vec<IpAddr>,
    /// Time server of the tenth field.
    pub ntp: Option<IpAddr>,
}

/// How an interface gets its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// DHCPv4; IPv6 addresses come by router advertisement meanwhile.
    Dhcp,
    /// Only what router advertisements give (SLAAC).
    Auto6,
    /// The interface is left alone.
    Off,
    /// Given here.
    Static {
        /// The address.
        address: IpAddr,
        /// Prefix length, 0 to 32 or 128.
        prefix: u8,
        /// Default router.
        gateway: Option<IpAddr>,
        /// Far end of a point-to-point link.
        peer: Option<IpAddr>,
    },
}

/// `vlan=NAME:PARENT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// Interface to make.
    pub name: String,
    /// Interface it lies on.
    pub parent: String,
    /// 802.1Q tag, 1 to 4094.
    pub id: u16,
}

/// A word that was not understood; the message says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadIp(String);

impl Directive {
    /// Reads the value of one `ip=`.
    ///
    /// # Errors
    /// The field that is not an address, a netmask or a known method, by its text.
    pub fn parse(value: &str) -> Result<Directive, BadIp> {
        let fields = fields(value)?;
        match fields.as_slice() {
            [method] => Ok(Directive::of(None, auto(method)?)),
            [interface, method, rest @ ..]
                if rest.len() <= 2 && auto(method).is_ok() && !is_address(interface) =>
            {
                Ok(Directive::of(name(interface), auto(method)?))
            }
            _ => full(&fields),
        }
    }

    fn of(interface: Option<String>, method: Method) -> Directive {
        Directive {
            interface,
            method,
            hostname: None,
            dns: Vec::new(),
            ntp: None,
        }
    }
}

impl Vlan {
    /// Reads the value of one `vlan=`.
    ///
    /// # Errors
    /// A name without a tag between 1 and 4094, or no parent.
    pub fn parse(value: &str) -> Result<Vlan, BadIp> {
        let bad = || {
            BadIp(format!(
                "'{value}' is not NAME:INTERFACE with a tag of 1 to 4094 in NAME"
            ))
        };
        let (name, parent) = value.split_once(':').ok_or_else(bad)?;
        let digits = name.rsplit_once('.').map_or_else(
            || name.trim_start_matches(|c: char| !c.is_ascii_digit()),
            |(_, tag)| tag,
        );
        let id = digits
            .parse()
            .ok()
            .filter(|id| (1..=4094).contains(id))
            .ok_or_else(bad)?;
        match parent.is_empty() {
            true => Err(bad()),
            false => Ok(Vlan {
                name: name.to_owned(),
                parent: parent.to_owned(),
                id,
            }),
        }
    }
}

/// The MAC address in PXELINUX's `BOOTIF=01-aa-bb-cc-dd-ee-ff`, lower case, colons.
///
/// # Errors
/// Anything else.
pub fn bootif(value: &str) -> Result<String, BadIp> {
    let mac = value
        .strip_prefix("01-")
        .unwrap_or(value)
        .to_lowercase()
        .replace('-', ":");
    let parts: Vec<_> = mac.split(':').collect();
    let good = parts.len() == 6
        && parts
            .iter()
            .all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok());
    if good {
        Ok(mac)
    } else {
        Err(BadIp(format!("'{value}' is not 01- and a MAC address")))
    }
}

fn fields(value: &str) -> Result<Vec<String>, BadIp> {
    let mut out = vec![String::new()];
    let mut bracket = false;
    for c in value.chars() {
        match c {
            '[' => bracket = true,
            ']' => bracket = false,
            ':' if !bracket => out.push(String::new()),
            c => {
                if let Some(last) = out.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    if bracket {
        Err(BadIp(format!("'[' without ']' in '{value}'")))
    } else {
        Ok(out)
    }
}

fn auto(word: &str) -> Result<Method, BadIp> {
    match word {
        "dhcp" | "on" | "any" | "both" | "bootp" | "rarp" | "dhcp4" | "single-dhcp" => Ok(Method::Dhcp),
        "auto6" | "dhcp6" | "either6" | "link6" | "link-local" => Ok(Method::Auto6),
        "off" | "none" => Ok(Method::Off),
        other => Err(BadIp(format!(
            "'{other}' is none of dhcp, auto6, off, nor CLIENT:PEER:GATEWAY:NETMASK:HOSTNAME:IFACE:AUTOCONF"
        ))),
    }
}

fn full(fields: &[String]) -> Result<Directive, BadIp> {
    let field = |index: usize| fields.get(index).map(String::as_str).unwrap_or_default();
    let interface = name(field(5));
    let method = if field(0).is_empty() {
        auto(if field(6).is_empty() { "dhcp" } else { field(6) })?
    } else {
        let (address, given) = address_and_prefix(field(0))?;
        let prefix = match field(3) {
            "" => given.unwrap_or_else(|| classful(address)),
            mask => netmask(mask, address)?,
        };
        Method::Static {
            address,
            prefix,
            gateway: optional(field(2))?,
            peer: optional(field(1))?,
        }
    };
    let mut dns = Vec::new();
    for index in [7, 8] {
        dns.extend(optional(field(index))?);
    }
    Ok(Directive {
        interface,
        method,
        hostname: name(field(4)),
        dns,
        ntp: optional(field(9))?,
    })
}

fn name(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_address(text: &str) -> bool {
    address_and_prefix(text).is_ok()
}

fn optional(text: &str) -> Result<Option<IpAddr>, BadIp> {
    match text {
        "" => Ok(None),
        text => address_and_prefix(text).map(|(address, _)| Some(address)),
    }
}

fn address_and_prefix(text: &str) -> Result<(IpAddr, Option<u8>), BadIp> {
    let bad = || BadIp(format!("'{text}' is not an IP address"));
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| bad())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    match prefix {
        Some(bits) if bits > longest(address) => Err(bad()),
        prefix => Ok((address, prefix)),
    }
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The prefix without any netmask: by class for IPv4 (as the kernel's `ic_setup_if` does), 64 for IPv6.
fn classful(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => match v4.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 64,
    }
}

fn netmask(text: &str, address: IpAddr) -> Result<u8, BadIp> {
    let bad = || BadIp(format!("'{text}' is not a netmask"));
    if let Ok(bits) = text.parse::<u8>() {
        return if bits <= longest(address) {
            Ok(bits)
        } else {
            Err(bad())
        };
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().map_err(|_| bad())?);
    if mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0 {
        Ok(mask.leading_ones() as u8)
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(value: &str) -> (IpAddr, u8, Option<IpAddr>) {
        match Directive::parse(value).unwrap().method {
            Method::Static {
                address,
                prefix,
                gateway,
                ..
            } => (address, prefix, gateway),
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn short_forms() {
        assert_eq!(Directive::parse("dhcp").unwrap().method, Method::Dhcp);
        let one = Directive::parse("eth1:dhcp").unwrap();
        assert_eq!(
            (one.interface.as_deref(), one.method),
            (Some("eth1"), Method::Dhcp)
        );
        assert_eq!(Directive::parse("off").unwrap().method, Method::Off);
        assert_eq!(
            Directive::parse(":::::eth0:dhcp").unwrap().interface.as_deref(),
            Some("eth0")
        );
    }

    #[test]
    fn the_seven_fields() {
        let value = "192.168.1.5::192.168.1.1:255.255.255.0:pi:eth0:none:1.1.1.1:9.9.9.9:192.168.1.2";
        assert_eq!(
            fixed(value),
            (
                "192.168.1.5".parse().unwrap(),
                24,
                Some("192.168.1.1".parse().unwrap())
            )
        );
        let directive = Directive::parse(value).unwrap();
        assert_eq!(directive.hostname.as_deref(), Some("pi"));
        assert_eq!(directive.dns.len(), 2);
        assert_eq!(directive.ntp, Some("192.168.1.2".parse().unwrap()));
    }

    #[test]
    fn ipv6_in_brackets_and_prefix_lengths() {
        assert_eq!(fixed("[2001:db8::5]::[2001:db8::1]:64::eth0:off").1, 64);
        assert_eq!(fixed("10.0.0.2/16::10.0.0.1:::eth0:off").1, 16);
        assert_eq!(fixed("10.0.0.2::10.0.0.1::::").1, 8);
    }

    #[test]
    fn mistakes_are_named() {
        for bad in [
            "nonsense",
            "10.0.0.300::::::off",
            "10.0.0.1:::255.0.255.0:::off",
            "[2001:db8::5:::",
            "10.0.0.1/33",
            "a:b:c:d:e:f:g",
        ] {
            assert!(Directive::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vlans_and_bootif() {
        assert_eq!(Vlan::parse("vlan0005:eth0").unwrap().id, 5);
        assert_eq!(Vlan::parse("eth0.12:eth0").unwrap().id, 12);
        assert!(
            Vlan::parse("vlan:eth0").is_err()
                && Vlan::parse("vlan5").is_err()
                && Vlan::parse("vlan4095:eth0").is_err()
        );
        assert_eq!(bootif("01-DC-A6-32-01-36-C2").unwrap(), "dc:a6:32:01:36:c2");
        assert!(bootif("01-dc").is_err());
    }
}
