//! A board's revision code in words: `c03114` is a Raspberry Pi 4B, revision 1.4, with 4 GiB, made by Sony UK.
//!
//! Source: Raspberry Pi's documentation of revision codes, the new style (bit 23): `FMMMCCCCPPPPTTTTTTTTRRRR` from bit 23 down. Codes of
//! the first boards, without that bit, are printed as they are.

const NEW_STYLE: u32 = 1 << 23;

const TYPES: [(u32, &str); 22] = [
    (0x00, "A"),
    (0x01, "B"),
    (0x02, "A+"),
    (0x03, "B+"),
    (0x04, "2B"),
    (0x06, "CM1"),
    (0x08, "3B"),
    (0x09, "Zero"),
    (0x0a, "CM3"),
    (0x0c, "Zero W"),
    (0x0d, "3B+"),
    (0x0e, "3A+"),
    (0x10, "CM3+"),
    (0x11, "4B"),
    (0x12, "Zero 2 W"),
    (0x13, "400"),
    (0x14, "CM4"),
    (0x15, "CM4S"),
    (0x17, "5"),
    (0x18, "CM5"),
    (0x19, "500"),
    (0x1a, "CM5 Lite"),
];

const CHIPS: [&str; 5] = ["BCM2835", "BCM2836", "BCM2837", "BCM2711", "BCM2712"];
const MAKERS: [&str; 6] = ["Sony UK", "Egoman", "Embest", "Sony Japan", "Embest", "Stadium"];

/// The code in words.
pub fn words(code: u32) -> String {
    if code & NEW_STYLE == 0 {
        return format!("{code:04x} (a code of the first boards)");
    }
    let field = |shift: u32, bits: u32| code >> shift & ((1 << bits) - 1);
    let kind = field(4, 8);
    let name = TYPES.iter().find(|(known, _)| *known == kind).map_or_else(
        || format!("of unknown type {kind:#x}"),
        |(_, name)| (*name).to_owned(),
    );
    let named = |names: &[&'static str], index: u32| names.get(index as usize).copied().unwrap_or("unknown");
    let memory = match 256u64 << field(20, 3) {
        mib if mib < 1024 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib / 1024),
    };
    format!(
        "{code:x}: Raspberry Pi {name}, revision 1.{}, {memory}, {}, made by {}",
        field(0, 4),
        named(&CHIPS, field(12, 4)),
        named(&MAKERS, field(16, 4)),
    )
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn codes_are_decoded_as_documented() {
        for (code, text) in [
            (
                0x00c0_3114,
                "c03114: Raspberry Pi 4B, revision 1.4, 4 GiB, BCM2711, made by Sony UK",
            ),
            (
                0x00a0_2082,
                "a02082: Raspberry Pi 3B, revision 1.2, 1 GiB, BCM2837, made by Sony UK",
            ),
            (
                0x00d0_4170,
                "d04170: Raspberry Pi 5, revision 1.0, 8 GiB, BCM2712, made by Sony UK",
            ),
            (
                0x0090_0092,
                "900092: Raspberry Pi Zero, revision 1.2, 512 MiB, BCM2835, made by Sony UK",
            ),
            (0x000d, "000d (a code of the first boards)"),
        ] {
            assert_eq!(words(code), text);
        }
        assert!(words(u32::MAX).contains("of unknown type 0xff"));
    }
}
