//! How far a fetch may go: memory, attempts, time.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A number of bytes; prints as people say it (`74.9 MB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteLen(pub u64);

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} bytes", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", self.0 as f64 / 1e3),
            _ => write!(f, "{:.1} MB", self.0 as f64 / 1e6),
        }
    }
}

/// How far the fetch may go.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory that may be used, as [`mem_available`] tells before the fetch.
    pub available: ByteLen,
    /// Memory kept for what runs beside and after the fetch.
    pub reserve: ByteLen,
    /// Attempts in a row without one new byte, while nothing is held yet.
    pub tries: u32,
    /// The same once bytes are held: worth waiting longer for.
    pub tries_held: u32,
    /// The first pause; each further one without progress is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Time for a connection.
    pub connect: Duration,
    /// Time without a byte after which the connection counts as dead.
    pub stall: Duration,
    /// The same on a server that has shown that it does not resume, where leaving costs every byte that is held.
    pub stall_without_resuming: Duration,
    /// Redirects followed in a row.
    pub redirects: usize,
    /// Time the clock is given to settle before the first https connection.
    pub settle: Duration,
    /// PEM file of the certificate authorities that https is judged by.
    pub authorities: PathBuf,
}

impl Limits {
    /// The usual limits, with the memory this machine has now, of which `reserve` bytes are kept.
    pub fn of_this_machine(reserve: u64) -> Limits {
        // A kernel that does not say is not a reason to stay in rescue.
        let available = mem_available().unwrap_or(ByteLen(u64::MAX));
        Limits {
            available,
            reserve: ByteLen(reserve),
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            available: ByteLen(u64::MAX),
            reserve: ByteLen(0),
            tries: 6,
            tries_held: 20,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            // The longest pause between two attempts of TCP to repeat a lost segment (Linux, TCP_RTO_MAX).
            stall_without_resuming: Duration::from_secs(120),
            redirects: 5,
            settle: Duration::from_secs(3),
            authorities: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
        }
    }
}

/// Memory the kernel would give without swapping (`MemAvailable` of /proc/meminfo).
///
/// # Errors
/// The file cannot be read or does not say.
pub fn mem_available() -> std::io::Result<ByteLen> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let told = parse_mem_available(&text);
    told.ok_or_else(|| std::io::Error::other("/proc/meminfo: no MemAvailable"))
}

fn parse_mem_available(text: &str) -> Option<ByteLen> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(ByteLen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mem_available_is_read_in_bytes() {
        let text = "MemTotal:         250000 kB\nMemFree:    1 kB\nMemAvailable:      94208 kB\n";
        assert_eq!(parse_mem_available(text), Some(ByteLen(96_468_992)));
        assert_eq!(parse_mem_available("MemTotal: 1 kB\n"), None);
        assert!(mem_available().unwrap() > ByteLen(0));
    }

    #[test]
    fn lengths_read_as_people_say_them() {
        let texts = [999, 1_500, 74_900_000].map(|n| ByteLen(n).to_string());
        assert_eq!(texts, ["999 bytes", "1.5 kB", "74.9 MB"]);
    }
}
