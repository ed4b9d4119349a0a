use super::*;
use crate::disks::Luks;
use crate::mount::fstab::{Fstab, crypttab};

fn disk(device: &str, fs: &str, uuid: &str) -> Disk {
    let mut disk = crate::disks::tests::seen().swap_remove(1);
    disk.device = device.to_owned();
    disk.fs = Some(fs.to_owned());
    disk.uuid = Some(uuid.to_owned());
    disk.label = Some(format!("label-{uuid}"));
    disk.partuuid = Some(format!("part-{uuid}"));
    disk
}

fn disks() -> Vec<Disk> {
    let mut all = vec![
        disk("/dev/vda1", "vfat", "A"),
        disk("/dev/vda2", "ext4", "B"),
        disk("/dev/vda3", "ext4", "C"),
        disk("/dev/mapper/vg-var", "xfs", "D"),
        disk("/dev/vda5", "crypto_LUKS", "E"),
        disk("/dev/mapper/luks-e", "ext4", "F"),
        disk("/dev/vda6", "crypto_LUKS", "G"),
        disk("/dev/vda7", "swap", "H"),
    ];
    all[4].luks = Some(Luks::Unlocked("/dev/mapper/luks-e".to_owned()));
    all[6].luks = Some(Luks::Locked);
    all
}

fn system(fstab: &str) -> System {
    let fstab = Fstab::parse(fstab.as_bytes());
    System {
        name: "x".into(),
        id: None,
        version: None,
        device: "/dev/vda2".into(),
        fs: "ext4".into(),
        label: None,
        uuid: Some("B".into()),
        subvolume: None,
        mounted: vec![],
        fstab: fstab.entries,
        unclear: fstab.unclear,
        mappings: crypttab(b"secret UUID=E none luks\nother UUID=G none luks\ngone UUID=Z none luks\n"),
    }
}

const ALL: Asked = Asked {
    read_only: false,
    root_only: false,
};

fn plan(fstab: &str) -> Plan {
    Plan::of(&system(fstab), &disks(), ALL)
}

fn targets(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.target.as_str()).collect()
}

fn value<'a>(step: &'a Step, key: &str) -> Option<&'a str> {
    let found = step.options.own.iter().rfind(|(own, _)| own == key);
    found.and_then(|(_, value)| value.as_deref())
}

/// Why the one line that is left out is.
fn why(fstab: &str) -> String {
    let plan = plan(fstab);
    assert_eq!(plan.left_out.len(), 1, "{plan:?}");
    plan.left_out[0].why.clone()
}

#[test]
fn what_lies_in_another_is_mounted_after_it_whatever_the_order_of_the_lines() {
    let plan =
        plan("UUID=A /boot/efi vfat\nUUID=C /boot ext4\nUUID=B / ext4 errors=remount-ro\nUUID=D /home xfs\n");
    assert_eq!(targets(&plan), ["/", "/boot", "/boot/efi", "/home"]);
    assert_eq!(value(&plan.steps[0], "errors"), Some("remount-ro"));
    assert_eq!(plan.left_out, []);
}

#[test]
fn a_directory_is_shown_elsewhere_after_what_it_lies_in_is_there() {
    let plan =
        plan("UUID=B / ext4\n/srv/data/www /var/www none bind\nUUID=C /srv ext4\nUUID=F /srv/data ext4\n");
    assert_eq!(targets(&plan), ["/", "/srv", "/srv/data", "/var/www"]);
    let expected = What::Directory {
        path: "/srv/data/www".into(),
        bind: Bind::Plain,
    };
    assert_eq!(plan.steps[3].what, expected);
    let circle = super::in_order(plan.steps.iter().skip(3).cloned().cycle().take(3).collect());
    assert_eq!(circle.len(), 3, "one that waits for itself ends too");
}

#[test]
fn devices_are_found_by_every_name_an_fstab_may_use() {
    for (name, device) in [
        ("UUID=c", "/dev/vda3"),
        ("LABEL=label-C", "/dev/vda3"),
        ("PARTUUID=PART-c", "/dev/vda3"),
        ("/dev/vda3", "/dev/vda3"),
        ("/dev/disk/by-uuid/C", "/dev/vda3"),
        ("/dev/mapper/vg-var", "/dev/mapper/vg-var"),
        ("/dev/vg/var", "/dev/mapper/vg-var"),
        ("/dev/mapper/secret", "/dev/mapper/luks-e"),
    ] {
        let plan = plan(&format!("UUID=B / ext4\n{name} /x auto\n"));
        let What::Device { device: found, .. } = &plan.steps[1].what else {
            unreachable!()
        };
        assert_eq!(found, device, "{name}");
    }
}

