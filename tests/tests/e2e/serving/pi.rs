//! A Raspberry Pi's boot loader, imitated: the DHCPDISCOVER and the TFTP requests that are reported of one (rpi-eeprom's issues 74 and
//! 87, and its documentation of DHCP_OPTION97 and PXE_OPTION43). That a real one takes the answers has not been seen.

mod dhcp;
mod tftp;

use super::{document, router};
use anyhow::{Context, Result, ensure};
use dhcp::Offer;
use lifeboot_tests::artefacts::image_dir;
use lifeboot_tests::guest::Board;
use lifeboot_tests::lan::{INTERFACE, Lan, SERVER, Station};
use std::net::Ipv4Addr;

/// A Pi 4's, with the serial number that follows from it in the requests.
const MAC: [u8; 6] = [0xdc, 0xa6, 0x32, 0x01, 0x36, 0xc2];
const SERIAL: u32 = 0x9ffe_fdef;
/// Option 43 with what the boot loader looks for: discovery control, a prompt, and a menu of one item.
const MENU: &[u8] = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

/// What a Pi 4 asks for by name; the rest of the tree it finds in config.txt.
const ASKED_FOR: [&str; 4] = ["start4.elf", "fixup4.dat", "config.txt", "cmdline.txt"];

/// The builder's tree for a Pi 4, in the directory of this one's serial number; the names of its files, below the TFTP server's root.
fn tree(lan: &Lan) -> Result<Vec<String>> {
    let built = image_dir(Board::Pi4).join("tftp");
    ensure!(
        built.join("start4.elf").exists(),
        "could not run: {}: not there, `make images` builds it",
        built.display()
    );
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&built).with_context(|| built.display().to_string())? {
        let entry = entry.with_context(|| built.display().to_string())?;
        if entry.path().is_file() {
            let name = format!("9ffefdef/{}", entry.file_name().display());
            lan.put_file(&format!("tftp/{name}"), &entry.path())?;
            names.push(name);
        }
    }
    for name in ASKED_FOR {
        ensure!(
            names.contains(&format!("9ffefdef/{name}")),
            "no {name} in {names:?}"
        );
    }
    Ok(names)
}

/// A Pi, cabled in.
fn pi(lan: &Lan) -> Result<Station> {
    let mac: Vec<String> = MAC.iter().map(|byte| format!("{byte:02x}")).collect();
    let station = lan.station(&mac.join(":"), None)?;
    station.ip(&["route", "add", "default", "dev", INTERFACE])?;
    Ok(station)
}

/// The offer that tells the Pi where to boot from: what is reported to be enough for a boot loader, byte for byte.
fn boot_offer(offers: &[Offer]) -> Result<&Offer> {
    let offer = offers
        .iter()
        .find(|offer| offer.option(43).is_some())
        .with_context(|| format!("no offer has option 43: {offers:?}"))?;
    ensure!(offer.option(43) == Some(MENU), "option 43: {offer:?}");
    ensure!(offer.option(60) == Some(b"PXEClient"), "option 60: {offer:?}");
    let identity = dhcp::identity(MAC, SERIAL);
    ensure!(offer.option(97) == Some(&identity), "option 97: {offer:?}");
    ensure!(offer.option(54) == Some(&SERVER.octets()), "option 54: {offer:?}");
    Ok(offer)
}

/// What the tree has comes whole, with both block sizes; a look at the size alone is ended as a Pi ends it.
fn fetches(lan: &Lan, station: &Station, address: Ipv4Addr, names: &[String]) -> Result<()> {
    station.ip(&["addr", "add", &format!("{address}/24"), "dev", INTERFACE])?;
    let root = lan.files().join("tftp");
    station.inside(|| {
        for name in names {
            let content = std::fs::read(root.join(name)).with_context(|| name.clone())?;
            ensure!(tftp::size(SERVER, name)? == Some(content.len()), "size of {name}");
            for block in [1024, 1468] {
                let found = tftp::get(SERVER, name, block)?.with_context(|| name.clone())?;
                ensure!(
                    found == content,
                    "{name} in blocks of {block} came as {} bytes",
                    found.len()
                );
            }
        }
        let absent = tftp::size(SERVER, "9ffefdef/recovery.elf")?;
        ensure!(absent.is_none(), "a file that is not there has {absent:?} bytes");
        Ok(())
    })
}

#[test]
fn a_pi_is_told_where_to_boot_from_and_gets_its_tree() -> Result<()> {
    let lan = Lan::new()?;
    let names = tree(&lan)?;
    lan.dnsmasq(&document::block("conf", "lifeboot-lan.conf")?)?;
    let station = pi(&lan)?;
    let offers = station.inside(|| dhcp::discover(MAC, SERIAL, 1))?;
    let offer = boot_offer(&offers)?;
    ensure!(offer.address.octets()[..3] == [192, 168, 1], "{offer:?}");
    ensure!(offer.next_server == SERVER, "siaddr: {offer:?}");
    fetches(&lan, &station, offer.address, &names)?;
    lan.passed();
    Ok(())
}

#[test]
fn a_pi_is_told_the_same_by_a_proxy_beside_the_router() -> Result<()> {
    let lan = Lan::new()?;
    let names = tree(&lan)?;
    let _router = router(&lan)?;
    lan.dnsmasq(&document::block("conf", "lifeboot-proxy.conf")?)?;
    let station = pi(&lan)?;
    let offers = station.inside(|| dhcp::discover(MAC, SERIAL, 2))?;
    let boot = boot_offer(&offers)?;
    ensure!(
        boot.address.is_unspecified(),
        "the proxy gave an address: {boot:?}"
    );
    let given = offers.iter().find(|offer| !offer.address.is_unspecified());
    let given = given.context("no address from the router")?;
    ensure!(
        given.option(43).is_none(),
        "the router knows of booting: {given:?}"
    );
    fetches(&lan, &station, given.address, &names)?;
    lan.passed();
    Ok(())
}
