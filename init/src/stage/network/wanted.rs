//! Which interface gets its addresses how: `ip=`, `vlan=` and `BOOTIF=` against what the kernel shows. Pure.

use super::message::Mac;
use super::rtnl::{LinkNews, Medium};
use lifeboot_contract::ip::{Directive, Method};
use lifeboot_contract::plan::Network;
use std::net::IpAddr;

/// What is done with an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Not touched.
    Ignored,
    /// Switched on, nothing more: IPv6 link-local addresses still reach it.
    Up,
    /// Switched on and given addresses.
    Configured(Vec<Way>),
}

/// A way to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Whether it was asked for by name, and then goes on beside others that have an address already.
    Dhcp(Asked),
    Auto6,
    Static {
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        peer: Option<IpAddr>,
    },
}

/// Whether a directive names the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    ByName,
    ForAll,
}

/// Which interfaces get addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that the plan asks for.
    Named,
    /// None of them is there, or none carries: every cable. What the plan says of an interface that comes after all still holds.
    Everything,
}

/// The role of `link`; `wireless` is what /sys tells.
pub(super) fn role(network: &Network, reach: Reach, link: &LinkNews, wireless: bool) -> Role {
    if link.medium == Medium::Loopback {
        return Role::Up;
    }
    let named: Vec<&Directive> = network
        .ip
        .iter()
        .filter(|directive| directive.interface.as_deref() == Some(&link.name))
        .collect();
    if !named.is_empty() {
        return ways(&named, Asked::ByName);
    }
    let is_vlan = network.vlans.iter().any(|vlan| vlan.name == link.name);
    let is_parent = network.vlans.iter().any(|vlan| vlan.parent == link.name);
    if !is_vlan && (wireless || !is_cable(link)) {
        return if is_parent { Role::Up } else { Role::Ignored };
    }
    let by_bootif = network
        .bootif
        .as_ref()
        .map(|wanted| link.mac.map(with_colons).as_ref() == Some(wanted));
    if is_parent || reach == Reach::Named && by_bootif == Some(false) && !is_vlan {
        return Role::Up;
    }
    let asked = match (reach, by_bootif) {
        (Reach::Everything, Some(true)) => Asked::ByName,
        _ => Asked::ForAll,
    };
    let general: Vec<&Directive> = network
        .ip
        .iter()
        .filter(|directive| directive.interface.is_none())
        .collect();
    match (general.is_empty(), reach) {
        (false, _) => ways(&general, asked),
        (true, Reach::Named) if !network.ip.is_empty() => Role::Up,
        (true, _) => Role::Configured(vec![Way::Dhcp(asked)]),
    }
}

/// The interfaces that the plan names and that are not among those `there`, as a clause for people.
pub(super) fn absent<'l>(
    network: &Network,
    there: impl Iterator<Item = &'l LinkNews> + Clone,
) -> Option<String> {
    let named = |name: &str| there.clone().any(|link| link.name == name);
    let mut names: Vec<(&str, &str)> = Vec::new();
    let in_ip = network
        .ip
        .iter()
        .filter(|directive| directive.method != Method::Off)
        .filter_map(|directive| directive.interface.as_deref());
    for name in in_ip.filter(|name| !named(name)) {
        if !names.contains(&("ip=", name)) {
            names.push(("ip=", name));
        }
    }
    if let Some(mac) = &network.bootif
        && !there
            .clone()
            .any(|link| link.mac.map(with_colons).as_ref() == Some(mac))
    {
        names.push(("BOOTIF=", mac));
    }
    let vlans = network.vlans.iter().map(|vlan| vlan.name.as_str());
    for name in vlans.filter(|name| !named(name)) {
        if !names.iter().any(|(_, other)| *other == name) {
            names.push(("vlan=", name));
        }
    }
    let verb = if names.len() == 1 { "is" } else { "are" };
    let clauses: Vec<String> = names
        .iter()
        .map(|(word, name)| format!("{word} names {name}"))
        .collect();
    (!clauses.is_empty()).then(|| format!("{}, which {verb} not there", clauses.join(" and ")))
}

