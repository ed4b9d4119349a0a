//! Who may log in over ssh, and as whom.
//!
//! Three users: `root` has a shell, `unlock` the passphrase prompt alone, `status` the report alone. The one thing a reader would get wrong:
//! an image that locks `lifeboot.ssh-key` locks the other words about keys with it (see [`crate::config::Config::locks`]), because each of
//! them lets somebody in.

use super::Note;
use super::values::number;
use crate::authorized::{self, Line, List};
use crate::image;
use crate::words::Word;
use serde::{Deserialize, Serialize};

/// The ssh server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// TCP port.
    pub port: u16,
    /// Lines of an authorized_keys file, without blank ones and comments: they may log in as root, and as everybody else.
    pub authorized_keys: Vec<String>,
    /// The same for the user `unlock` alone.
    #[serde(default)]
    pub unlock_keys: Vec<String>,
    /// The same for the user `status` alone.
    #[serde(default)]
    pub status_keys: Vec<String>,
    /// Public keys of authorities; a certificate by one of them lets in those it names as principals.
    #[serde(default)]
    pub user_authorities: Vec<String>,
}

impl Ssh {
    /// Whether anybody can log in, as whoever.
    pub fn lets_somebody_in(&self) -> bool {
        let lists = [
            &self.authorized_keys,
            &self.unlock_keys,
            &self.status_keys,
            &self.user_authorities,
        ];
        lists.iter().any(|list| !list.is_empty())
    }
}

/// The texts of the key files in the image, each as in `~/.ssh/authorized_keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BakedKeys {
    /// [`crate::image::AUTHORIZED_KEYS`]
    pub root: String,
    /// [`crate::image::UNLOCK_KEYS`]
    pub unlock: String,
    /// [`crate::image::STATUS_KEYS`]
    pub status: String,
    /// [`crate::image::USER_AUTHORITIES`]
    pub user_authorities: String,
}

impl From<&str> for BakedKeys {
    fn from(root: &str) -> BakedKeys {
        BakedKeys {
            root: root.to_owned(),
            ..BakedKeys::default()
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Ssh {
            port: 22,
            authorized_keys: Vec::new(),
            unlock_keys: Vec::new(),
            status_keys: Vec::new(),
            user_authorities: Vec::new(),
        }
    }
}

impl Ssh {
    /// The lines of the image as they are, unread: for where reading the keys may be what failed.
    pub fn baked(keys: &BakedKeys) -> Ssh {
        let lines = |text: &str| {
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        Ssh {
            authorized_keys: lines(&keys.root),
            unlock_keys: lines(&keys.unlock),
            status_keys: lines(&keys.status),
            user_authorities: lines(&keys.user_authorities),
            ..Ssh::default()
        }
    }

    /// The lines of the image that let somebody in.
    pub(super) fn read(keys: &BakedKeys, notes: &mut Vec<Note>) -> Ssh {
        let mut read = |text: &str, list, file| key_lines(text, list, file, notes);
        Ssh {
            authorized_keys: read(&keys.root, List::Root, image::AUTHORIZED_KEYS),
            unlock_keys: read(&keys.unlock, List::Role, image::UNLOCK_KEYS),
            status_keys: read(&keys.status, List::Role, image::STATUS_KEYS),
            user_authorities: read(&keys.user_authorities, List::Authorities, image::USER_AUTHORITIES),
            ..Ssh::default()
        }
    }

    /// Takes a boot parameter; `None` when it is not about the ssh server.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let (keys, list) = match key {
            "lifeboot.ssh-port" => {
                return Some(number(value, 1, u64::from(u16::MAX)).map(|port| self.port = port as u16));
            }
            "lifeboot.ssh-key" => (&mut self.authorized_keys, List::Root),
            "lifeboot.ssh-unlock-key" => (&mut self.unlock_keys, List::Role),
            "lifeboot.ssh-status-key" => (&mut self.status_keys, List::Role),
            "lifeboot.ssh-user-ca" => (&mut self.user_authorities, List::Authorities),
            _ => return None,
        };
        let line = value.trim();
        Some(match Line::parse(line, list) {
            Ok(_) => {
                keys.push(line.to_owned());
                Ok(())
            }
            Err(_) if line.lines().count() > 1 => {
                Err("has several lines: each key is a value of its own".to_owned())
            }
            Err(what) if line.contains(char::is_whitespace) => Err(what),
            Err(what) => Err(format!("{what}; put the whole value in double quotes")),
        })
    }
}

/// The words and the files that keys come from, the key partition's file aside.
const SOURCES: [&str; 8] = [
    "lifeboot.ssh-key",
    "lifeboot.ssh-unlock-key",
    "lifeboot.ssh-status-key",
    "lifeboot.ssh-user-ca",
    image::AUTHORIZED_KEYS,
    image::UNLOCK_KEYS,
    image::STATUS_KEYS,
    image::USER_AUTHORITIES,
];

/// Whether a note's key is a word, or a file of the image, that brings keys.
pub(super) fn brings_keys(key: &str) -> bool {
    SOURCES.contains(&key)
}

/// Which of several values of a word about keys `what` is about.
pub(super) fn numbered(words: &[Word], at: usize, what: String) -> String {
    match words.get(at) {
        Some(word) if brings_keys(&word.key) => {
            let before = words.iter().take(at).filter(|other| other.key == word.key);
            format!("value {}: {what}", before.count() + 1)
        }
        _ => what,
    }
}

