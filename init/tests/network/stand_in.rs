//! Static addresses of interfaces that are not there, on the one cable that can be meant.

use crate::world::{World, eventually, ip, isolated};
use crate::{PATIENT, grace, plan};
use lifeboot_contract::event::Level;
use lifeboot_init::stage::network::{self, Search};
use std::time::{Duration, Instant};

const LEASES: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m";
const END0: &str = "10.9.0.15::10.9.0.1:24:box:end0:none:10.9.0.7";
const GRACE: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_secs(3);

#[test]
fn the_only_cable_gets_the_address_of_the_name_that_is_not_there() {
    isolated(
        "stand_in::the_only_cable_gets_the_address_of_the_name_that_is_not_there",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let started = Instant::now();
            let mut search = Search::begin(grace(GRACE));
            let link = network::run(&plan(&[END0]), &mut search, &world.reporter, PATIENT).unwrap();
            assert!(started.elapsed() >= GRACE);
            assert_eq!(link.interface, "eth0");
            assert!(ip(&["addr", "show", "eth0"]).contains("inet 10.9.0.15/24 brd 10.9.0.255"));
            let routes = ip(&["route"]);
            assert!(
                routes.contains("default via 10.9.0.1 dev eth0 proto static src 10.9.0.15"),
                "{routes}"
            );
            let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap();
            assert_eq!(resolv, "nameserver 10.9.0.7\n");
            assert_eq!(link.hostname.as_deref(), Some("box"));
            let there = ip(&["-n", "far", "route", "get", "10.9.0.15"]);
            assert!(there.contains("dev far-eth0"), "{there}");
            let said = &world.events("network.absent")[0];
            let text = "ip= names end0, which is not there; ip= of end0 is applied to eth0 (02:00:00:00:00:10), \
                        and DHCP is used on it too";
            assert_eq!((said.level, said.text.as_deref()), (Level::Warn, Some(text)));
        },
    );
}

#[test]
fn two_cables_that_carry_are_only_asked() {
    isolated("stand_in::two_cables_that_carry_are_only_asked", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        world.cable("eth1", "02:00:00:00:00:11");
        let mut search = Search::begin(grace(GRACE));
        let failed = network::run(&plan(&[END0]), &mut search, &world.reporter, SHORT).unwrap_err();
        assert!(failed.to_string().contains("on eth1 (carrier up)"), "{failed}");
        assert!(world.events("network.static").is_empty());
        let text = "ip= names end0, which is not there; DHCP is used on eth0 (02:00:00:00:00:10), eth1 (02:00:00:00:00:11)";
        assert_eq!(world.events("network.absent")[0].text.as_deref(), Some(text));
    });
}

#[test]
fn of_two_cables_the_one_that_carries_is_meant_and_the_other_is_asked_when_it_does() {
    isolated(
        "stand_in::of_two_cables_the_one_that_carries_is_meant_and_the_other_is_asked_when_it_does",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            world.cable("eth1", "02:00:00:00:00:11");
            world.pull("eth0");
            let mut search = Search::begin(grace(GRACE));
            let link = network::run(&plan(&[END0]), &mut search, &world.reporter, PATIENT).unwrap();
            assert_eq!(link.interface, "eth1");
            assert_eq!(world.events("network.static")[0].str("interface"), "eth1");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            world.plug("eth0");
            eventually("a lease beside it", || world.events("network.lease").len() == 1);
            assert_eq!(world.events("network.lease")[0].str("interface"), "eth0");
        },
    );
}

