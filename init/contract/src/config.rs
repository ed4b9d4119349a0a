//! The boot parameters baked into the image: `/etc/lifeboot/config.toml`.
//!
//! The file holds the very words of the command line, as TOML keys. TOML reads `lifeboot.verify` as a table `lifeboot`
//! with a key `verify`; the tables are flattened back, so both spellings mean the same.

use crate::words::Word;
use std::collections::BTreeSet;

/// The baked boot parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Words, in file order per key.
    pub words: Vec<Word>,
    /// Keys that the command line cannot change.
    pub locked: BTreeSet<String>,
}

/// Why a configuration was not understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML; the message has line and column.
    #[error("not as TOML is written")]
    Toml(#[from] toml::de::Error),
    /// A value of another type.
    #[error("{key} is {found}, expected a string, a number, true or a list of strings")]
    Type {
        /// The flattened key.
        key: String,
        /// TOML's name of the type.
        found: &'static str,
    },
    /// A key no stage reads: in a file that somebody wrote by hand this is a mistake, unlike on a shared command line.
    #[error("{0} is not a boot parameter")]
    Unknown(String),
}

impl Config {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Bad TOML, a value of a wrong type, or a key that is not a boot parameter.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let table: toml::Table = text.parse()?;
        let mut config = Config::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("locked", toml::Value::Array(keys)) => {
                    for locked in keys {
                        config.locked.insert(known(string("locked", locked)?)?);
                    }
                }
                (_, value) => config.add(key, value)?,
            }
        }
        Ok(config)
    }

    /// Whether neither the command line nor a key partition can change this word. Whoever locks the keys that may log in means every
    /// kind of them, also one that came into being after the file was written.
    pub fn locks(&self, key: &str) -> bool {
        let about_keys = [
            "lifeboot.ssh-unlock-key",
            "lifeboot.ssh-status-key",
            "lifeboot.ssh-user-ca",
        ];
        self.locked.contains(key) || (about_keys.contains(&key) && self.locked.contains("lifeboot.ssh-key"))
    }

    fn add(&mut self, key: String, value: toml::Value) -> Result<(), ConfigError> {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    self.add(format!("{key}.{name}"), value)?;
                }
            }
            toml::Value::Array(values) => {
                let key = known(key)?;
                for value in values {
                    let value = string(&key, value)?;
                    self.words.push(Word::new(key.clone(), value));
                }
            }
            toml::Value::Boolean(true) => self.words.push(Word {
                key: known(key)?,
                value: None,
            }),
            value => {
                let key = known(key)?;
                let value = string(&key, value)?;
                self.words.push(Word::new(key, value));
            }
        }
        Ok(())
    }
}

fn known(key: String) -> Result<String, ConfigError> {
    match crate::keys::find(&key) {
        Some(_) => Ok(key),
        None => Err(ConfigError::Unknown(key)),
    }
}

fn string(key: &str, value: toml::Value) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        other => Err(ConfigError::Type {
            key: key.to_owned(),
            found: other.type_str(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_dotted_keys_mean_the_same() {
        let dotted = Config::parse("lifeboot.verify = \"off\"\nlifeboot.ssh-port = 2222").unwrap();
        let tables = Config::parse("[lifeboot]\nverify = \"off\"\nssh-port = 2222").unwrap();
        assert_eq!(dotted, tables);
        assert!(dotted.words.contains(&Word::new("lifeboot.ssh-port", "2222")));
    }

    #[test]
    fn lists_keep_their_order_and_true_is_a_bare_word() {
        let config =
            Config::parse("root = [\"http://a\", \"LABEL=b\"]\nrw = true\nlocked = [\"root\"]").unwrap();
        let roots: Vec<_> = config
            .words
            .iter()
            .filter(|w| w.key == "root")
            .map(Word::text)
            .collect();
        assert_eq!(roots, ["http://a", "LABEL=b"]);
        assert!(config.words.contains(&Word {
            key: "rw".into(),
            value: None
        }));
        assert!(config.locked.contains("root"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            Config::parse("lifeboot.verfy = \"off\"").unwrap_err().to_string(),
            "lifeboot.verfy is not a boot parameter"
        );
        assert!(matches!(
            Config::parse("root = 1.5"),
            Err(ConfigError::Type { .. })
        ));
        assert!(matches!(Config::parse("root = ["), Err(ConfigError::Toml(_))));
        assert!(matches!(
            Config::parse("locked = [\"nonsense\"]"),
            Err(ConfigError::Unknown(_))
        ));
    }
}
