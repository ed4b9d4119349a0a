//! The walk over a board's device tree: everything on the way to what a rescue image needs, and the driver of each.
//!
//! A device waits for what it names: its bus, clocks, resets, pins, interrupts, regulators. One of them without a driver and
//! the device stays away, or comes ten seconds late, so each is followed as the kernel itself follows them (the suppliers in
//! drivers/of/property.c), and where they lead, again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::config::{KernelConfig, Setting};
use super::drivers::{Driver, Drivers};
use crate::board::Reasons;
use crate::device_tree::{DeviceTree, Node};

const EMBEDDED: &str = include_str!("../../../kernel-config/device-tree.toml");

/// What a rescue image needs, by the names that nodes of its kind have.
const WANTED: &[(&str, &[&str])] = &[
    ("Ethernet", &["ethernet"]),
    ("USB", &["usb", "xhci"]),
    ("SD and eMMC", &["mmc", "mmcnr", "sdhci", "emmc2"]),
    ("PCIe", &["pcie"]),
    ("the serial console", &["serial"]),
    ("the watchdog", &["watchdog"]),
    ("random numbers", &["rng"]),
    ("the clock", &["rtc", "rpi_rtc"]),
    ("the bootloader's words", &["nvram"]),
];

/// Properties that name other nodes, and the property that says how many numbers follow each name.
const SUPPLIERS: &[(&str, Option<&str>)] = &[
    ("clocks", Some("#clock-cells")),
    ("resets", Some("#reset-cells")),
    ("power-domains", Some("#power-domain-cells")),
    ("phys", Some("#phy-cells")),
    ("mboxes", Some("#mbox-cells")),
    ("iommus", Some("#iommu-cells")),
    ("dmas", Some("#dma-cells")),
    ("msi-parent", Some("#msi-cells")),
    ("interrupts-extended", Some("#interrupt-cells")),
    ("pwms", Some("#pwm-cells")),
    ("gpio", Some("#gpio-cells")),
    ("gpios", Some("#gpio-cells")),
    ("nvmem-cells", Some("#nvmem-cell-cells")),
    ("phy-handle", None),
    ("usb-phy", None),
    ("mmc-pwrseq", None),
    ("nvmem", None),
    ("firmware", None),
];

/// Served without a driver that says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Served {
    reason: String,
    /// The option that brings the code, without `CONFIG_`.
    option: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServedFile {
    compatible: BTreeMap<String, Served>,
}

/// Who looks after a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServedBy {
    Driver(Driver),
    /// The kernel's own code.
    Core(String),
    /// The option of that code is off.
    Without(String),
    /// Known to be missing, and why that is no harm.
    Excused(String),
    Nobody,
}

/// A node on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub path: String,
    pub compatible: Vec<String>,
    /// What it is on the way to.
    pub wanted_for: &'static str,
    pub served: ServedBy,
}

impl Step {
    /// Whether something is wrong with it.
    pub fn is_missing(&self) -> bool {
        matches!(self.served, ServedBy::Nobody | ServedBy::Without(_))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            compatible,
            wanted_for,
            served,
        } = self;
        write!(
            out,
            "{path} ({}), on the way to {wanted_for}: ",
            compatible.join(" ")
        )?;
        match served {
            ServedBy::Driver(Driver { name, built_in: true }) => write!(out, "{name}, built in"),
            ServedBy::Driver(Driver { name, .. }) => write!(out, "{name}, in the image"),
            ServedBy::Core(reason) => write!(out, "no driver needed, {reason}"),
            ServedBy::Excused(reason) => write!(out, "no driver, {reason}"),
            ServedBy::Without(option) => write!(out, "nothing, CONFIG_{option} is not built in"),
            ServedBy::Nobody => write!(out, "no driver built in or in the image"),
        }
    }
}