#[test]
fn where_dhcp_answers_its_lease_comes_beside_the_address_and_leads_out() {
    isolated(
        "stand_in::where_dhcp_answers_its_lease_comes_beside_the_address_and_leads_out",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            let elsewhere = plan(&["10.8.0.15::10.8.0.1:24:box:end0:none"]);
            let mut search = Search::begin(grace(GRACE));
            let link = network::run(&elsewhere, &mut search, &world.reporter, PATIENT).unwrap();
            eventually("both addresses", || {
                let addresses = world.addresses();
                addresses[0] == "10.8.0.15"
                    && addresses
                        .get(1)
                        .is_some_and(|leased| leased.starts_with("10.9.0.5"))
            });
            let way = ip(&["route", "get", "198.51.100.1"]);
            assert!(way.contains("via 10.9.0.1 dev eth0"), "{way}");
            let routes = ip(&["route"]);
            assert!(
                routes.contains("default via 10.8.0.1 dev eth0 proto static"),
                "{routes}"
            );
            assert!(link.is_alive());
        },
    );
}

#[test]
fn a_lease_of_the_same_address_that_is_lost_leaves_the_address() {
    isolated(
        "stand_in::a_lease_of_the_same_address_that_is_lost_leaves_the_address",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let server = world.dnsmasq(
                "eth0",
                &[
                    "--dhcp-range=10.9.0.10,10.9.0.20,255.255.255.0,2m",
                    "--dhcp-host=02:00:00:00:00:10,10.9.0.15",
                ],
            );
            let mut search = Search::begin(grace(GRACE));
            let link = network::run(&plan(&[END0]), &mut search, &world.reporter, PATIENT).unwrap();
            eventually("leased", || world.events("network.lease").len() == 1);
            assert_eq!(world.events("network.lease")[0].str("address"), "10.9.0.15");
            drop(server);
            world.pull("eth0");
            let _server = world.dnsmasq(
                "eth0",
                &[
                    "--dhcp-range=10.9.0.150,10.9.0.160,255.255.255.0,2m",
                    "--dhcp-authoritative",
                ],
            );
            world.plug("eth0");
            eventually("leased anew", || world.events("network.lease").len() == 2);
            let shown = ip(&["-4", "addr", "show", "eth0"]);
            assert!(
                shown.contains("inet 10.9.0.15/24") && shown.contains("inet 10.9.0.1"),
                "{shown}"
            );
            assert!(link.is_alive());
        },
    );
}

#[test]
fn the_named_interface_that_comes_after_all_has_its_address_for_itself() {
    isolated(
        "stand_in::the_named_interface_that_comes_after_all_has_its_address_for_itself",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            let mut search = Search::begin(grace(GRACE));
            let both = plan(&[END0, "[2001:db8::5]::[2001:db8::1]:64::end0:none"]);
            let link = network::run(&both, &mut search, &world.reporter, PATIENT).unwrap();
            eventually("leased too", || world.events("network.lease").len() == 1);
            world.cable("end0", "02:00:00:00:00:17");
            eventually("they are moved", || world.events("network.static").len() == 4);
            let (eth0, end0) = (
                ip(&["-4", "addr", "show", "eth0"]),
                ip(&["-4", "addr", "show", "end0"]),
            );
            assert!(!eth0.contains("10.9.0.15") && end0.contains("inet 10.9.0.15/24"));
            assert!(eth0.contains("inet 10.9.0.5"), "{eth0}");
            let routes = ip(&["route"]);
            assert!(
                !routes.contains("dev eth0 proto static")
                    && routes.contains("default via 10.9.0.1 dev eth0 proto dhcp"),
                "{routes}"
            );
            assert!(ip(&["-6", "route"]).contains("default via 2001:db8::1 dev end0"));
            assert!(!ip(&["-6", "route"]).contains("default via 2001:db8::1 dev eth0"));
            assert!(link.is_alive());
            let said = world.events("network.moved")[0].text.clone();
            assert_eq!(said.as_deref(), Some("eth0: 10.9.0.15 has moved to end0"));
            ip(&["link", "del", "eth0"]);
            eventually("eth0 has gone", || world.events("network.lost").len() == 1);
            std::thread::sleep(Duration::from_millis(300));
            assert!(link.is_alive());
        },
    );
}
