//! Stage network against real kernels' interfaces and dnsmasq, each test in namespaces of its own.
//!
//! A test starts its own executable again under unshare(1): network, mounts and host name are then the test's, with /etc and /run as
//! empty directories in memory. veth pairs stand for cables; the far ends lie in a second network namespace, with the server. That needs
//! root (in a user namespace dnsmasq does not start); without, the tests fail and say that they could not run.

#![expect(clippy::unwrap_used, reason = "a plan that cannot be read fails its test")]

#[path = "network/absent.rs"]
mod absent;
#[path = "network/dark.rs"]
mod dark;
#[path = "network/stand_in.rs"]
mod stand_in;
#[path = "network/world.rs"]
mod world;

use lifeboot_contract::event::Failure;
use lifeboot_contract::ip::Directive;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::template::Template;
use lifeboot_init::report::Reporter;
use lifeboot_init::stage::network::{self, Grace, Link, Search};
use std::time::{Duration, Instant};
use world::{World, eventually, ip, isolated};

const PATIENT: Duration = Duration::from_secs(20);

fn plan(words: &[&str]) -> Plan {
    let mut plan = Plan::default();
    plan.network.ip = words.iter().map(|word| Directive::parse(word).unwrap()).collect();
    plan
}

/// Waits so long for interfaces that are asked for to appear, and as long for their carriers.
fn grace(both: Duration) -> Grace {
    Grace {
        appear: both,
        carry: both,
    }
}

/// One try of a search that has just begun.
fn search(plan: &Plan, reporter: &Reporter, patience: Duration) -> Result<Link, Failure> {
    network::run(plan, &mut Search::begin(grace(PATIENT)), reporter, patience)
}

#[test]
fn every_cable_is_asked_the_first_lease_wins_and_everything_of_it_is_used() {
    isolated(
        "every_cable_is_asked_the_first_lease_wins_and_everything_of_it_is_used",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            world.cable("eth1", "02:00:00:00:00:11");
            let _server = world.dnsmasq(
                "eth1",
                &[
                    "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m",
                    "--dhcp-host=02:00:00:00:00:11,10.9.0.55,kitchen",
                    "--dhcp-option=option:dns-server,10.9.0.1,10.9.0.2",
                    "--dhcp-option=option:ntp-server,10.9.0.3",
                    "--dhcp-option=option:domain-search,example.org,lan.example.org",
                    "--dhcp-option=option:mtu,1400",
                ],
            );
            let started = Instant::now();
            let link = search(&plan(&[]), &world.reporter, PATIENT).unwrap();
            println!("lease after {} ms", started.elapsed().as_millis());
            assert_eq!(
                (link.interface.as_str(), link.mac.as_str()),
                ("eth1", "02-00-00-00-00-11")
            );
            assert!(link.is_alive());
            assert!(ip(&["-4", "addr", "show", "eth1"]).contains("inet 10.9.0.55/24 brd 10.9.0.255"));
            assert!(!ip(&["-4", "addr", "show", "eth0"]).contains("inet "));
            assert!(ip(&["link", "show", "eth0"]).contains("UP"));
            assert!(ip(&["link", "show", "eth1"]).contains("mtu 1400"));
            let routes = ip(&["route"]);
            assert!(
                routes.contains("default via 10.9.0.1 dev eth1 proto dhcp src 10.9.0.55 metric 10"),
                "{routes}"
            );
            let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap();
            assert_eq!(
                resolv,
                "search example.org lan.example.org\nnameserver 10.9.0.1\nnameserver 10.9.0.2\n"
            );
            assert_eq!(link.ntp, ["10.9.0.3"]);
            assert_eq!(link.hostname.as_deref(), Some("kitchen"));
            assert_eq!(
                std::fs::read_to_string("/proc/sys/kernel/hostname")
                    .unwrap()
                    .trim(),
                "kitchen"
            );
            assert_eq!(world.events("network.lease").len(), 1);
            assert_eq!(world.addresses().first().map(String::as_str), Some("10.9.0.55"));
            eventually("an IPv6 link-local address is reported", || {
                world
                    .addresses()
                    .iter()
                    .any(|address| address.starts_with("fe80:"))
            });
        },
    );
}

