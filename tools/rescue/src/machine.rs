//! The machine itself, as `rescue eeprom`, `rescue report` and `rescue reboot --to` see it.

use crate::output;
use lifeboot_init::board::Board;
use lifeboot_init::stage::plan::image_info;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of the variable that moves `/proc`, `/sys` and `/dev`, for tests on a machine that is not a device.
const ROOT_VARIABLE: &str = "LIFEBOOT_ROOT";

/// What `/proc` and `/sys` lie below.
pub fn root() -> PathBuf {
    let moved: Option<OsString> = std::env::var_os(ROOT_VARIABLE);
    moved.map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// The board this runs on.
pub fn board() -> Board {
    Board::below(&root())
}

/// This program's version, and the image it runs in where there is one: the two differ where a program was copied.
pub fn version() -> Vec<String> {
    let mut lines = vec![format!("rescue {}", env!("CARGO_PKG_VERSION"))];
    let image = image_info(&root());
    if !image.version.is_empty() {
        lines.push(format!(
            "image {} {} for {}, built {}",
            image.name,
            image.version,
            image.board,
            output::date(image.build_time)
        ));
    }
    lines
}

/// The firmware mailbox of this machine, or of the tree that stands for one.
///
/// # Errors
/// NotFound where there is none.
pub fn mailbox() -> std::io::Result<lifeboot_init::firmware::Vcio> {
    let device = Path::new(lifeboot_init::firmware::DEVICE);
    lifeboot_init::firmware::Vcio::at(&root().join(device.strip_prefix("/").unwrap_or(device)))
}
