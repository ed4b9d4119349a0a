//! `eeprom`: a configuration for the bootloader's EEPROM, printed and never applied.

use crate::boot_img::system;
use crate::support::image_builder;

#[test]
fn an_eeprom_recipe_is_printed_for_boards_that_have_one() {
    let system = system();
    let directory = system.path("config").display().to_string();
    let eeprom = |board: &str, more: &[&str]| {
        let words = ["eeprom", "--kernel-config", &directory, "--board", board];
        image_builder(&[&words, more].concat())
    };
    let printed = eeprom("tiny-pi", &["--http-host", "boot.example.org"]);
    assert_eq!(
        (printed.code, printed.out.as_str()),
        (
            0,
            "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf17\nHTTP_HOST=boot.example.org\nFREEZE_VERSION=1\n"
        )
    );
    for line in [
        "BOOT_ORDER=0xf17 is read from the right: 7 network by HTTP, then 1 SD card or eMMC, then f from the beginning again.",
        "  rpi-eeprom-config -c boot.conf -p public.pem -o pieeprom.upd pieeprom.original.bin",
        "  rpi-eeprom-digest -i pieeprom.upd -o pieeprom.sig",
        "  sudo rpi-eeprom-update -r",
    ] {
        assert!(
            printed.err.lines().any(|found| found == line),
            "{line}\n{}",
            printed.err
        );
    }
    let long = "a-host.".repeat(30);
    let refused = eeprom("tiny-pi", &["--http-host", &long]);
    assert!(
        refused.err.contains("boot.conf: 2")
            && refused
                .err
                .contains(" bytes, over the 200 that the bootloader of tiny-pi"),
        "{}",
        refused.err
    );
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    let none = eeprom("tiny", &[]);
    assert_eq!(
        none.err,
        "image-builder: tiny: no bootloader in an EEPROM; tiny-pi have one\n"
    );
}
