//! Executables of UEFI firmware (PE32+): sections added behind those that are there, as a unified kernel image wants them.
//!
//! The layout is Microsoft's "PE Format". What a reader would get wrong: nothing that is there may move, because the debug directory
//! points into the file and relocations into memory; so a stub without room for further section headers is refused.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// Bytes of the COFF header.
const COFF: usize = 20;
/// Bytes of one section header.
const HEADER: usize = 40;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// The certificate table among the data directories.
const CERTIFICATES: usize = 4;
/// More than any linker sets; a damaged header must not make a file of gigabytes.
const MOST_ALIGNMENT: u32 = 2 << 20;
/// What a section's name has room for.
const NAME: usize = 8;

/// The processor a PE file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine(pub u16);

impl Machine {
    pub const AARCH64: Self = Self(0xaa64);
    pub const X86_64: Self = Self(0x8664);
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Self::AARCH64 => formatter.write_str("aarch64"),
            Self::X86_64 => formatter.write_str("x86_64"),
            Self(other) => write!(formatter, "machine {other:#06x}"),
        }
    }
}

/// The processor a PE file is for, by its first bytes alone.
pub fn machine(bytes: &[u8]) -> Result<Machine> {
    Ok(Machine(u16_at(bytes, coff_header(bytes)?)?))
}

/// Where the COFF header is.
fn coff_header(bytes: &[u8]) -> Result<usize> {
    ensure!(bytes.get(..2) == Some(b"MZ"), "not a PE executable");
    let coff = u32_at(bytes, 0x3c)? as usize + 4;
    ensure!(
        bytes.get(coff - 4..coff) == Some(b"PE\0\0"),
        "not a PE executable"
    );
    Ok(coff)
}

/// A PE32+ file that sections can be added to.
#[derive(Debug)]
pub struct Image {
    bytes: Vec<u8>,
    /// Where the COFF header is.
    coff: usize,
    /// Where the optional header is.
    optional: usize,
    /// Where the section headers are.
    table: usize,
    count: usize,
    section_alignment: u32,
    file_alignment: u32,
    /// Where the next section goes in memory.
    next_address: u32,
}

impl Image {
    /// Reads the headers; what stands behind the last section (a signature, symbols) is cut off.
    pub fn read(mut bytes: Vec<u8>) -> Result<Self> {
        let coff = coff_header(&bytes)?;
        let optional = coff + COFF;
        let size = usize::from(u16_at(&bytes, coff + 16)?);
        ensure!(
            u16_at(&bytes, optional)? == 0x20b,
            "not a 64-bit PE executable (PE32+)"
        );
        let directories = u32_at(&bytes, optional + 108)? as usize;
        ensure!(
            size >= 112 + directories.min(16) * 8,
            "the PE header is too short for its data directories"
        );
        let mut image = Self {
            coff,
            optional,
            table: optional + size,
            count: usize::from(u16_at(&bytes, coff + 2)?),
            section_alignment: alignment(&bytes, optional + 32)?,
            file_alignment: alignment(&bytes, optional + 36)?,
            next_address: 0,
            bytes: Vec::new(),
        };
        let mut end = u32_at(&bytes, optional + 60)? as usize;
        for index in 0..image.count {
            let header = image.table + index * HEADER;
            let (size, address) = (u32_at(&bytes, header + 8)?, u32_at(&bytes, header + 12)?);
            let (raw, at) = (u32_at(&bytes, header + 16)?, u32_at(&bytes, header + 20)?);
            let section = address.checked_add(size).context("a section ends beyond 4 GiB")?;
            image.next_address = image.next_address.max(section);
            end = end.max(at as usize + raw as usize);
        }
        ensure!(
            end <= bytes.len(),
            "got {} of {end} bytes of a PE executable",
            bytes.len()
        );
        bytes.truncate(end);
        if directories > CERTIFICATES {
            put(&mut bytes, optional + 112 + CERTIFICATES * 8, &[0; 8])?;
        }
        // Where symbols were and how many: they stood behind the sections.
        put(&mut bytes, coff + 8, &[0; 8])?;
        image.bytes = bytes;
        Ok(image)
    }

    /// Whether a section of that name is there.
    pub fn has(&self, name: &str) -> bool {
        (0..self.count).any(|index| {
            let at = self.table + index * HEADER;
            self.bytes.get(at..at + NAME) == Some(&padded(name)[..])
        })
    }

    /// Adds a section of read-only data behind the others, in memory and in the file.
    pub fn add(&mut self, name: &str, data: &[u8]) -> Result<()> {
        ensure!(
            name.len() <= NAME,
            "section name {name} is longer than {NAME} bytes"
        );
        ensure!(!self.has(name), "section {name} is there already");
        let header = self.table + self.count * HEADER;
        let headers = u32_at(&self.bytes, self.optional + 60)? as usize;
        ensure!(
            header + HEADER <= headers
                && self
                    .bytes
                    .get(header..header + HEADER)
                    .is_some_and(|gap| gap.iter().all(|byte| *byte == 0)),
            "no room for another section header after {} of them",
            self.count
        );
        let size =
            u32::try_from(data.len()).with_context(|| format!("section {name}: {} bytes", data.len()))?;
        let address = aligned(self.next_address, self.section_alignment)?;
        let raw = aligned(size, self.file_alignment)?;
        let at = aligned(u32::try_from(self.bytes.len())?, self.file_alignment)?;
        let end = address
            .checked_add(size)
            .with_context(|| format!("section {name} ends beyond 4 GiB"))?;
        let file_end = at
            .checked_add(raw)
            .with_context(|| format!("section {name} ends beyond 4 GiB"))?;

        let mut entry = padded(name).to_vec();
        for field in [size, address, raw, at, 0, 0, 0, READ_ONLY_DATA] {
            entry.extend(field.to_le_bytes());
        }
        put(&mut self.bytes, header, &entry)?;
        self.bytes.resize(at as usize, 0);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(file_end as usize, 0);
        self.count += 1;
        self.next_address = end;
        self.totals(raw)
    }

