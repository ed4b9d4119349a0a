//! `rescue tunnel`: reverse ssh tunnels to bastions, so that a machine nobody can dial is reached all the same.
//!
//! `--serve` is the process that PID 1 keeps: one task for each bastion, which dials, asks for a port on the bastion's loopback, and
//! hands every connection to that port to this machine's ssh server and to nothing else. The one thing a reader would get wrong: what
//! comes through tunnel N comes from the loopback address 127.84.0.N, by which PID 1 names it.

mod dial;
mod far;
mod keep;
mod patience;
mod pins;

use crate::control;
use crate::output;
use crate::sshd::hostkey;
use anyhow::Context as _;
use argh::FromArgs;
use dial::{Dialer, Identity};
use lifeboot_contract::plan::Plan;
use lifeboot_contract::status::{Address, TunnelStatus};
use lifeboot_contract::template::Facts;
use lifeboot_contract::tunnel::{Bastion, Tunnel as Planned};
use pins::Pins;
use serde::Serialize;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;

/// show the tunnels to bastions, or try them
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "tunnel",
    example = "How they stand, and the line for the bastion's authorized_keys:\n$ {command_name}\nStep by step, to see why one is not up:\n$ {command_name} --check",
    note = "Tunnels are named by the boot parameters lifeboot.tunnel and lifeboot.tunnel-hostkey and kept by themselves. From the bastion, \
            'ssh -p PORT root@localhost' reaches this machine; from elsewhere, 'ssh -J USER@BASTION -p PORT root@localhost'. The machine shows the bastion its own ssh host key, which lasts \
            as long as that does: put one into a key partition when it is to survive a restart. --check does not ask for the port, which \
            the running tunnel has. The exit code is 1 when one is not up, or with --check would not be."
)]
pub struct Tunnel {
    /// dial each bastion once and say how far that gets
    #[argh(switch)]
    check: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// keep the tunnels (started by init)
    #[argh(switch)]
    serve: bool,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Shown {
    authorized_keys: Vec<String>,
    tunnels: Vec<TunnelStatus>,
}

/// How far a try got.
#[derive(Debug, Serialize)]
struct Tried {
    bastion: String,
    reached: bool,
    what: String,
}

/// Shows, tries or keeps the tunnels.
///
/// # Errors
/// When there is no plan or PID 1 does not answer.
pub fn run(options: &Tunnel) -> anyhow::Result<ExitCode> {
    match (options.serve, options.check) {
        (true, _) => runtime()?.block_on(keep::serve()),
        (_, true) => check(options.json),
        _ => show(options.json),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

fn show(json: bool) -> anyhow::Result<ExitCode> {
    let plan = control::plan(&control::run_dir())?;
    let status = control::status()?;
    let lines = match status.ssh {
        // Made by the ssh server; before that there is none to show.
        Some(_) => authorized_keys(&plan, &Identity::load(&control::run_dir())?),
        None => Vec::new(),
    };
    let up = status
        .tunnels
        .iter()
        .filter(|tunnel| tunnel.port.is_some())
        .count();
    let done = up > 0 && up == plan.tunnels.len();
    if json {
        let shown = Shown {
            authorized_keys: lines,
            tunnels: status.tunnels,
        };
        output::line(&serde_json::to_string_pretty(&shown).context("tunnels")?)?;
    } else if plan.tunnels.is_empty() {
        output::line("no tunnel is planned: give lifeboot.tunnel=USER@HOST and lifeboot.tunnel-hostkey=")?;
    } else {
        let how = status.tunnels.iter().map(|tunnel| tunnel.line(status.uptime_ms));
        let how: Vec<String> = how.collect();
        output::lines(how.iter().map(String::as_str))?;
        output::line("for the bastion's authorized_keys:")?;
        output::lines(lines.iter().map(String::as_str))?;
    }
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(json: bool) -> anyhow::Result<ExitCode> {
    let run_dir = control::run_dir();
    let plan = control::plan(&run_dir)?;
    let status = control::status()?;
    let identity = Identity::load(&run_dir)?;
    let facts = facts(&plan, &status.addresses);
    let runtime = runtime()?;
    let mut all = Vec::new();
    for planned in &plan.tunnels {
        let tried = bastion_of(planned, &facts, &plan).map(|(bastion, pins)| {
            let dialer = Dialer::new(bastion, pins, identity.clone(), 0, Ipv4Addr::LOCALHOST);
            runtime.block_on(dialer.try_login())
        });
        let (reached, what) = match tried {
            Ok(Ok(what)) => (true, what),
            Ok(Err(error)) => (false, format!("{error:#}")),
            Err(what) => (false, what),
        };
        if !json {
            output::line(&format!("{planned}: {what}"))?;
        }
        all.push(Tried {
            bastion: planned.to_string(),
            reached,
            what,
        });
    }
    if json {
        output::line(&serde_json::to_string_pretty(&all).context("tunnels")?)?;
    } else if all.is_empty() {
        output::line("no tunnel is planned: give lifeboot.tunnel=USER@HOST and lifeboot.tunnel-hostkey=")?;
    }
    let good = !all.is_empty() && all.iter().all(|tried| tried.reached);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The bastion with every template filled in and what it must show, or why there is no dialling it.
fn bastion_of(planned: &Planned, facts: &Facts, plan: &Plan) -> Result<(Bastion, Pins), String> {
    let bastion = planned.expand(facts)?;
    let pins = Pins::for_bastion(&bastion, &plan.tunnel_pins)?;
    Ok((bastion, pins))
}

/// What this machine is, the MAC address of the interface in use included.
fn facts(plan: &Plan, addresses: &[Address]) -> Facts {
    let mac = addresses.first().and_then(|address| {
        let path = Path::new("/sys/class/net")
            .join(&address.interface)
            .join("address");
        Some(fs::read_to_string(path).ok()?.trim().replace(':', "-"))
    });
    Facts {
        mac,
        ..plan.facts.clone()
    }
}

/// The lines for the bastions, one for each, that allow this key its port and nothing else.
fn authorized_keys(plan: &Plan, identity: &Identity) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for planned in &plan.tunnels {
        let port = match planned.listen {
            0 => "*".to_owned(),
            port => port.to_string(),
        };
        let line = format!(
            "restrict,port-forwarding,permitlisten=\"localhost:{port}\" {}",
            identity.public
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

impl Identity {
    /// The ssh server's host key, which it has made by now.
    fn load(run_dir: &Path) -> anyhow::Result<Identity> {
        let key = hostkey::load_or_make(run_dir)?.key;
        Ok(Identity {
            public: key.public_key().to_openssh().context("host key")?,
            fingerprint: hostkey::fingerprint(&key),
            key: key.into(),
        })
    }
}
