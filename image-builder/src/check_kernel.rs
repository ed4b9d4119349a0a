//! `image-builder check-kernel`, which every build runs too: whether a kernel has what an image needs of it, and whether
//! everything that a board's device tree names has a driver.

mod carried;
mod config;
mod drivers;
mod required;
mod walk;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use argh::FromArgs;

use crate::board::Board;
use crate::compose;
use crate::device_tree::DeviceTree;
use crate::feature::Features;
use crate::kernel::Kernel;
use crate::packages::Freshness;
use crate::recipe::{self, Recipe};
use crate::sources::{self, Fetching, Named};
use crate::tree::Tree;

pub use carried::Carried;
use config::KernelConfig;
use drivers::Drivers;
use required::{Found, Requirement, Weight};
use walk::Step;

/// say whether a kernel has what an image needs
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "check-kernel",
    example = "image-builder check-kernel --config .config --board pi4",
    example = "image-builder check-kernel --kernel arch/arm64/boot/Image --board pi5 --modules out/initramfs.cpio.zst",
    example = "image-builder check-kernel --board pi5",
    note = "With a board and neither --config nor --kernel, the kernel is the one that a build for the board would take, and the \
            board's device trees are walked: each node on the way to Ethernet, USB, SD, PCIe, serial console, watchdog and clock, \
            with its driver. The exit code is 1 when something required is missing, or a node has no driver."
)]
pub struct Arguments {
    /// the kernel's configuration, as .config or /boot/config-RELEASE
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// a kernel that carries its configuration (CONFIG_IKCONFIG), packed or not, or its module configs.ko
    #[argh(option, arg_name = "file")]
    kernel: Option<PathBuf>,
    /// board, by the name that 'image-builder boards' lists it under
    #[argh(option, arg_name = "name")]
    board: Option<String>,
    /// modules that will be there: an initramfs, or a directory like /usr/lib/modules/RELEASE
    #[argh(option, arg_name = "path")]
    modules: Option<PathBuf>,
    /// features of the image, separated by commas
    #[argh(option, arg_name = "list")]
    features: Option<String>,
    /// device tree to walk, instead of the board's; may be given several times
    #[argh(option, arg_name = "file")]
    device_tree: Vec<PathBuf>,
    /// take the kernel from an unpacked system, not from packages
    #[argh(option, arg_name = "dir")]
    from_root: Option<PathBuf>,
    /// take the kernel from a disk image
    #[argh(option, arg_name = "file")]
    from_image: Option<PathBuf>,
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
}

/// Everything that was looked at, and how it was found.
#[derive(Debug, Default)]
pub struct Checked {
    options: Vec<(Requirement, Found)>,
    /// By the name of the device tree.
    walks: Vec<(String, Vec<Step>)>,
    /// What could not be looked at, and why.
    unknown: Vec<String>,
}

impl Checked {
    fn options(
        &mut self,
        needs: Vec<Requirement>,
        config: &KernelConfig,
        carried: Option<&BTreeSet<String>>,
    ) {
        let found = needs.into_iter().map(|requirement| {
            let found = requirement.find(config, carried);
            (requirement, found)
        });
        self.options.extend(found);
    }

    fn lacks(&self, weight: Weight) -> Vec<String> {
        self.options
            .iter()
            .filter(|(requirement, found)| requirement.weight == weight && !found.is_good())
            .map(option_line)
            .collect()
    }

    /// Nodes without a driver, with the device tree that names them.
    fn undriven(&self) -> Vec<String> {
        self.walks
            .iter()
            .flat_map(|(name, steps)| {
                let missing = steps.iter().filter(|step| step.is_missing());
                missing.map(move |step| format!("{name}: {step}"))
            })
            .collect()
    }

    /// All of it, a line each.
    pub fn text(&self) -> String {
        let mut text: String = self.options.iter().map(|one| option_line(one) + "\n").collect();
        for (name, steps) in &self.walks {
            for step in steps {
                // Writing to a string cannot fail.
                if writeln!(text, "{name}: {step}").is_err() {
                    break;
                }
            }
        }
        text.extend(self.unknown.iter().map(|what| format!("not checked: {what}\n")));
        text
    }