/// Name servers, time servers and the host name that stand in `ip=`.
pub(super) fn given(network: &Network) -> (Vec<IpAddr>, Vec<IpAddr>, Option<String>) {
    let mut dns = network.nameservers.clone();
    dns.extend(
        network
            .ip
            .iter()
            .flat_map(|directive| directive.dns.iter().copied()),
    );
    let ntp = network.ip.iter().filter_map(|directive| directive.ntp).collect();
    let hostname = network.ip.iter().find_map(|directive| directive.hostname.clone());
    (dns, ntp, hostname)
}

/// Whether there is an `ip=` for interfaces that it does not name.
pub(super) fn is_general(network: &Network) -> bool {
    network.ip.iter().any(|directive| directive.interface.is_none())
}

/// Whether the plan wants no address at all.
pub(super) fn nothing(network: &Network) -> bool {
    !network.ip.is_empty() && network.ip.iter().all(|directive| directive.method == Method::Off)
}

/// Several words for one interface: what is said twice is done once, `off` takes back what stands before it.
pub(super) fn ways(directives: &[&Directive], asked: Asked) -> Role {
    let mut ways = Vec::new();
    for directive in directives {
        let way = match directive.method.clone() {
            Method::Off => {
                ways.clear();
                continue;
            }
            Method::Dhcp => Way::Dhcp(asked),
            Method::Auto6 => Way::Auto6,
            Method::Static {
                address,
                prefix,
                gateway,
                peer,
            } => Way::Static {
                address,
                prefix,
                gateway,
                peer,
            },
        };
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    if ways.is_empty() {
        Role::Ignored
    } else {
        Role::Configured(ways)
    }
}

/// Hardware with an Ethernet port; a veth is what a machine in a namespace or container has for a cable.
fn is_cable(link: &LinkNews) -> bool {
    link.medium == Medium::Ethernet && matches!(link.kind.as_deref(), None | Some("veth" | "dsa"))
}

/// An Ethernet address as people write it.
pub(super) fn with_colons(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::ip::Vlan;

    fn link(name: &str) -> LinkNews {
        LinkNews {
            index: 2,
            name: name.into(),
            mac: Some([0xdc, 0xa6, 0x32, 1, 2, 3]),
            kind: None,
            medium: Medium::Ethernet,
            up: false,
            carrier: false,
            changes: 0,
        }
    }

    fn network(words: &[&str]) -> Network {
        let ip = words.iter().map(|word| Directive::parse(word).unwrap()).collect();
        Network {
            ip,
            ..Network::default()
        }
    }

    fn named(network: &Network, link: &LinkNews, wireless: bool) -> Role {
        role(network, Reach::Named, link, wireless)
    }

    fn dhcp(asked: Asked) -> Role {
        Role::Configured(vec![Way::Dhcp(asked)])
    }

    #[test]
    fn without_a_word_every_cable_asks_and_nothing_else_does() {
        let network = network(&[]);
        assert_eq!(named(&network, &link("eth0"), false), dhcp(Asked::ForAll));
        assert_eq!(named(&network, &link("wlan0"), true), Role::Ignored);
        for kind in ["bridge", "dummy", "tun", "macvlan", "bond"] {
            assert_eq!(
                named(
                    &network,
                    &LinkNews {
                        kind: Some(kind.into()),
                        ..link("x")
                    },
                    false
                ),
                Role::Ignored
            );
        }
        let lo = LinkNews {
            medium: Medium::Loopback,
            ..link("lo")
        };
        assert_eq!(named(&network, &lo, false), Role::Up);
    }

    #[test]
    fn a_named_interface_is_configured_and_the_others_are_only_up() {
        let network = network(&["eth1:dhcp", "10.0.0.5::10.0.0.1:24::eth2:none"]);
        assert_eq!(named(&network, &link("eth0"), false), Role::Up);
        assert_eq!(named(&network, &link("eth1"), false), dhcp(Asked::ByName));
        assert!(
            matches!(named(&network, &link("eth2"), false), Role::Configured(ways) if matches!(ways[..], [Way::Static { .. }]))
        );
    }

    #[test]
    fn twice_the_same_is_once_two_families_are_both_and_off_takes_back() {
        assert_eq!(
            named(&network(&["eth0:dhcp", "eth0:dhcp"]), &link("eth0"), false),
            dhcp(Asked::ByName)
        );
        let both = network(&["10.0.0.5:::24::eth0:none", "[2001:db8::5]:::64::eth0:none"]);
        assert!(matches!(named(&both, &link("eth0"), false), Role::Configured(ways) if ways.len() == 2));
        assert_eq!(
            named(&network(&["eth0:dhcp", "eth0:off"]), &link("eth0"), false),
            Role::Ignored
        );
        assert_eq!(
            named(&network(&["dhcp", "eth0:off"]), &link("eth0"), false),
            Role::Ignored
        );
        assert_eq!(
            named(&network(&["dhcp", "eth0:off"]), &link("eth1"), false),
            dhcp(Asked::ForAll)
        );
        assert!(nothing(&network(&["off"])) && !nothing(&network(&[])));
    }

    #[test]
    fn bootif_picks_by_address() {
        let mut network = network(&[]);
        network.bootif = Some("dc:a6:32:01:02:03".into());
        assert_eq!(named(&network, &link("eth0"), false), dhcp(Asked::ForAll));
        let other = LinkNews {
            mac: Some([2; 6]),
            ..link("eth1")
        };
        assert_eq!(named(&network, &other, false), Role::Up);
    }

    #[test]
    fn when_everything_is_tried_the_others_ask_and_what_is_named_is_still_done_as_asked() {
        let mut network = network(&["10.0.0.5:::24::eth7:none", "eth8:off"]);
        let everything = |network: &Network, link: &LinkNews| role(network, Reach::Everything, link, false);
        assert_eq!(everything(&network, &link("eth0")), dhcp(Asked::ForAll));
        assert_eq!(everything(&network, &link("eth8")), Role::Ignored);
        assert!(
            matches!(everything(&network, &link("eth7")), Role::Configured(ways) if matches!(ways[..], [Way::Static { .. }]))
        );
        network.ip.clear();
        network.bootif = Some("02:02:02:02:02:02".into());
        assert_eq!(everything(&network, &link("eth0")), dhcp(Asked::ForAll));
        let of_bootif = LinkNews {
            mac: Some([2; 6]),
            ..link("eth7")
        };
        assert_eq!(everything(&network, &of_bootif), dhcp(Asked::ByName));
    }

    #[test]
    fn what_is_asked_for_and_not_there_is_named_once() {
        let mut network = network(&["eth7:dhcp", "eth7:auto6", "eth0:dhcp", "eth9:off"]);
        network.vlans = vec![Vlan::parse("eth0.5:eth0").unwrap()];
        let there = [link("eth0")];
        let text = absent(&network, there.iter()).unwrap();
        assert_eq!(text, "ip= names eth7 and vlan= names eth0.5, which are not there");
        network.ip = vec![Directive::parse("eth0.5:dhcp").unwrap()];
        let text = absent(&network, there.iter()).unwrap();
        assert_eq!(text, "ip= names eth0.5, which is not there");
        network.vlans.clear();
        network.ip = vec![Directive::parse("eth0:dhcp").unwrap()];
        network.bootif = Some("dc:a6:32:01:02:03".into());
        assert_eq!(absent(&network, there.iter()), None);
    }

    #[test]
    fn a_vlan_is_used_and_its_parent_only_carries_it() {
        let mut network = network(&[]);
        network.vlans = vec![Vlan::parse("eth0.5:eth0").unwrap()];
        assert_eq!(named(&network, &link("eth0"), false), Role::Up);
        let vlan = LinkNews {
            kind: Some("vlan".into()),
            ..link("eth0.5")
        };
        assert_eq!(named(&network, &vlan, false), dhcp(Asked::ForAll));
    }
}
