//! `rescue`, `rescue help`: what can be typed, on one screen.

use crate::output;

/// The screen.
pub const SCREEN: &str = "\
rescue: repairs, unlocks and boots this machine

  rescue status                what the boot does, why, and what to type next
  rescue boot [ROOT]           go on with the boot, or boot ROOT this once
  rescue log [--follow]        what has happened since the machine started

  rescue disks                 disks, partitions, and what is on them
  rescue unlock [DEVICE]       open a LUKS device; 'rescue lock' closes it
  rescue fsck [DEVICE]         check file systems; with --repair, mend one
  rescue mount [--list]        an installed system; 'rescue umount' undoes it
  rescue chroot [DEVICE]       a shell in it
  rescue deploy SOURCE DEVICE  write an image to a disk, checked
  rescue backup DEVICE TARGET  read a disk into an image
  rescue fetch URL             fetch a file as the boot would, say how it went

  rescue net [URL]             what can be reached, and which step fails
  rescue report                everything about this machine, for a bug report
  rescue eeprom show           bootloader and boot order of a Raspberry Pi
  rescue tunnel                tunnels to bastions: up or not, and why
  rescue resize                ask a serial terminal again how large it is
  rescue reboot [--to TARGET]  restart, from network, sd, usb, nvme or rescue
  rescue poweroff              switch off

'rescue COMMAND --help' tells more. Exit codes: 0 done, 1 could not, 2 usage.";

/// Columns of a terminal, less one: some wrap when the last is written.
const COLUMNS: usize = 79;

/// The help of a command with its long lines broken; what is to be typed stays whole.
pub fn broken(text: &str) -> String {
    let fits = |line: &str| line.chars().count() <= COLUMNS || line.trim_start().starts_with("$ ");
    let lines = text.lines().flat_map(|line| match line.find(|c| c != ' ') {
        _ if fits(line) => vec![line.to_owned()],
        Some(0) | None => output::wrapped(line, COLUMNS, "Usage: ".len()),
        Some(indent) => output::wrapped(line, COLUMNS, indent),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_a_screen() {
        assert!(SCREEN.lines().count() <= 24);
        assert!(SCREEN.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn long_lines_are_broken_between_words_and_what_is_typed_is_not() {
        let long = ["word"; 40].join(" ");
        let text = format!("Usage: {long}\n\n  {long}\n  $ {long}\n  short");
        let broken = broken(&text);
        for line in broken.lines().filter(|line| !line.starts_with("  $ ")) {
            assert!(line.chars().count() <= COLUMNS, "{line}");
            assert!(
                line.is_empty() || line.starts_with("Usage:") || line.starts_with("  "),
                "{line}"
            );
        }
        assert!(broken.contains(&format!("\n  $ {long}\n")));
        assert_eq!(broken.split_whitespace().count(), text.split_whitespace().count());
    }
}
