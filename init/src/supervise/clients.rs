//! Connections to the control socket, seen from PID 1: nothing here blocks, and a client that misbehaves loses its connection.

use lifeboot_contract::control::{Reply, Request, SessionKind};
use lifeboot_contract::status::Session;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A request line longer than this is nobody's.
const LONGEST_LINE: usize = 256 * 1024;
/// A client that does not read this much is gone.
const MOST_UNREAD: usize = 4 << 20;

/// A connection.
pub(super) struct Client {
    stream: UnixStream,
    unparsed: Vec<u8>,
    unsent: Vec<u8>,
    role: Role,
    open: bool,
}

enum Role {
    Asking,
    Following,
    Pipeline,
    Holding(Session),
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> std::io::Result<Client> {
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            unparsed: Vec::new(),
            unsent: Vec::new(),
            role: Role::Asking,
            open: true,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn is_pipeline(&self) -> bool {
        matches!(self.role, Role::Pipeline)
    }

    pub(super) fn follows(&self) -> bool {
        matches!(self.role, Role::Following)
    }

    pub(super) fn session(&self) -> Option<Session> {
        match &self.role {
            Role::Holding(session) if self.open => Some(session.clone()),
            _ => None,
        }
    }

    /// The session that ended with this connection.
    pub(super) fn ended_session(&self) -> Option<Session> {
        match &self.role {
            Role::Holding(session) => Some(session.clone()),
            _ => None,
        }
    }

    pub(super) fn become_pipeline(&mut self) {
        self.role = Role::Pipeline;
    }

    pub(super) fn follow(&mut self) {
        self.role = Role::Following;
    }

    pub(super) fn hold(&mut self, who: String, kind: SessionKind, since_ms: u64) {
        self.role = Role::Holding(Session { who, kind, since_ms });
    }

    /// Reads what is there; the requests in it, a bad line as its error.
    pub(super) fn read(&mut self) -> Vec<Result<Request, String>> {
        let mut chunk = [0; 8192];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.open = false;
                    break;
                }
                Ok(length) => self.unparsed.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.open = false;
                    break;
                }
            }
        }
        let requests = self.lines();
        if self.unparsed.len() > LONGEST_LINE {
            self.open = false;
        }
        requests
    }

    fn lines(&mut self) -> Vec<Result<Request, String>> {
        let Some(end) = self.unparsed.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let complete: Vec<u8> = self.unparsed.drain(..=end).collect();
        let lines = complete
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).map_err(|error| error.to_string()))
            .collect()
    }

    /// Queues an answer.
    pub(super) fn reply(&mut self, reply: &Reply) {
        // Serialising these types cannot fail; a line that did would be left out.
        if let Ok(mut line) = serde_json::to_vec(reply) {
            line.push(b'\n');
            self.unsent.append(&mut line);
        }
        self.write();
        if self.unsent.len() > MOST_UNREAD {
            self.open = false;
        }
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_may_come_in_pieces_and_bad_ones_are_answered() {
        let (mut far, near) = UnixStream::pair().unwrap();
        let mut client = Client::new(near).unwrap();
        far.write_all(b"\"sta").unwrap();
        assert!(client.read().is_empty());
        far.write_all(b"tus\"\n{\"nonsense\":1}\n\"nudge\"\n").unwrap();
        let requests = client.read();
        assert_eq!(requests[0], Ok(Request::Status));
        assert!(requests[1].is_err());
        assert_eq!(requests[2], Ok(Request::Nudge));
        drop(far);
        client.read();
        assert!(!client.is_open());
    }

    #[test]
    fn a_hold_ends_with_its_connection() {
        let (far, near) = UnixStream::pair().unwrap();
        let mut client = Client::new(near).unwrap();
        client.hold("root".into(), SessionKind::Shell, 1);
        assert!(client.session().is_some());
        drop(far);
        client.read();
        assert!(client.session().is_none());
    }

    #[test]
    fn an_endless_line_costs_the_connection() {
        let (mut far, near) = UnixStream::pair().unwrap();
        let mut client = Client::new(near).unwrap();
        let writer = std::thread::spawn(move || far.write_all(&vec![b'x'; LONGEST_LINE + 10_000]));
        while client.is_open() {
            client.read();
        }
        drop(client);
        drop(writer.join());
    }
}
