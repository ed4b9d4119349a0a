//! TFTP as a Raspberry Pi speaks it (RFC 1350 with the options of RFC 2348 and 2349).

use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// A file's size as the server tells it; `None` when it has no such file. The transfer is then ended, as a Pi ends it.
pub fn size(server: Ipv4Addr, name: &str) -> Result<Option<usize>> {
    let Some(transfer) = Transfer::begin(server, name, 1468)? else {
        return Ok(None);
    };
    let mut end = ERROR.to_be_bytes().to_vec();
    end.extend(b"\0\0Early terminate\0");
    transfer.socket.send_to(&end, transfer.peer)?;
    Ok(Some(transfer.size))
}

/// A file; `None` when the server has no such file.
pub fn get(server: Ipv4Addr, name: &str, block: usize) -> Result<Option<Vec<u8>>> {
    let Some(transfer) = Transfer::begin(server, name, block)? else {
        return Ok(None);
    };
    ensure!(
        transfer.block == block,
        "asked for blocks of {block}, got {}",
        transfer.block
    );
    let mut bytes = Vec::new();
    let mut number: u16 = 0;
    loop {
        transfer.acknowledge(number)?;
        number = number.wrapping_add(1);
        let packet = transfer.next(number)?;
        bytes.extend(&packet[4..]);
        if packet.len() < block + 4 {
            transfer.acknowledge(number)?;
            ensure!(
                bytes.len() == transfer.size,
                "{} of {} bytes",
                bytes.len(),
                transfer.size
            );
            return Ok(Some(bytes));
        }
    }
}

struct Transfer {
    socket: UdpSocket,
    peer: SocketAddr,
    size: usize,
    block: usize,
}

impl Transfer {
    fn begin(server: Ipv4Addr, name: &str, block: usize) -> Result<Option<Transfer>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut request = vec![0, 1];
        for word in [name, "octet", "tsize", "0", "blksize", &block.to_string()] {
            request.extend(word.as_bytes());
            request.push(0);
        }
        socket.send_to(&request, (server, 69))?;
        let mut answer = [0; 600];
        let (length, peer) = socket
            .recv_from(&mut answer)
            .with_context(|| format!("no answer for {name}"))?;
        match word(&answer, 0)? {
            OPTIONS => {}
            ERROR if word(&answer, 2)? == 1 => return Ok(None),
            other => bail!(
                "{name}: answered with {other}: {:?}",
                String::from_utf8_lossy(&answer[4..length])
            ),
        }
        let words: Vec<String> = answer[2..length]
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let value = |key: &str| -> Result<usize> {
            let at = words.iter().position(|word| word == key);
            let value = at.and_then(|at| words.get(at + 1));
            Ok(value
                .with_context(|| format!("{name}: no {key} in {words:?}"))?
                .parse()?)
        };
        Ok(Some(Transfer {
            size: value("tsize")?,
            block: value("blksize")?,
            socket,
            peer,
        }))
    }

    /// The packet with that block. What was acknowledged before comes once more when the acknowledgement took its time.
    fn next(&self, number: u16) -> Result<Vec<u8>> {
        loop {
            let mut packet = vec![0; self.block + 4];
            let length = self.socket.recv(&mut packet);
            let length = length.with_context(|| format!("block {number}"))?;
            packet.truncate(length);
            match (word(&packet, 0)?, word(&packet, 2)?) {
                (DATA, got) if got == number => return Ok(packet),
                (DATA, got) if got == number.wrapping_sub(1) => {}
                (OPTIONS, _) if number == 1 => {}
                other => bail!("not block {number}: {other:?}"),
            }
        }
    }

    fn acknowledge(&self, number: u16) -> Result<()> {
        let packet = [ACK.to_be_bytes(), number.to_be_bytes()].concat();
        self.socket.send_to(&packet, self.peer)?;
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = bytes.get(at..at + 2).context("a short packet")?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}