/// Walks one device tree.
///
/// `excused` are the board's own exceptions, by `compatible`. Without a configuration the options of the kernel's own code
/// are taken to be on.
pub fn walk(
    tree: &DeviceTree,
    drivers: &Drivers,
    excused: &Reasons,
    config: Option<&KernelConfig>,
) -> Result<Vec<Step>> {
    let served: ServedFile = toml::from_str(EMBEDDED).context("device-tree.toml")?;
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    for (wanted_for, kinds) in WANTED {
        let starts = tree
            .nodes()
            .iter()
            .enumerate()
            .filter(|(_, node)| kinds.contains(&node.kind()));
        let mut waiting: Vec<usize> = starts.map(|(index, _)| index).collect();
        while let Some(index) = waiting.pop() {
            let Some(node) = tree.node(index).filter(|_| tree.is_enabled(index)) else {
                continue;
            };
            if node.parent.is_none() || !seen.insert(index) {
                continue;
            }
            waiting.extend(node.parent);
            waiting.extend(suppliers(tree, index, node));
            let compatible = node.texts("compatible");
            if !compatible.is_empty() {
                steps.push(Step {
                    path: node.path.clone(),
                    served: serve(node, &compatible, drivers, excused, &served.compatible, config),
                    compatible,
                    wanted_for,
                });
            }
        }
    }
    steps.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(steps)
}

fn serve(
    node: &Node,
    compatible: &[String],
    drivers: &Drivers,
    excused: &Reasons,
    core: &BTreeMap<String, Served>,
    config: Option<&KernelConfig>,
) -> ServedBy {
    if let Some(driver) = drivers.of(node.kind(), compatible) {
        return ServedBy::Driver(driver);
    }
    if let Some(served) = compatible.iter().find_map(|name| core.get(name)) {
        return match (&served.option, config) {
            (Some(option), Some(config)) if config.setting(option) != Setting::BuiltIn => {
                ServedBy::Without(option.clone())
            }
            _ => ServedBy::Core(served.reason.clone()),
        };
    }
    match compatible.iter().find_map(|name| excused.get(name)) {
        Some(reason) => ServedBy::Excused(reason.clone()),
        None => ServedBy::Nobody,
    }
}

/// The nodes that a node's properties name.
fn suppliers(tree: &DeviceTree, index: usize, node: &Node) -> Vec<usize> {
    let mut found = Vec::new();
    for (name, value) in node.properties() {
        let listed = SUPPLIERS.iter().find(|(supplier, _)| *supplier == name);
        let cells = match listed {
            Some((_, cells)) => *cells,
            None if name.ends_with("-gpios") || name.ends_with("-gpio") => Some("#gpio-cells"),
            None if name.ends_with("-supply") || is_pinctrl(name) => None,
            None => continue,
        };
        found.extend(named(tree, &crate::device_tree::cells(value), cells));
    }
    if node.property("interrupts").is_some() {
        let parent = tree
            .upwards(index)
            .filter_map(|index| tree.node(index)?.cell("interrupt-parent"))
            .next();
        found.extend(parent.and_then(|phandle| tree.by_phandle(phandle)));
    }
    found
}

/// `pinctrl-0`, `pinctrl-1`, and so on.
fn is_pinctrl(name: &str) -> bool {
    let number = name.strip_prefix("pinctrl-");
    number.is_some_and(|number| number.parse::<u8>().is_ok())
}

