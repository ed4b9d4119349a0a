//! `rescue report`: everything about this machine that somebody far away needs to see, in one text or one JSON value.
//!
//! Each section is gathered by a process of its own with a time limit: a disk that hangs, a parser that panics or a PID 1 that is
//! silent costs its own section and nothing else. The one thing a reader would get wrong: a process that waits for a dead disk cannot
//! be killed, so nobody here waits for one either.

mod hardware;
mod logs;
mod render;
mod sections;
mod system;

use crate::{cut, output};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use sections::Section;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fs;
use std::io::{IsTerminal as _, Read as _, Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// More than this from one section is nobody's.
const MOST_BYTES: u64 = 1 << 20;

/// gather everything about this machine for a bug report
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "report",
    note = "The first page says what is wrong as far as this can tell: under-voltage, heat, disk errors, file systems that became read-only, processes killed for want of memory, no lease, addresses that cannot be reached, a clock that is not set, a failed boot. Behind it are hardware, bootloader, network, disks, mounts, modules, boot parameters, status, events, the kernel's log and that of a kernel that crashed before (pstore).\n\nPasswords, tokens, private keys and what logs in in URLs are cut out, as far as their names tell. Read it before you send it. It needs neither a network nor process 1, and a disk that hangs does not stop it.",
    example = "Read it:\n$ {command_name} | less\nSend it from here:\n$ ssh root@device {command_name} --json > report.json\nKeep it on a stick:\n$ {command_name} --out /mnt/report.txt\nOne section:\n$ {command_name} --only firmware"
)]
pub struct ReportOptions {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// write to this file, which appears when all of it is written
    #[argh(option, arg_name = "file")]
    out: Option<PathBuf>,
    /// this section alone: system, firmware, power, network, disks, mounts, modules, parameters, status, events, kernel-log or pstore
    #[argh(option, arg_name = "section")]
    only: Option<String>,
}

/// What a section has to say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// What is wrong.
    warnings: Vec<String>,
    /// The facts.
    facts: Value,
}