/// The lines of a key file that are taken, and a note by the file's name for each that is not.
pub(crate) fn key_lines(text: &str, list: List, file: &str, notes: &mut Vec<Note>) -> Vec<String> {
    let (taken, refused) = authorized::read(text, list);
    notes.extend(refused.into_iter().map(|refused| Note {
        key: file.to_owned(),
        what: format!("line {}: {}", refused.line, refused.what),
    }));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::plan::Plan;
    use crate::template::Facts;

    fn key(letter: &str) -> String {
        format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", letter.repeat(43))
    }

    fn with(cmdline: &str, config: &str, keys: impl Into<BakedKeys>) -> Plan {
        Plan::make(cmdline, &Config::parse(config).unwrap(), Facts::default(), keys)
    }

    #[test]
    fn keys_of_the_file_and_of_the_command_line_add_up() {
        let (a, b) = (key("A") + " me", key("B"));
        let keys = format!("# mine\n\n{a}\n");
        let plan = with(&format!("lifeboot.ssh-key=\"{b}\""), "", keys.as_str());
        assert_eq!((plan.ssh.authorized_keys, plan.notes), (vec![a, b], vec![]));
    }

    #[test]
    fn each_role_has_its_keys_and_an_authority_is_not_a_key() {
        let [a, b, c, d, e, f] = ["A", "B", "C", "D", "E", "F"].map(key);
        let keys = BakedKeys {
            root: format!("{a}\n"),
            unlock: format!("# the night shift\n{c}\n"),
            status: d.clone(),
            user_authorities: e.clone(),
        };
        let words =
            format!("lifeboot.ssh-unlock-key=\"{b}\" lifeboot.ssh-user-ca=\"{f}\" lifeboot.ssh-port=2");
        let plan = with(&words, "", keys);
        assert_eq!(plan.ssh.authorized_keys, [a]);
        assert_eq!(plan.ssh.unlock_keys, [c, b]);
        assert_eq!(plan.ssh.status_keys, [d]);
        assert_eq!(plan.ssh.user_authorities, [e, f]);
        assert_eq!((plan.ssh.port, plan.notes), (2, vec![]));
    }

    #[test]
    fn whoever_locks_the_keys_locks_every_kind_of_them() {
        let [a, b, c] = ["A", "B", "C"].map(key);
        let words = format!(
            "lifeboot.ssh-unlock-key=\"{a}\" lifeboot.ssh-status-key=\"{b}\" lifeboot.ssh-user-ca=\"{c}\""
        );
        let lists = |plan: &Plan| {
            let ssh = &plan.ssh;
            ssh.unlock_keys.len() + ssh.status_keys.len() + ssh.user_authorities.len()
        };
        for (locked, counts) in [
            ("lifeboot.verify", (3, 0)),
            ("lifeboot.ssh-key", (0, 3)),
            ("lifeboot.ssh-user-ca", (2, 1)),
        ] {
            let plan = with(&words, &format!("locked = [\"{locked}\"]"), "");
            assert_eq!((lists(&plan), plan.notes.len()), counts, "{locked}");
        }
    }

    #[test]
    fn what_is_no_key_is_left_out_and_named_by_file_or_word_and_number() {
        let (good, bad) = (key("A"), "ssh-ed25519 AAAA");
        for (first, second, taken) in [(good.as_str(), bad, 1), (bad, bad, 0)] {
            let keys = format!("{first}\n# mine\n{second}\n");
            let plan = with("", "", keys.as_str());
            assert_eq!(plan.ssh.authorized_keys.len(), taken);
            assert_eq!(plan.ssh.lets_somebody_in(), taken > 0);
            let last = plan.notes.last().unwrap();
            assert_eq!(last.key, image::AUTHORIZED_KEYS);
            assert!(last.what.starts_with("line 3: its key is cut off"), "{last:?}");
            let words = format!("lifeboot.ssh-key=\"{first}\" lifeboot.ssh-key=\"{second}\"");
            let plan = with(&words, "", "");
            assert_eq!(plan.ssh.authorized_keys.len(), taken);
            let last = plan.notes.last().unwrap();
            assert_eq!(last.key, "lifeboot.ssh-key");
            assert!(last.what.starts_with("value 2: its key is cut off"), "{last:?}");
            assert_eq!(plan.notes.len(), 2 - taken);
        }
    }

    #[test]
    fn a_value_that_lacks_its_quotes_or_has_several_lines_gets_a_hint() {
        let note = |plan: Plan| plan.notes[0].what.clone();
        let bare = note(with("lifeboot.ssh-key=ssh-ed25519 AAAA", "", ""));
        assert!(bare.ends_with("put the whole value in double quotes"), "{bare}");
        let two = format!("lifeboot.ssh-key = \"{}\\n{}\\n\"", key("A"), key("B"));
        assert_eq!(
            note(with("", &two, "")),
            "value 1: has several lines: each key is a value of its own"
        );
        let one = format!("lifeboot.ssh-key = \"{}\\n\"", key("A"));
        assert_eq!(with("", &one, "").ssh.authorized_keys, [key("A")]);
    }
}
