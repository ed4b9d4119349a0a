use super::*;

fn plan(cmdline: &str) -> Plan {
    Plan::make(cmdline, &Config::default(), Facts::default(), "")
}

fn with(cmdline: &str, config: &str) -> Plan {
    Plan::make(cmdline, &Config::parse(config).unwrap(), Facts::default(), "")
}

#[test]
fn nothing_said_stays_in_rescue_with_the_defaults() {
    let plan = plan("console=ttyAMA0 quiet");
    assert_eq!(plan.roots, []);
    assert_eq!(
        (plan.verify, plan.hold, plan.watchdog_s),
        (Verify::Required, Hold::Session, Some(15))
    );
    assert!(plan.notes.is_empty() && plan.refusal.is_none());
}

#[test]
fn roots_are_tried_in_the_order_given() {
    let plan = plan("root=http://a/x root=UUID=12 rw");
    assert_eq!(
        plan.roots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["http://a/x", "UUID=12"]
    );
    assert_eq!(plan.local.access, Access::ReadWrite);
}

#[test]
fn the_command_line_replaces_the_files_list_of_a_word() {
    let config = "root = [\"http://a\", \"http://b\"]\nlifeboot.ssh-port = 2222";
    assert_eq!(with("", config).roots.len(), 2);
    let plan = with("root=LABEL=x", config);
    assert_eq!((plan.roots.len(), plan.ssh.port), (1, 2222));
}

#[test]
fn a_locked_word_is_deaf_to_the_command_line() {
    let open = with("lifeboot.verify=off", "lifeboot.verify = \"required\"");
    assert_eq!(open.verify, Verify::Off);
    let locked = with("lifeboot.verify=off", "locked = [\"lifeboot.verify\"]");
    assert_eq!(locked.verify, Verify::Required);
    assert_eq!(locked.notes[0].key, "lifeboot.verify");
}

#[test]
fn an_unknown_word_of_ours_is_noted_and_the_boot_goes_on() {
    let plan = plan("root=/dev/vda1 lifeboot.verfy=off systemd.unit=x");
    assert_eq!(
        plan.notes,
        [Note {
            key: "lifeboot.verfy".into(),
            what: "is not a boot parameter of lifeboot".into()
        }]
    );
    assert_eq!(plan.refusal, None);
}

#[test]
fn a_bad_value_refuses_only_where_the_default_could_run_the_wrong_thing() {
    assert_eq!(plan("lifeboot.ssh-port=70000").refusal, None);
    assert_eq!(plan("ip=10.0.0.1.2").refusal, None);
    for bad in [
        "root=nfs",
        "lifeboot.verify=of",
        "lifeboot.overlay=tmpfs:x",
        "rd.luks.uuid=xyz",
        "init=sh",
    ] {
        let plan = plan(bad);
        assert!(plan.refusal.is_some(), "{bad}");
        assert_eq!(plan.notes.len(), 1, "{bad}");
    }
}

#[test]
fn contradictions_are_refused_by_name() {
    let twice = plan("lifeboot.verify=off lifeboot.verify=required");
    assert_eq!(
        twice.refusal.unwrap(),
        "lifeboot.verify: given as 'off' and as 'required'"
    );
    let pinned = format!(
        "lifeboot.verify=sha256:{} root=http://a root=http://b",
        "0".repeat(64)
    );
    assert!(plan(&pinned).refusal.unwrap().contains("root= names 2 URLs"));
    assert!(plan("root=http://a rw lifeboot.overlay=none").refusal.is_some());
    assert_eq!(plan("root=/dev/a rw lifeboot.overlay=none").refusal, None);
}