#[test]
fn classless_routes_win_and_a_router_outside_of_the_subnet_is_reached() {
    isolated(
        "classless_routes_win_and_a_router_outside_of_the_subnet_is_reached",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq(
                "eth0",
                &[
                    "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m",
                    "--dhcp-option=option:router,10.9.0.99",
                    "--dhcp-option=option:classless-static-route,172.16.0.1/32,0.0.0.0,0.0.0.0/0,172.16.0.1",
                ],
            );
            search(&plan(&[]), &world.reporter, PATIENT).unwrap();
            let routes = ip(&["route"]);
            assert!(routes.contains("default via 172.16.0.1 dev eth0"), "{routes}");
            assert!(
                routes.contains("172.16.0.1 dev eth0 proto dhcp scope link"),
                "{routes}"
            );
            assert!(!routes.contains("10.9.0.99"), "{routes}");
        },
    );
}

#[test]
fn nothing_is_sent_before_the_cable_carries_and_then_it_is_sent_at_once() {
    isolated(
        "nothing_is_sent_before_the_cable_carries_and_then_it_is_sent_at_once",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m"]);
            world.pull("eth0");
            let failed = search(&plan(&[]), &world.reporter, Duration::from_secs(2)).unwrap_err();
            assert_eq!(failed.to_string(), "network: eth0 has no carrier");
            assert!(world.events("network.discover").is_empty());
            std::thread::scope(|scope| {
                let run = scope.spawn(|| search(&plan(&[]), &world.reporter, PATIENT));
                std::thread::sleep(Duration::from_millis(1500));
                assert!(world.events("network.discover").is_empty());
                let plugged = Instant::now();
                world.plug("eth0");
                run.join().unwrap().unwrap();
                println!("lease {} ms after the cable", plugged.elapsed().as_millis());
            });
            // How long everything took depends on dnsmasq and on what else the machine has to do.
            let links = world.events("network.link");
            let carries = links.iter().rfind(|event| event.fields["carrier"] == true);
            let carries = carries.unwrap();
            let asked = &world.events("network.discover")[0];
            assert_eq!(asked.u64("try"), Some(1));
            assert!(asked.ms - carries.ms < 1000, "{carries:?} {asked:?}");
        },
    );
}

#[test]
fn an_interface_that_appears_later_joins_in() {
    isolated("an_interface_that_appears_later_joins_in", || {
        let world = World::new();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| search(&plan(&[]), &world.reporter, PATIENT));
            std::thread::sleep(Duration::from_millis(500));
            world.cable("eth7", "02:00:00:00:00:17");
            let _server = world.dnsmasq("eth7", &["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m"]);
            assert_eq!(run.join().unwrap().unwrap().interface, "eth7");
        });
    });
}

#[test]
fn without_a_server_the_failure_says_what_was_tried_where() {
    isolated("without_a_server_the_failure_says_what_was_tried_where", || {
        let world = World::new();
        let failed = search(&plan(&[]), &world.reporter, Duration::from_millis(300)).unwrap_err();
        assert_eq!(failed.what, "no network interface to configure");
        world.cable("eth0", "02:00:00:00:00:10");
        world.cable("eth1", "02:00:00:00:00:11");
        world.pull("eth1");
        let failed = search(&plan(&[]), &world.reporter, Duration::from_secs(4)).unwrap_err();
        let text = failed.to_string();
        // How many there are depends on the jitter and on how soon the kernel says that the cable carries.
        assert!(text.starts_with("network: no answer to "), "{text}");
        assert!(
            text.ends_with(" on eth0 (carrier up), eth1 has no carrier"),
            "{text}"
        );
    });
}

#[test]
fn a_lease_is_renewed_and_confirmed_when_the_cable_was_out() {
    isolated("a_lease_is_renewed_and_confirmed_when_the_cable_was_out", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        let _server = world.dnsmasq(
            "eth0",
            &[
                "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m",
                "--dhcp-option=option:T1,3s",
            ],
        );
        let link = search(&plan(&[]), &world.reporter, PATIENT).unwrap();
        eventually("renewed at T1", || !world.events("network.renewed").is_empty());
        let links = world.events("network.link").len();
        world.pull("eth0");
        eventually("the cable is out", || world.events("network.link").len() > links);
        let before = world.events("network.renewed").len();
        world.plug("eth0");
        eventually("confirmed", || world.events("network.renewed").len() > before);
        assert!(link.is_alive());
        assert!(world.events("network.lost").is_empty());
    });
}

