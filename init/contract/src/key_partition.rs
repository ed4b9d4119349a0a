//! A key partition: a small FAT file system, usually on the boot medium, with what one machine does not share with others of its image.
//!
//! It is looked for only where the image or the command line says so (`lifeboot.key-partition=`), since whoever can plug in a disk could
//! otherwise add a key of theirs. The one thing a reader would get wrong: its `config.toml` stands between the baked configuration and the
//! command line, and cannot lock anything or change what the image has locked.

mod host_key;

pub use host_key::check_host_key;

use crate::authorized::List;
use crate::config::Config;
use crate::plan::{Note, key_lines, shown};
use crate::root::BlockId;

/// The label that documentation, disk images and examples use.
pub const LABEL: &str = "LIFEBOOT";
/// The server's own private key, OpenSSH format, Ed25519.
pub const HOST_KEY: &str = "ssh_host_ed25519_key";
/// Lines as in `~/.ssh/authorized_keys`.
pub const AUTHORIZED_KEYS: &str = "authorized_keys";
/// Boot parameters, written as in the image's own file.
pub const CONFIG: &str = "config.toml";
/// The files in its root that are read, each optional.
pub const FILES: [&str; 3] = [HOST_KEY, AUTHORIZED_KEYS, CONFIG];
/// Where the files are kept once they have been read; the directory is there as soon as the search has ended.
pub const COPY: &str = "/run/lifeboot/keys";
/// A file longer than this is not one of those meant.
pub const LONGEST: u64 = 64 * 1024;
/// Seconds waited for the partition where `lifeboot.key-wait=` says nothing: a USB disk behind a hub needs about ten.
pub const WAIT_S: u64 = 10;

/// What notes call the file.
pub(crate) const KEYS_NOTED: &str = "authorized_keys of the key partition";

/// Boot parameters that have done their work before a key partition can be read, or that decide whether one is read at all.
const TOO_LATE: [&str; 7] = [
    "lifeboot.console-password",
    "lifeboot.key-partition",
    "lifeboot.key-wait",
    "lifeboot.log",
    "lifeboot.events",
    "lifeboot.syslog",
    "lifeboot.watchdog",
];

/// What a key partition says about the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// The text of its `authorized_keys`.
    pub authorized_keys: Option<String>,
    /// The text of its `config.toml`.
    pub config: Option<String>,
}

/// Reads the value of `lifeboot.key-partition=`; `None` for `off`.
pub(crate) fn parse(value: &str) -> Result<Option<BlockId>, String> {
    match (value, BlockId::parse(value)) {
        ("off", _) => Ok(None),
        (_, Some(id)) => Ok(Some(id)),
        (_, None) => Err(format!(
            "'{value}' is none of LABEL=, UUID=, PARTUUID=, PARTLABEL=, /dev/ and off"
        )),
    }
}

impl KeyFiles {
    /// The authorized keys the image lets it add.
    pub(crate) fn keys(&self, baked: &Config, notes: &mut Vec<Note>) -> Vec<String> {
        let text = self.authorized_keys.as_deref().unwrap_or_default();
        let mut refused = Vec::new();
        let lines = key_lines(text, List::Root, KEYS_NOTED, &mut refused);
        if baked.locked.contains("lifeboot.ssh-key") && !(lines.is_empty() && refused.is_empty()) {
            notes.push(note(
                AUTHORIZED_KEYS,
                "is ignored: the image locks lifeboot.ssh-key".to_owned(),
            ));
            return Vec::new();
        }
        notes.append(&mut refused);
        lines
    }

    /// The baked configuration with the partition's over it.
    pub(crate) fn over(&self, baked: &Config, notes: &mut Vec<Note>) -> Config {
        let given = match self.config.as_deref().map(Config::parse) {
            None => return baked.clone(),
            Some(Ok(given)) => given,
            Some(Err(error)) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let what = format!("is ignored: {error}{}", cause.unwrap_or_default());
                notes.push(note(CONFIG, what.trim_end().to_owned()));
                return baked.clone();
            }
        };
        if !given.locked.is_empty() {
            notes.push(note(
                CONFIG,
                "cannot lock boot parameters, only the image can".to_owned(),
            ));
        }
        let mut free = given.words;
        free.retain(|word| {
            let why = match word.key.as_str() {
                key if baked.locks(key) => "the image locks this word",
                key if TOO_LATE.contains(&key) => "this is decided before a key partition is read",
                _ => return true,
            };
            let what = format!("{}='{}' is ignored: {why}", word.key, shown(word));
            notes.push(note(CONFIG, what));
            false
        });
        let mut words = baked.words.clone();
        words.retain(|word| !free.iter().any(|other| other.key == word.key));
        words.append(&mut free);
        Config {
            words,
            locked: baked.locked.clone(),
        }
    }
}

