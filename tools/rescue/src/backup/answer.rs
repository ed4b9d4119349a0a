//! The head of a server's answer (RFC 9112, 4 and 5).

use std::io::{self, ErrorKind, Read};

/// No head is longer.
const LONGEST: usize = 16 << 10;

/// As much of it as matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Status and reason, fit to be shown.
    pub said: String,
    pub location: Option<String>,
}

impl Answer {
    /// Reads one, not a byte more.
    ///
    /// # Errors
    /// It is none, too long, or does not come.
    pub fn read(source: &mut impl Read) -> io::Result<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if source.read(&mut byte)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
            if head.len() > LONGEST {
                return Err(odd());
            }
        }
        Answer::parse(&String::from_utf8_lossy(&head))
    }

    /// The first that is not an interim one.
    ///
    /// # Errors
    /// As [`Answer::read`].
    pub fn read_final(source: &mut impl Read) -> io::Result<Answer> {
        loop {
            let answer = Answer::read(source)?;
            if !answer.is_interim() {
                return Ok(answer);
            }
        }
    }

    /// Whether the answer itself is still to come (RFC 9110, 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    fn parse(head: &str) -> io::Result<Answer> {
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let said = first.split_once(' ').map_or("", |(_, said)| said.trim());
        let status = said.split(' ').next().unwrap_or_default();
        let status = status.parse().ok().filter(|status| (100..600).contains(status));
        let (Some(status), true) = (status, first.starts_with("HTTP/1.")) else {
            return Err(odd());
        };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let location = headers
            .filter(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| shown(value.trim()))
            .next();
        Ok(Answer {
            status,
            said: shown(said),
            location,
        })
    }
}

fn shown(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn odd() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "its answer is not HTTP/1.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> io::Result<Answer> {
        Answer::read_final(&mut &text[..])
    }

    #[test]
    fn interim_answers_are_passed_over_and_a_place_is_told() {
        let answer = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, answer.said.as_str()), (201, "201 Created"));
        let answer = read(b"HTTP/1.0 307 x\nLOCATION: /y\x1b[2J\n\n").unwrap();
        assert_eq!(answer.location.as_deref(), Some("/y?[2J"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let long = [b"HTTP/1.1 200 OK\r\n".as_slice(), &[b'x'; LONGEST], b"\r\n\r\n"].concat();
        for text in [
            b"".as_slice(),
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 20\r\n\r\n",
            b"HTTP/1.1 -200 \r\n\r\n",
            b"HTTP/1.1 99999 \r\n\r\n",
            b"\xff\xfe\n\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            &long,
        ] {
            assert!(
                read(text).is_err(),
                "{:?}",
                String::from_utf8_lossy(&text[..text.len().min(40)])
            );
        }
    }
}