    /// The header's sums after a section of `raw` bytes in the file was added.
    fn totals(&mut self, raw: u32) -> Result<()> {
        let count = u16::try_from(self.count)?;
        put(&mut self.bytes, self.coff + 2, &count.to_le_bytes())?;
        let data = u32_at(&self.bytes, self.optional + 8)?.saturating_add(raw);
        put(&mut self.bytes, self.optional + 8, &data.to_le_bytes())?;
        let image = aligned(self.next_address, self.section_alignment)?;
        put(&mut self.bytes, self.optional + 56, &image.to_le_bytes())
    }

    /// The file, with its checksum.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let place = self.optional + 64;
        put(&mut self.bytes, place, &[0; 4])?;
        let sum = checksum(&self.bytes)?;
        put(&mut self.bytes, place, &sum.to_le_bytes())?;
        Ok(self.bytes)
    }
}

/// The sum Windows' `CheckSumMappedFile` makes: 16-bit words with the carry added back, then the length. The field itself counts as zero.
fn checksum(bytes: &[u8]) -> Result<u32> {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_le_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or_default(),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Ok(u32::try_from(sum)? + u32::try_from(bytes.len())?)
}

fn alignment(bytes: &[u8], at: usize) -> Result<u32> {
    let value = u32_at(bytes, at)?;
    ensure!(
        value.is_power_of_two() && value <= MOST_ALIGNMENT,
        "alignment {value} in the PE header"
    );
    Ok(value)
}

fn aligned(value: u32, to: u32) -> Result<u32> {
    value
        .checked_next_multiple_of(to)
        .context("a PE executable ends at 4 GiB")
}

fn padded(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Result<()> {
    match bytes.get_mut(at..at + new.len()) {
        Some(place) => place.copy_from_slice(new),
        None => bail!("the PE header is cut off at byte {at}"),
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*found.with_context(|| {
        format!("the PE header is cut off at byte {at}")
    })?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*found.with_context(|| {
        format!("the PE header is cut off at byte {at}")
    })?))
}

#[cfg(test)]
#[path = "../tests/cli/pe_stub.rs"]
mod pe_stub;

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSection};

    use super::pe_stub;
    use super::*;

    fn stub(room: usize) -> Vec<u8> {
        pe_stub::stub(Machine::X86_64.0, room)
    }

    #[test]
    fn added_sections_are_read_back_by_others() {
        let mut image = Image::read(stub(2)).unwrap();
        assert_eq!(machine(&stub(2)).unwrap(), Machine::X86_64);
        image.add(".one", b"first").unwrap();
        image.add(".cmdline", &[7; 5000]).unwrap();
        let bytes = image.finish().unwrap();
        let file = object::read::pe::PeFile64::parse(bytes.as_slice()).unwrap();
        let sections: Vec<_> = file
            .sections()
            .map(|section| {
                (
                    section.name().unwrap().to_owned(),
                    section.address(),
                    section.data().unwrap().to_vec(),
                )
            })
            .collect();
        assert_eq!(sections[0], (".text".into(), 0x1000, b"abc".to_vec()));
        assert_eq!(sections[1], (".sbat".into(), 0x2000, b"sbat,1\n".to_vec()));
        assert_eq!(sections[2], (".one".into(), 0x3000, b"first".to_vec()));
        assert_eq!(sections[3], (".cmdline".into(), 0x4000, vec![7; 5000]));
        let optional = file.nt_headers().optional_header;
        assert_eq!(optional.size_of_image.get(object::LittleEndian), 0x6000);
        assert_eq!(
            optional.size_of_initialized_data.get(object::LittleEndian),
            512 + 512 + 5120
        );
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn the_checksum_is_the_one_the_definition_gives() {
        // Words 0x0201, 0xffff and 0x0003 with the carry added back, and 5 bytes.
        assert_eq!(checksum(&[1, 2, 0xff, 0xff, 3]).unwrap(), 0x204 + 5);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let mut image = Image::read(stub(1)).unwrap();
        assert!(image.add(".much-too-long", b"").is_err());
        image.add(".one", b"1").unwrap();
        let error = image.add(".one", b"1").unwrap_err().to_string();
        assert_eq!(error, "section .one is there already");
        let error = image.add(".two", b"2").unwrap_err().to_string();
        assert_eq!(error, "no room for another section header after 3 of them");
    }

    #[test]
    fn a_signature_and_symbols_do_not_outlive_the_change() {
        let mut signed = stub(1);
        let end = signed.len() as u32;
        let directory = 0x58 + 112 + CERTIFICATES * 8;
        signed[directory..directory + 4].copy_from_slice(&end.to_le_bytes());
        signed[directory + 4..directory + 8].copy_from_slice(&16_u32.to_le_bytes());
        signed.extend([9; 16]);
        let plain = Image::read(stub(1)).unwrap().finish().unwrap();
        assert_eq!(Image::read(signed).unwrap().finish().unwrap(), plain);
    }

    #[test]
    fn no_prefix_of_a_stub_is_taken_and_none_panics() {
        let whole = stub(1);
        for length in 0..whole.len() {
            assert!(Image::read(whole[..length].to_vec()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_byte_turned_anywhere_in_the_headers_never_panics() {
        let whole = stub(1);
        for at in 0..0x250 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Ok(mut image) = Image::read(damaged)
                    && image.add(".one", b"1").is_ok()
                {
                    assert!(image.finish().is_ok_and(|bytes| bytes.len() < 1 << 20));
                }
            }
        }
    }
}
