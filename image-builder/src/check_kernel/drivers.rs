//! Which drivers there are, by what they say they drive: the kernel's own `modules.builtin.modinfo` and the aliases of
//! the modules that an image carries.

/// A driver's claim: a pattern over what the kernel calls a device, and the driver's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    pattern: String,
    driver: String,
    built_in: bool,
}

/// All claims of a kernel and an image.
#[derive(Debug, Default)]
pub struct Drivers {
    claims: Vec<Claim>,
}

/// A driver that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    pub name: String,
    pub built_in: bool,
}

impl Drivers {
    /// Adds what is built in: `NAME.alias=PATTERN`, each ended by a zero.
    pub fn add_built_in(&mut self, modinfo: &[u8]) {
        for entry in modinfo.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            let claim = entry.split_once('.').and_then(|(driver, rest)| {
                let pattern = rest.strip_prefix("alias=")?;
                Some((driver.to_owned(), pattern.to_owned()))
            });
            if let Some((driver, pattern)) = claim {
                self.add(pattern, driver, true);
            }
        }
    }

    /// Adds modules: the lines of `modules.alias`.
    pub fn add_modules(&mut self, aliases: &str) {
        for line in aliases.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(driver)) = (words.next(), words.next(), words.next()) {
                self.add(pattern.to_owned(), driver.to_owned(), false);
            }
        }
    }

    /// Whether anything is known of the kernel at all.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    fn add(&mut self, pattern: String, driver: String, built_in: bool) {
        // Only what a device tree can lead to.
        if ["of:", "pci:", "usb:"].iter().any(|bus| pattern.starts_with(bus)) {
            self.claims.push(Claim {
                pattern,
                driver,
                built_in,
            });
        }
    }

    /// The driver that claims a device, one that is built in before a module.
    pub fn of(&self, name: &str, compatible: &[String]) -> Option<Driver> {
        let names = called(name, compatible);
        let mut claims: Vec<&Claim> = self
            .claims
            .iter()
            .filter(|claim| {
                names
                    .iter()
                    .any(|name| fits(claim.pattern.as_bytes(), name.as_bytes()))
            })
            .collect();
        claims.sort_by_key(|claim| !claim.built_in);
        claims.first().map(|claim| Driver {
            name: claim.driver.replace('-', "_"),
            built_in: claim.built_in,
        })
    }
}

/// What the kernel calls a device: by its node, and on PCI and USB by the numbers in `pci1de4,1` or `usb424,7800`.
/// Source: of_device_get_modalias in drivers/of/module.c; the PCI and USB bindings to Open Firmware.
fn called(name: &str, compatible: &[String]) -> Vec<String> {
    let all: String = compatible
        .iter()
        .map(|compatible| format!("C{}", compatible.replace(' ', "_")))
        .collect();
    let mut names = vec![format!("of:N{name}T(null){all}")];
    for compatible in compatible {
        let numbers = |bus: &str| {
            let (vendor, device) = compatible.strip_prefix(bus)?.split_once(',')?;
            let number = |text| u32::from_str_radix(text, 16).ok();
            Some((number(vendor)?, number(device)?))
        };
        if let Some((vendor, device)) = numbers("pci") {
            names.push(format!(
                "pci:v{vendor:08X}d{device:08X}sv00000000sd00000000bc00sc00i00"
            ));
        }
        if let Some((vendor, product)) = numbers("usb") {
            names.push(format!(
                "usb:v{vendor:04X}p{product:04X}d0000dc00dsc00dp00ic00isc00ip00in00"
            ));
        }
    }
    names
}

/// Whether a pattern with `*` for anything covers a whole text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    // Where the last star was, and how much of the text it was given.
    let mut star: Option<(usize, usize)> = None;
    while of < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of));
                at += 1;
            }
            Some(byte) if *byte == b'?' || Some(byte) == text.get(of) => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((behind, given)) => {
                    star = Some((behind, given + 1));
                    at = behind;
                    of = given + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drivers() -> Drivers {
        let mut drivers = Drivers::default();
        drivers.add_built_in(b"pcie_brcmstb.alias=of:N*T*Cbrcm,bcm2712-pcie\0pcie_brcmstb.license=GPL\0");
        drivers.add_modules(
            "alias of:N*T*Craspberrypi,rp1-gem macb\nalias of:N*T*Craspberrypi,rp1-gemC* macb\n\
             alias pci:v00001DE4d00000001sv*sd*bc*sc*i* rp1_pci\nalias usb:v0424p7800d*dc*dsc*dp*ic*isc*ip*in* lan78xx\n",
        );
        drivers
    }

    fn of(compatible: &[&str]) -> Option<String> {
        let compatible: Vec<String> = compatible.iter().map(|text| (*text).to_owned()).collect();
        drivers().of("x", &compatible).map(|driver| driver.name)
    }

    #[test]
    fn a_driver_is_found_by_any_of_the_names() {
        assert_eq!(of(&["brcm,bcm2712-pcie"]).as_deref(), Some("pcie_brcmstb"));
        assert_eq!(of(&["a,b", "raspberrypi,rp1-gem"]).as_deref(), Some("macb"));
        assert_eq!(of(&["raspberrypi,rp1-gem", "cdns,macb"]).as_deref(), Some("macb"));
        assert_eq!(of(&["raspberrypi,rp1-gemini"]), None);
    }

    #[test]
    fn numbers_of_pci_and_usb_are_understood() {
        assert_eq!(of(&["pci1de4,1"]).as_deref(), Some("rp1_pci"));
        assert_eq!(of(&["pci1de4,2"]), None);
        assert_eq!(of(&["usb424,7800"]).as_deref(), Some("lan78xx"));
    }

    #[test]
    fn stars_cover_anything_and_nothing() {
        for (pattern, text, covered) in [
            ("a*c", "abbc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), text.as_bytes()),
                covered,
                "{pattern} {text}"
            );
        }
    }
}
