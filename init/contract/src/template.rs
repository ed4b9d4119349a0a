//! `{serial}` and friends in URLs and in the hostname.
//!
//! A template is kept as text until the facts are known: the MAC address, for one, only exists after the network stage.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The names a template may use, with what each stands for.
pub const NAMES: [(&str, &str); 5] = [
    (
        "serial",
        "the board's serial number as the device tree or SMBIOS gives it",
    ),
    (
        "mac",
        "the MAC address of the interface that got the first lease, as dc-a6-32-01-36-c2",
    ),
    ("model", "the board's model, lower case, blanks as dashes"),
    ("arch", "aarch64 or x86_64"),
    (
        "boot-url",
        "where a Pi's bootloader fetched its own image: http://HTTP_HOST/HTTP_PATH of the bootloader configuration",
    ),
];

/// What this machine is; fields stay `None` where nothing told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Board serial number.
    pub serial: Option<String>,
    /// MAC address of the interface in use, lower case, dashes.
    pub mac: Option<String>,
    /// Board model, as the device tree spells it.
    pub model: Option<String>,
    /// `aarch64` or `x86_64`.
    pub arch: Option<String>,
    /// Where the firmware fetched its own image, without a trailing slash.
    pub boot_url: Option<String>,
}

impl Facts {
    /// What the root of a device tree tells, each property as the bytes that stand there: on the device below
    /// `/proc/device-tree`, on the host in a `.dtb`.
    pub fn of_device_tree(property: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        let text = |name: &str| {
            let bytes = property(name)?;
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end_matches('\0').trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        Self {
            serial: text("serial-number"),
            model: text("model"),
            ..Self::default()
        }
    }

    /// Where a Pi's bootloader fetches its image, by the text of its configuration.
    ///
    /// Source: Raspberry Pi's documentation of HTTP_HOST, HTTP_PORT and HTTP_PATH.
    pub fn boot_url_of(config: &str) -> Option<String> {
        let value = |key: &str| {
            let lines = config.lines().rev();
            let mut values = lines.filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            values
                .next()
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let host = value("HTTP_HOST")?;
        let port = value("HTTP_PORT")
            .filter(|port| port != "80")
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let path = value("HTTP_PATH").unwrap_or_else(|| "net_install".to_owned());
        Some(format!("http://{host}{port}/{}", path.trim_matches('/')))
    }
}

/// Text with `{name}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(String);

/// Why a template did not become text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{nmae}`.
    #[error("{{{0}}} is not a template name, which are serial, mac, model, arch and boot-url")]
    UnknownName(String),
    /// A `{` without its `}`.
    #[error("'{{' without '}}' in {0}")]
    Unclosed(String),
    /// A fact that this machine does not have.
    #[error("this machine does not tell its {0}")]
    Unknown(String),
}

impl Template {
    /// Checks the names in `text`.
    ///
    /// # Errors
    /// A name outside [`NAMES`], or an unclosed brace.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = Template(text.to_owned());
        template.walk(|name| match NAMES.iter().any(|(known, _)| *known == name) {
            true => Ok(String::new()),
            false => Err(TemplateError::UnknownName(name.to_owned())),
        })?;
        Ok(template)
    }

    /// The text with every name replaced.
    ///
    /// # Errors
    /// A fact the template wants and `facts` does not have.
    pub fn expand(&self, facts: &Facts) -> Result<String, TemplateError> {
        self.walk(|name| {
            let fact = match name {
                "serial" => facts.serial.clone(),
                "mac" => facts.mac.clone(),
                "model" => facts.model.as_deref().map(slug),
                "arch" => facts.arch.clone(),
                "boot-url" => facts.boot_url.clone(),
                _ => None,
            };
            fact.ok_or_else(|| TemplateError::Unknown(name.to_owned()))
        })
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn walk(
        &self,
        mut value: impl FnMut(&str) -> Result<String, TemplateError>,
    ) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after
                .split_once('}')
                .ok_or_else(|| TemplateError::Unclosed(self.0.clone()))?;
            out.push_str(before);
            out.push_str(&value(name)?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn slug(text: &str) -> String {
    text.trim().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_by_facts() {
        let facts = Facts {
            serial: Some("9ffefdef".into()),
            model: Some("Raspberry Pi 4 Model B".into()),
            ..Facts::default()
        };
        let text = Template::parse("http://h/{model}/{serial}.squashfs")
            .unwrap()
            .expand(&facts)
            .unwrap();
        assert_eq!(text, "http://h/raspberry-pi-4-model-b/9ffefdef.squashfs");
    }

    #[test]
    fn an_unknown_name_is_refused_when_parsed_and_a_missing_fact_when_expanded() {
        assert_eq!(
            Template::parse("{nmae}"),
            Err(TemplateError::UnknownName("nmae".into()))
        );
        assert!(matches!(Template::parse("a{b"), Err(TemplateError::Unclosed(_))));
        let template = Template::parse("{mac}").unwrap();
        assert_eq!(
            template.expand(&Facts::default()),
            Err(TemplateError::Unknown("mac".into()))
        );
    }
}
