//! `rescue net`: what the network is, and how far the way to everything this machine is configured for leads.
//!
//! Each way is walked step by step - link, address, name, route, neighbour, TCP, TLS, HTTP - and the first step that fails is named
//! with one hint. Nothing is changed, and every step has a time limit.

mod dns;
mod leases;
mod links;
mod steps;
mod targets;
mod walked;

use crate::{control, cut, output};
use anyhow::Context as _;
use argh::FromArgs;
use lifeboot_contract::plan::Plan;
use serde::Serialize;
use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

pub use leases::events;
use links::Network;
use targets::Target;
use walked::Walked;

/// show links, leases, DNS and routes, and test every address this machine is configured for
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "net",
    note = "Tested are the URLs of root= with their signatures, time servers, the syslog server and tunnels; with URL, that one instead. The first step that fails is named: link, address, name, route, neighbour (ARP or neighbour discovery), tcp, tls, http. Exit code 1 says that something cannot be reached. Nothing is changed, and nothing is fetched but the heads of answers.",
    example = "Why does the image not arrive?\n$ {command_name}\nWould another server do?\n$ {command_name} https://boot.example/os.squashfs\nFor a script:\n$ {command_name} --json"
)]
pub struct Net {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// test this http:// or https:// URL, or HOST:PORT
    #[argh(positional)]
    url: Option<String>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    network: Network,
    resolvers: Vec<dns::Resolver>,
    targets: Vec<Walked>,
}

/// Shows and tests.
///
/// # Errors
/// Nowhere to print to.
pub fn run(options: &Net) -> anyhow::Result<ExitCode> {
    let plan = control::plan(&control::run_dir()).unwrap_or_default();
    let network = Network::look();
    let targets = match &options.url {
        Some(url) => match Target::typed(url, &plan) {
            Ok(target) => vec![target],
            Err(what) => {
                output::complain(&format!("rescue: {what}"));
                return Ok(ExitCode::from(2));
            }
        },
        None => targets::configured(&plan, &network),
    };
    if stderr().is_terminal() && !targets.is_empty() && !options.json {
        output::complain(&format!("testing {} address(es), a moment …", targets.len()));
    }
    let tested = test(&network, targets);
    let unreachable = tested.iter().any(|walked| !walked.reached);
    if options.json {
        let resolvers = resolvers(&plan);
        let report = Report {
            network,
            resolvers,
            targets: tested,
        };
        output::line(&serde_json::to_string_pretty(&report).context("network")?)?;
    } else {
        if options.url.is_none() {
            let mut lines = network.lines();
            lines.extend(dns::lines(&resolvers(&plan)));
            output::lines(lines.iter().map(String::as_str))?;
        }
        for walked in &tested {
            let lines = walked.lines(options.url.is_some());
            output::lines(lines.iter().map(String::as_str))?;
        }
    }
    Ok(if unreachable {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// For `rescue report`.
pub fn report() -> Report {
    let plan = control::plan(&control::run_dir()).unwrap_or_default();
    let network = Network::look();
    let targets = targets::configured(&plan, &network);
    let targets = test(&network, targets);
    Report {
        resolvers: resolvers(&plan),
        network,
        targets,
    }
}

impl Report {
    /// What a person should hear first.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.network.warnings();
        warnings.extend(dns::warnings(&self.resolvers));
        let failed = self.targets.iter().filter(|walked| !walked.reached);
        warnings.extend(failed.map(Walked::sentence));
        warnings
    }
}

fn resolvers(plan: &Plan) -> Vec<dns::Resolver> {
    dns::test(&targets::a_name(plan))
}

/// All at once, told in order.
fn test(network: &Network, targets: Vec<Target>) -> Vec<Walked> {
    std::thread::scope(|scope| {
        let walks: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(|| steps::walk(network, target)))
            .collect();
        let joined = walks.into_iter().zip(&targets).map(|(walk, target)| {
            walk.join()
                .unwrap_or_else(|_| Walked::broken(&cut::urls(&target.name)))
        });
        joined.collect()
    })
}
