//! Words that are given twice although only one can hold.

use super::{Note, Plan};
use crate::keys;
use crate::words::Word;

/// Neither is taken for meant: they decide what is run.
const DECIDE: [&str; 3] = ["lifeboot.verify", "lifeboot.overlay", "init"];
/// Has its own say about this, and its values are not to be printed.
const SECRET: &str = "lifeboot.console-password";

impl Plan {
    /// Refuses two different values for a word that decides what is run, and notes them for one that does not.
    pub(super) fn contradictions(&mut self, words: &[Word]) {
        let own = keys::KEYS.iter().filter(|key| !key.many).map(|key| key.name);
        let own = own.filter(|name| name.starts_with("lifeboot.") && *name != SECRET);
        for key in own.chain(["init"]) {
            let values: Vec<&str> = words
                .iter()
                .filter(|word| word.key == key)
                .map(Word::text)
                .collect();
            let Some(other) = values.iter().rev().find(|value| **value != values[0]) else {
                continue;
            };
            let what = format!("given as '{}' and as '{other}'", values[0]);
            if DECIDE.contains(&key) {
                self.complain(key, what);
            } else {
                self.notes.push(Note {
                    key: key.to_owned(),
                    what: format!("{what}: the last that can be understood holds"),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::plan::Plan;
    use crate::template::Facts;

    fn plan(cmdline: &str) -> Plan {
        Plan::make(cmdline, &Config::default(), Facts::default(), "")
    }

    #[test]
    fn of_a_word_given_twice_the_last_holds_and_that_is_said_where_they_differ() {
        let twice = plan("lifeboot.ssh-port=22 lifeboot.ssh-port=23");
        let [note] = twice.notes.as_slice() else {
            panic!("{:?}", twice.notes)
        };
        assert_eq!(note.key, "lifeboot.ssh-port");
        assert_eq!(
            note.what,
            "given as '22' and as '23': the last that can be understood holds"
        );
        assert_eq!((twice.ssh.port, twice.refusal), (23, None));
        let same = plan("lifeboot.ssh-port=23 lifeboot.ssh-port=23");
        assert_eq!((same.ssh.port, same.notes), (23, vec![]));
        let many = plan("lifeboot.ntp=a lifeboot.ntp=b");
        assert_eq!((many.ntp.len(), many.notes), (2, vec![]));
    }
}
