//! `image-builder boards` and `image-builder features`: what an image can be for, and what can be in it.

use std::path::PathBuf;

use anyhow::Result;
use argh::FromArgs;

use crate::board::{self, Board, Reasons};
use crate::feature::{self, Feature};

/// list the boards there are
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "boards",
    note = "Adding a board is adding a file: copy one of kernel-config/, and give its directory with --kernel-config."
)]
pub struct BoardsArguments {
    /// print everything of one board: modules and kernel options, each with its reason
    #[argh(positional, arg_name = "name")]
    name: Option<String>,
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
}

/// list the features there are
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "features",
    note = "Those with a star are in an image when nothing is said. A build prints how many bytes are there because of each."
)]
pub struct FeaturesArguments {
    /// print everything of one feature: packages, files, and modules with their reasons
    #[argh(positional, arg_name = "name")]
    name: Option<String>,
    /// directory with features.toml, instead of the one built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
}

/// Prints the boards, or one.
pub fn boards(arguments: &BoardsArguments) -> Result<()> {
    let directory = arguments.kernel_config.as_deref();
    if let Some(name) = &arguments.name {
        print!("{}", board_text(&Board::load(name, directory)?));
        return Ok(());
    }
    for name in board::names(directory)? {
        println!("{name:<12} {}", Board::load(&name, directory)?.about);
    }
    Ok(())
}

/// Prints the features, or one.
pub fn features(arguments: &FeaturesArguments) -> Result<()> {
    let directory = arguments.kernel_config.as_deref();
    if let Some(name) = &arguments.name {
        let chosen = feature::choose(std::slice::from_ref(name), directory)?;
        for feature in chosen.values() {
            print!("{}", feature_text(name, feature));
        }
        return Ok(());
    }
    for (name, feature) in feature::all(directory)? {
        let star = if feature::DEFAULT.contains(&name.as_str()) {
            '*'
        } else {
            ' '
        };
        println!("{star} {name:<10} {}", feature.about);
    }
    Ok(())
}

fn board_text(board: &Board) -> String {
    let words = |what: &str, words: &[String]| match words {
        [] => String::new(),
        words => format!("{what}: {}\n", words.join(", ")),
    };
    format!(
        "{}: {}\n{}{}{}{}{}{}{}",
        board.name,
        board.about,
        words("architecture", &[board.arch.name().to_owned()]),
        words("consoles", &board.consoles),
        words("device trees", &board.device_trees),
        reasons("modules for the network", &board.modules.network),
        reasons("modules for devices", &board.modules.devices),
        reasons("modules where the kernel has them", &board.modules.optional),
        reasons("kernel options", &board.kernel_options),
    )
}

fn feature_text(name: &str, feature: &Feature) -> String {
    let lines = |what: &str, lines: &[String]| match lines {
        [] => String::new(),
        lines => format!("{what}:\n  {}\n", lines.join("\n  ")),
    };
    format!(
        "{name}: {}\n{}{}{}{}{}",
        feature.about,
        lines("packages", &feature.packages),
        lines("files", &feature.files),
        lines("libraries", &feature.libraries),
        reasons("modules", &feature.modules),
        reasons("modules where the kernel has them", &feature.optional),
    )
}

fn reasons(what: &str, reasons: &Reasons) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let lines: String = reasons
        .iter()
        .map(|(name, reason)| format!("  {name}: {reason}\n"))
        .collect();
    format!("{what}:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_explained_reason_by_reason() {
        let text = board_text(&Board::load("pi", None).unwrap());
        assert!(
            text.contains("  macb: the Ethernet controller in the I/O chip\n"),
            "{text}"
        );
        assert!(text.contains("  genet: "), "{text}");
        assert!(text.contains("  PCIE_BRCMSTB: "), "{text}");
    }

    #[test]
    fn every_feature_can_be_explained() {
        for (name, feature) in feature::all(None).unwrap() {
            assert!(feature_text(&name, &feature).starts_with(&format!("{name}: {}", feature.about)));
        }
    }
}
