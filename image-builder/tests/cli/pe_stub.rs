//! The smallest EFI stub: headers, one section of code, a `.sbat`, and room for further section headers. Unit tests use it too.

/// `machine` is the COFF number of the processor.
pub fn stub(machine: u16, room: usize) -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(0x3c, 0);
    file.extend(0x40_u32.to_le_bytes());
    file.extend(b"PE\0\0");
    for field in [machine, 2, 0, 0, 0, 0, 0, 0, 240, 0x2022] {
        file.extend(field.to_le_bytes());
    }
    let optional = file.len();
    let headers = (optional + 240 + 40 * (2 + room)).next_multiple_of(512) as u32;
    file.resize(optional + 240, 0);
    // Magic, sizes of code and data, entry, base of code, both alignments, size in memory and of headers, EFI application, directories.
    for (at, value) in [
        (0, 0x20b),
        (4, 512),
        (8, 512),
        (16, 0x1000),
        (20, 0x1000),
        (32, 0x1000),
        (36, 512),
        (56, 0x3000),
        (60, headers),
        (68, 10),
        (108, 16),
    ] {
        file[optional + at..optional + at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    for (name, size, address, at, flags) in [
        (b".text\0\0\0", 3, 0x1000, headers, 0x6000_0020),
        (b".sbat\0\0\0", 7, 0x2000, headers + 512, 0x4000_0040),
    ] {
        file.extend(name);
        for field in [size, address, 512, at, 0, 0, 0, flags] {
            file.extend(u32::to_le_bytes(field));
        }
    }
    file.resize(file.len() + room * 40, 0);
    // What alignment left over is no room.
    file.resize(headers as usize, 0xcc);
    file.extend(b"abc");
    file.resize(headers as usize + 512, 0);
    file.extend(b"sbat,1\n");
    file.resize(headers as usize + 1024, 0);
    file
}
