//! A cable between a guest's network card and QEMU's own network that loses frames and takes its time.
//!
//! The card and the network are two back ends of one QEMU; what one sends goes through two sockets here to the other. No privilege and no
//! module of the host's kernel is needed for that. What is lost is the same in every run, as far as the same frames come.

use anyhow::{Context, Result};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// More than any frame has.
const LONGEST: usize = 70_000;
/// How often a silent end looks whether the cable is still needed.
const LOOK: Duration = Duration::from_millis(500);

/// The cable; it is cut when this is dropped.
#[derive(Debug)]
pub struct BadCable {
    dir: PathBuf,
    lost: Arc<AtomicU64>,
    cut: Arc<AtomicBool>,
}

impl BadCable {
    /// One that loses `percent` of the frames, by chance, and delivers the others after `delay`, in each direction.
    ///
    /// # Errors
    /// No socket can be made.
    pub fn new(percent: u64, delay: Duration) -> Result<BadCable> {
        let cable = BadCable {
            dir: crate::process::private_dir("cable")?,
            lost: Arc::default(),
            cut: Arc::default(),
        };
        let end = |name: &str| {
            let path = cable.dir.join(name);
            let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
            socket
                .set_read_timeout(Some(LOOK))
                .context("a socket's timeout")?;
            anyhow::Ok(Arc::new(socket))
        };
        let (card, wall) = (end("card-end")?, end("wall-end")?);
        for (from, to, target, seed) in [(&card, &wall, "wall", 1), (&wall, &card, "card", 2)] {
            let (send, take) = channel();
            let taker = Taker {
                from: from.clone(),
                send,
                percent,
                delay,
                lost: cable.lost.clone(),
                cut: cable.cut.clone(),
                chance: seed,
            };
            spawn(move || taker.run());
            let (to, target) = (to.clone(), cable.dir.join(target));
            spawn(move || deliver(&take, &to, &target));
        }
        Ok(cable)
    }

    /// How many frames it has lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// QEMU's arguments for both ends: the card is `n0`, and `user` are the options of QEMU's own network.
    pub(crate) fn arguments(dir: &Path, user: &str) -> Vec<String> {
        let back = |id: &str, name: &str| {
            let path = dir.join(name);
            let path = path.display();
            format!("dgram,id={id},local.type=unix,local.path={path},remote.type=unix,remote.path={path}-end")
        };
        let plugs = ["user", "wall"].map(|end| format!("hubport,id={end}-plug,hubid=0,netdev={end}"));
        let ends = [
            format!("user,id=user{user}"),
            back("wall", "wall"),
            back("n0", "card"),
        ];
        let backs = ends.into_iter().chain(plugs);
        backs.flat_map(|back| ["-netdev".to_owned(), back]).collect()
    }

    /// Where its ends are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for BadCable {
    fn drop(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Takes what comes in at one end.
struct Taker {
    from: Arc<UnixDatagram>,
    send: Sender<(Instant, Vec<u8>)>,
    percent: u64,
    delay: Duration,
    lost: Arc<AtomicU64>,
    cut: Arc<AtomicBool>,
    chance: u64,
}

impl Taker {
    fn run(mut self) {
        let mut frame = vec![0; LONGEST];
        while !self.cut.load(Ordering::Relaxed) {
            let Ok(length) = self.from.recv(&mut frame) else {
                continue;
            };
            if self.is_lost() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else if self
                .send
                .send((Instant::now() + self.delay, frame[..length].to_vec()))
                .is_err()
            {
                return;
            }
        }
    }

    /// The next number of a linear congruential generator; its high bits are the random ones.
    fn is_lost(&mut self) -> bool {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % 100 < self.percent
    }
}

/// Puts it out at the other, as soon as QEMU listens there.
fn deliver(take: &Receiver<(Instant, Vec<u8>)>, to: &UnixDatagram, target: &Path) {
    for (at, frame) in take {
        sleep(at.saturating_duration_since(Instant::now()));
        // A frame that cannot be delivered is lost as on any cable.
        drop(to.send_to(&frame, target));
    }
}