#[test]
fn what_is_no_disk_is_left_out_and_named() {
    for (line, reason) in [
        ("UUID=H none swap sw", "swap"),
        ("server:/x /x nfs", "on the network"),
        ("//server/x /x cifs", "on the network"),
        ("UUID=C /x ext4 _netdev", "on the network"),
        ("tmpfs /tmp tmpfs size=1g", "not on a disk"),
        ("proc /proc proc", "not on a disk"),
        ("UUID=C /x ext4 noauto", "noauto"),
        ("/x.img /x ext4 loop", "a file that wants a loop device"),
    ] {
        assert_eq!(why(&format!("UUID=B / ext4\n{line}\n")), reason, "{line}");
    }
    assert_eq!(
        targets(&plan(
            "UUID=B / ext4\nUUID=C /x ext4 noauto,x-systemd.automount\n"
        )),
        ["/", "/x"]
    );
}

#[test]
fn a_device_that_is_not_there_is_named_with_what_would_bring_it() {
    assert_eq!(
        why("UUID=B / ext4\n/dev/mapper/other /x ext4\n"),
        "/dev/vda6 is locked; 'rescue unlock /dev/vda6' opens it"
    );
    assert_eq!(
        why("UUID=B / ext4\nUUID=Q /x ext4 nofail\n"),
        "its device is not there; /dev/vda6 is locked"
    );
    assert!(why("UUID=B / ext4\n/dev/mapper/gone /x ext4\n").contains("UUID=Z is not there"));
    assert_eq!(
        why("UUID=B / ext4\n/dev/mapper/none /x ext4\n"),
        "its device is not there"
    );
    assert_eq!(
        why("UUID=B / ext4\n/dev/vda3 /x xfs\n"),
        "/dev/vda3 is ext4, not xfs"
    );
    let mut twice = disks();
    twice.push(disk("/dev/vdb3", "ext4", "C"));
    let plan = Plan::of(&system("UUID=B / ext4\nUUID=C /x ext4\n"), &twice, ALL);
    assert_eq!(plan.left_out[0].why, "means 2 devices: /dev/vda3, /dev/vdb3");
}

#[test]
fn an_encrypted_device_with_another_name_here_is_told_of_and_one_with_its_own_is_not() {
    let notes = plan("UUID=B / ext4\n").notes;
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("'secret'") && notes[0].contains("--name secret /dev/vda5"),
        "{notes:?}"
    );
    let mut all = disks();
    all[4].luks = Some(Luks::Unlocked("/dev/mapper/secret".to_owned()));
    assert_eq!(Plan::of(&system("UUID=B / ext4\n"), &all, ALL).notes, [""; 0]);
}

#[test]
fn a_root_that_its_own_fstab_does_not_mean_is_mounted_and_told_of() {
    let copied = plan("UUID=C / ext4\n");
    assert_eq!(targets(&copied), ["/"]);
    assert!(
        copied.notes[0].contains("(/dev/vda3), and this is /dev/vda2"),
        "{:?}",
        copied.notes
    );
    assert!(plan("").notes[0].contains("names nothing"));
    assert!(plan("UUID=B / ext4\nUUID=C\n").notes[0].starts_with("line 2 of its fstab is left out"));
}

#[test]
fn a_subvolume_is_mounted_as_found_and_others_as_written() {
    let mut found = system("UUID=B / btrfs subvol=@old,compress=zstd\nUUID=B /home btrfs subvol=@home\n");
    found.fs = "btrfs".into();
    found.subvolume = Some("@".into());
    let mut all = disks();
    all[1].fs = Some("btrfs".into());
    let plan = Plan::of(&found, &all, ALL);
    assert_eq!(value(&plan.steps[0], "subvol"), Some("@"));
    assert_eq!(value(&plan.steps[0], "compress"), Some("zstd"));
    assert_eq!(value(&plan.steps[1], "subvol"), Some("@home"));
}

#[test]
fn read_only_leaves_journals_alone_and_root_only_mounts_one() {
    let asked = Asked {
        read_only: true,
        root_only: true,
    };
    let plan = Plan::of(&system("UUID=B / ext4 rw\nUUID=C /x ext4\n"), &disks(), asked);
    assert_eq!(targets(&plan), ["/"]);
    assert_eq!(plan.steps[0].options.shown(), "ro,noload");
}
