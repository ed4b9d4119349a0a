//! Interfaces, addresses and routes.

use super::leases::{Lease, events, leases};
use crate::{control, machine};
use lifeboot_init::stage::network::inspect::{self, OwnAddress, Way};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// The network as it is.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Network {
    pub interfaces: Vec<Interface>,
    pub routes: Vec<Route>,
    /// The last lease of each interface, by PID 1's record.
    pub leases: Vec<Lease>,
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trouble: Vec<String>,
}

/// A network interface.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub name: String,
    #[serde(skip)]
    pub index: u32,
    pub mac: Option<String>,
    pub driver: Option<String>,
    /// `up`, `down`, `lowerlayerdown`, …
    pub state: Option<String>,
    /// Whether the cable carries; absent while the interface is off.
    pub carrier: Option<bool>,
    /// Mbit/s.
    pub speed: Option<u32>,
    pub duplex: Option<String>,
    pub mtu: Option<u32>,
    /// How often the cable came or went.
    pub carrier_changes: Option<u64>,
    /// With prefix lengths.
    pub addresses: Vec<String>,
    /// Counters that are not zero.
    pub counters: BTreeMap<String, u64>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// `default`, or network and prefix length.
    pub to: String,
    pub via: Option<IpAddr>,
    pub interface: String,
    pub metric: u32,
}

/// Counters that say that something is wrong.
const ERRORS: [&str; 6] = [
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "rx_crc_errors",
    "collisions",
];
/// Beside those that say that anything happens.
const TRAFFIC: [&str; 2] = ["rx_bytes", "tx_bytes"];
/// Interfaces of nothing but this machine.
const LOOPBACK: &str = "lo";
const NO_INTERFACE: &str = "there is no network interface: its driver may not be in the image";

impl Network {
    /// Looks.
    pub fn look() -> Network {
        let mut network = Network {
            interfaces: interfaces(&machine::root().join("sys/class/net")),
            ..Network::default()
        };
        match inspect::addresses() {
            Ok(addresses) => network.take_addresses(&addresses),
            Err(error) => network.trouble.push(format!("addresses: {error}")),
        }
        match inspect::routes() {
            Ok(routes) => network.routes = routes.iter().map(|way| network.route(way)).collect(),
            Err(error) => network.trouble.push(format!("routes: {error}")),
        }
        match events() {
            Ok(events) => network.leases = leases(&events, control::event(Default::default(), "").ms),
            Err(error) => network.trouble.push(format!("leases: {error:#}")),
        }
        network
    }

    fn take_addresses(&mut self, addresses: &[OwnAddress]) {
        for interface in &mut self.interfaces {
            let own = addresses.iter().filter(|own| own.index == interface.index);
            interface.addresses = own.map(|own| format!("{}/{}", own.address, own.prefix)).collect();
        }
    }

    fn route(&self, way: &Way) -> Route {
        Route {
            to: match way.target {
                Some(target) if way.prefix > 0 => format!("{target}/{}", way.prefix),
                _ => "default".to_owned(),
            },
            via: way.via,
            interface: self.name(way.index),
            metric: way.metric,
        }
    }

    /// What the interface of a number is called.
    pub fn name(&self, index: u32) -> String {
        let found = self.interfaces.iter().find(|interface| interface.index == index);
        found.map_or_else(
            || format!("interface {index}"),
            |interface| interface.name.clone(),
        )
    }

    fn wired(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces
            .iter()
            .filter(|interface| interface.name != LOOPBACK)
    }

    /// Whether there is an interface that leads out of this machine.
    pub fn has_interface(&self) -> bool {
        self.wired().next().is_some()
    }

    /// Whether any cable carries.
    pub fn has_carrier(&self) -> bool {
        self.wired().any(|interface| interface.carrier == Some(true))
    }

    /// Whether there is an address of that family that reaches further than the cable.
    pub fn has_address(&self, of: IpAddr) -> bool {
        let near = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let addresses = self.wired().flat_map(|interface| &interface.addresses);
        let mut own = addresses.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
        own.any(|own| own.is_ipv4() == of.is_ipv4() && !near(&own))
    }

