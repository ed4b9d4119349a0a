//! Flattened device trees: the hardware as the firmware hands it to the kernel, a tree of nodes with properties.
//!
//! Only reading. Numbers are big-endian 32-bit cells; what a cell means is up to the property, so nothing here interprets
//! more than the standard does. Source: Devicetree Specification v0.4, chapter 5.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// More than any real tree has; a hostile one ends here and not in memory.
const NODES: usize = 100_000;
/// The specification's own limit on names leaves room for far less.
const DEPTH: usize = 64;

/// A whole tree; nodes in the order of the file, the root first.
#[derive(Debug)]
pub struct DeviceTree {
    nodes: Vec<Node>,
    by_phandle: BTreeMap<u32, usize>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// From the root, `/soc/serial@7d001000`.
    pub path: String,
    /// Where its parent is; the root has none.
    pub parent: Option<usize>,
    properties: BTreeMap<String, Vec<u8>>,
}

impl DeviceTree {
    /// Reads a `.dtb`.
    pub fn parse(blob: &[u8]) -> Result<Self> {
        if number(blob, 0) != Some(MAGIC) {
            bail!("not a device tree: it does not begin with d00dfeed");
        }
        let total = number(blob, 4).context("device tree: no size")? as usize;
        let Some(blob) = blob.get(..total) else {
            bail!("device tree: got {} of {total} bytes", blob.len());
        };
        let at = |offset: usize| number(blob, offset).map(|value| value as usize);
        let structure = at(8).and_then(|start| blob.get(start..));
        let strings = at(12).and_then(|start| blob.get(start..));
        let (Some(structure), Some(strings)) = (structure, strings) else {
            bail!("device tree: a block lies outside of its {total} bytes");
        };
        let nodes = Reader {
            structure,
            strings,
            at: 0,
        }
        .nodes()?;
        let mut by_phandle = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if let Some(phandle) = node.cell("phandle").or_else(|| node.cell("linux,phandle")) {
                by_phandle.insert(phandle, index);
            }
        }
        Ok(Self { nodes, by_phandle })
    }

    /// Every node, the root first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its place in [`Self::nodes`].
    pub fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)
    }

    /// The node that a phandle means.
    pub fn by_phandle(&self, phandle: u32) -> Option<usize> {
        self.by_phandle.get(&phandle).copied()
    }

    /// A node, its parent, and so on up to the root.
    pub fn upwards(&self, index: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(index), |index| self.node(*index)?.parent)
    }

    /// Whether a node and everything above it is switched on.
    pub fn is_enabled(&self, index: usize) -> bool {
        self.upwards(index)
            .filter_map(|index| self.node(index))
            .all(Node::is_okay)
    }
}

impl Node {
    /// The last part of the path, `serial@7d001000`; empty for the root.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The name without its address, `serial`.
    pub fn kind(&self) -> &str {
        self.name().split('@').next().unwrap_or_default()
    }

    /// A property's bytes.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties.get(name).map(Vec::as_slice)
    }

    /// Every property there is.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// A property as a list of strings, each ended by a zero in the file.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.property(name)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .filter(|text| !text.is_empty())
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    /// A property that is one number.
    pub fn cell(&self, name: &str) -> Option<u32> {
        self.property(name).and_then(|value| number(value, 0))
    }

    fn is_okay(&self) -> bool {
        matches!(
            self.texts("status").first().map(String::as_str),
            None | Some("okay" | "ok")
        )
    }
}

/// Bytes as big-endian numbers; what is left over is no number.
pub fn cells(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .filter_map(|chunk| number(chunk, 0))
        .collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// Goes once through the structure block.
struct Reader<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn nodes(mut self) -> Result<Vec<Node>> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        loop {
            match self.token()? {
                BEGIN_NODE => {
                    let name = self.name()?;
                    if nodes.len() == NODES || open.len() == DEPTH {
                        bail!("device tree: more than {NODES} nodes, or {DEPTH} within each other");
                    }
                    let parent = open.last().copied();
                    let above = parent.and_then(|parent| nodes.get(parent));
                    let path = match above {
                        None => "/".to_owned(),
                        Some(above) => format!("{}/{name}", above.path.trim_end_matches('/')),
                    };
                    open.push(nodes.len());
                    nodes.push(Node {
                        path,
                        parent,
                        properties: BTreeMap::new(),
                    });
                }
                END_NODE if open.pop().is_some() => {}
                PROPERTY => {
                    let (name, value) = self.property()?;
                    let node = open.last().and_then(|index| nodes.get_mut(*index));
                    let node =
                        node.with_context(|| format!("device tree: property {name} outside of a node"))?;
                    node.properties.insert(name, value);
                }
                NOP => {}
                END if open.is_empty() && !nodes.is_empty() => return Ok(nodes),
                other => bail!("device tree: unexpected token {other} at offset {}", self.at),
            }
        }
    }

    fn token(&mut self) -> Result<u32> {
        let token = number(self.structure, self.at);
        self.at += 4;
        token.with_context(|| format!("device tree: ends within its structure, at offset {}", self.at))
    }

    fn name(&mut self) -> Result<String> {
        let name = text(self.structure, self.at)?;
        self.at = (self.at + name.len() + 1).next_multiple_of(4);
        Ok(name)
    }

    fn property(&mut self) -> Result<(String, Vec<u8>)> {
        let length = self.token()? as usize;
        let name = text(self.strings, self.token()? as usize)?;
        let end = self.at.checked_add(length);
        let value = end.and_then(|end| self.structure.get(self.at..end));
        let value = value.with_context(|| format!("device tree: property {name} says {length} bytes"))?;
        let value = value.to_vec();
        self.at = (self.at + length).next_multiple_of(4);
        Ok((name, value))
    }
}