#[test]
fn luks_volumes_take_names_and_keys() {
    let plan =
        plan("rd.luks.uuid=luks-AB-12 rd.luks.name=ab-12=cryptroot rd.luks.key=/k rd.luks.options=discard,x");
    let [volume] = plan.luks.as_slice() else {
        panic!("{:?}", plan.luks)
    };
    assert_eq!(
        (volume.uuid.as_str(), volume.name.as_str()),
        ("ab-12", "cryptroot")
    );
    assert_eq!(volume.key, Some(FilePlace::parse("/k").unwrap()));
    assert_eq!(volume.device(), BlockId::Uuid("ab-12".into()));
    assert!(plan.luks_options_of(volume).discard);
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn a_luks_key_may_be_on_another_device_in_both_spellings() {
    for (word, expected) in [
        ("rd.luks.key=/a/k:LABEL=stick", BlockId::Label("stick".into())),
        (
            "rd.luks.key=/a/k:UUID=12-34:UUID=ab-12",
            BlockId::Uuid("12-34".into()),
        ),
        (
            "rd.luks.key=ab-12=/a/k:/dev/sda1",
            BlockId::Path("/dev/sda1".into()),
        ),
    ] {
        let plan = plan(&format!("rd.luks.uuid=ab-12 {word}"));
        assert_eq!(plan.refusal, None, "{word}");
        let key = plan.luks[0].key.clone().unwrap();
        assert_eq!(
            (key.path.as_str(), key.device),
            ("/a/k", Some(expected)),
            "{word}"
        );
    }
    for word in [
        "rd.luks.key=/a/k:stick",
        "rd.luks.key=a/k",
        "rd.luks.key=ab-12=k:LABEL=x",
    ] {
        assert!(
            plan(&format!("rd.luks.uuid=ab-12 {word}")).refusal.is_some(),
            "{word}"
        );
    }
}

#[test]
fn a_detached_header_names_its_volume_and_the_volume_names_its_device() {
    let both = plan("rd.luks.options=ab-12=header=/h.img:LABEL=boot,discard rd.luks.data=ab-12=/dev/sdb");
    assert_eq!(both.refusal, None);
    let volume = &both.luks[0];
    assert_eq!(
        volume.header,
        Some(Header::File(FilePlace::parse("/h.img:LABEL=boot").unwrap()))
    );
    assert_eq!(volume.device(), BlockId::Path("/dev/sdb".into()));
    assert!(both.luks_options_of(volume).discard && !both.luks_options.discard);
    let device = plan("rd.luks.options=ab-12=header=PARTLABEL=hdr rd.luks.data=ab-12=/dev/sdb");
    assert_eq!(
        device.luks[0].header,
        Some(Header::Device(BlockId::PartLabel("hdr".into())))
    );
    assert!(
        plan("rd.luks.uuid=ab-12 rd.luks.options=ab-12=header=/h")
            .refusal
            .is_some()
    );
    assert!(
        plan("rd.luks.uuid=ab-12 rd.luks.options=header=/h")
            .refusal
            .is_some()
    );
    assert!(plan("rd.luks.data=/dev/sdb").refusal.is_some());
}

#[test]
fn tang_is_on_unless_it_is_switched_off() {
    assert_eq!(plan("").tang, Tang::On);
    assert_eq!(plan("lifeboot.tang=off").tang, Tang::Off);
    assert_eq!(plan("lifeboot.tang=maybe").notes.len(), 1);
}

#[test]
fn what_stands_behind_two_dashes_goes_to_init() {
    assert_eq!(plan("single -- a b").init_args, ["a", "b", "single"]);
}

#[test]
fn a_plan_reads_back_from_json() {
    let plan = plan("root=http://a/{mac} ip=10.0.0.2::10.0.0.1:24::eth0:off lifeboot.retry=3 rd.break=mount");
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn every_word_in_the_table_is_taken_or_refused_by_value_never_unknown() {
    for key in crate::keys::KEYS {
        let plan = plan(&format!("{}=", key.name));
        assert!(
            plan.notes
                .iter()
                .all(|note| !note.what.contains("is not a boot parameter")),
            "{}",
            key.name
        );
    }
}

#[test]
fn any_text_makes_a_plan() {
    let pieces = [
        "root=",
        "ip=",
        "[",
        ":",
        "=",
        "\"",
        "lifeboot.",
        "verify=",
        "sha256:",
        " ",
        "é",
        "rd.luks.key=",
        "{",
        "}",
        "/",
        "--",
    ];
    let mut seed = 1u32;
    for _ in 0..5000 {
        let mut line = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            line.push_str(pieces[(seed >> 16) as usize % pieces.len()]);
        }
        plan(&line);
    }
}

#[test]
fn a_least_version_that_is_not_one_refuses_the_boot() {
    let least = plan("lifeboot.min-version=debian:13.1 lifeboot.min-version=tiny:2");
    let text: Vec<String> = least.min_versions.iter().map(ToString::to_string).collect();
    assert_eq!(
        (text.join(" ").as_str(), least.refusal),
        ("debian:13.1 tiny:2", None)
    );
    assert!(plan("lifeboot.min-version=debian:trixie").refusal.is_some());
    let locked = "lifeboot.min-version = \"debian:13.1\"\nlocked = [\"lifeboot.min-version\"]";
    assert_eq!(
        with("lifeboot.min-version=debian:1", locked).min_versions[0].to_string(),
        "debian:13.1"
    );
}

const PIN: &str = "lifeboot.tunnel-hostkey=SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
const HASH: &str =
    "$argon2id$v=19$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";

#[test]
fn a_tunnel_is_kept_only_to_a_bastion_whose_key_is_pinned() {
    let pinned = plan(&format!(
        "lifeboot.tunnel=a@b lifeboot.tunnel=a@c,listen=2201 {PIN}"
    ));
    assert_eq!((pinned.tunnels.len(), pinned.notes.len()), (2, 0));
    let text = serde_json::to_string(&pinned).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), pinned);
    let open = plan("lifeboot.tunnel=a@b lifeboot.tunnel-hostkey=any");
    assert_eq!((open.tunnels.len(), open.notes.len()), (0, 2));
    assert_eq!(open.refusal, None);
    let many = "lifeboot.tunnel=a@b ".repeat(9);
    assert_eq!(plan(&format!("{many}{PIN}")).notes.len(), 1);
}

