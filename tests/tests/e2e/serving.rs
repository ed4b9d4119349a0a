//! docs/serving.md, run: what it says to configure, with unmodified firmware that boots from it. All of it in network namespaces.

pub mod document;
pub mod firmware;
mod pi;
mod secure_boot;
mod web;

use anyhow::Result;
use lifeboot_tests::lan::{INTERFACE, Lan, Station};
use std::net::Ipv4Addr;

/// The router beside which dnsmasq is a proxy.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// A router that gives addresses and knows nothing of booting.
fn router(lan: &Lan) -> Result<Station> {
    let router = lan.station("02:00:00:00:01:01", Some(ROUTER))?;
    let range = "dhcp-range=192.168.1.50,192.168.1.90,12h";
    let configuration = format!("port=0\ninterface={INTERFACE}\nbind-dynamic\n{range}\n");
    lan.dnsmasq_on(&router, &configuration)?;
    Ok(router)
}
