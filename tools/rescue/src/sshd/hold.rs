//! What a session leaves with PID 1: a connection that says "somebody is here" for as long as it is open.

use crate::control;
use lifeboot_contract::control::{Reply, Request, SessionKind};
use lifeboot_contract::event::Event;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A session is not kept waiting for PID 1 longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lasts until it is dropped, or this process dies.
#[derive(Debug)]
pub struct Hold {
    connection: Option<BufReader<UnixStream>>,
}

impl Hold {
    /// Holds nothing.
    pub fn none() -> Hold {
        Hold { connection: None }
    }

    /// Waits until somebody on another terminal than `tty` ends this session: what there is to say of it.
    pub async fn cut(&mut self, tty: &str) -> String {
        while let Some(connection) = &mut self.connection {
            let mut line = String::new();
            if !matches!(connection.read_line(&mut line).await, Ok(1..)) {
                break;
            }
            if let Ok(Reply::Event(event)) = serde_json::from_str(&line)
                && event.str("tty") != tty
            {
                return event.text.unwrap_or_default();
            }
        }
        std::future::pending().await
    }
}

/// Tells PID 1 of a session; without PID 1 the session goes on just the same.
pub async fn take(run_dir: &Path, who: String, kind: SessionKind) -> Hold {
    let asked = timeout(PATIENCE, ask(run_dir, &Request::Hold { who, kind })).await;
    match asked {
        Ok(Ok(connection)) => Hold {
            connection: Some(connection),
        },
        Ok(Err(error)) => {
            crate::output::complain(&format!("sshd: the boot is not held: {error}"));
            Hold::none()
        }
        Err(_) => {
            crate::output::complain("sshd: the boot is not held: init does not answer");
            Hold::none()
        }
    }
}

/// Tells PID 1 what happened, in the background.
pub fn tell(run_dir: &Path, event: Event) {
    let run_dir = run_dir.to_owned();
    tokio::spawn(async move {
        let sent = timeout(PATIENCE, ask(&run_dir, &Request::Event(event))).await;
        if !matches!(sent, Ok(Ok(_))) {
            crate::output::complain("sshd: init was not told of an event");
        }
    });
}

/// Sends a request and waits for its answer, whatever it is.
async fn ask(run_dir: &Path, request: &Request) -> std::io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(control::socket(run_dir)).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut reader = BufReader::new(stream);
    let mut answer = String::new();
    reader.read_line(&mut answer).await?;
    Ok(reader)
}
