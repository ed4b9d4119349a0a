//! Interfaces that the plan asks for and that are not there, or not yet.

use crate::world::{World, eventually, ip, isolated};
use crate::{PATIENT, grace, plan};
use lifeboot_contract::event::Level;
use lifeboot_init::stage::network::{self, Search};
use std::time::{Duration, Instant};

const LEASES: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m";
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn an_interface_of_another_name_is_asked_when_the_named_one_does_not_come() {
    isolated(
        "absent::an_interface_of_another_name_is_asked_when_the_named_one_does_not_come",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            let started = Instant::now();
            let plan = plan(&["eht0:dhcp"]);
            let link =
                network::run(&plan, &mut Search::begin(grace(GRACE)), &world.reporter, PATIENT).unwrap();
            assert!(started.elapsed() >= GRACE);
            assert_eq!(link.interface, "eth0");
            assert!(world.addresses()[0].starts_with("10.9.0.5"));
            let said = &world.events("network.absent")[0];
            let text = "ip= names eht0, which is not there; DHCP is used on eth0 (02:00:00:00:00:10)";
            assert_eq!((said.level, said.text.as_deref()), (Level::Warn, Some(text)));
        },
    );
}

#[test]
fn the_named_interface_is_used_at_once_and_nothing_else() {
    isolated(
        "absent::the_named_interface_is_used_at_once_and_nothing_else",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            let started = Instant::now();
            let plan = plan(&["eth0:dhcp"]);
            let link = network::run(
                &plan,
                &mut Search::begin(grace(PATIENT)),
                &world.reporter,
                PATIENT,
            )
            .unwrap();
            assert!(started.elapsed() < PATIENT);
            assert_eq!(link.interface, "eth0");
            assert!(world.addresses()[0].starts_with("10.9.0.5"));
            assert!(world.events("network.absent").is_empty());
        },
    );
}

#[test]
fn a_named_interface_that_comes_after_all_is_configured_beside_the_lease() {
    isolated(
        "absent::a_named_interface_that_comes_after_all_is_configured_beside_the_lease",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            let plan = plan(&["10.8.0.15::10.8.0.1:24:box:eth7:none", "eth6:dhcp"]);
            let link =
                network::run(&plan, &mut Search::begin(grace(GRACE)), &world.reporter, PATIENT).unwrap();
            world.cable("eth7", "02:00:00:00:00:17");
            eventually("both addresses", || {
                let addresses = world.addresses();
                addresses[0].starts_with("10.9.0.5") && addresses.get(1).is_some_and(|own| own == "10.8.0.15")
            });
            assert!(ip(&["-4", "addr", "show", "eth7"]).contains("inet 10.8.0.15/24"));
            assert!(link.is_alive());
            assert_eq!(world.events("network.absent").len(), 1);
        },
    );
}

#[test]
fn a_card_that_is_not_the_one_of_bootif_is_asked_too_and_that_one_when_it_comes() {
    isolated(
        "absent::a_card_that_is_not_the_one_of_bootif_is_asked_too_and_that_one_when_it_comes",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let _server = world.dnsmasq("eth0", &[LEASES]);
            let mut plan = plan(&[]);
            plan.network.bootif = Some("02:00:00:00:00:17".into());
            let link =
                network::run(&plan, &mut Search::begin(grace(GRACE)), &world.reporter, PATIENT).unwrap();
            assert_eq!(link.interface, "eth0");
            assert_eq!(
                world.events("network.absent")[0].str("what"),
                "BOOTIF= names 02:00:00:00:00:17, which is not there"
            );
            world.cable("eth7", "02:00:00:00:00:17");
            let _server = world.dnsmasq("eth7", &["--dhcp-range=10.9.0.70,10.9.0.80,255.255.255.0,2m"]);
            eventually("a second lease", || world.events("network.lease").len() == 2);
            assert_eq!(world.events("network.lease")[1].str("interface"), "eth7");
        },
    );
}

#[test]
fn what_the_first_try_has_said_the_next_does_not_repeat() {
    isolated(
        "absent::what_the_first_try_has_said_the_next_does_not_repeat",
        || {
            let world = World::new();
            world.cable("eth0", "02:00:00:00:00:10");
            let plan = plan(&["eht0:dhcp"]);
            let mut search = Search::begin(grace(Duration::ZERO));
            let said = || {
                let texts = |name| {
                    world
                        .events(name)
                        .iter()
                        .filter(|event| event.text.is_some())
                        .count()
                };
                (texts("network.link"), texts("network.absent"))
            };
            let short = Duration::from_secs(2);
            let failed = network::run(&plan, &mut search, &world.reporter, short).unwrap_err();
            assert!(failed.to_string().contains("DHCP discover"), "{failed}");
            assert_eq!(said(), (1, 1));
            network::run(&plan, &mut search, &world.reporter, short).unwrap_err();
            assert_eq!(said(), (1, 1));
            assert!(world.events("network.link").len() > 1);
            world.pull("eth0");
            network::run(&plan, &mut search, &world.reporter, short).unwrap_err();
            world.plug("eth0");
            network::run(&plan, &mut search, &world.reporter, short).unwrap_err();
            assert_eq!(said(), (2, 1));
        },
    );
}

#[test]
fn without_any_cable_the_failure_names_what_is_missing_and_what_is_there() {
    isolated(
        "absent::without_any_cable_the_failure_names_what_is_missing_and_what_is_there",
        || {
            let world = World::new();
            ip(&[
                "link",
                "add",
                "br0",
                "address",
                "02:00:00:00:00:20",
                "type",
                "bridge",
            ]);
            let plan = plan(&["eht0:dhcp"]);
            let mut search = Search::begin(grace(Duration::ZERO));
            let failed = network::run(&plan, &mut search, &world.reporter, GRACE).unwrap_err();
            assert_eq!(
                failed.what,
                "no network interface to configure: ip= names eht0, which is not there; there is br0 (02:00:00:00:00:20)"
            );
            assert!(world.events("network.absent").is_empty());
        },
    );
}
