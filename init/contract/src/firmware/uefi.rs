//! The boot entries of UEFI firmware, as efivarfs shows its variables: four bytes of attributes, then the value.
//!
//! Source: UEFI specification, "Load Options" (3.1.3), "Device Path Nodes" (10.3) and "Globally Defined Variables" (3.3). Everything is
//! little endian. Firmware writes these by itself, and so do installers: nothing in them is relied upon.

/// The vendor of the variables below, as it stands behind their names in efivarfs.
pub const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, visible before and after ExitBootServices: what BootNext has to be.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
const ACTIVE: u32 = 1;
const HARDWARE_END: u8 = 0x7f;

/// An entry of the boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// Whether the firmware tries it by itself.
    pub active: bool,
    /// Its name, for people.
    pub description: String,
    /// Where it boots from.
    pub medium: Medium,
}

/// Where an entry boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// A network card.
    Network,
    /// A USB disk.
    Usb,
    /// An NVMe disk.
    Nvme,
    /// An SD card or eMMC.
    Sd,
    /// A partition, wherever its disk is: the GPT's UUID of it.
    Partition(String),
    /// Another disk, a program of the firmware, or what is not known.
    Other,
}

/// Reads a variable `Boot####`.
pub fn load_option(variable: &[u8]) -> Option<LoadOption> {
    let value = variable.get(ATTRIBUTES.len()..)?;
    let (attributes, rest) = value.split_first_chunk::<4>()?;
    let (path_length, rest) = rest.split_first_chunk::<2>()?;
    let (units, _) = rest.as_chunks::<2>();
    let length = units.iter().position(|unit| *unit == [0, 0])?;
    let name: Vec<u16> = units
        .get(..length)?
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .collect();
    let path = rest
        .get(2 * (length + 1)..)?
        .get(..usize::from(u16::from_le_bytes(*path_length)))?;
    Some(LoadOption {
        active: u32::from_le_bytes(*attributes) & ACTIVE != 0,
        description: String::from_utf16_lossy(&name),
        medium: medium(path),
    })
}

/// The first device path's medium: the first node that names one; a partition only where none does.
fn medium(mut path: &[u8]) -> Medium {
    let mut partition = None;
    while let [kind, subtype, low, high, ..] = path {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let Some(data) = path.get(4..length) else { break };
        match (*kind, *subtype) {
            (HARDWARE_END, _) => break,
            (3, 11 | 12 | 13 | 24) => return Medium::Network,
            (3, 5 | 15 | 16) => return Medium::Usb,
            (3, 23) => return Medium::Nvme,
            (3, 26 | 29) => return Medium::Sd,
            // BIOS boot specification: the kind of device is the first number.
            (5, 1) => match data.first() {
                Some(5) => return Medium::Usb,
                Some(6) => return Medium::Network,
                _ => {}
            },
            (4, 1) => partition = partition.or_else(|| partition_uuid(data)),
            _ => {}
        }
        path = path.get(length..).unwrap_or_default();
    }
    partition.map_or(Medium::Other, Medium::Partition)
}

/// The UUID of a hard drive node, where its partition table is a GPT (signature type 2).
fn partition_uuid(data: &[u8]) -> Option<String> {
    let signature = data.get(20..36)?;
    if data.get(37) != Some(&2) {
        return None;
    }
    let hex =
        |bytes: &mut dyn Iterator<Item = &u8>| bytes.map(|byte| format!("{byte:02x}")).collect::<String>();
    // The first three fields of a GUID are numbers, and numbers are little endian.
    Some(format!(
        "{}-{}-{}-{}-{}",
        hex(&mut signature[..4].iter().rev()),
        hex(&mut signature[4..6].iter().rev()),
        hex(&mut signature[6..8].iter().rev()),
        hex(&mut signature[8..10].iter()),
        hex(&mut signature[10..].iter()),
    ))
}

/// The numbers in a variable such as `BootOrder` or `BootCurrent`.
pub fn numbers(variable: &[u8]) -> Vec<u16> {
    let (numbers, _) = variable
        .get(ATTRIBUTES.len()..)
        .unwrap_or_default()
        .as_chunks::<2>();
    numbers.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
}

