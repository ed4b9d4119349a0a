//! From the thread that has the source to the threads that unpack and write.
//!
//! The one thing a reader would get wrong: a source that breaks off must not look like one that ends. Only [`Sender::end`] makes an
//! end; a sender that is dropped is an error to whoever reads.

use std::io::{self, Read};
use std::sync::mpsc;

/// Pieces under way. Those of a fetch have at most 256 KiB.
const PIECES: usize = 16;

/// What is told of a source that did not come to its end.
pub const BROKE_OFF: &str = "the source broke off";

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The end that is filled.
pub struct Sender(mpsc::SyncSender<Piece>);

/// The end that is read.
pub struct Receiver {
    pieces: mpsc::Receiver<Piece>,
    current: Vec<u8>,
    used: usize,
    ended: bool,
}

/// Both ends.
pub fn new() -> (Sender, Receiver) {
    let (sender, pieces) = mpsc::sync_channel(PIECES);
    let receiver = Receiver {
        pieces,
        current: Vec::new(),
        used: 0,
        ended: false,
    };
    (Sender(sender), receiver)
}

impl Sender {
    /// More bytes; `false` when nobody reads any more.
    #[must_use]
    pub fn bytes(&self, bytes: Vec<u8>) -> bool {
        bytes.is_empty() || self.0.send(Piece::Bytes(bytes)).is_ok()
    }

    /// That was all; `false` when nobody reads any more.
    #[must_use]
    pub fn end(self) -> bool {
        self.0.send(Piece::End).is_ok()
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.current.len() && !self.ended {
            self.used = 0;
            self.current.clear();
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => self.current = bytes,
                Ok(Piece::End) => self.ended = true,
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, BROKE_OFF));
                }
            }
        }
        let count = self.current.get(self.used..).unwrap_or_default().read(buffer)?;
        self.used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_end_and_a_broken_source_is_an_error() {
        for (whole, expected) in [(true, Ok(b"abcde".to_vec())), (false, Err(()))] {
            let (sender, mut receiver) = new();
            assert!(sender.bytes(b"ab".to_vec()) && sender.bytes(vec![]) && sender.bytes(b"cde".to_vec()));
            if whole {
                assert!(sender.end());
            } else {
                drop(sender);
            }
            let mut all = Vec::new();
            let read = receiver.read_to_end(&mut all);
            assert_eq!(read.map(|_| all).map_err(|_| ()), expected);
        }
    }

    #[test]
    fn whoever_fills_learns_that_nobody_reads() {
        let (sender, receiver) = new();
        drop(receiver);
        assert!(!sender.bytes(vec![1]));
        assert!(!sender.end());
    }
}
