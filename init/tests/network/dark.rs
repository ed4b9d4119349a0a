//! Interfaces that the plan asks for and that are there without a carrier.

use crate::world::{World, eventually, ip, isolated};
use crate::{PATIENT, grace, plan};
use lifeboot_init::stage::network::{self, Grace, Search};
use std::time::{Duration, Instant};

const LEASES: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m";
const GRACE: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_secs(4);
const FIXED: &str = "10.8.0.15::10.8.0.1:24:box:eth0:none";

/// Two cables; the one in eth0 carries or does not.
fn two_cables(eth0_carries: bool) -> World {
    let world = World::new();
    world.cable("eth0", "02:00:00:00:00:10");
    world.cable("eth1", "02:00:00:00:00:11");
    if !eth0_carries {
        world.pull("eth0");
    }
    world
}

#[test]
fn a_cable_in_the_other_port_is_asked_after_a_while_and_the_named_one_when_its_cable_comes() {
    isolated(
        "dark::a_cable_in_the_other_port_is_asked_after_a_while_and_the_named_one_when_its_cable_comes",
        || {
            let world = two_cables(false);
            let _server = world.dnsmasq("eth1", &[LEASES]);
            let started = Instant::now();
            let mut search = Search::begin(grace(GRACE));
            let plan = plan(&["eth0:dhcp"]);
            let link = network::run(&plan, &mut search, &world.reporter, PATIENT).unwrap();
            assert!(started.elapsed() >= GRACE);
            assert_eq!(link.interface, "eth1");
            let said = world.events("network.absent");
            let text = "eth0 (02:00:00:00:00:10) has no carrier; DHCP is used on eth1 (02:00:00:00:00:11)";
            assert_eq!((said.len(), said[0].text.as_deref()), (1, Some(text)));
            let _server = world.dnsmasq("eth0", &["--dhcp-range=10.9.0.70,10.9.0.80,255.255.255.0,2m"]);
            world.plug("eth0");
            eventually("a second lease", || world.events("network.lease").len() == 2);
            assert_eq!(world.events("network.lease")[1].str("interface"), "eth0");
        },
    );
}

#[test]
fn while_the_named_one_carries_no_other_is_asked() {
    isolated("dark::while_the_named_one_carries_no_other_is_asked", || {
        let world = two_cables(true);
        let _server = world.dnsmasq("eth1", &[LEASES]);
        let mut search = Search::begin(grace(GRACE));
        let plan = plan(&["eth0:dhcp"]);
        for _ in 0..2 {
            let failed = network::run(&plan, &mut search, &world.reporter, SHORT).unwrap_err();
            assert!(failed.to_string().ends_with("on eth0 (carrier up)"), "{failed}");
        }
        assert!(world.events("network.absent").is_empty() && world.events("network.lease").is_empty());
    });
}

#[test]
fn without_any_carrier_nothing_is_said_and_a_cable_that_comes_later_is_asked_at_once() {
    isolated(
        "dark::without_any_carrier_nothing_is_said_and_a_cable_that_comes_later_is_asked_at_once",
        || {
            let world = two_cables(false);
            world.pull("eth1");
            let _server = world.dnsmasq("eth1", &[LEASES]);
            let mut search = Search::begin(grace(GRACE));
            let plan = plan(&["eth0:dhcp"]);
            let failed = network::run(&plan, &mut search, &world.reporter, SHORT).unwrap_err();
            assert_eq!(failed.what, "eth0 has no carrier");
            assert!(world.events("network.absent").is_empty());
            world.plug("eth1");
            let again = Instant::now();
            let link = network::run(&plan, &mut search, &world.reporter, PATIENT).unwrap();
            assert_eq!(link.interface, "eth1");
            let asked = world.events("network.discover")[0].clone();
            assert_eq!(asked.str("interface"), "eth1");
            println!(
                "lease {} ms after the next try began",
                again.elapsed().as_millis()
            );
        },
    );
}

