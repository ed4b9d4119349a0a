//! The texts of docs/serving.md.

use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::workspace;

/// Every block that is a configuration or a command, by its language and a word of its first line.
const BLOCKS: [(&str, &str); 8] = [
    ("sh", "python3"),
    ("sh", "busybox"),
    ("sh", "caddy"),
    ("nginx", "nginx"),
    ("conf", "lifeboot-lan.conf"),
    ("conf", "lifeboot-proxy.conf"),
    ("ipxe", "#!ipxe"),
    ("uboot", "dhcp"),
];

/// The text between the fences of the block of that language whose first line has `word` in it.
pub fn block(language: &str, word: &str) -> Result<String> {
    blocks()?
        .into_iter()
        .find(|(fence, text)| {
            fence == language && text.lines().next().is_some_and(|line| line.contains(word))
        })
        .map(|(_, text)| text)
        .with_context(|| format!("docs/serving.md: no {language} block begins with {word}"))
}

fn blocks() -> Result<Vec<(String, String)>> {
    let path = workspace().join("docs/serving.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(language), false) => blocks.push((language.to_owned(), String::new())),
            (Some(_), true) => {}
            (None, true) => {
                if let Some((_, text)) = blocks.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
                continue;
            }
            (None, false) => continue,
        }
        inside = !inside;
    }
    Ok(blocks)
}

#[test]
fn every_configuration_in_the_document_is_known_to_a_test() -> Result<()> {
    for (language, text) in blocks()?.iter().filter(|(language, _)| !language.is_empty()) {
        let first = text.lines().next().unwrap_or_default();
        ensure!(
            BLOCKS
                .iter()
                .any(|(known, word)| known == language && first.contains(word)),
            "{language} block that begins '{first}' is run by no test"
        );
    }
    for (language, word) in BLOCKS {
        block(language, word)?;
    }
    Ok(())
}
