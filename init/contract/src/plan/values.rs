//! Reading the values of boot parameters; an error says what was expected and what was given.

use crate::event::Stage;

/// The lines of an authorized_keys file that are neither blank nor comments.
pub(crate) fn key_lines(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// A stage's name.
pub(crate) fn stage(value: &str) -> Result<Stage, String> {
    let known = || {
        format!(
            "'{value}' is not a stage, which are {}",
            Stage::ALL.map(Stage::name).join(", ")
        )
    };
    Stage::from_name(value).ok_or_else(known)
}

/// Anything but nothing.
pub(crate) fn filled(value: &str) -> Result<String, String> {
    if value.is_empty() {
        Err("has no value".to_owned())
    } else {
        Ok(value.to_owned())
    }
}

/// A path that begins at the root.
pub(crate) fn absolute(value: &str) -> Result<String, String> {
    if value.starts_with('/') {
        Ok(value.to_owned())
    } else {
        Err(format!("'{value}' is not an absolute path"))
    }
}

/// An IP address, IPv6 in brackets or not.
pub(crate) fn address(value: &str) -> Result<std::net::IpAddr, String> {
    let bare = value.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .map_err(|_| format!("'{value}' is not an IP address"))
}

/// A number within bounds.
pub(crate) fn number(value: &str, least: u64, most: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("'{value}' is not a number from {least} to {most}")),
    }
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(value: &str, among: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<_> = among.iter().map(|(name, _)| *name).collect();
    let found = among
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, choice)| *choice);
    found.ok_or_else(|| format!("'{value}' is none of {}", names.join(", ")))
}

/// A public key as it stands in authorized_keys.
pub(crate) fn public_key(value: &str) -> Result<String, String> {
    match value.split_whitespace().count() {
        0 | 1 => Err(format!(
            "'{value}' is not TYPE BASE64; put the whole value in double quotes"
        )),
        _ => Ok(value.to_owned()),
    }
}
