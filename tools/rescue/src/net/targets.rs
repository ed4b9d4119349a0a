//! What this machine is configured to reach.

use super::leases::events;
use super::links::Network;
use lifeboot_contract::plan::{Plan, Source, Verify};
use lifeboot_contract::template::{Facts, Template};
use lifeboot_contract::tunnel::Tunnel;
use lifeboot_init::stage::fetch::probe::{self, Place};

/// Something to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it stands in the configuration, for people.
    pub why: &'static str,
    /// What is reached, as it was written.
    pub name: String,
    pub kind: Kind,
}

/// What is spoken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Http {
        url: String,
        place: Place,
    },
    Ntp {
        server: String,
        host: String,
        port: u16,
    },
    /// A server that speaks first: its first words are shown.
    Ssh {
        host: String,
        port: u16,
    },
    Tcp {
        host: String,
        port: u16,
    },
    /// Nobody answers.
    Syslog {
        host: String,
        port: u16,
    },
    /// It cannot even be asked for.
    Unclear(String),
}

impl Target {
    /// What a person typed.
    ///
    /// # Errors
    /// What was expected.
    pub fn typed(text: &str, plan: &Plan) -> Result<Target, String> {
        let kind = if text.contains("://") {
            let url = Template::parse(text).and_then(|template| template.expand(&plan.facts));
            let url = url.map_err(|error| error.to_string())?;
            Kind::Http {
                place: probe::place(&url)?,
                url,
            }
        } else {
            match split(text) {
                Some((host, Some(port))) => Kind::Tcp { host, port },
                _ => {
                    return Err(format!(
                        "'{text}' is neither an http:// or https:// URL nor HOST:PORT"
                    ));
                }
            }
        };
        Ok(Target {
            why: "given",
            name: text.to_owned(),
            kind,
        })
    }

    fn url(why: &'static str, url: String) -> Target {
        let kind = match probe::place(&url) {
            Ok(place) => Kind::Http {
                url: url.clone(),
                place,
            },
            Err(what) => Kind::Unclear(what),
        };
        Target { why, name: url, kind }
    }

    fn at(why: &'static str, name: &str, usual: u16, kind: impl Fn(String, u16) -> Kind) -> Target {
        let kind = match split(name) {
            Some((host, port)) => kind(host, port.unwrap_or(usual)),
            None => Kind::Unclear(format!("'{name}' is not HOST or HOST:PORT")),
        };
        Target {
            why,
            name: name.to_owned(),
            kind,
        }
    }
}

/// Everything the plan names.
pub fn configured(plan: &Plan, network: &Network) -> Vec<Target> {
    let facts = facts(plan, network);
    let mut targets = Vec::new();
    for root in &plan.roots {
        let Source::Http(template) = root else { continue };
        match template.expand(&facts) {
            Ok(url) => {
                if plan.verify == Verify::Required {
                    targets.push(Target::url("signature of root=", format!("{url}.minisig")));
                }
                targets.push(Target::url("root=", url));
            }
            Err(error) => targets.push(Target {
                why: "root=",
                name: template.to_string(),
                kind: Kind::Unclear(error.to_string()),
            }),
        }
    }
    for server in time_servers(plan) {
        targets.push(Target::at("time server", &server, 123, |host, port| Kind::Ntp {
            server: server.clone(),
            host,
            port,
        }));
    }
    if let Some(server) = &plan.syslog {
        targets.push(Target::at("lifeboot.syslog=", server, 514, |host, port| {
            Kind::Syslog { host, port }
        }));
    }
    targets.extend(tunnels(plan, &facts));
    targets
}

/// A name that the machine has to resolve, if there is one.
pub fn a_name(plan: &Plan) -> Option<String> {
    let targets = configured(plan, &Network::default());
    let hosts = targets.into_iter().filter_map(|target| match target.kind {
        Kind::Http { place, .. } => Some(place.host),
        Kind::Ntp { host, .. }
        | Kind::Ssh { host, .. }
        | Kind::Tcp { host, .. }
        | Kind::Syslog { host, .. } => Some(host),
        Kind::Unclear(_) => None,
    });
    hosts
        .into_iter()
        .find(|host| host.parse::<std::net::IpAddr>().is_err())
}

