//! `rescue status | log | boot | poweroff`: asking PID 1 and telling it.

use crate::control::{self, Connection};
use crate::{output, work};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use lifeboot_contract::control::{Reply, Request};
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::plan::{BlockId, Source};
use lifeboot_contract::status::{Phase, Status};
use std::path::Path;
use std::process::ExitCode;

/// say what the boot is doing, why, and what can be typed next
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "status",
    example = "For a person:\n$ {command_name}\nEverything, for a script:\n$ {command_name} --json"
)]
pub struct StatusOptions {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// print what has happened since the machine started
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "log",
    example = "All of it:\n$ {command_name}\nAs it happens:\n$ {command_name} --follow\nFor a script:\n$ {command_name} --json"
)]
pub struct Log {
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
    /// go on with what happens from now on
    #[argh(switch, short = 'f')]
    follow: bool,
    /// begin at the event of this number
    #[argh(option, default = "0", arg_name = "number")]
    since: u64,
}

/// go on with the boot: try again now, end a break, let go of what sessions hold
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "boot",
    note = "With ROOT, that is booted instead of what the boot parameters name, this once: it must prove itself as they demand (URL.minisig by a key in the image, unless they say otherwise), LUKS volumes they name are asked for, and when it fails their own list is in force again. An image that locks 'root' boots no other. The system starts as soon as it is ready, which ends this session.",
    example = "Go on, now:\n$ {command_name}\nThe old system on the card, for once:\n$ {command_name} LABEL=rootfs\nAnother OS image:\n$ {command_name} http://boot.example/os.squashfs"
)]
pub struct Boot {
    /// what to boot instead: http://… https://… UUID=… LABEL=… PARTUUID=… PARTLABEL=… or /dev/…, as in root=
    #[argh(positional)]
    root: Option<String>,
}

/// switch the machine off, after unmounting what can be
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "poweroff",
    example = "Switch off; somebody must be there to switch it on again:\n$ {command_name}"
)]
pub struct Poweroff {}

