//! What the tables `[firmware]`, `[boot-img]`, `[config-txt]`, `[tftp]` and `[eeprom]` of a board file say: everything a
//! Raspberry Pi's boot loader wants beside kernel and initramfs. A board without them has no such boot loader.

use serde::Deserialize;

use super::Reasons;

/// `[firmware]`: files of Raspberry Pi's own, taken over as they are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The Debian package that has them, from the component non-free-firmware.
    pub package: String,
    /// File name to the reason it is carried.
    #[serde(default)]
    pub files: Reasons,
}

/// `[boot-img]`: the FAT image that HTTP boot and secure boot load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BootImg {
    /// What the boot loader takes at most, in millions of bytes.
    pub limit_mb: u32,
    /// Who says so.
    pub limit_source: String,
    /// Above so many millions of bytes somebody has seen it fail, but not everybody.
    pub doubtful_mb: Option<u32>,
    /// Who has.
    pub doubtful_source: Option<String>,
    /// Written as `target-soc:` into boot.sig. Only firmware updates are known to look at it, so boards leave it out.
    pub target_soc: Option<String>,
    /// Overlays beside those that config.txt names, without `.dtbo`, each with its reason; carried where the source has them.
    #[serde(default)]
    pub overlays: Reasons,
}

/// `[config-txt]`: lines of config.txt, in order, each with its reason. `kernel` and `initramfs` are not among them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigTxt {
    pub lines: Vec<(String, String)>,
    /// Further lines for a kernel that is not Raspberry Pi's own.
    pub mainline: Vec<(String, String)>,
}

/// `[tftp]`: how the boot loader asks for files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tftp {
    /// Bytes in a block with the oldest boot loader the board is met with; 65,535 blocks are the largest file.
    pub block_size: u32,
    /// Whether the boot loader lies in an EEPROM, and newer ones carry larger files and other prefixes.
    pub updatable: bool,
    /// The same for boot.img, where the oldest do not ask for it: all that they do ask for keeps their limit, however new others are.
    pub boot_img_block_size: Option<u32>,
    /// Files asked for before the boot loader knows a prefix, each with its reason.
    #[serde(default)]
    pub at_root: Reasons,
}

/// `[eeprom]`: the boot loader's own configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Eeprom {
    /// Bytes of configuration that fit.
    pub config_limit: u32,
    /// Who says so.
    pub limit_source: String,
    /// The chip, as rpi-eeprom names its directories.
    pub chip: String,
}