    /// What a person should hear first.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.has_interface() {
            warnings.push(NO_INTERFACE.to_owned());
        } else if !self.has_carrier() {
            warnings.push("no network cable carries".to_owned());
        } else if self
            .wired()
            .all(|interface| !interface.addresses.iter().any(|address| is_far(address)))
        {
            warnings.push("no interface has an address: no DHCP server has answered".to_owned());
        }
        for interface in self.wired() {
            let errors = interface
                .counters
                .iter()
                .filter(|(name, _)| name.ends_with("_errors"));
            warnings.extend(errors.map(|(name, count)| format!("{}: {count} {name}", interface.name)));
            if interface.speed.is_some_and(|speed| (1..100).contains(&speed)) {
                warnings.push(format!(
                    "{}: linked at {} Mbit/s only",
                    interface.name,
                    interface.speed.unwrap_or(0)
                ));
            }
            if interface.duplex.as_deref() == Some("half") {
                warnings.push(format!("{}: linked at half duplex", interface.name));
            }
        }
        warnings
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.wired().flat_map(Interface::lines).collect();
        if lines.is_empty() {
            lines.push(NO_INTERFACE.to_owned());
        }
        lines.extend(self.leases.iter().map(Lease::line));
        lines.extend(self.routes.iter().map(|route| {
            let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
            format!(
                "route {}{via} on {}, metric {}",
                route.to, route.interface, route.metric
            )
        }));
        lines.extend(self.trouble.iter().map(|what| format!("not known: {what}")));
        lines
    }
}

/// Whether an address with its prefix reaches further than the cable.
fn is_far(address: &str) -> bool {
    !address.starts_with("fe80:") && !address.starts_with("169.254.")
}

impl Interface {
    fn lines(&self) -> Vec<String> {
        let mut said = vec![match self.carrier {
            Some(true) => "cable carries".to_owned(),
            Some(false) => "no cable".to_owned(),
            None => "switched off".to_owned(),
        }];
        said.extend(self.speed.map(|speed| {
            let duplex = self.duplex.as_deref().map(|duplex| format!(" {duplex} duplex"));
            format!("{speed} Mbit/s{}", duplex.unwrap_or_default())
        }));
        said.extend(self.mac.clone());
        said.extend(self.driver.as_ref().map(|driver| format!("driver {driver}")));
        said.extend(self.mtu.map(|mtu| format!("mtu {mtu}")));
        let mut lines = vec![format!("{}: {}", self.name, said.join(", "))];
        if !self.addresses.is_empty() {
            lines.push(format!("  {}", self.addresses.join(", ")));
        }
        if !self.counters.is_empty() {
            let counters: Vec<String> = self
                .counters
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            lines.push(format!("  {}", counters.join(", ")));
        }
        lines
    }
}

fn interfaces(dir: &Path) -> Vec<Interface> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<Interface> = entries
        .map(|entry| interface(&entry.path(), entry.file_name().to_string_lossy().into_owned()))
        .collect();
    found.sort_by_key(|interface| interface.index);
    found
}

fn interface(dir: &Path, name: String) -> Interface {
    let text = |file: &str| {
        let text = fs::read_to_string(dir.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let count = |file: &str| text(&format!("statistics/{file}"))?.parse::<u64>().ok();
    let counters = TRAFFIC.iter().chain(&ERRORS);
    let driver = fs::read_link(dir.join("device/driver")).ok();
    Interface {
        index: text("ifindex").and_then(|index| index.parse().ok()).unwrap_or(0),
        mac: text("address").filter(|mac| mac != "00:00:00:00:00:00"),
        driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        state: text("operstate"),
        // EINVAL while it is off.
        carrier: text("carrier").map(|carrier| carrier == "1"),
        speed: text("speed")
            .and_then(|speed| speed.parse().ok())
            .filter(|speed| *speed < u32::MAX),
        duplex: text("duplex").filter(|duplex| duplex != "unknown"),
        mtu: text("mtu").and_then(|mtu| mtu.parse().ok()),
        carrier_changes: text("carrier_changes").and_then(|changes| changes.parse().ok()),
        addresses: Vec::new(),
        counters: counters
            .filter_map(|counter| Some(((*counter).to_owned(), count(counter).filter(|count| *count > 0)?)))
            .collect(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_what_sysfs_says() {
        let dir = std::env::temp_dir().join(format!("lifeboot-net-{}", std::process::id()));
        let files = [
            ("ifindex", "2"),
            ("address", "52:54:00:12:34:56"),
            ("carrier", "1"),
            ("speed", "10"),
            ("duplex", "half"),
            ("mtu", "1500"),
            ("statistics/rx_bytes", "7"),
            ("statistics/rx_crc_errors", "3"),
            ("statistics/tx_errors", "0"),
        ];
        for (name, text) in files {
            let path = dir.join("eth0").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let network = Network {
            interfaces: interfaces(&dir),
            ..Network::default()
        };
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            network.lines(),
            [
                "eth0: cable carries, 10 Mbit/s half duplex, 52:54:00:12:34:56, mtu 1500",
                "  rx_bytes 7, rx_crc_errors 3"
            ]
        );
        let warnings = network.warnings();
        assert_eq!(
            warnings,
            [
                "no interface has an address: no DHCP server has answered",
                "eth0: 3 rx_crc_errors",
                "eth0: linked at 10 Mbit/s only",
                "eth0: linked at half duplex"
            ]
        );
        assert_eq!(Network::default().warnings(), [NO_INTERFACE]);
        assert_eq!(Network::default().lines(), [NO_INTERFACE]);
    }
}