/// Prints how things stand.
///
/// # Errors
/// When PID 1 does not tell.
pub fn status(options: &StatusOptions) -> anyhow::Result<ExitCode> {
    let status = control::status()?;
    if options.json {
        output::line(&serde_json::to_string_pretty(&status).context("status")?)?;
    } else {
        let warnings = status
            .warnings
            .iter()
            .map(|warning| format!("Warning: {warning}"));
        let lines = status.lines().into_iter().chain(status.reach_lines());
        let lines = lines.chain(warnings).chain(work::lines());
        let lines = lines.chain(crate::mount::state::lines());
        let lines: Vec<String> = lines.collect();
        output::lines(lines.iter().map(String::as_str))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints events.
///
/// # Errors
/// When PID 1 does not send them.
pub fn log(options: &Log) -> anyhow::Result<ExitCode> {
    let mut connection = Connection::open()?;
    connection.send(&Request::Log {
        since: options.since,
        follow: options.follow,
    })?;
    if options.follow {
        connection.patient()?;
    }
    loop {
        match connection.receive()? {
            Some(Reply::Event(event)) if options.json => {
                output::line(&serde_json::to_string(&event).context("event")?)?;
            }
            Some(Reply::Event(event)) => output::line(&line(&event))?,
            Some(Reply::Done { .. }) | None => return Ok(ExitCode::SUCCESS),
            Some(Reply::Error { what }) => bail!(what),
            Some(other) => bail!("init answered {other:?}"),
        }
    }
}

/// Lets the boot go on.
///
/// # Errors
/// When PID 1 refuses or does not answer.
pub fn boot(options: &Boot) -> anyhow::Result<ExitCode> {
    let root = match options.root.as_deref().map(named).transpose() {
        Ok(root) => root,
        Err(what) => {
            output::complain(&format!("rescue: {what}"));
            return Ok(ExitCode::from(2));
        }
    };
    work::none_is_held()?;
    let before = control::status()?;
    let mut costs = Vec::from_iter(will_be_cut(&before, root.is_some()));
    if let Some(Source::Local(BlockId::Path(device))) = &root
        && !Path::new(device).exists()
    {
        costs.push(format!(
            "{device} is not there now; the boot waits a while for it."
        ));
    }
    let starts = match before.phase {
        Phase::Held { .. } if root.is_none() => "The system is started now",
        _ => "The system is started when it is ready",
    };
    let is_cut = will_be_cut(&before, root.is_some()).is_some();
    let text = control::order(&Request::Boot { root })?;
    if is_cut {
        tell_others(before.sessions.len(), starts);
    }
    // Only what is done costs something; PID 1 leaves whoever asked a moment to read.
    output::lines(costs.iter().map(String::as_str))?;
    output::line(if text.is_empty() {
        "The boot goes on."
    } else {
        &text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What to boot: as in `root=`, or a block device of this machine by its bare name, as the other commands take it.
fn named(root: &str) -> Result<Source, String> {
    let device = Path::new("/dev").join(root);
    match Source::parse(root) {
        Err(_) if !root.contains('/') && device.exists() => Ok(Source::Local(BlockId::Path(
            device.to_string_lossy().into_owned(),
        ))),
        parsed => parsed,
    }
}

/// Switches off.
///
/// # Errors
/// When PID 1 refuses or does not answer.
pub fn poweroff(_: &Poweroff) -> anyhow::Result<ExitCode> {
    last_order(&Request::Poweroff, "The machine switches off now.")
}

/// Asks for something after which there is not much to say.
///
/// # Errors
/// When PID 1 refuses or does not answer, or a repair runs.
pub fn last_order(request: &Request, otherwise: &str) -> anyhow::Result<ExitCode> {
    work::none_is_held()?;
    // Of use, and nothing that an order depends on.
    let sessions = control::status().map_or(0, |status| status.sessions.len());
    let text = control::order(request)?;
    tell_others(sessions, otherwise.trim_end_matches('.'));
    output::line(if text.is_empty() { otherwise } else { &text })?;
    if sessions > 1 {
        output::line(&format!("{}.", cut(sessions)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells the others who are logged in what comes, and who wants it.
fn tell_others(sessions: usize, what: &str) {
    if sessions < 2 {
        return;
    }
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let who = match connection.split_whitespace().next() {
        Some(client) => format!("root from {client}"),
        None => "root on a console".to_owned(),
    };
    let text = format!("{what}, asked for by {who}: this session is cut.");
    let event = control::event(Level::Warn, "session.cut")
        .with("who", who)
        .with("tty", std::env::var("SSH_TTY").unwrap_or_default());
    // What was ordered comes all the same.
    if let Err(error) = control::ask(&Request::Event(event.text(text))) {
        output::complain(&format!("rescue: nobody was told: {error:#}"));
    }
}

fn cut(sessions: usize) -> String {
    match sessions {
        0 | 1 => "this session is cut".to_owned(),
        count => format!("{count} sessions, this one among them, are cut"),
    }
}

/// Whether those who are logged in lose their sessions by what comes.
fn will_be_cut(status: &Status, other: bool) -> Option<String> {
    let others = cut(status.sessions.len());
    match status.phase {
        Phase::Held { .. } if !other => Some(format!("The system is started now: {others}.")),
        Phase::Failed { .. } | Phase::Break { .. } => Some(format!("When the system is ready, {others}.")),
        _ if other => Some(format!("When the system is ready, {others}.")),
        _ => None,
    }
}

/// `[   12.345] warn  fetch.retry  text`, with the facts where there is no sentence.
fn line(event: &Event) -> String {
    let level = match event.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let facts = || {
        let fact = |(key, value): (&String, &serde_json::Value)| match value {
            serde_json::Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        };
        event.fields.iter().map(fact).collect::<Vec<_>>().join(" ")
    };
    let said = event.text.clone().unwrap_or_else(facts);
    format!(
        "[{:>6}.{:03}] {level:<5} {:<18} {said}",
        event.ms / 1000,
        event.ms % 1000,
        event.name
    )
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_sentence_or_its_facts() {
        let event = Event::new(12_345, Level::Warn, "fetch.retry")
            .with("at", 5u64)
            .with("what", "reset");
        assert_eq!(
            line(&event),
            "[    12.345] warn  fetch.retry        at=5 what=reset"
        );
        let event = event.text("trying again");
        assert_eq!(line(&event), "[    12.345] warn  fetch.retry        trying again");
    }

    #[test]
    fn a_bare_name_is_a_device_where_there_is_one() {
        let device = Source::Local(BlockId::Path("/dev/null".into()));
        assert_eq!(named("null").unwrap(), device);
        assert_eq!(named("/dev/null").unwrap(), device);
        assert!(named("no-such-device").unwrap_err().contains("none of"));
        assert!(named("../dev/null").is_err());
    }

    #[test]
    fn whoever_lets_a_ready_system_start_is_told_what_it_costs() {
        let phase = Phase::Held { source: "x".into() };
        let status = Status {
            phase,
            ..Status::default()
        };
        assert_eq!(
            will_be_cut(&status, false).unwrap(),
            "The system is started now: this session is cut."
        );
        assert_eq!(will_be_cut(&Status::default(), false), None);
        let expected = "When the system is ready, this session is cut.";
        assert_eq!(will_be_cut(&status, true).unwrap(), expected);
    }
}
