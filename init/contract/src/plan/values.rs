//! Reading the values of boot parameters; an error says what was expected and what was given.

use crate::event::Stage;
use crate::template::Template;

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

/// An IP address with an optional port behind it.
pub(crate) fn address_and_port(value: &str) -> Result<String, String> {
    if address(value).is_ok()
        || value
            .parse::<std::net::SocketAddr>()
            .is_ok_and(|to| to.port() > 0)
    {
        return Ok(value.to_owned());
    }
    Err(format!("'{value}' is not an IP address, with or without :PORT"))
}

/// A name or an IP address with an optional port behind it.
pub(crate) fn host_and_port(value: &str) -> Result<String, String> {
    let (name, port) = value.split_once(':').unwrap_or((value, "1"));
    let named = is_hostname(name) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if named || address_and_port(value).is_ok() {
        return Ok(value.to_owned());
    }
    Err(format!(
        "'{value}' is not a name or an IP address, with or without :PORT"
    ))
}

/// A host name, `{mac}` and its like taken for what they will be.
pub(crate) fn hostname(value: &str) -> Result<Template, String> {
    let template = Template::parse(&filled(value)?).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        text.push('x');
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    text.push_str(rest);
    match is_hostname(&text) {
        true => Ok(template),
        false => Err(format!("'{value}' is not a host name")),
    }
}

/// Letters, digits, dashes and dots, no longer than Linux takes: names go into resolv.conf and to the shell's prompt.
pub fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 64 && name.trim_end_matches('.').split('.').all(label)
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

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::plan::Plan;
    use crate::template::Facts;

    fn plan(cmdline: &str) -> Plan {
        Plan::make(cmdline, &Config::default(), Facts::default(), "")
    }

    #[test]
    fn addresses_and_names_that_are_none_are_notes() {
        for good in [
            "lifeboot.syslog=10.0.0.1",
            "lifeboot.syslog=10.0.0.1:5140",
            "lifeboot.syslog=2001:db8::1",
            "lifeboot.syslog=[2001:db8::1]:5140",
            "lifeboot.ntp=pool.ntp.org",
            "lifeboot.ntp=pool.ntp.org:1123",
            "lifeboot.ntp=[::1]:1123",
            "lifeboot.ntp=::1",
            "lifeboot.hostname=a_b",
            "lifeboot.hostname=pi-{serial}.lan",
            "lifeboot.hostname={mac}",
        ] {
            assert_eq!(plan(good).notes, [], "{good}");
        }
        for bad in [
            "lifeboot.syslog=foo.example",
            "lifeboot.syslog=10.0.0.1:99999",
            "lifeboot.syslog=10.0.0.1:0",
            "lifeboot.syslog=",
            "lifeboot.ntp=bob@x",
            "lifeboot.ntp=pool.ntp.org:time",
            "lifeboot.ntp=",
            "lifeboot.hostname=a_b!",
            "lifeboot.hostname=-{serial}",
            "lifeboot.hostname=a..b",
        ] {
            let plan = plan(bad);
            assert_eq!(plan.notes.len(), 1, "{bad}");
            assert!(plan.syslog.is_none() && plan.ntp.is_empty() && plan.hostname.is_none());
            assert_eq!(plan.refusal, None);
        }
    }
}
