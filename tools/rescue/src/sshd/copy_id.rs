//! `ssh-copy-id`, which would leave a key in the memory of a machine that forgets it at the next start.
//!
//! It runs a line of shell that appends to `~/.ssh/authorized_keys`. The server never reads that file, so the line would seem to have worked.

/// What is said instead.
pub const ANSWER: &str = "keys are not copied to this machine: it runs from memory and reads none from ~/.ssh. Keys are in the image
(image-builder build --authorized-keys), on its key partition, or on the kernel's command line (lifeboot.ssh-key=).";

/// What every version of `ssh-copy-id` since 2005 has in its line, and hardly anybody types.
const SIGNS: [&str; 3] = ["umask 077", ".ssh/authorized_keys", ">>"];

/// Whether `line` is the one `ssh-copy-id` sends.
pub fn is_meant(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    SIGNS.into_iter().all(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lines_are_known_and_work_on_another_system_is_not_taken_for_them() {
        let old = "umask 077 ; test -d .ssh || mkdir .ssh ; cat >> .ssh/authorized_keys";
        let today = "exec sh -c 'cd ; umask 077 ; mkdir -p .ssh && { [ -z `tail -1c .ssh/authorized_keys 2>/dev/null` ] || echo >> .ssh/authorized_keys || exit 1; } && cat >> .ssh/authorized_keys || exit 1 ; '";
        assert!(is_meant(old.as_bytes()) && is_meant(today.as_bytes()));
        for other in [
            "cat /mnt/root/.ssh/authorized_keys",
            "cat >> /mnt/root/.ssh/authorized_keys",
            "umask 077; sh",
            "\u{0}",
        ] {
            assert!(!is_meant(other.as_bytes()), "{other}");
        }
    }
}