    /// Only what a person should know of: optional options that are missing, nodes without a driver, what was not checked.
    pub fn warnings(&self) -> Vec<String> {
        let unknown = self.unknown.iter().map(|what| format!("not checked: {what}"));
        self.lacks(Weight::Optional)
            .into_iter()
            .chain(self.undriven())
            .chain(unknown)
            .collect()
    }

    /// Refuses a kernel that lacks something required.
    pub fn refuse(&self, kernel: &str) -> Result<()> {
        match self.lacks(Weight::Required).as_slice() {
            [] => Ok(()),
            lacks => bail!("{kernel} lacks what the image needs:\n  {}", lacks.join("\n  ")),
        }
    }
}

fn option_line((requirement, found): &(Requirement, Found)) -> String {
    let Requirement {
        option,
        stage,
        reason,
        ..
    } = requirement;
    format!("CONFIG_{option} is {found} ({stage}: {reason})")
}

/// The kernel of a build against the modules that its image carries.
pub fn of_build(
    board: &Board,
    features: &Features,
    tree: &Tree,
    kernel: &Kernel,
    carried: &Carried,
) -> Result<Checked> {
    let mut checked = Checked::default();
    let names = features.keys().cloned().collect();
    let config = config_of(tree, kernel)?;
    match &config {
        Some(config) => checked.options(required::of(Some(board), &names)?, config, Some(&carried.names)),
        None => checked.unknown.push(format!(
            "the options of kernel {}, whose configuration is not there",
            kernel.release
        )),
    }
    let mut drivers = Drivers::default();
    if let Ok(modinfo) = tree.read(format!("{}/modules.builtin.modinfo", kernel.modules)) {
        drivers.add_built_in(&modinfo);
    }
    if drivers.is_empty() {
        if !board.device_trees.is_empty() {
            checked.unknown.push(format!(
                "drivers for the device tree: kernel {} has no modules.builtin.modinfo",
                kernel.release
            ));
        }
        return Ok(checked);
    }
    drivers.add_modules(&carried.aliases);
    for name in &board.device_trees {
        let blob = kernel.device_tree(tree, name)?;
        checked.walks.push((
            name.clone(),
            walked(&blob, &drivers, board, config.as_ref(), name)?,
        ));
    }
    Ok(checked)
}

fn walked(
    blob: &[u8],
    drivers: &Drivers,
    board: &Board,
    config: Option<&KernelConfig>,
    name: &str,
) -> Result<Vec<Step>> {
    let tree = DeviceTree::parse(blob).with_context(|| name.to_owned())?;
    walk::walk(&tree, drivers, &board.device_tree_exceptions, config)
}

/// Where a distribution leaves the configuration of its kernel, or the kernel itself.
fn config_of(tree: &Tree, kernel: &Kernel) -> Result<Option<KernelConfig>> {
    let places = [
        format!("{}/config", kernel.modules),
        format!("/boot/config-{}", kernel.release),
        format!("/usr/lib/linux-image-{}/config", kernel.release),
    ];
    for place in places {
        if tree.is_file(&place)? {
            let text = tree.read(&place)?;
            let config = KernelConfig::parse(&String::from_utf8_lossy(&text)).context(place)?;
            return Ok(Some(config));
        }
    }
    for packed in ["", ".xz", ".zst", ".gz"] {
        let place = format!("{}/kernel/kernel/configs.ko{packed}", kernel.modules);
        if tree.is_file(&place)? {
            return KernelConfig::within(&tree.read(&place)?).context(place).map(Some);
        }
    }
    Ok(KernelConfig::within(&kernel.read(tree)?).ok())
}

/// Prints what is found; an error when something required is missing.
pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe {
        board: arguments.board.as_deref().map(recipe::unplaced),
        features: arguments.features.as_ref().map(|names| {
            names
                .split(',')
                .map(|name| recipe::unplaced(name.trim()))
                .collect()
        }),
        ..Recipe::default()
    };
    let (name, checked) = match (&arguments.config, &arguments.kernel) {
        (Some(_), Some(_)) => bail!("--config and --kernel: one of them"),
        (None, None) => of_sources(arguments, recipe)?,
        (Some(path), None) => {
            let text = fs::read(path).with_context(|| path.display().to_string())?;
            let config = KernelConfig::parse(&String::from_utf8_lossy(&text));
            of_config(arguments, &recipe, path, config)?
        }
        (None, Some(path)) => {
            let kernel = fs::read(path).with_context(|| path.display().to_string())?;
            of_config(arguments, &recipe, path, KernelConfig::within(&kernel))?
        }
    };
    print!("{}", checked.text());
    checked.refuse(&name)?;
    match checked.undriven().as_slice() {
        [] => Ok(()),
        undriven => bail!(
            "{} nodes of the device tree have no driver:\n  {}",
            undriven.len(),
            undriven.join("\n  ")
        ),
    }
}

