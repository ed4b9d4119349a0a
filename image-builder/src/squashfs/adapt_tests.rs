use std::collections::BTreeMap;

use super::*;

/// Keeps what comes, by path.
#[derive(Default)]
struct Kept(BTreeMap<String, (Node, String)>);

impl Sink for Kept {
    fn take(&mut self, node: Node, data: &mut dyn Read) -> Result<()> {
        let mut text = String::new();
        data.read_to_string(&mut text)?;
        self.0.insert(node.path.display().to_string(), (node, text));
        Ok(())
    }
}

const FSTAB: &str = "proc /proc proc defaults 0 0\nPARTUUID=5de1e7a3-02 / ext4 defaults 0 1\n";

fn wishes() -> Wishes {
    Wishes {
        fstab: Choice::Adapt,
        services: Choice::Adapt,
        host_keys: Choice::Adapt,
        kernel: None,
    }
}

/// A system as it comes: directories, then files.
fn adapted(more: &[(&str, &str)], wishes: &Wishes) -> Result<(Kept, Vec<String>)> {
    let mut adapt = Adapt::new(Kept::default(), wishes);
    for path in ["", "etc", "etc/ssh", "usr", "usr/bin"] {
        adapt.take(
            Node::of_root(Path::new(path), What::Directory, 7),
            &mut std::io::empty(),
        )?;
    }
    let usual = [
        ("etc/fstab", FSTAB),
        ("etc/machine-id", "8c7f\n"),
        ("etc/ssh/ssh_host_rsa_key", "secret"),
        ("etc/ssh/ssh_host_rsa_key.pub", "public"),
        ("etc/ssh/sshd_config", "x"),
        ("usr/bin/ssh-keygen", "x"),
        ("usr/lib/systemd/systemd", "x"),
    ];
    for (path, text) in usual.iter().chain(more) {
        let node = Node::of_root(Path::new(path), What::File(text.len() as u64), 7);
        adapt.take(node, &mut text.as_bytes())?;
    }
    adapt.finish()
}

#[test]
fn a_card_is_made_a_system_in_ram() {
    let (kept, notes) = adapted(&[], &wishes()).unwrap();
    let text = |path: &str| kept.0[path].1.as_str();
    assert_eq!(
        text("etc/fstab"),
        FSTAB.replace("PARTUUID", &format!("{}PARTUUID", fstab::NOTE))
    );
    assert_eq!(text("etc/machine-id"), "");
    assert!(!kept.0.contains_key("etc/ssh/ssh_host_rsa_key"));
    assert!(!kept.0.contains_key("etc/ssh/ssh_host_rsa_key.pub"));
    assert_eq!(text("etc/ssh/sshd_config"), "x");
    let unit = "etc/systemd/system/lifeboot-ssh-host-keys.service";
    assert!(text(unit).contains("ssh-keygen"));
    let wanted = &kept.0["etc/systemd/system/multi-user.target.wants/lifeboot-ssh-host-keys.service"].0;
    assert_eq!(
        wanted.what,
        What::Link("../lifeboot-ssh-host-keys.service".into())
    );
    assert_eq!(
        (wanted.modified, &kept.0["etc/systemd/system"].0.what),
        (7, &What::Directory)
    );
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn what_shall_be_kept_is_kept() {
    let wishes = Wishes {
        fstab: Choice::Keep,
        host_keys: Choice::Keep,
        services: Choice::Keep,
        kernel: None,
    };
    let (kept, _) = adapted(&[("etc/init.d/resize2fs_once", "x")], &wishes).unwrap();
    assert_eq!(kept.0["etc/fstab"].1, FSTAB);
    assert_eq!(kept.0["etc/ssh/ssh_host_rsa_key"].1, "secret");
    assert!(!kept.0.keys().any(|path| path.starts_with("etc/systemd")));
}

#[test]
fn what_grows_or_swaps_to_the_card_is_masked_where_there_is_such() {
    let mask = "etc/systemd/system/dphys-swapfile.service";
    assert!(!adapted(&[], &wishes()).unwrap().0.0.contains_key(mask));
    let (kept, _) = adapted(&[("etc/init.d/dphys-swapfile", "x")], &wishes()).unwrap();
    assert_eq!(kept.0[mask].0.what, What::Link("/dev/null".into()));
    let own = [("etc/init.d/dphys-swapfile", "x"), (mask, "the owner's")];
    assert_eq!(adapted(&own, &wishes()).unwrap().0.0[mask].1, "the owner's");
}

#[test]
fn a_system_that_makes_its_own_host_keys_gets_no_second_unit() {
    let own = "etc/systemd/system/multi-user.target.wants/regenerate_ssh_host_keys.service";
    let (kept, notes) = adapted(&[(own, "")], &wishes()).unwrap();
    assert!(
        !kept
            .0
            .contains_key("etc/systemd/system/lifeboot-ssh-host-keys.service")
    );
    assert!(
        notes.iter().any(|note| note.contains("makes its own")),
        "{notes:?}"
    );
}

#[test]
fn another_name_of_what_was_left_out_goes_too() {
    let wishes = wishes();
    let mut adapt = Adapt::new(Kept::default(), &wishes);
    let key = Path::new("etc/ssh/ssh_host_rsa_key");
    adapt
        .take(Node::of_root(key, What::File(1), 0), &mut &b"k"[..])
        .unwrap();
    let again = Node::of_root(Path::new("backup"), What::Same(key.into()), 0);
    adapt.take(again, &mut std::io::empty()).unwrap();
    assert!(!adapt.finish().unwrap().0.0.contains_key("backup"));
}

fn for_kernel(release: &str, from: Option<Tree>) -> Wishes {
    Wishes {
        kernel: Some(Kernel {
            release: release.to_owned(),
            modules_from: from,
        }),
        ..wishes()
    }
}

#[test]
fn modules_are_there_or_the_system_is_refused_by_name() {
    let there = [("usr/lib/modules/7.0-test/modules.dep", "")];
    assert!(adapted(&there, &for_kernel("7.0-test", None)).is_ok());
    let error = adapted(&there, &for_kernel("7.1-test", None))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("kernel 7.1-test") && error.contains("7.0-test"),
        "{error}"
    );
}

#[test]
fn missing_modules_are_added_without_the_kernel_itself() {
    let root = tempfile::tempdir().unwrap();
    let release = root.path().join("usr/lib/modules/7.1-test");
    std::fs::create_dir_all(release.join("kernel/fs")).unwrap();
    for (name, text) in [
        ("modules.dep", "kernel/fs/x.ko:\n"),
        ("kernel/fs/x.ko", "x"),
        ("vmlinuz", "k"),
    ] {
        std::fs::write(release.join(name), text).unwrap();
    }
    let wishes = for_kernel("7.1-test", Some(Tree::open(root.path()).unwrap()));
    let (kept, notes) = adapted(&[], &wishes).unwrap();
    assert_eq!(kept.0["usr/lib/modules/7.1-test/kernel/fs/x.ko"].1, "x");
    assert!(!kept.0.contains_key("usr/lib/modules/7.1-test/vmlinuz"));
    assert!(
        notes.iter().any(|note| note.starts_with("2 files of modules")),
        "{notes:?}"
    );
}

#[test]
fn a_fstab_that_is_no_text_is_refused_unless_it_is_kept() {
    let wishes = wishes();
    let mut adapt = Adapt::new(Kept::default(), &wishes);
    let node = Node::of_root(Path::new("etc/fstab"), What::File(2), 0);
    let error = adapt.take(node, &mut &[0xff, 0xfe][..]).unwrap_err();
    assert!(error.to_string().contains("--fstab keep"), "{error}");
}