#[test]
fn a_lease_that_the_server_takes_back_is_given_up() {
    isolated("a_lease_that_the_server_takes_back_is_given_up", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        let server = world.dnsmasq("eth0", &["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m"]);
        let link = search(&plan(&[]), &world.reporter, PATIENT).unwrap();
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
        eventually("the link is dead", || !link.is_alive());
        assert!(!ip(&["-4", "addr", "show", "eth0"]).contains("inet "));
        assert!(!ip(&["route"]).contains("default"));
        let again = search(&plan(&[]), &world.reporter, PATIENT).unwrap();
        assert!(again.is_alive());
        assert!(ip(&["-4", "addr", "show", "eth0"]).contains("inet 10.9.0.1"));
    });
}

#[test]
fn addresses_out_of_the_plan_are_set_when_the_cable_carries() {
    isolated("addresses_out_of_the_plan_are_set_when_the_cable_carries", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        let mut plan = plan(&[
            "10.1.0.5::10.2.0.1:255.255.255.0:desk:eth0:none:10.1.0.1::10.1.0.3",
            "[2001:db8::5]::[2001:db8::1]:64::eth0:none",
        ]);
        plan.network.nameservers = vec!["10.7.7.7".parse().unwrap()];
        plan.hostname = Some(Template::parse("box-{mac}").unwrap());
        let link = search(&plan, &world.reporter, PATIENT).unwrap();
        assert!(ip(&["addr", "show", "eth0"]).contains("inet 10.1.0.5/24 brd 10.1.0.255"));
        assert!(ip(&["addr", "show", "eth0"]).contains("inet6 2001:db8::5/64"));
        assert!(
            ip(&["route"])
                .contains("default via 10.2.0.1 dev eth0 proto static src 10.1.0.5 metric 100 onlink")
        );
        assert!(ip(&["-6", "route"]).contains("default via 2001:db8::1 dev eth0"));
        assert_eq!(link.ntp, ["10.1.0.3"]);
        assert_eq!(
            std::fs::read_to_string("/etc/resolv.conf").unwrap(),
            "nameserver 10.7.7.7\nnameserver 10.1.0.1\n"
        );
        assert_eq!(link.hostname.as_deref(), Some("box-02-00-00-00-00-10"));
        assert_eq!(world.events("network.static").len(), 2);
        assert_eq!(world.addresses()[..2], ["10.1.0.5", "2001:db8::5"]);
    });
}

#[test]
fn off_configures_nothing_and_waits_for_nothing() {
    isolated("off_configures_nothing_and_waits_for_nothing", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        let link = search(&plan(&["off"]), &world.reporter, PATIENT).unwrap();
        assert!(link.addresses.is_empty() && link.is_alive());
        assert!(!ip(&["link", "show", "eth0"]).contains("UP"));
    });
}

#[test]
fn a_router_advertisement_is_enough_for_auto6() {
    isolated("a_router_advertisement_is_enough_for_auto6", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        world.far(&[
            "-6",
            "addr",
            "add",
            "2001:db8:9::1/64",
            "dev",
            "far-eth0",
            "nodad",
        ]);
        let _server = world.dnsmasq(
            "eth0",
            &[
                "--enable-ra",
                "--dhcp-range=2001:db8:9::,ra-only",
                "--dhcp-option=option6:dns-server,[2001:db8:9::1]",
            ],
        );
        let link = search(&plan(&["eth0:auto6"]), &world.reporter, PATIENT).unwrap();
        assert!(
            world.addresses()[0].starts_with("2001:db8:9:"),
            "{:?}",
            world.addresses()
        );
        assert_eq!(link.interface, "eth0");
        eventually("name servers of the advertisement", || {
            std::fs::read_to_string("/etc/resolv.conf").is_ok_and(|text| text == "nameserver 2001:db8:9::1\n")
        });
    });
}

#[test]
fn an_interface_that_is_unplugged_ends_the_link() {
    isolated("an_interface_that_is_unplugged_ends_the_link", || {
        let world = World::new();
        world.cable("eth0", "02:00:00:00:00:10");
        let _server = world.dnsmasq("eth0", &["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m"]);
        let link = search(&plan(&["eth0:dhcp"]), &world.reporter, PATIENT).unwrap();
        ip(&["link", "del", "eth0"]);
        eventually("the link is dead", || !link.is_alive());
        assert_eq!(
            world.events("network.lost")[0].str("what"),
            "the interface has gone"
        );
        assert!(world.addresses().is_empty());
    });
}