/// What is written to `BootNext`, in one piece.
pub fn boot_next(number: u16) -> [u8; 6] {
    let [a, b, c, d] = ATTRIBUTES;
    let [low, high] = number.to_le_bytes();
    [a, b, c, d, low, high]
}

/// The file of a variable in efivarfs.
pub fn file_name(variable: &str) -> String {
    format!("{variable}-{GLOBAL}")
}

/// The number of a boot entry by its file's name, `Boot0003-…`.
pub fn entry_number(file_name: &str) -> Option<u16> {
    let digits = file_name
        .strip_prefix("Boot")?
        .strip_suffix(&format!("-{GLOBAL}"))?;
    let is_hex = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, nodes: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut path = Vec::new();
        for (kind, subtype, data) in nodes {
            path.extend([*kind, *subtype]);
            path.extend((data.len() as u16 + 4).to_le_bytes());
            path.extend(*data);
        }
        path.extend([0x7f, 0xff, 4, 0]);
        let mut bytes = vec![7, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend((path.len() as u16).to_le_bytes());
        bytes.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes.extend(path);
        bytes.extend(b"optional data");
        bytes
    }

    #[test]
    fn an_entry_tells_its_name_and_where_it_boots_from() {
        let pci: (u8, u8, &[u8]) = (1, 1, &[0, 3]);
        let mac: (u8, u8, &[u8]) = (3, 11, &[0; 33]);
        let option = load_option(&variable("UEFI PXEv4 (MAC:525400123456)", &[pci, mac])).unwrap();
        assert_eq!(
            (option.active, option.description.as_str(), option.medium),
            (true, "UEFI PXEv4 (MAC:525400123456)", Medium::Network)
        );
        for (node, medium) in [
            ((3, 24, &[][..]), Medium::Network),
            ((3, 5, &[0, 0][..]), Medium::Usb),
            ((3, 23, &[0; 12][..]), Medium::Nvme),
            ((3, 29, &[0][..]), Medium::Sd),
            ((5, 1, &[6, 0, 0, 0, 0][..]), Medium::Network),
            ((3, 18, &[0; 6][..]), Medium::Other),
            ((4, 6, &[0; 16][..]), Medium::Other),
        ] {
            assert_eq!(load_option(&variable("x", &[pci, node])).unwrap().medium, medium);
        }
    }

    #[test]
    fn a_partition_without_its_disk_is_told_by_its_uuid() {
        let mut drive = vec![0; 38];
        let guid = [
            0x04, 0x03, 0x02, 0x01, 0x06, 0x05, 0x08, 0x07, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10,
        ];
        drive[20..36].copy_from_slice(&guid);
        drive[36..].copy_from_slice(&[2, 2]);
        let option = load_option(&variable("debian", &[(4, 1, &drive), (4, 4, b"x")])).unwrap();
        assert_eq!(
            option.medium,
            Medium::Partition("01020304-0506-0708-090a-0b0c0d0e0f10".into())
        );
        // The disk it is on says more.
        let nvme = load_option(&variable("debian", &[(3, 23, &[0; 12]), (4, 1, &drive)])).unwrap();
        assert_eq!(nvme.medium, Medium::Nvme);
    }

    #[test]
    fn what_is_cut_off_anywhere_is_no_trouble() {
        let whole = variable("name", &[(3, 11, &[0; 33]), (4, 1, &[0; 38])]);
        for length in 0..whole.len() {
            let _option = load_option(&whole[..length]);
        }
        assert!(load_option(&[0xff; 64]).is_none());
        let mut endless = variable("x", &[(1, 1, &[])]);
        // A node that is shorter than its own header.
        let at = endless.len() - 13 - 8;
        endless[at + 2] = 0;
        assert_eq!(load_option(&endless).unwrap().medium, Medium::Other);
    }

    #[test]
    fn numbers_and_names_read_back() {
        assert_eq!(numbers(&boot_next(0x1f)), [0x1f]);
        assert_eq!(numbers(&[7, 0, 0, 0, 1, 0, 2, 0, 3]), [1, 2]);
        assert_eq!(entry_number(&file_name("Boot00aF")), Some(0xaf));
        for name in ["BootOrder", "Boot+0aF", "Boot1", "BootCurrent"] {
            assert_eq!(entry_number(&file_name(name)), None, "{name}");
        }
    }
}
