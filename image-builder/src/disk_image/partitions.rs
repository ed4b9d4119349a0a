//! Partition tables: MBR with its four primary entries, and GPT (UEFI specification, chapter 5). Small enough to be read
//! here: what the libraries for it make of a hostile table (allocations by what the table says, an assertion on its entry
//! size) is not for a tool that is given images from anywhere.

use anyhow::{Context, Result, bail};

use super::medium::Slice;

const SECTOR: u64 = 512;
/// Four primary entries of 16 bytes, from this byte of the first sector.
const MBR_ENTRIES: usize = 446;
/// The MBR type of the one entry that keeps old tools away from a GPT disk.
const PROTECTIVE: u8 = 0xee;
/// What every GPT has; a table may say more.
const GPT_ENTRIES: u32 = 128;
const GPT_LARGEST: u32 = 1024;

/// A partition, inside its disk for certain.
#[derive(Debug)]
pub struct Partition {
    /// As the kernel counts, from 1.
    pub number: u32,
    /// What `PARTUUID=` names it by, lower case.
    pub uuid: String,
    pub bytes: Slice,
}

/// The partitions of a disk, in the table's order.
pub fn read(disk: &Slice) -> Result<Vec<Partition>> {
    let first = disk.bytes(0, 512).context("no room for a partition table")?;
    if first.get(510..512) != Some(&[0x55, 0xaa]) {
        bail!("no partition table: the first sector does not end in 55 aa");
    }
    let entries = first.get(MBR_ENTRIES..510).unwrap_or_default();
    if entries
        .chunks_exact(16)
        .any(|entry| entry.get(4) == Some(&PROTECTIVE))
    {
        return gpt(disk);
    }
    let disk_id = u32_at(&first, 440)?;
    let mut found = Vec::new();
    for (entry, number) in entries.chunks_exact(16).zip(1..) {
        let (start, sectors) = (u64::from(u32_at(entry, 8)?), u64::from(u32_at(entry, 12)?));
        if entry.get(4) != Some(&0) && sectors > 0 {
            found.push(Partition {
                number,
                uuid: format!("{disk_id:08x}-{number:02x}"),
                bytes: part(disk, number, start, sectors)?,
            });
        }
    }
    if found.is_empty() {
        bail!("the partition table has no partitions");
    }
    Ok(found)
}

fn gpt(disk: &Slice) -> Result<Vec<Partition>> {
    let last = (disk.length() / SECTOR).saturating_sub(1);
    // The copy at the disk's end is for the day when the first one is damaged.
    match gpt_at(disk, 1) {
        Ok(found) => Ok(found),
        Err(error) => gpt_at(disk, last).map_err(|_| error),
    }
}

fn gpt_at(disk: &Slice, sector: u64) -> Result<Vec<Partition>> {
    let mut header = disk.bytes(sector * SECTOR, 92).context("GPT")?;
    if header.get(..8) != Some(b"EFI PART") {
        bail!("GPT: no header in sector {sector}");
    }
    let checksum = u32_at(&header, 16)?;
    header
        .get_mut(16..20)
        .unwrap_or_default()
        .copy_from_slice(&[0; 4]);
    let length = u32_at(&header, 12)?;
    if length != 92 || crc(&header) != checksum {
        bail!("GPT: the header in sector {sector} is damaged");
    }
    let (table, count, size) = (u64_at(&header, 72)?, u32_at(&header, 80)?, u32_at(&header, 84)?);
    if count > GPT_LARGEST.max(GPT_ENTRIES) || !(128..=4096).contains(&size) {
        bail!("GPT: {count} entries of {size} bytes are not a table anything makes");
    }
    let at = table.checked_mul(SECTOR).context("GPT: table beyond the disk")?;
    let entries = disk
        .bytes(at, usize::try_from(count)? * usize::try_from(size)?)
        .context("GPT")?;
    if crc(&entries) != u32_at(&header, 88)? {
        bail!("GPT: the table is damaged");
    }
    let mut found = Vec::new();
    for (entry, number) in entries.chunks_exact(usize::try_from(size)?).zip(1..) {
        if entry.iter().take(16).all(|byte| *byte == 0) {
            continue;
        }
        let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
        let sectors = last
            .checked_sub(first)
            .and_then(|sectors| sectors.checked_add(1))
            .with_context(|| format!("partition {number} ends before it starts"))?;
        found.push(Partition {
            number,
            uuid: guid(entry.get(16..32).unwrap_or_default()),
            bytes: part(disk, number, first, sectors)?,
        });
    }
    if found.is_empty() {
        bail!("the partition table has no partitions");
    }
    Ok(found)
}

