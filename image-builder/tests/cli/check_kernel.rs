//! `check-kernel`, and the same check within a build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ran, System, image_builder};

/// A kernel configured as the project's own fragments say, with everything built in.
fn whole() -> String {
    let base = include_str!("../../../kernel-config/base.config").replace("=m\n", "=y\n");
    base + "CONFIG_ACPI=y\nCONFIG_SERIAL_8250_CONSOLE=y\n"
}

/// Asks about a configuration, with more words on the command line.
fn check(config: &str, more: &[&str]) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(&path, config).unwrap();
    let words = ["check-kernel", "--config", path.to_str().unwrap()];
    image_builder(&[&words, more].concat())
}

#[test]
fn a_missing_option_is_named_with_the_stage_that_needs_it() {
    let pi4 = whole() + include_str!("../../../kernel-config/pi4.config");
    let found = check(&pi4, &["--board", "pi4"]);
    assert_eq!((found.code, found.err.as_str()), (0, ""), "{}", found.out);
    let found = check(&pi4.replace("CONFIG_PCIE_BRCMSTB=y", ""), &["--board", "pi4"]);
    assert_eq!(found.code, 1);
    assert!(
        found
            .err
            .ends_with("CONFIG_PCIE_BRCMSTB is missing (pi4: USB 3 and NVMe are behind PCIe)\n"),
        "{}",
        found.err
    );
}

#[test]
fn a_module_must_be_among_those_that_are_carried() {
    let config = whole().replace("CONFIG_OVERLAY_FS=y", "CONFIG_OVERLAY_FS=m");
    let modules = tempfile::tempdir().unwrap();
    let with = |name: &str| {
        fs::write(modules.path().join(name), "").unwrap();
        check(
            &config,
            &[
                "--board",
                "pc-x86_64",
                "--modules",
                modules.path().to_str().unwrap(),
            ],
        )
    };
    let found = with("other.ko");
    assert_eq!(found.code, 1);
    assert!(
        found
            .err
            .contains("CONFIG_OVERLAY_FS is a module, overlay, which the image does not carry"),
        "{}",
        found.err
    );
    let found = with("overlay.ko.xz");
    assert_eq!((found.code, found.err.as_str()), (0, ""));
    assert!(
        found
            .out
            .contains("CONFIG_OVERLAY_FS is a module, overlay, which the image carries")
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let found = check("hello\n", &[]);
    assert_eq!(found.code, 1);
    assert!(found.err.contains("not a kernel configuration"), "{}", found.err);
    let found = image_builder(&["check-kernel"]);
    assert_eq!(
        (found.code, found.err.as_str()),
        (
            1,
            "image-builder: nothing to check; give --config, --kernel or --board\n"
        )
    );
}

#[test]
fn a_build_refuses_a_kernel_that_lacks_something_and_goes_on_without_what_is_optional() {
    let config = "root/usr/lib/modules/7.0-test/config";
    let system = System::new();
    system.file(config, whole().as_bytes());
    let built = system.build(&[]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let system = System::new();
    system.file(config, whole().replace("CONFIG_MEMFD_CREATE=y", "").as_bytes());
    let built = system.build(&[]);
    assert_eq!(built.code, 1);
    assert_eq!(
        built.err,
        "image-builder: kernel 7.0-test lacks what the image needs:\n  \
         CONFIG_MEMFD_CREATE is missing (fetch: an OS image is fetched into a sealed memfd)\n"
    );
    assert!(!system.path("out").exists());
    let system = System::new();
    system.file(config, whole().replace("CONFIG_SQUASHFS_XZ=y", "").as_bytes());
    let built = system.build(&[]);
    assert_eq!(built.code, 0);
    assert!(
        built.out.contains("CONFIG_SQUASHFS_XZ is missing"),
        "{}",
        built.out
    );
}

/// Debian's own kernel for every board, from the cache of packages; fetched when it is not there.
fn of_debian(board: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
        .args(["check-kernel", "--board", board])
        .output()
        .unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
#[ignore = "make test-all"]
fn debians_kernel_has_what_every_board_needs() {
    for board in ["pi", "pi3", "pi4", "pi5", "virt-arm64", "pc-x86_64"] {
        let found = of_debian(board);
        assert_eq!(found.code, 0, "{board}: {}", found.err);
        assert!(!found.out.contains("not checked"), "{board}: {}", found.out);
    }
}

#[test]
#[ignore = "make test-all"]
fn the_way_to_a_pi_5s_ethernet_has_a_driver_at_every_step() {
    let found = of_debian("pi5");
    for (node, driver) in [
        ("pcie@1000120000", "pcie_brcmstb"),
        ("msi-controller@1000130000", "irq_bcm2712_mip"),
        ("dev@0,0", "rp1_pci"),
        ("clocks@40018000", "clk_rp1"),
        ("pinctrl@400d0000", "pinctrl_rp1"),
        ("ethernet@40100000", "macb"),
        ("reset-controller@1504318", "reset_brcmstb"),
        ("mmc@fff000", "sdhci_brcmstb"),
    ] {
        let mut lines = found
            .out
            .lines()
            .filter(|line| line.starts_with("bcm2712-rpi-5-b.dtb: "));
        let line = lines.find(|line| line.contains(&format!("/{node} (")));
        assert!(
            line.is_some_and(|line| line.contains(&format!(": {driver}, "))),
            "{node}: {line:?}"
        );
    }
}

#[test]
#[ignore = "make test-all"]
fn a_pi_5_without_one_of_its_modules_is_told_what_stays_without_a_driver() {
    // A board file that forgets the module that RP1's clocks need.
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config");
    for name in ["pi5", "features"] {
        let text = fs::read_to_string(source.join(format!("{name}.toml"))).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("clk-rp1 = "));
        let text: Vec<&str> = lines.collect();
        fs::write(directory.path().join(format!("{name}.toml")), text.join("\n")).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
        .args(["check-kernel", "--board", "pi5", "--kernel-config"])
        .arg(PathBuf::from(directory.path()))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("/clocks@40018000 (raspberrypi,rp1-clocks)"), "{err}");
}