#[test]
fn a_console_password_that_is_none_shuts_the_consoles_and_is_not_repeated() {
    let word = |value: &str| format!("lifeboot.console-password={value}");
    assert_eq!(plan("").console, Console::Open);
    assert_eq!(plan(&word("off")).console, Console::Open);
    assert!(matches!(plan(&word(HASH)).console, Console::Password(_)));
    let twice = format!("{} {}", word(HASH), word(HASH));
    assert!(matches!(plan(&twice).console, Console::Password(_)));
    for bad in [
        word("my secret"),
        word(""),
        format!("{} {}", word(HASH), word("off")),
        format!("{} {}", word("secret"), word(HASH)),
        format!("{} {}", word(HASH), word(&HASH.replace("MTI", "MTM"))),
    ] {
        let plan = plan(&bad);
        assert_eq!((&plan.console, plan.notes.len()), (&Console::Shut, 1), "{bad}");
        assert!(!plan.notes[0].what.contains("secret"), "{:?}", plan.notes);
        assert_eq!(plan.refusal, None);
    }
}

#[test]
fn a_locked_console_password_cannot_be_changed_and_what_was_tried_is_not_shown() {
    let config = format!("lifeboot.console-password = '{HASH}'\nlocked = [\"lifeboot.console-password\"]");
    for tried in ["off", "secret"] {
        let plan = with(&format!("lifeboot.console-password={tried}"), &config);
        assert!(matches!(plan.console, Console::Password(_)));
        assert_eq!(
            plan.notes[0].what,
            "'…' on the command line is ignored: the image locks this word"
        );
    }
}

#[test]
fn texts_that_cannot_be_understood_and_name_a_password_shut_the_consoles() {
    let mut plan = plan("");
    plan.guard_consoles(&["root = ["]);
    assert_eq!(plan.console, Console::Open);
    plan.guard_consoles(&["", "[lifeboot]\nconsole-password = ["]);
    assert_eq!(plan.console, Console::Shut);
}
