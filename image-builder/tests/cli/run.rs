//! `run`: which boards it can start.

use crate::support::{System, image_builder};

#[test]
fn a_board_that_run_cannot_start_is_named_with_what_it_lacks() {
    let system = System::new();
    assert_eq!(system.build(&[]).code, 0);
    let path = |name: &str| system.path(name).display().to_string();
    let words = [
        "run",
        "--dry-run",
        "--kernel-config",
        &path("config"),
        &path("out"),
    ];
    let ran = image_builder(&words);
    let err = "image-builder: tiny: 'run' cannot start it, tiny.toml has no table [qemu]\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, err));
    let qemu = "\n[qemu]\nprogram = \"qemu-none\"\nargs = []\nnetwork = \"n\"\ndisk = \"d\"\nmemory = 512\n";
    let board = include_str!("tiny.toml").to_owned() + qemu;
    system.file("config/tiny.toml", board.as_bytes());
    let ran = image_builder(&words);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("\"qemu-none\" "), "{}", ran.out);
}