fn text(bytes: &[u8], at: usize) -> Result<String> {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| *byte == 0);
    let name = length.and_then(|length| rest.get(..length));
    let name = name.with_context(|| format!("device tree: a name at offset {at} has no end"))?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Device trees made in tests.
#[cfg(test)]
pub mod made {
    /// A node in the making.
    #[derive(Debug, Clone, Default)]
    pub struct Made {
        name: String,
        properties: Vec<(String, Vec<u8>)>,
        children: Vec<Made>,
    }

    /// A node with a name.
    pub fn node(name: &str) -> Made {
        Made {
            name: name.into(),
            ..Made::default()
        }
    }

    impl Made {
        /// With texts as a property.
        pub fn texts(mut self, name: &str, texts: &[&str]) -> Self {
            let value = texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat());
            self.properties.push((name.into(), value.collect()));
            self
        }

        /// With numbers as a property.
        pub fn cells(mut self, name: &str, cells: &[u32]) -> Self {
            let value = cells.iter().flat_map(|cell| cell.to_be_bytes());
            self.properties.push((name.into(), value.collect()));
            self
        }

        /// With a node below it.
        pub fn with(mut self, child: Made) -> Self {
            self.children.push(child);
            self
        }

        /// The `.dtb` whose root this is.
        pub fn blob(&self) -> Vec<u8> {
            let (mut structure, mut strings) = (Vec::new(), Vec::new());
            self.write(&mut structure, &mut strings);
            structure.extend(super::END.to_be_bytes());
            let header = 40;
            let strings_at = header + structure.len();
            let total = strings_at + strings.len();
            let words = [
                super::MAGIC as usize,
                total,
                header,
                strings_at,
                0,
                17,
                16,
                0,
                0,
                0,
            ];
            let mut blob: Vec<u8> = words
                .iter()
                .flat_map(|word| (*word as u32).to_be_bytes())
                .collect();
            blob.extend(structure);
            blob.extend(strings);
            blob
        }

        fn write(&self, structure: &mut Vec<u8>, strings: &mut Vec<u8>) {
            let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
            structure.extend(super::BEGIN_NODE.to_be_bytes());
            structure.extend(self.name.bytes().chain([0]));
            pad(structure);
            for (name, value) in &self.properties {
                structure.extend(super::PROPERTY.to_be_bytes());
                structure.extend((value.len() as u32).to_be_bytes());
                structure.extend((strings.len() as u32).to_be_bytes());
                strings.extend(name.bytes().chain([0]));
                structure.extend(value);
                pad(structure);
            }
            for child in &self.children {
                child.write(structure, strings);
            }
            structure.extend(super::END_NODE.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::made::node;
    use super::*;

    fn blob() -> Vec<u8> {
        node("")
            .texts("model", &["Board 5"])
            .with(
                node("soc").texts("status", &["disabled"]).with(
                    node("serial@10")
                        .cells("phandle", &[7])
                        .texts("compatible", &["a,b", "c"]),
                ),
            )
            .with(node("clock").texts("status", &["okay"]).cells("reg", &[1, 2]))
            .blob()
    }

    #[test]
    fn nodes_and_properties_are_read() {
        let tree = DeviceTree::parse(&blob()).unwrap();
        let paths: Vec<&str> = tree.nodes().iter().map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["/", "/soc", "/soc/serial@10", "/clock"]);
        assert_eq!(tree.node(0).unwrap().texts("model"), ["Board 5"]);
        let serial = tree.by_phandle(7).unwrap();
        let node = tree.node(serial).unwrap();
        assert_eq!((node.name(), node.kind()), ("serial@10", "serial"));
        assert_eq!(node.texts("compatible"), ["a,b", "c"]);
        assert_eq!(cells(tree.node(3).unwrap().property("reg").unwrap()), [1, 2]);
    }

    #[test]
    fn a_node_below_a_disabled_one_is_off() {
        let tree = DeviceTree::parse(&blob()).unwrap();
        assert!(!tree.is_enabled(2));
        assert!(tree.is_enabled(3));
    }

    #[test]
    fn every_shortened_tree_is_refused() {
        let whole = blob();
        for length in 0..whole.len() {
            assert!(DeviceTree::parse(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn no_changed_byte_ends_in_a_panic() {
        let whole = blob();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                // Whether it still reads is not the point.
                drop(DeviceTree::parse(&changed));
            }
        }
    }
}