/// Everything together.
#[derive(Debug, Serialize)]
struct Report {
    /// Seconds since 1970.
    made: u64,
    version: &'static str,
    warnings: Vec<String>,
    #[serde(serialize_with = "in_order")]
    sections: Vec<(&'static str, Value)>,
}

/// As an object whose fields stand in the order of the report.
fn in_order<S: Serializer>(sections: &[(&'static str, Value)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(sections.iter().map(|(name, facts)| (name, facts)))
}

/// Gathers and writes.
///
/// # Errors
/// No such section, or nowhere to write to.
pub fn run(options: &ReportOptions) -> anyhow::Result<ExitCode> {
    let Some(name) = &options.only else {
        if stderr().is_terminal() {
            output::complain("gathering; names and servers that do not answer take up to 40 s …");
        }
        let report = gather()?;
        let text = if options.json {
            serde_json::to_string_pretty(&report).context("report")?
        } else {
            render::whole(&report).join("\n")
        };
        write(&text, options.out.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some(section) = sections::ALL.iter().find(|section| section.name == name) else {
        output::complain(&format!(
            "rescue: '{name}' is no section; there are {}",
            section_names().join(", ")
        ));
        return Ok(ExitCode::from(2));
    };
    let mut told = (section.gather)().with_context(|| section.name.to_owned())?;
    clean(&mut told);
    let text = if options.json {
        serde_json::to_string(&told).context("report")?
    } else {
        render::section(&told).join("\n")
    };
    write(&text, options.out.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// What a report consists of.
pub fn section_names() -> Vec<&'static str> {
    sections::ALL.iter().map(|section| section.name).collect()
}

fn clean(told: &mut Told) {
    cut::json(&mut told.facts);
    told.warnings
        .iter_mut()
        .for_each(|warning| *warning = cut::sentence(warning));
}

/// A section that is being gathered.
struct Running {
    section: &'static Section,
    child: Option<Child>,
    answer: Option<anyhow::Result<Told>>,
}

/// Every section, each by a process of its own, all at once.
fn gather() -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("this program")?;
    let (sender, receiver) = mpsc::channel();
    let started = Instant::now();
    let mut running: Vec<Running> = Vec::new();
    for (index, section) in sections::ALL.iter().enumerate() {
        let (child, answer) = match begin(&program, section) {
            Ok((child, read)) => {
                let told = sender.clone();
                // Whoever gave up does not listen any more.
                std::thread::spawn(move || drop(told.send((index, read()))));
                (Some(child), None)
            }
            Err(error) => (None, Some(Err(error))),
        };
        running.push(Running {
            section,
            child,
            answer,
        });
    }
    loop {
        let silent = running.iter().filter(|one| one.answer.is_none());
        let Some(patience) = silent.map(|one| one.section.patience).max() else {
            break;
        };
        let left = patience.saturating_sub(started.elapsed());
        match receiver.recv_timeout(left) {
            Ok((index, told)) => running[index].answer = Some(told),
            Err(_) => break,
        }
    }
    Ok(Report::of(running))
}

/// Kills what is left and reaps it if it can be; one that cannot is PID 1's, in the end.
fn end(child: &mut Child) {
    output::ignore(child.kill());
    output::ignore(child.try_wait());
}

impl Report {
    fn of(running: Vec<Running>) -> Report {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut report = Report {
            made: now.as_secs(),
            version: env!("CARGO_PKG_VERSION"),
            warnings: Vec::new(),
            sections: Vec::new(),
        };
        for mut one in running {
            let seconds = one.section.patience.as_secs();
            let silent = || Err(anyhow::anyhow!("given up after {seconds} s: it hangs"));
            if let Some(child) = &mut one.child {
                end(child);
            }
            report.take(one.section, one.answer.unwrap_or_else(silent));
        }
        report
    }

    fn take(&mut self, section: &Section, told: anyhow::Result<Told>) {
        match told {
            Ok(told) => {
                self.warnings.extend(told.warnings);
                self.sections.push((section.name, told.facts));
            }
            Err(error) => {
                let what = cut::sentence(&format!("{error:#}"));
                self.warnings.push(format!("section {}: {what}", section.name));
                let error = Map::from_iter([("error".to_owned(), Value::String(what))]);
                self.sections.push((section.name, Value::Object(error)));
            }
        }
    }
}

/// Starts the process of a section; what is returned reads it to its end.
fn begin(
    program: &Path,
    section: &Section,
) -> anyhow::Result<(Child, impl FnOnce() -> anyhow::Result<Told> + use<>)> {
    let mut child = Command::new(program)
        .args(["report", "--json", "--only", section.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not be started")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MOST_BYTES).read_to_end(&mut bytes)?;
        }
        if !bytes.is_empty() {
            return serde_json::from_slice(&bytes).context("its answer is cut off");
        }
        let mut said = String::new();
        if let Some(stderr) = stderr {
            // What it said instead, if it can be read.
            output::ignore(stderr.take(4096).read_to_string(&mut said));
        }
        let said = said.trim().trim_start_matches("rescue: ");
        let prefix = said.lines().next().unwrap_or("it ended without a word");
        bail!("{prefix}")
    };
    Ok((child, read))
}

/// To standard output, or whole into a file.
fn write(text: &str, out: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = out else {
        return Ok(output::line(text)?);
    };
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        bail!("{}: not a file; a report replaces files alone", path.display());
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".new");
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // A half report is none.
        output::ignore(fs::remove_file(&partial));
    }
    written.with_context(|| path.display().to_string())
}

/// So long a section may take that only reads files.
const QUICK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_fails_costs_only_itself() {
        let mut report = Report {
            made: 0,
            version: "0",
            warnings: Vec::new(),
            sections: Vec::new(),
        };
        let told = Told {
            warnings: vec!["hot".to_owned()],
            facts: Value::from(1),
        };
        report.take(&sections::ALL[0], Ok(told));
        report.take(&sections::ALL[1], Err(anyhow::anyhow!("http://me:x@h/ is away")));
        assert_eq!(report.sections.len(), 2);
        assert_eq!(
            report.warnings,
            ["hot", "section firmware: http://(cut)@h/ is away"]
        );
    }

    #[test]
    fn a_report_is_whole_in_its_file_or_not_there() {
        let dir = std::env::temp_dir().join(format!("lifeboot-report-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        write("text", Some(&dir.join("report"))).unwrap();
        assert_eq!(fs::read_to_string(dir.join("report")).unwrap(), "text\n");
        let device = write("text", Some(Path::new("/dev/null"))).unwrap_err();
        assert!(device.to_string().contains("not a file"), "{device}");
        assert!(write("text", Some(&dir.join("nowhere/report"))).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
