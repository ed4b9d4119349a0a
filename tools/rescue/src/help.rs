//! `rescue`, `rescue help`: what can be typed, on one screen.

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

#[cfg(test)]
mod tests {
    use super::SCREEN;

    #[test]
    fn it_fits_a_screen() {
        assert!(SCREEN.lines().count() <= 24);
        assert!(SCREEN.lines().all(|line| line.chars().count() <= 80));
    }
}