/// The plan's facts with the address of the interface that has the lease.
fn facts(plan: &Plan, network: &Network) -> Facts {
    let leased = network.leases.first().map(|lease| lease.interface.clone());
    let interfaces = network.interfaces.iter();
    let mac = interfaces
        .filter(|interface| leased.as_ref().is_none_or(|name| *name == interface.name))
        .find_map(|interface| interface.mac.clone());
    Facts {
        mac: plan
            .facts
            .mac
            .clone()
            .or_else(|| mac.map(|mac| mac.replace(':', "-"))),
        ..plan.facts.clone()
    }
}

/// The plan's, and the one that set the clock, which may be the lease's.
fn time_servers(plan: &Plan) -> Vec<String> {
    let mut servers = plan.ntp.clone();
    for event in events().unwrap_or_default() {
        let server = event.str("server");
        if event.name == "time.set"
            && event.str("source") == "sntp"
            && !servers.iter().any(|known| known == server)
        {
            servers.push(server.to_owned());
        }
    }
    servers
}

fn tunnels(plan: &Plan, facts: &Facts) -> Vec<Target> {
    let tunnel = |tunnel: &Tunnel| {
        let kind = match tunnel.host.expand(facts) {
            Ok(host) => Kind::Ssh {
                host,
                port: tunnel.port,
            },
            Err(error) => Kind::Unclear(error.to_string()),
        };
        Target {
            why: "lifeboot.tunnel=",
            name: format!("{}:{}", tunnel.host, tunnel.port),
            kind,
        }
    };
    plan.tunnels.iter().map(tunnel).collect()
}

/// HOST, HOST:PORT, [ADDRESS]:PORT or a bare IPv6 address.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    if text.is_empty() || text.contains(['/', ' ', '@']) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port {
            "" => Some((host.to_owned(), None)),
            port => Some((host.to_owned(), Some(port.strip_prefix(':')?.parse().ok()?))),
        };
    }
    match text.split_once(':') {
        None => Some((text.to_owned(), None)),
        Some((_, rest)) if rest.contains(':') => Some((text.to_owned(), None)),
        Some(("", _)) => None,
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let split = |text| split(text).map(|(host, port)| format!("{host} {port:?}"));
        assert_eq!(split("boot.lan").unwrap(), "boot.lan None");
        assert_eq!(split("boot.lan:514").unwrap(), "boot.lan Some(514)");
        assert_eq!(split("[fe80::1]:22").unwrap(), "fe80::1 Some(22)");
        assert_eq!(split("2001:db8::1").unwrap(), "2001:db8::1 None");
        for bad in [
            "", ":1", "h:", "h:x", "h:99999", "[::1", "[::1]x", "a/b", "me@h:1",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_address_of_the_plan_is_a_target_and_a_signature_comes_before_its_image() {
        let cmdline = "root=http://boot.lan/{mac}/os root=LABEL=x root=https://h/{serial} lifeboot.ntp=ntp.lan lifeboot.syslog=10.0.0.1";
        let mut plan = Plan::make(cmdline, &Default::default(), Facts::default(), "");
        plan.tunnels.push(Tunnel {
            user: Template::parse("me").unwrap(),
            host: Template::parse("bastion.lan").unwrap(),
            port: 2222,
            listen: 0,
        });
        let names: Vec<String> = configured(&plan, &Network::default())
            .into_iter()
            .map(|target| format!("{}: {}", target.why, target.name))
            .collect();
        assert_eq!(
            names,
            [
                "root=: http://boot.lan/{mac}/os",
                "root=: https://h/{serial}",
                "time server: ntp.lan",
                "lifeboot.syslog=: 10.0.0.1",
                "lifeboot.tunnel=: bastion.lan:2222"
            ],
            "what is not known is still named"
        );
        let plan = Plan::make(
            "root=http://boot.lan/os",
            &Default::default(),
            Facts::default(),
            "",
        );
        let targets = configured(&plan, &Network::default());
        assert_eq!(
            targets
                .iter()
                .map(|target| target.name.as_str())
                .collect::<Vec<_>>(),
            ["http://boot.lan/os.minisig", "http://boot.lan/os"]
        );
        assert_eq!(a_name(&plan).as_deref(), Some("boot.lan"));
    }

    #[test]
    fn what_is_typed_is_an_url_or_a_host_with_its_port() {
        let typed = |text| Target::typed(text, &Plan::default());
        assert!(matches!(typed("https://h/x").unwrap().kind, Kind::Http { .. }));
        assert!(matches!(typed("h:22").unwrap().kind, Kind::Tcp { port: 22, .. }));
        for bad in ["h", "ftp://h/x", "http://h/{nmae}", "http://h/{mac}", ""] {
            assert!(typed(bad).is_err(), "{bad}");
        }
    }
}
