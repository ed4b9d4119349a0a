//! `build`, where packages are fetched: what is said when they are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::System;

#[test]
fn packages_that_cannot_be_fetched_are_refused_with_apts_reason() {
    let system = System::new();
    // Silent where the real one is: asked to be quiet, it does not tell what apt says.
    system.file(
        "bin/mmdebstrap",
        b"#!/bin/sh\ncase \"$*\" in *--quiet*) ;; *) echo '  Could not connect to 127.0.0.1:9' >&2; esac\n\
          echo 'I: removing tempdir' >&2\necho 'E: mmdebstrap failed to run' >&2\ncat >/dev/null\nexit 25\n",
    );
    let program = system.path("bin/mmdebstrap");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| system.path(name).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
        .args([
            "build",
            "--board",
            "tiny",
            "--features",
            "core",
            "--mirror",
            "http://127.0.0.1:9",
        ])
        .args([
            "--kernel-config",
            &path("config"),
            "--executable",
            &path("rescue"),
            "--out",
            &path("out"),
        ])
        .env("PATH", format!("{}:/usr/bin:/bin", path("bin")))
        .env("XDG_CACHE_HOME", path("cache"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    let expected = "\nimage-builder: mmdebstrap: exit status: 25\n  Could not connect to 127.0.0.1:9\nE: mmdebstrap failed to run\n";
    assert!(err.ends_with(expected), "{err}");
    assert!(!system.path("out").exists());
}
