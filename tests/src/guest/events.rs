//! The file QEMU writes a guest's events to.

use anyhow::{Context, Result};
use lifeboot_contract::event::Event;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Events read so far, and where reading goes on.
#[derive(Debug)]
pub(super) struct EventLog {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
    events: Vec<Event>,
}

impl EventLog {
    /// The log in that file, which may not be there yet.
    pub(super) fn at(path: PathBuf) -> EventLog {
        EventLog {
            path,
            offset: 0,
            rest: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Every event so far; lines that are none are skipped, since a guest's firmware may write to a port too.
    pub(super) fn read(&mut self) -> Result<&[Event]> {
        self.rest.extend(new_bytes(&self.path, &mut self.offset)?);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.events.extend(serde_json::from_slice::<Event>(&line).ok());
        }
        Ok(&self.events)
    }

    /// The last lines as they came, for reports.
    pub(super) fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

fn new_bytes(path: &Path, offset: &mut u64) -> Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    file.seek(SeekFrom::Start(*offset)).context("events")?;
    let mut bytes = Vec::new();
    *offset += file.read_to_end(&mut bytes).context("events")? as u64;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_kept_until_its_end_comes() {
        let path = std::env::temp_dir().join(format!("lifeboot-events-{}", std::process::id()));
        let mut log = EventLog::at(path.clone());
        assert!(log.read().unwrap().is_empty());
        let line = r#"{"seq":1,"ms":5,"name":"init.start","level":"info"}"#;
        std::fs::write(&path, format!("garbage\n{line}\n{}", &line[..10])).unwrap();
        assert_eq!(log.read().unwrap().len(), 1);
        std::fs::write(&path, format!("garbage\n{line}\n{line}\n")).unwrap();
        assert_eq!(log.read().unwrap().len(), 2);
        std::fs::remove_file(&path).unwrap();
    }
}