fn part(disk: &Slice, number: u32, first: u64, sectors: u64) -> Result<Slice> {
    let bytes = first.checked_mul(SECTOR).zip(sectors.checked_mul(SECTOR));
    let inside = bytes.and_then(|(start, length)| disk.part(start, length));
    inside.with_context(|| {
        format!(
            "partition {number} ends at sector {}, the image has {}: it was cut short, or the table is wrong",
            first.saturating_add(sectors),
            disk.length() / SECTOR
        )
    })
}

/// The first three groups are little-endian, the rest is as it stands.
fn guid(bytes: &[u8]) -> String {
    let order = [
        3, 2, 1, 0, 16, 5, 4, 16, 7, 6, 16, 8, 9, 16, 10, 11, 12, 13, 14, 15,
    ];
    order
        .iter()
        .map(|at| {
            bytes
                .get(*at)
                .map_or("-".to_owned(), |byte| format!("{byte:02x}"))
        })
        .collect()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("partition table cut short")?;
    Ok(u32::from_le_bytes(field.try_into()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    let field = bytes.get(at..at + 8).context("partition table cut short")?;
    Ok(u64::from_le_bytes(field.try_into()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::rc::Rc;

    use super::super::medium::Plain;
    use super::*;

    fn disk(bytes: &[u8]) -> Slice {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Slice::whole(Rc::new(Plain::new(file).unwrap()))
    }

    /// A disk of 64 sectors with one MBR entry.
    fn mbr(kind: u8, start: u32, sectors: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 * 512];
        bytes[440..444].copy_from_slice(&0x5de1_e7a3_u32.to_le_bytes());
        bytes[446 + 4] = kind;
        bytes[446 + 8..446 + 12].copy_from_slice(&start.to_le_bytes());
        bytes[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes
    }

    /// A GPT of one entry, its header in sector 1 and its table in sector 2.
    fn gpt(entry_size: u32, first: u64, last: u64) -> Vec<u8> {
        let mut bytes = mbr(PROTECTIVE, 1, 63);
        let mut entry = vec![0; usize::try_from(entry_size).unwrap() * 4];
        entry[0] = 1;
        entry[16..32].copy_from_slice(&[3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        let mut header = vec![0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&4_u32.to_le_bytes());
        header[84..88].copy_from_slice(&entry_size.to_le_bytes());
        header[88..92].copy_from_slice(&crc(&entry).to_le_bytes());
        let sum = crc(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes[512..512 + 92].copy_from_slice(&header);
        let end = 1024 + entry.len();
        bytes[1024..end].copy_from_slice(&entry);
        bytes
    }

    fn error(bytes: &[u8]) -> String {
        format!("{:#}", read(&disk(bytes)).unwrap_err())
    }

    #[test]
    fn primary_partitions_are_found() {
        let found = read(&disk(&mbr(0x83, 8, 16))).unwrap();
        assert_eq!(
            (found[0].number, found[0].uuid.as_str(), found[0].bytes.length()),
            (1, "5de1e7a3-01", 8192)
        );
    }

    #[test]
    fn a_guid_table_is_found_and_its_copy_when_it_is_damaged() {
        let good = gpt(128, 8, 15);
        let found = read(&disk(&good)).unwrap();
        assert_eq!(found[0].uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(found[0].bytes.length(), 4096);
        let mut damaged = good.clone();
        damaged[512 + 72] = 40;
        assert_eq!(error(&damaged), "GPT: the header in sector 1 is damaged");
        let header = good[512..1024].to_vec();
        damaged[63 * 512..].copy_from_slice(&header);
        assert_eq!(read(&disk(&damaged)).unwrap().len(), 1);
    }

    #[test]
    fn a_table_that_lies_is_refused() {
        assert_eq!(
            error(&[0; 600]),
            "no partition table: the first sector does not end in 55 aa"
        );
        assert!(error(&[0; 100]).starts_with("no room for a partition table"));
        assert_eq!(error(&mbr(0, 8, 16)), "the partition table has no partitions");
        let beyond = error(&mbr(0x83, 8, 57));
        assert!(
            beyond.starts_with("partition 1 ends at sector 65, the image has 64"),
            "{beyond}"
        );
        assert!(error(&mbr(0x83, u32::MAX, u32::MAX)).starts_with("partition 1 ends at sector 8589934590"));
        assert!(error(&gpt(128, 9, 7)).contains("ends before it starts"));
        assert!(error(&gpt(128, 9, u64::MAX)).starts_with("partition 1 ends at sector"));
        assert!(error(&gpt(64, 8, 15)).contains("4 entries of 64 bytes"));
    }
}
