//! The DHCPDISCOVER of a Raspberry Pi 4, and what comes back.

use anyhow::{Context, Result, ensure};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const TRANSACTION: [u8; 4] = *b"lbpi";
/// How long all offers may take together.
const PATIENCE: Duration = Duration::from_secs(60);

/// A DHCPOFFER.
#[derive(Debug)]
pub struct Offer {
    /// `yiaddr`.
    pub address: Ipv4Addr,
    /// `siaddr`.
    pub next_server: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Offer {
    /// An option's value.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value.as_slice())
    }
}

/// Option 97: type 0, "RPi4", board revision, low bytes of the MAC, serial number.
pub fn identity(mac: [u8; 6], serial: u32) -> Vec<u8> {
    let mut value = b"\0RPi4".to_vec();
    value.extend(0x00c0_3112_u32.to_le_bytes());
    value.extend(&mac[2..]);
    value.extend(serial.to_le_bytes());
    value
}

/// Sends it and waits for so many offers. To be called where the Pi is.
pub fn discover(mac: [u8; 6], serial: u32, count: usize) -> Result<Vec<Offer>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).context("port 68")?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let started = Instant::now();
    let mut offers: Vec<Offer> = Vec::new();
    let mut buffer = [0; 1500];
    while offers.len() < count {
        ensure!(
            started.elapsed() < PATIENCE,
            "got {} of {count} offers: {offers:?}",
            offers.len()
        );
        // Again and again, as a Pi does: the cable may have been put in this moment.
        socket
            .send_to(&request(mac, serial), (Ipv4Addr::BROADCAST, 67))
            .context("DHCPDISCOVER")?;
        while let Ok(size) = socket.recv(&mut buffer) {
            let offer = parse(&buffer[..size]);
            let known = |offer: &Offer| offers.iter().any(|old| old.option(54) == offer.option(54));
            let new: Vec<Offer> = offer.into_iter().filter(|offer| !known(offer)).collect();
            offers.extend(new);
        }
    }
    Ok(offers)
}

fn request(mac: [u8; 6], serial: u32) -> Vec<u8> {
    // A request by Ethernet; the answer by broadcast, since there is no address yet that it could be sent to.
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(TRANSACTION);
    bytes.extend([0, 0, 0x80, 0]);
    bytes.extend([0; 16]);
    bytes.extend(mac);
    bytes.resize(236, 0);
    bytes.extend(COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        bytes.extend([code, value.len() as u8]);
        bytes.extend(value);
    };
    option(53, &[1]);
    option(
        55,
        &[1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135],
    );
    option(60, b"PXEClient:Arch:00000:UNDI:002001");
    option(93, &[0, 0]);
    option(94, &[1, 2, 1]);
    option(97, &identity(mac, serial));
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

fn parse(bytes: &[u8]) -> Option<Offer> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    if bytes.first() != Some(&2) || bytes.get(4..8)? != TRANSACTION || bytes.get(236..240)? != COOKIE {
        return None;
    }
    let mut options = Vec::new();
    let mut rest = bytes.get(240..)?;
    while let [code, tail @ ..] = rest {
        match code {
            0 => rest = tail,
            255 => break,
            _ => {
                let length = usize::from(*tail.first()?);
                options.push((*code, tail.get(1..1 + length)?.to_vec()));
                rest = tail.get(1 + length..)?;
            }
        }
    }
    Some(Offer {
        address: address(16)?,
        next_server: address(20)?,
        options,
    })
}
