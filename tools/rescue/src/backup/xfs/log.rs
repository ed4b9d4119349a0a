//! Whether the log has nothing in it that is still to be done.
//!
//! The log is a ring of blocks of 512 bytes, and the first word of each tells on which lap it was written; where one lap ends and the one before
//! begins is the end of the log. It is empty when the last record before that place is the one that an unmount leaves. Anything else
//! means that the trees on the disk may be older than the log. Source: the kernel's fs/xfs/xfs_log_recover.c and xfs_log_format.h.

use super::superblock::Super;
use super::{field, unread};
use crate::backup::origin::Bytes;

const UNIT: u64 = 512;
const RECORD: u64 = 0xFEED_BABE;
/// Flag of an operation: the file system was unmounted.
const UNMOUNT: u64 = 0x20;
/// Bytes of a record for each block of its header.
const PER_HEADER: u64 = 32 << 10;
/// Read at once; a log has up to 2 GiB.
const PIECE: u64 = 1 << 20;

/// What the ring shows, block by block.
#[derive(Default)]
struct Laps {
    first: u64,
    /// The first block that is not of the first one's lap.
    end: Option<u64>,
    /// The last beginning of a record before that; and the last of all.
    before: Option<u64>,
    last: Option<u64>,
    odd: bool,
}

impl Laps {
    fn see(&mut self, index: u64, block: &[u8]) {
        let is_record = field(block, 0, 4) == RECORD;
        let lap = field(block, if is_record { 4 } else { 0 }, 4);
        if index == 0 {
            self.first = lap;
        }
        match self.end {
            None if lap == self.first => {
                if is_record {
                    self.before = Some(index);
                }
            }
            None => {
                self.end = Some(index);
                self.odd |= lap.wrapping_add(1) != self.first;
            }
            Some(_) => self.odd |= lap.wrapping_add(1) != self.first,
        }
        if is_record {
            self.last = Some(index);
        }
    }
}

/// # Errors
/// It is not, or that is not certain.
pub fn is_empty(disk: &(impl Bytes + ?Sized), start: u64, fs: &Super) -> Result<(), String> {
    let at = start + (fs.log_group * fs.group + fs.log_block) * fs.block;
    let (bytes, units) = (fs.log_blocks * fs.block, fs.log_blocks * fs.block / UNIT);
    let mut laps = Laps::default();
    let mut done = 0;
    while done < bytes {
        let length = PIECE.min(bytes - done);
        let length = usize::try_from(length).unwrap_or(0);
        let piece = disk.bytes(at + done, length).map_err(unread)?;
        for (index, block) in (done / UNIT..).zip(piece.chunks_exact(512)) {
            laps.see(index, block);
        }
        done += length as u64;
    }
    let odd = || "its log is not as it should be".to_owned();
    // A lap that has just ended leaves the whole ring alike, or only what the record of the unmount begins anew.
    let (record, end) = match laps.end {
        _ if laps.odd => return Err(odd()),
        None => (laps.last, units),
        Some(end) => (laps.before.or(laps.last), end),
    };
    let record = record.ok_or_else(odd)?;
    let unit = |index: u64| {
        let bytes = disk.bytes(at + index % units * UNIT, 512);
        bytes.map_err(unread)
    };
    let header = unit(record)?;
    let says = |at: usize, length: usize| field(&header, at, length);
    let (version, length, size) = (says(8, 4), says(12, 4), says(320, 4));
    let headers = match version {
        2 if size > PER_HEADER => size.div_ceil(PER_HEADER),
        1 | 2 => 1,
        _ => return Err(odd()),
    };
    if header.get(304..320) != Some(&fs.log_uuid[..]) || says(20, 4) != record {
        return Err(odd());
    }
    let behind = record + headers + length.div_ceil(UNIT);
    let is_last = behind == end || behind > end && behind == end + units;
    let unmounted = says(40, 4) == 1 && field(&unit(record + headers)?, 9, 1) & UNMOUNT != 0;
    match is_last && unmounted {
        true => Ok(()),
        false => Err("it was not closed in order: its log waits".to_owned()),
    }
}
