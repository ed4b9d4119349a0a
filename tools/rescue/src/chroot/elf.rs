//! For which machine a program is made: the header of an ELF file, see elf(5).

/// What the first bytes of a program say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A script, which another program runs.
    Script,
    /// Made for the machine of this number.
    For(u16),
    /// Neither.
    Unknown,
}

/// Machines whose programs this kernel may run: its own and its 32-bit one. (32-bit Raspberry Pi OS runs on 64-bit kernels.)
const OURS: [u16; 2] = if cfg!(target_arch = "aarch64") {
    [183, 40]
} else {
    [62, 3]
};

/// Reads the first 20 bytes of a program.
pub fn kind(head: &[u8]) -> Kind {
    match head {
        [b'#', b'!', ..] => Kind::Script,
        [0x7F, b'E', b'L', b'F', _, order, ..] => match (head.get(18..20), order) {
            (Some(&[low, high]), 1) => Kind::For(u16::from_le_bytes([low, high])),
            (Some(&[high, low]), 2) => Kind::For(u16::from_be_bytes([high, low])),
            _ => Kind::Unknown,
        },
        _ => Kind::Unknown,
    }
}

impl Kind {
    /// Why it cannot run here.
    pub fn refusal(self) -> Option<String> {
        match self {
            Kind::For(machine) if !OURS.contains(&machine) => Some(format!(
                "made for {}, and this machine is {}",
                name(machine),
                std::env::consts::ARCH
            )),
            _ => None,
        }
    }
}

/// The kernel's include/uapi/linux/elf-em.h.
fn name(machine: u16) -> String {
    match machine {
        3 => "32-bit x86".to_owned(),
        8 => "MIPS".to_owned(),
        20 | 21 => "PowerPC".to_owned(),
        22 => "s390".to_owned(),
        40 => "32-bit ARM".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "RISC-V".to_owned(),
        258 => "LoongArch".to_owned(),
        other => format!("another machine (ELF machine {other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut head = b"\x7fELF\x02".to_vec();
        head.push(order);
        head.resize(18, 0);
        head.extend(machine);
        head
    }

    #[test]
    fn the_machine_is_read_in_its_own_byte_order() {
        assert_eq!(kind(&head(1, [62, 0])), Kind::For(62));
        assert_eq!(kind(&head(2, [0, 22])), Kind::For(22));
        assert_eq!(kind(b"#!/bin/sh\n"), Kind::Script);
        for short in [&b""[..], b"\x7fELF", b"\x7fELF\x02\x01", b"MZ", &head(3, [1, 1])] {
            assert_eq!(kind(short), Kind::Unknown);
        }
    }

    #[test]
    fn our_own_programs_run_and_those_of_a_strange_machine_are_explained() {
        assert_eq!(kind(&std::fs::read("/proc/self/exe").unwrap()).refusal(), None);
        assert!(
            Kind::For(243)
                .refusal()
                .unwrap()
                .starts_with("made for RISC-V, and this machine is ")
        );
        assert_eq!(Kind::Script.refusal(), None);
    }
}
