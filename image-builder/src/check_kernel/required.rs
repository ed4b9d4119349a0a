//! What the kernel must have, read from `kernel-config/required.txt` and from the board's file.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::config::{KernelConfig, Setting};
use crate::board::Board;

const EMBEDDED: &str = include_str!("../../../kernel-config/required.txt");

/// Whom an option is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Everybody,
    Arch(String),
    Feature(String),
}

/// Whether a build goes on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    Required,
    Optional,
}

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    scope: Scope,
    /// Without `CONFIG_`.
    pub option: String,
    /// A module will not do.
    built_in: bool,
    pub weight: Weight,
    /// The module it becomes, where it may be one.
    module: Option<String>,
    /// The stage of the boot, or the board, that needs it.
    pub stage: String,
    pub reason: String,
}

/// How an option was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    BuiltIn,
    /// A module; whether the image carries it is not known.
    Module,
    Carried(String),
    NotCarried(String),
    OnlyModule,
    Missing,
}

impl Found {
    /// Whether it serves.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::BuiltIn | Self::Module | Self::Carried(_))
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => out.write_str("built in"),
            Self::Module => out.write_str("a module"),
            Self::Carried(module) => write!(out, "a module, {module}, which the image carries"),
            Self::NotCarried(module) => write!(out, "a module, {module}, which the image does not carry"),
            Self::OnlyModule => out.write_str("a module, and must be built in"),
            Self::Missing => out.write_str("missing"),
        }
    }
}

impl Requirement {
    /// Looks an option up; `carried` are the image's modules where they are known.
    pub fn find(&self, config: &KernelConfig, carried: Option<&BTreeSet<String>>) -> Found {
        match (config.setting(&self.option), &self.module, carried) {
            (Setting::BuiltIn, ..) => Found::BuiltIn,
            (Setting::Off, ..) => Found::Missing,
            (Setting::Module, ..) if self.built_in => Found::OnlyModule,
            (Setting::Module, Some(module), Some(carried)) if carried.contains(module) => {
                Found::Carried(module.clone())
            }
            (Setting::Module, Some(module), Some(_)) => Found::NotCarried(module.clone()),
            (Setting::Module, ..) => Found::Module,
        }
    }
}

/// What a board with these features needs.
pub fn of(board: Option<&Board>, features: &BTreeSet<String>) -> Result<Vec<Requirement>> {
    let arch = board.map(|board| board.arch.name());
    let mut all = parse(EMBEDDED).context("required.txt")?;
    all.retain(|requirement| match &requirement.scope {
        Scope::Everybody => true,
        Scope::Arch(name) => arch.is_none_or(|arch| arch == name),
        Scope::Feature(name) => features.contains(name),
    });
    let own = board.into_iter().flat_map(|board| {
        board.kernel_options.iter().map(|(option, reason)| Requirement {
            scope: Scope::Everybody,
            option: option.trim_end_matches("=y").to_owned(),
            built_in: option.ends_with("=y"),
            weight: Weight::Required,
            module: None,
            stage: board.name.clone(),
            reason: reason.clone(),
        })
    });
    all.extend(own);
    Ok(all)
}

/// `OPTION WHAT STAGE REASON` lines under headings in brackets; what the columns mean stands at the top of the file.
fn parse(text: &str) -> Result<Vec<Requirement>> {
    let mut scope = Scope::Everybody;
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let about = || format!("line {}", index + 1);
        if let Some(heading) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            scope = scope_of(heading).with_context(about)?;
            continue;
        }
        let requirement = requirement(line, &scope).with_context(about)?;
        all.push(requirement);
    }
    Ok(all)
}

fn scope_of(heading: &str) -> Result<Scope> {
    match heading.split_once(' ') {
        None if heading == "everybody" => Ok(Scope::Everybody),
        Some(("arch", name)) => Ok(Scope::Arch(name.to_owned())),
        Some(("feature", name)) => Ok(Scope::Feature(name.to_owned())),
        _ => bail!("unknown heading '{heading}'"),
    }
}

