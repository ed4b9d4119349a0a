//! What a login may do, once it is clear whose it is.

use lifeboot_contract::authorized::Grant;

/// As whom somebody logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// A shell, commands, file transfer, forwarding.
    Root,
    /// The passphrase prompt and nothing else.
    Unlock,
    /// The report and nothing else.
    Status,
}

impl User {
    /// The user of that name, if there is one.
    pub fn named(name: &str) -> Option<User> {
        [User::Root, User::Unlock, User::Status]
            .into_iter()
            .find(|user| user.name() == name)
    }

    /// The name at the login.
    pub fn name(self) -> &'static str {
        match self {
            User::Root => "root",
            User::Unlock => "unlock",
            User::Status => "status",
        }
    }

    /// The words for `rescue` that this user has instead of a shell, when `asked` is what the client wants to run; `None` when it has not
    /// that.
    pub fn words(self, asked: Option<&[u8]>) -> Option<&'static [&'static str]> {
        let asked = match asked.map(str::from_utf8) {
            None => "",
            Some(Ok(line)) => line.trim(),
            Some(Err(_)) => return None,
        };
        let asked = asked.strip_prefix("rescue ").unwrap_or(asked);
        match (self, asked) {
            // The second is what people are used to type into the initramfs of Debian.
            (User::Unlock, "" | "unlock" | "cryptroot-unlock") => Some(&["unlock"]),
            (User::Status, "" | "status") => Some(&["status"]),
            (User::Status, "--json" | "status --json") => Some(&["status", "--json"]),
            _ => None,
        }
    }

    /// What is left of `grant` for this user.
    ///
    /// # Errors
    /// The key is for a command of its own, which a user with one program cannot have.
    pub fn part_of(self, grant: Grant) -> Result<Grant, String> {
        match (self, &grant.command) {
            (User::Root, _) => Ok(grant),
            (_, Some(_)) => Err(format!(
                "a key with a command of its own cannot log in as {}",
                self.name()
            )),
            (_, None) => Ok(Grant {
                agent: false,
                forwarding: false,
                ..grant
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_a_role_has_its_program_and_nothing_else() {
        assert_eq!(User::Unlock.words(None), Some(&["unlock"][..]));
        assert_eq!(
            User::Unlock.words(Some(b"cryptroot-unlock")),
            Some(&["unlock"][..])
        );
        assert_eq!(
            User::Status.words(Some(b"rescue status --json")),
            Some(&["status", "--json"][..])
        );
        for line in [
            &b"sh"[..],
            b"unlock; sh",
            b"status",
            b"unlock\nsh",
            b"\xff",
            b"rescue rescue unlock",
        ] {
            assert_eq!(User::Unlock.words(Some(line)), None, "{line:?}");
        }
        assert_eq!(User::Status.words(Some(b"unlock")), None);
        assert_eq!(User::named("toor"), None);
    }

    #[test]
    fn a_user_with_one_program_has_no_forwarding_and_no_key_with_a_command_of_its_own() {
        let forced = Grant {
            command: Some("a".to_owned()),
            ..Grant::full()
        };
        assert!(User::Root.part_of(forced.clone()).is_ok());
        assert!(User::Status.part_of(forced).is_err());
        assert!(!User::Unlock.part_of(Grant::full()).unwrap().forwarding);
    }
}
