//! The file of boot parameters, with the lines that the device's own reading of it does not tell.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lifeboot_contract::config::{Config, ConfigError};
use lifeboot_contract::plan::{Note, Plan};
use lifeboot_contract::words::Word;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's text and what it says.
pub struct Parameters {
    pub text: String,
    pub config: Config,
}

/// A value of the file.
struct Place {
    /// The flattened key.
    key: String,
    /// TOML's name of its type.
    kind: &'static str,
    /// What a string says.
    text: Option<String>,
    line: usize,
}

impl Parameters {
    /// Reads the file; a mistake in it is told with its line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = super::text(path)?;
        let error = match Config::parse(&text) {
            Ok(config) => return Ok(Self { text, config }),
            Err(error) => error,
        };
        let places = places(&text);
        let wrong = |place: &&Place| match &error {
            ConfigError::Unknown(key) => {
                place.key == *key || (place.key == "locked" && place.text.as_deref() == Some(key))
            }
            ConfigError::Type { key, found } => place.key == *key && place.kind == *found,
            ConfigError::Toml(_) => false,
        };
        let line = places.iter().find(wrong).map(|place| place.line);
        let about = match line {
            Some(line) => format!("{}: line {line}", path.display()),
            None => path.display().to_string(),
        };
        Err(error).context(about)
    }

    /// Refuses what a plan says about one of the words here.
    pub fn refuse(&self, path: &Path, note: &Note) -> Result<()> {
        // Notes about words of a key partition begin with the word.
        let of_file = note.what.split_once("='").map(|(key, _)| key);
        let known = |key: &&str| self.config.words.iter().any(|word| word.key == **key);
        let key = [Some(note.key.as_str()), of_file]
            .into_iter()
            .flatten()
            .find(known);
        let what = match key {
            Some(key) if key == note.key => format!("{key}: {}", note.what),
            _ => note.what.clone(),
        };
        match key.and_then(|key| self.line_of(key)) {
            Some(line) => bail!("{}: line {line}: {what}", path.display()),
            None => bail!("{}: {what}", path.display()),
        }
    }

    /// Where the first value of `key` stands that the device would not take by itself; else the first.
    fn line_of(&self, key: &str) -> Option<usize> {
        let is_noted = |word: &&Word| {
            let config = Config {
                words: vec![(*word).clone()],
                ..Config::default()
            };
            !Plan::make("", &config, Default::default(), "").notes.is_empty()
        };
        let words = self.config.words.iter().filter(|word| word.key == key);
        let at = words.clone().position(|word| is_noted(&word)).unwrap_or(0);
        let places = places(&self.text);
        let mut of_key = places.iter().filter(|place| place.key == key);
        of_key.nth(at).map(|place| place.line)
    }
}

/// Every value, in the file's order for each key.
fn places(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        for (key, value) in table.get_ref().iter() {
            add(&mut places, text, key.get_ref().to_string(), value);
        }
    }
    places
}

fn add(places: &mut Vec<Place>, text: &str, key: String, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (name, value) in table.iter() {
                add(places, text, format!("{key}.{}", name.get_ref()), value);
            }
        }
        DeValue::Array(values) => {
            for value in values.iter() {
                places.push(Place::new(text, key.clone(), value));
            }
        }
        _ => places.push(Place::new(text, key, value)),
    }
}

impl Place {
    fn new(text: &str, key: String, value: &Spanned<DeValue<'_>>) -> Self {
        let before = text.bytes().take(value.span().start);
        Self {
            key,
            kind: value.get_ref().type_str(),
            text: value.get_ref().as_str().map(str::to_owned),
            line: 1 + before.filter(|byte| *byte == b'\n').count(),
        }
    }
}

#[cfg(test)]
mod tests {

    fn error(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = super::super::config(file.path()).unwrap_err();
        let name = file.path().display().to_string();
        let shown = format!("{error:#}");
        assert_eq!(shown.matches(&name).count(), 1, "{shown}");
        assert!(!shown.contains("config.toml"), "{shown}");
        shown.replace(&name, "c")
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, expected) in [
            ("\nbogus = 1\n", "c: line 2: bogus is not a boot parameter"),
            (
                "[lifeboot]\nssh-port = 22\nverfy = \"off\"\n",
                "c: line 3: lifeboot.verfy is not a boot parameter",
            ),
            (
                "locked = [\"root\",\n \"rot\"]\n",
                "c: line 2: rot is not a boot parameter",
            ),
            (
                "root = [\"LABEL=a\",\n\n 1.5]\n",
                "c: line 3: root is float, expected",
            ),
            (
                "root = \"LABEL=a\"\nlifeboot.ssh-port = 70000\n",
                "c: line 2: lifeboot.ssh-port: '70000'",
            ),
            (
                "lifeboot.ntp = [\n \"a\",\n \"b c\",\n]\n",
                "c: line 3: lifeboot.ntp: 'b c'",
            ),
            ("root = \"nowhere\"\n", "c: line 1: root: 'nowhere'"),
        ] {
            let found = error(text);
            assert!(found.starts_with(expected), "{found}");
        }
        assert!(error("root = \"a\"\nip = [\n").contains("line 2"));
    }
}