fn requirement(line: &str, scope: &Scope) -> Result<Requirement> {
    let mut words = line.split_whitespace();
    let (Some(option), Some(what), Some(stage)) = (words.next(), words.next(), words.next()) else {
        bail!("'{line}' is not OPTION WHAT STAGE REASON");
    };
    let reason: Vec<&str> = words.collect();
    if reason.is_empty() {
        bail!("{option} has no reason");
    }
    let (what, weight) = match what.strip_suffix('?') {
        Some(what) => (what, Weight::Optional),
        None => (what, Weight::Required),
    };
    let (built_in, module) = match what.split_once(':') {
        None if what == "y" => (true, None),
        None if what == "m" => (false, None),
        Some(("m", module)) => (false, Some(module.replace('-', "_"))),
        _ => bail!("{option}: '{what}' is not y, m or m:MODULE"),
    };
    Ok(Requirement {
        scope: scope.clone(),
        option: option.to_owned(),
        built_in,
        weight,
        module,
        stage: stage.to_owned(),
        reason: reason.join(" "),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::feature;

    fn found(what: &str, config: &str, carried: &[&str]) -> Found {
        let requirement = requirement(&format!("X {what} mount why"), &Scope::Everybody).unwrap();
        let carried = carried.iter().map(|name| (*name).to_owned()).collect();
        requirement.find(&KernelConfig::parse(config).unwrap(), Some(&carried))
    }

    #[test]
    fn each_way_an_option_can_be_there_is_told_apart() {
        assert_eq!(found("m:x-y", "CONFIG_X=y", &[]), Found::BuiltIn);
        assert_eq!(
            found("m:x-y", "CONFIG_X=m", &["x_y"]),
            Found::Carried("x_y".into())
        );
        assert_eq!(
            found("m:x-y", "CONFIG_X=m", &["x_z"]),
            Found::NotCarried("x_y".into())
        );
        assert_eq!(found("m", "CONFIG_X=m", &[]), Found::Module);
        assert_eq!(found("y", "CONFIG_X=m", &[]), Found::OnlyModule);
        assert_eq!(found("m", "CONFIG_Y=y", &[]), Found::Missing);
    }

    #[test]
    fn a_line_without_a_reason_or_with_a_wrong_word_is_refused() {
        for line in ["X y", "X y mount", "X z mount why", "X m:x"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let error = format!("{:#}", parse("\n[board pi]\n").unwrap_err());
        assert_eq!(error, "line 2: unknown heading 'board pi'");
    }

    #[test]
    fn features_and_architectures_are_asked_for_their_own() {
        let names = |features: &[&str], board: &str| -> Vec<String> {
            let features = features.iter().map(|name| (*name).to_owned()).collect();
            let board = Board::load(board, None).unwrap();
            let all = of(Some(&board), &features).unwrap();
            all.into_iter().map(|requirement| requirement.option).collect()
        };
        let has = |names: &[String], option: &str| names.iter().any(|name| name == option);
        assert!(has(&names(&["luks"], "pi4"), "DM_CRYPT"));
        assert!(!has(&names(&["core"], "pi4"), "DM_CRYPT"));
        assert!(has(&names(&[], "pi4"), "PCIE_BRCMSTB"));
        assert!(!has(&names(&[], "pi3"), "PCIE_BRCMSTB"));
    }

    #[test]
    fn headings_name_features_that_exist() {
        let known = feature::all(None).unwrap();
        for requirement in parse(EMBEDDED).unwrap() {
            if let Scope::Feature(name) = requirement.scope {
                assert!(known.contains_key(&name), "{name}");
            }
        }
    }

    /// Each option of a fragment, and whether a comment stands above it.
    fn fragment(name: &str) -> BTreeMap<String, (String, bool)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../kernel-config/{name}.config"));
        let text = std::fs::read_to_string(path).unwrap();
        let mut above = "";
        let mut options = BTreeMap::new();
        for line in text.lines() {
            if let Some((option, value)) = line.strip_prefix("CONFIG_").and_then(|line| line.split_once('='))
            {
                let explained = above.starts_with("# ");
                options.insert(option.to_owned(), (value.to_owned(), explained));
            }
            above = line;
        }
        options
    }

    #[test]
    fn every_option_of_a_fragment_has_its_reason() {
        for name in ["base", "pi3", "pi4", "pi5", "virt"] {
            for (option, (_, explained)) in fragment(name) {
                assert!(explained, "{name}.config: {option}");
            }
        }
    }

    #[test]
    fn a_kernel_of_base_and_a_boards_fragment_has_all_that_is_required() {
        let base = fragment("base");
        for (name, file) in [
            ("pi3", "pi3"),
            ("pi4", "pi4"),
            ("pi5", "pi5"),
            ("virt-arm64", "virt"),
        ] {
            let mut options = base.clone();
            options.extend(fragment(file));
            let text: String = options
                .iter()
                .map(|(option, (value, _))| format!("CONFIG_{option}={value}\n"))
                .collect();
            let config = KernelConfig::parse(&text).unwrap();
            let features = feature::all(None).unwrap().into_keys().collect();
            let board = Board::load(name, None).unwrap();
            for requirement in of(Some(&board), &features).unwrap() {
                let found = requirement.find(&config, None);
                assert!(found.is_good(), "{name}: {} is {found}", requirement.option);
            }
        }
    }
}