/// Reads `phandle number number phandle ...`, each phandle followed by as many numbers as the node it means says.
fn named(tree: &DeviceTree, cells: &[u32], count: Option<&str>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(phandle) = cells.get(at) {
        at += 1;
        // Zero stands for nothing in its place.
        if *phandle == 0 {
            continue;
        }
        let Some(index) = tree.by_phandle(*phandle) else {
            break;
        };
        found.push(index);
        let follow = count.and_then(|count| tree.node(index)?.cell(count)).unwrap_or(0);
        at = at.saturating_add(follow as usize);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::made::{Made, node};

    /// A board whose Ethernet is behind a bus, a clock controller, a pin of a GPIO controller and an interrupt controller.
    fn board() -> Made {
        let ethernet = node("ethernet@1")
            .texts("compatible", &["x,eth"])
            .cells("clocks", &[1, 9, 2])
            .cells("pinctrl-0", &[5])
            .cells("interrupts", &[1])
            .cells("phy-handle", &[6])
            .with(
                node("mdio")
                    .cells("reset-gpios", &[3, 32, 1])
                    .with(node("ethernet-phy@1").cells("phandle", &[6])),
            );
        node("")
            .cells("interrupt-parent", &[4])
            .with(node("bus").texts("compatible", &["x,bus"]).with(ethernet))
            .with(
                node("clk")
                    .texts("compatible", &["x,clk"])
                    .cells("phandle", &[1])
                    .cells("#clock-cells", &[1]),
            )
            .with(
                node("osc")
                    .texts("compatible", &["fixed-clock"])
                    .cells("phandle", &[2])
                    .cells("#clock-cells", &[0]),
            )
            .with(
                node("gpio")
                    .texts("compatible", &["x,gpio"])
                    .cells("phandle", &[3])
                    .cells("#gpio-cells", &[2]),
            )
            .with(
                node("intc")
                    .texts("compatible", &["x,intc"])
                    .cells("phandle", &[4]),
            )
            .with(
                node("pins")
                    .texts("compatible", &["x,pins"])
                    .with(node("eth-pins").cells("phandle", &[5])),
            )
            .with(node("gpu").texts("compatible", &["x,gpu"]))
    }

    fn drivers(names: &[&str]) -> Drivers {
        let lines: String = names
            .iter()
            .map(|name| format!("alias of:N*T*Cx,{name} {name}\n"))
            .collect();
        let mut drivers = Drivers::default();
        drivers.add_modules(&lines);
        drivers
    }

    fn missing(blob: &[u8], drivers: &Drivers, excused: &Reasons) -> Vec<String> {
        let tree = DeviceTree::parse(blob).unwrap();
        let steps = walk(&tree, drivers, excused, None).unwrap();
        steps
            .into_iter()
            .filter(Step::is_missing)
            .map(|step| step.path)
            .collect()
    }

    const ALL: [&str; 6] = ["eth", "bus", "clk", "gpio", "intc", "pins"];

    #[test]
    fn everything_on_the_way_is_asked_for_and_nothing_else() {
        assert!(missing(&board().blob(), &drivers(&ALL), &Reasons::new()).is_empty());
        for left_out in ALL {
            let rest: Vec<&str> = ALL.into_iter().filter(|name| *name != left_out).collect();
            let found = missing(&board().blob(), &drivers(&rest), &Reasons::new());
            assert_eq!(found.len(), 1, "without {left_out}: {found:?}");
        }
    }

    #[test]
    fn what_is_off_is_not_asked_for() {
        let off = node("").with(
            node("ethernet@1")
                .texts("compatible", &["x,eth"])
                .texts("status", &["disabled"]),
        );
        assert!(missing(&off.blob(), &drivers(&[]), &Reasons::new()).is_empty());
        let on = node("").with(
            node("ethernet@1")
                .texts("compatible", &["x,eth"])
                .texts("status", &["okay"]),
        );
        assert_eq!(
            missing(&on.blob(), &drivers(&[]), &Reasons::new()),
            ["/ethernet@1"]
        );
    }

    #[test]
    fn an_exception_needs_the_boards_word() {
        let serial = node("").with(node("serial@1").texts("compatible", &["x,bt"]));
        assert_eq!(
            missing(&serial.blob(), &drivers(&[]), &Reasons::new()),
            ["/serial@1"]
        );
        let excused = Reasons::from([("x,bt".to_owned(), "Bluetooth".to_owned())]);
        assert!(missing(&serial.blob(), &drivers(&[]), &excused).is_empty());
    }

    #[test]
    fn code_without_a_driver_is_asked_for_by_its_option() {
        let tree = node("").with(node("serial@1").texts("compatible", &["arm,pl011", "arm,primecell"]));
        let tree = DeviceTree::parse(&tree.blob()).unwrap();
        let walk = |config: &str| {
            let config = KernelConfig::parse(config).unwrap();
            walk(&tree, &Drivers::default(), &Reasons::new(), Some(&config)).unwrap()
        };
        assert!(!walk("CONFIG_SERIAL_AMBA_PL011=y")[0].is_missing());
        let without = &walk("CONFIG_SERIAL_AMBA_PL011=m")[0];
        assert_eq!(
            without.to_string(),
            "/serial@1 (arm,pl011 arm,primecell), on the way to the serial console: nothing, \
             CONFIG_SERIAL_AMBA_PL011 is not built in"
        );
    }

    #[test]
    fn references_in_a_circle_end() {
        let tree = node("")
            .with(
                node("usb@1")
                    .texts("compatible", &["x,a"])
                    .cells("phandle", &[1])
                    .cells("phy-handle", &[2]),
            )
            .with(
                node("phy")
                    .texts("compatible", &["x,b"])
                    .cells("phandle", &[2])
                    .cells("phy-handle", &[1]),
            );
        assert_eq!(
            missing(&tree.blob(), &drivers(&[]), &Reasons::new()),
            ["/phy", "/usb@1"]
        );
    }
}
