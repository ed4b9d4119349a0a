//! For which cable an address is meant whose interface is not to be had. Pure.
//!
//! The name in `ip=` is often that of the installed system (`end0`, `enp3s0`), where udev gives names that the kernel alone does not. One
//! name and one cable leave no choice. Between several cables a guess could give one network the address of another, perhaps one that is
//! taken there, so none is made: only a carrier decides, since an address without one reaches nobody, and `BOOTIF=`, since that
//! is where the machine was started from.

use super::rtnl::LinkNews;
use super::wanted::{self, Asked, Role, Way, with_colons};
use lifeboot_contract::ip::{Directive, Method};
use lifeboot_contract::plan::Network;

/// What `ip=` gives to one interface, if it names only that one and addresses are among it.
///
/// DHCP comes with it: it costs nothing where nobody answers, and reaches the machine where the guess was wrong. What belongs on a VLAN is
/// for no bare cable.
pub(super) fn movable(network: &Network) -> Option<(&str, Vec<Way>)> {
    let is_meant = |directive: &&Directive| directive.method != Method::Off && directive.interface.is_some();
    let meant: Vec<&Directive> = network.ip.iter().filter(is_meant).collect();
    let name = meant.first()?.interface.as_deref()?;
    let is_it = |directive: &&Directive| directive.interface.as_deref() == Some(name);
    if !meant.iter().all(is_it) || network.vlans.iter().any(|vlan| vlan.name == name) {
        return None;
    }
    let all: Vec<&Directive> = network.ip.iter().filter(is_it).collect();
    let Role::Configured(mut ways) = wanted::ways(&all, Asked::ByName) else {
        return None;
    };
    if !ways.iter().any(is_static) {
        return None;
    }
    if !ways.contains(&Way::Dhcp(Asked::ByName)) {
        ways.push(Way::Dhcp(Asked::ByName));
    }
    Some((name, ways))
}

/// The one of `candidates` that is meant, if that is clear.
pub(super) fn meant<'l>(network: &Network, candidates: &[&'l LinkNews]) -> Option<&'l LinkNews> {
    let carries = candidates.iter().any(|link| link.carrier);
    let mut able = candidates.iter().filter(|link| link.carrier || !carries);
    if let Some(bootif) = &network.bootif {
        return able
            .find(|link| link.mac.map(with_colons).as_ref() == Some(bootif))
            .copied();
    }
    let one = able.next().copied();
    one.filter(|_| able.next().is_none())
}

/// Whether it is an address out of the plan.
pub(super) fn is_static(way: &Way) -> bool {
    matches!(way, Way::Static { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::network::rtnl::Medium;
    use lifeboot_contract::ip::Vlan;

    const END0: &str = "192.168.1.5::192.168.1.1:24:pi:end0:none";

    fn network(words: &[&str]) -> Network {
        let ip = words.iter().map(|word| Directive::parse(word).unwrap()).collect();
        Network {
            ip,
            ..Network::default()
        }
    }

    fn link(name: &str, last: u8, carrier: bool) -> LinkNews {
        LinkNews {
            index: u32::from(last),
            name: name.into(),
            mac: Some([2, 0, 0, 0, 0, last]),
            kind: None,
            medium: Medium::Ethernet,
            up: true,
            carrier,
            changes: 0,
        }
    }

    fn name_of(network: &Network) -> Option<&str> {
        movable(network).map(|(name, _)| name)
    }

    #[test]
    fn one_name_with_an_address_can_be_moved_and_brings_dhcp_along() {
        let network = network(&[END0]);
        let (name, ways) = movable(&network).unwrap();
        assert_eq!(name, "end0");
        assert!(matches!(ways[..], [Way::Static { .. }, Way::Dhcp(Asked::ByName)]));
    }

    #[test]
    fn both_families_of_one_name_are_moved_two_names_are_not() {
        let two_families = network(&[END0, "[2001:db8::5]:::64::end0:none"]);
        assert_eq!(movable(&two_families).unwrap().1.len(), 3);
        assert_eq!(name_of(&network(&[END0, "10.0.0.5:::24::end1:none"])), None);
        assert_eq!(name_of(&network(&[END0, "end1:dhcp"])), None);
        assert_eq!(name_of(&network(&[END0, "end1:off"])), Some("end0"));
    }

    #[test]
    fn a_name_without_an_address_or_taken_back_or_of_a_vlan_is_not_moved() {
        assert_eq!(name_of(&network(&["end0:dhcp"])), None);
        assert_eq!(name_of(&network(&[END0, "end0:off"])), None);
        let mut on_vlan = network(&["10.0.0.5:::24::end0.5:none"]);
        assert_eq!(name_of(&on_vlan), Some("end0.5"));
        on_vlan.vlans = vec![Vlan::parse("end0.5:end0").unwrap()];
        assert_eq!(name_of(&on_vlan), None);
    }

    fn chosen(network: &Network, candidates: &[LinkNews]) -> Option<String> {
        let all: Vec<&LinkNews> = candidates.iter().collect();
        meant(network, &all).map(|link| link.name.clone())
    }

    #[test]
    fn one_cable_is_meant_whether_it_carries_or_not_and_of_two_the_one_that_carries() {
        let network = network(&[END0]);
        let eth0 = |carrier| link("eth0", 1, carrier);
        let eth1 = |carrier| link("eth1", 2, carrier);
        assert_eq!(chosen(&network, &[eth0(true)]).as_deref(), Some("eth0"));
        assert_eq!(chosen(&network, &[eth0(false)]).as_deref(), Some("eth0"));
        assert_eq!(
            chosen(&network, &[eth0(false), eth1(true)]).as_deref(),
            Some("eth1")
        );
        assert_eq!(chosen(&network, &[eth0(true), eth1(true)]), None);
        assert_eq!(chosen(&network, &[eth0(false), eth1(false)]), None);
        assert_eq!(chosen(&network, &[]), None);
    }

    #[test]
    fn where_the_machine_was_started_from_decides() {
        let mut network = network(&[END0]);
        network.bootif = Some("02:00:00:00:00:02".into());
        let both = [link("eth0", 1, true), link("eth1", 2, true)];
        assert_eq!(chosen(&network, &both).as_deref(), Some("eth1"));
        network.bootif = Some("02:00:00:00:00:03".into());
        assert_eq!(chosen(&network, &both), None);
        assert_eq!(chosen(&network, &both[..1]), None);
    }
}