/// A configuration from a file, with as much of an image as there is.
fn of_config(
    arguments: &Arguments,
    recipe: &Recipe,
    path: &Path,
    config: Result<KernelConfig>,
) -> Result<(String, Checked)> {
    let name = path.display().to_string();
    let config = config.with_context(|| name.clone())?;
    let mut checked = Checked::default();
    let directory = arguments.kernel_config.as_deref();
    let features = recipe.look_up_features(None, directory)?.into_keys().collect();
    let board = arguments
        .board
        .as_deref()
        .map(|name| Board::load(name, directory))
        .transpose()?;
    let carried = arguments.modules.as_deref().map(Carried::open).transpose()?;
    let names = carried.as_ref().map(|carried| &carried.names);
    checked.options(required::of(board.as_ref(), &features)?, &config, names);
    if let Some(board) = &board {
        let mut drivers = Drivers::default();
        if let Some(carried) = &carried {
            drivers.add_built_in(&carried.built_in);
            drivers.add_modules(&carried.aliases);
        }
        for path in &arguments.device_tree {
            if drivers.is_empty() {
                bail!("{}: walking it wants --modules", path.display());
            }
            let blob = fs::read(path).with_context(|| path.display().to_string())?;
            let name = path.display().to_string();
            let steps = walked(&blob, &drivers, board, Some(&config), &name)?;
            checked.walks.push((name, steps));
        }
    }
    Ok((name, checked))
}

/// What a build for the board would take.
fn of_sources(arguments: &Arguments, mut recipe: Recipe) -> Result<(String, Checked)> {
    if recipe.board.is_none() {
        bail!("nothing to check; give --config, --kernel or --board");
    }
    let named = Named {
        image: arguments.from_image.clone(),
        root: arguments.from_root.clone(),
        suite: None,
    };
    named.replace(&mut recipe)?;
    let (mut board, features) = recipe.look_up(None, arguments.kernel_config.as_deref())?;
    let fetching = Fetching {
        mirror: None,
        freshness: Freshness::Cached,
    };
    let sources = sources::open(&recipe, &board, &features, fetching)?;
    let kernel = Kernel::find(&sources.tree, None, &board.kernel_flavours)?;
    board.settle_device_trees(&kernel, &sources.tree)?;
    let carried = match &arguments.modules {
        Some(path) => Carried::open(path)?,
        None => {
            let (_, chosen) = compose::choose_modules(&sources.tree, &board, &features, &kernel)?;
            Carried::chosen(&chosen)
        }
    };
    let checked = of_build(&board, &features, &sources.tree, &kernel, &carried)?;
    Ok((format!("kernel {}", kernel.release), checked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(config: &str) -> Checked {
        let mut checked = Checked::default();
        let needs = required::of(None, &BTreeSet::new()).unwrap();
        checked.options(needs, &KernelConfig::parse(config).unwrap(), None);
        checked
    }

    #[test]
    fn a_missing_option_is_refused_by_name_and_an_optional_one_is_not() {
        let all = include_str!("../../kernel-config/base.config").to_owned()
            + "CONFIG_OF=y\nCONFIG_ACPI=y\nCONFIG_SERIAL_8250_CONSOLE=y\n";
        checked(&all).refuse("kernel x").unwrap();
        let without = all.replace("CONFIG_MEMFD_CREATE=y", "");
        let error = checked(&without).refuse("kernel x").unwrap_err().to_string();
        assert_eq!(
            error,
            "kernel x lacks what the image needs:\n  CONFIG_MEMFD_CREATE is missing (fetch: an OS image is fetched into a sealed memfd)"
        );
        let without = checked(&all.replace("CONFIG_SQUASHFS_XZ=y", ""));
        without.refuse("kernel x").unwrap();
        assert_eq!(
            without.warnings(),
            ["CONFIG_SQUASHFS_XZ is missing (mount: OS images packed with xz)"]
        );
    }
}
