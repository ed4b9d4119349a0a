//! Asks the kernel about a carrier so that it does not keep the answer to itself.
//!
//! The kernel tells of carriers through a queue that it works off once a second at most (`net/core/link_watch.c`), and until it
//! has, it drops what is sent. Reading `carrier` in sysfs works the queue off for that interface at once (`carrier_show` in
//! `net/core/net-sysfs.c`, since Linux 6.9; older kernels only answer), which saves up to a second of every boot.

use crate::stage::network::port::Port;
use std::path::Path;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(50);
/// Longer than it takes two copper ports to agree on a speed.
const LASTING: Duration = Duration::from_secs(8);

/// When to ask.
#[derive(Default)]
pub(super) struct Nudge {
    until: Duration,
    last: Duration,
}

impl Nudge {
    /// An interface was switched on.
    pub(super) fn begin(&mut self, now: Duration) {
        self.until = now + LASTING;
    }

    /// When the next question is due, if any interface is worth one.
    pub(super) fn next<'p>(&self, now: Duration, ports: impl Iterator<Item = &'p Port>) -> Option<Duration> {
        self.wanted(now, ports).next().map(|_| self.last + PAUSE)
    }

    /// Asks if it is time. The answer comes as every other: by the kernel's own news.
    pub(super) fn give<'p>(&mut self, now: Duration, ports: impl Iterator<Item = &'p Port>) {
        if now < self.last + PAUSE {
            return;
        }
        for port in self.wanted(now, ports) {
            // Refused while the interface is not up yet; asked again soon.
            drop(std::fs::read(
                Path::new("/sys/class/net").join(&port.link.name).join("carrier"),
            ));
        }
        self.last = now;
    }

    fn wanted<'p>(
        &self,
        now: Duration,
        ports: impl Iterator<Item = &'p Port>,
    ) -> impl Iterator<Item = &'p Port> {
        let until = self.until;
        ports.filter(move |port| !port.link.carrier && now < until)
    }
}