#[test]
fn what_was_waited_and_said_in_one_try_is_neither_in_the_next() {
    isolated(
        "dark::what_was_waited_and_said_in_one_try_is_neither_in_the_next",
        || {
            let world = two_cables(false);
            let plan = plan(&["eth0:dhcp"]);
            let mut search = Search::begin(Grace {
                appear: PATIENT,
                carry: SHORT,
            });
            let short = Duration::from_millis(2500);
            network::run(&plan, &mut search, &world.reporter, short).unwrap_err();
            assert!(world.events("network.absent").is_empty());
            network::run(&plan, &mut search, &world.reporter, short).unwrap_err();
            assert_eq!(world.events("network.absent").len(), 1);
            let asked = world.events("network.discover").len();
            assert!(asked > 0);
            let begun = Duration::from_millis(500);
            network::run(&plan, &mut search, &world.reporter, begun).unwrap_err();
            assert_eq!(world.events("network.absent").len(), 1);
            assert!(world.events("network.discover").len() > asked);
        },
    );
}

#[test]
fn an_address_goes_to_the_one_cable_that_carries_and_back_when_its_own_comes() {
    isolated(
        "dark::an_address_goes_to_the_one_cable_that_carries_and_back_when_its_own_comes",
        || {
            let world = two_cables(false);
            let mut search = Search::begin(grace(GRACE));
            let link = network::run(&plan(&[FIXED]), &mut search, &world.reporter, PATIENT).unwrap();
            assert_eq!(link.interface, "eth1");
            let text = "eth0 (02:00:00:00:00:10) has no carrier; ip= of eth0 is applied to \
                        eth1 (02:00:00:00:00:11), and DHCP is used on it too";
            assert_eq!(world.events("network.absent")[0].text.as_deref(), Some(text));
            assert!(ip(&["-4", "addr", "show", "eth1"]).contains("inet 10.8.0.15/24"));
            world.plug("eth0");
            eventually("it is moved back", || world.events("network.static").len() == 2);
            assert!(ip(&["-4", "addr", "show", "eth0"]).contains("inet 10.8.0.15/24"));
            assert!(!ip(&["-4", "addr", "show", "eth1"]).contains("10.8.0.15"));
            let routes = ip(&["route"]);
            assert!(
                routes.contains("default via 10.8.0.1 dev eth0") && !routes.contains("dev eth1"),
                "{routes}"
            );
            assert!(link.is_alive());
        },
    );
}

#[test]
fn a_name_that_is_not_there_and_one_without_a_carrier_are_both_named() {
    isolated(
        "dark::a_name_that_is_not_there_and_one_without_a_carrier_are_both_named",
        || {
            let world = two_cables(false);
            let _server = world.dnsmasq("eth1", &[LEASES]);
            let mut search = Search::begin(grace(GRACE));
            let both = plan(&[FIXED, "end0:dhcp"]);
            let link = network::run(&both, &mut search, &world.reporter, PATIENT).unwrap();
            assert_eq!(link.interface, "eth1");
            assert!(world.events("network.static").is_empty());
            let text = "ip= names end0, which is not there, and eth0 (02:00:00:00:00:10) has no carrier; \
                        DHCP is used on eth1 (02:00:00:00:00:11)";
            assert_eq!(world.events("network.absent")[0].text.as_deref(), Some(text));
        },
    );
}

#[test]
fn the_card_of_bootif_without_a_carrier_does_not_keep_the_others_from_being_asked() {
    isolated(
        "dark::the_card_of_bootif_without_a_carrier_does_not_keep_the_others_from_being_asked",
        || {
            let world = two_cables(false);
            let _server = world.dnsmasq("eth1", &[LEASES]);
            let mut plan = plan(&[]);
            plan.network.bootif = Some("02:00:00:00:00:10".into());
            let mut search = Search::begin(grace(GRACE));
            let link = network::run(&plan, &mut search, &world.reporter, PATIENT).unwrap();
            assert_eq!(link.interface, "eth1");
            let _server = world.dnsmasq("eth0", &["--dhcp-range=10.9.0.70,10.9.0.80,255.255.255.0,2m"]);
            world.plug("eth0");
            eventually("a second lease", || world.events("network.lease").len() == 2);
            assert_eq!(world.events("network.lease")[1].str("interface"), "eth0");
        },
    );
}