fn note(file: &str, what: String) -> Note {
    Note {
        key: format!("{file} of the key partition"),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Retry, Verify};
    use crate::template::Facts;

    fn key(letter: &str) -> String {
        format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", letter.repeat(43))
    }

    fn plan(cmdline: &str, baked: &str, config: &str, keys: &str) -> Plan {
        let files = KeyFiles {
            authorized_keys: Some(keys.to_owned()),
            config: Some(config.to_owned()),
        };
        let baked = Config::parse(baked).unwrap();
        Plan::with_key_files(cmdline, &baked, Facts::default(), key("A").as_str(), &files)
    }

    #[test]
    fn it_is_looked_for_only_when_somebody_says_so() {
        assert_eq!(plan("", "", "", "").key_partition, None);
        let named = plan(
            "lifeboot.key-partition=LABEL=LIFEBOOT lifeboot.key-wait=3",
            "",
            "",
            "",
        );
        let id = BlockId::Label(LABEL.to_owned());
        assert_eq!((named.key_partition, named.key_wait_s), (Some(id), 3));
        let off = "lifeboot.key-partition=off";
        assert_eq!(
            plan(off, "lifeboot.key-partition = \"LABEL=LIFEBOOT\"", "", "").key_partition,
            None
        );
        let locked = "locked = [\"lifeboot.key-partition\"]";
        assert_eq!(
            plan("lifeboot.key-partition=LABEL=LIFEBOOT", locked, "", "").key_partition,
            None
        );
        let bad = plan("lifeboot.key-partition=LIFEBOOT", "", "", "");
        assert_eq!((bad.key_partition, bad.notes.len(), bad.refusal), (None, 1, None));
    }

    #[test]
    fn its_config_ranks_between_the_image_and_the_command_line() {
        let baked = "lifeboot.ssh-port = 1001\nlifeboot.hostname = \"baked\"\nlifeboot.retry = 9";
        let config = "lifeboot.ssh-port = 1002\nlifeboot.hostname = \"partition\"";
        let plan = plan("lifeboot.ssh-port=1003", baked, config, "");
        assert_eq!((plan.ssh.port, plan.retry), (1003, Retry::Times(9)));
        assert_eq!(
            plan.hostname.unwrap().expand(&Facts::default()).unwrap(),
            "partition"
        );
        assert_eq!(plan.notes, []);
    }

    #[test]
    fn a_locked_word_is_deaf_to_it_and_an_open_one_is_not() {
        let config = "lifeboot.verify = \"off\"";
        assert_eq!(plan("", "", config, "").verify, Verify::Off);
        let locked = plan("", "locked = [\"lifeboot.verify\"]", config, "");
        assert_eq!(locked.verify, Verify::Required);
        assert_eq!(
            (locked.notes[0].key.as_str(), locked.notes[0].what.as_str()),
            (
                "config.toml of the key partition",
                "lifeboot.verify='off' is ignored: the image locks this word"
            )
        );
    }

    #[test]
    fn its_keys_add_to_those_of_the_image_unless_the_image_locks_them() {
        let keys = format!("# spare\n{}\nssh-ed25519 AAAA\n", key("B"));
        let both = plan("", "", "", &keys);
        assert_eq!(both.ssh.authorized_keys, [key("A"), key("B")]);
        assert_eq!((both.notes.len(), both.notes[0].key.as_str()), (1, KEYS_NOTED));
        assert!(both.notes[0].what.starts_with("line 3: "), "{:?}", both.notes);
        let locked = plan("", "locked = [\"lifeboot.ssh-key\"]", "", &keys);
        assert_eq!(locked.ssh.authorized_keys, [key("A")]);
        assert_eq!(locked.notes.len(), 1, "{:?}", locked.notes);
        let nothing_to_ignore = plan("", "locked = [\"lifeboot.ssh-key\"]", "", "# none\n");
        assert_eq!(nothing_to_ignore.notes, []);
    }

    #[test]
    fn it_can_neither_lock_nor_name_another_partition() {
        let config = "locked = [\"root\"]\nlifeboot.key-partition = \"LABEL=other\"\nroot = \"LABEL=a\"";
        let plan = plan("root=LABEL=b", "", config, "");
        assert_eq!(
            (plan.key_partition, plan.roots[0].to_string()),
            (None, "LABEL=b".to_owned())
        );
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    }

    #[test]
    fn a_config_that_is_not_one_is_left_out_as_a_whole_and_the_boot_goes_on() {
        for bad in ["root = [", "lifeboot.verfy = \"off\"", "root = 1.5", "\u{0}\u{1}"] {
            let plan = plan(
                "",
                "root = \"LABEL=a\"",
                &format!("lifeboot.ssh-port = 1\n{bad}"),
                "",
            );
            assert_eq!(
                (plan.roots.len(), plan.ssh.port, plan.refusal),
                (1, 22, None),
                "{bad}"
            );
            assert_eq!(plan.notes.len(), 1, "{bad}");
            assert!(plan.notes[0].what.starts_with("is ignored: "), "{:?}", plan.notes);
        }
    }
}
