//! Finding block devices by what is on them.
//!
//! util-linux's `blkid` does the probing: it knows every file system and partition table there is. What is ours is the waiting:
//! a device is looked for again only when the kernel's list of them has changed or somebody says so.

mod mapped;

pub use crate::sys::block_device::{Writes, discard, reread_partitions, writes};
pub use crate::sys::loop_device::{LoopDevice, attach as attach_loop};
pub use mapped::{Mapped, Mappings, Opened, Part, names, number_of};

use crate::report::{chain, failure};
use lifeboot_contract::control::Order;
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::{BlockId, Source};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// What PID 1 tells the pipeline, for those who wait.
pub struct Orders {
    receiver: Mutex<mpsc::Receiver<Order>>,
    seen: Mutex<Seen>,
}

/// Orders that came while nobody waited, and the root that a person asked for.
#[derive(Default)]
struct Seen {
    queue: VecDeque<Order>,
    other: Option<Source>,
}

impl Orders {
    /// Orders as they come from the control connection.
    pub fn new(receiver: mpsc::Receiver<Order>) -> Orders {
        Orders {
            receiver: Mutex::new(receiver),
            seen: Mutex::default(),
        }
    }

    /// Whether a person has asked for another root than the one that is being worked on.
    pub fn is_redirected(&self) -> bool {
        let Ok(receiver) = self.receiver.lock() else {
            return false;
        };
        self.seen.lock().is_ok_and(|mut seen| {
            while let Ok(order) = receiver.try_recv() {
                match order {
                    Order::BootOnce(source) => seen.other = Some(source),
                    order => seen.queue.push_back(order),
                }
            }
            seen.other.is_some()
        })
    }

    /// The root that a person has asked for; asked for once, it is told once.
    pub fn take_other(&self) -> Option<Source> {
        self.is_redirected()
            .then(|| self.seen.lock().ok()?.other.take())
            .flatten()
    }

    /// The next order, or `None` when the time is over. A lost connection counts as silence, an order for another root as
    /// [`Order::GoOn`].
    pub fn wait(&self, at_most: Duration) -> Option<Order> {
        let queued = self.seen.lock().ok().and_then(|mut seen| seen.queue.pop_front());
        if queued.is_some() {
            return queued;
        }
        let received = match self.receiver.lock() {
            Ok(receiver) => receiver.recv_timeout(at_most),
            Err(_) => Err(mpsc::RecvTimeoutError::Disconnected),
        };
        if received == Err(mpsc::RecvTimeoutError::Disconnected) {
            std::thread::sleep(at_most);
        }
        let order = received.ok()?;
        Some(match self.seen.lock() {
            Ok(mut seen) => seen.note(order),
            Err(_) => order,
        })
    }
}

impl Seen {
    fn note(&mut self, order: Order) -> Order {
        match order {
            Order::BootOnce(source) => {
                self.other = Some(source);
                Order::GoOn
            }
            order => order,
        }
    }
}

/// Calls `look` until it finds something: at once, and again whenever block devices come or go or PID 1 nudges. Ends without anything
/// when another root is asked for.
pub fn wait_for<T>(
    orders: &Orders,
    at_most: Option<Duration>,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let end = at_most.map(|at_most| Instant::now() + at_most);
    let mut seen = None;
    let mut nudged = false;
    loop {
        let now = snapshot();
        if nudged || seen.as_ref() != Some(&now) {
            if let Some(found) = look() {
                return Some(found);
            }
            seen = Some(now);
        }
        if end.is_some_and(|end| Instant::now() >= end) || orders.is_redirected() {
            return None;
        }
        nudged = orders.wait(Duration::from_millis(200)).is_some();
    }
}

/// The kernel's partitions and device-mapper names, as one text.
pub(crate) fn snapshot() -> String {
    let mut text = fs::read_to_string("/proc/partitions").unwrap_or_default();
    for one in Mappings::read().iter() {
        text.push_str(&format!("{} {}\n", one.kernel, one.uuid));
    }
    text
}

/// The mapped device of an unlocked LUKS volume, under whatever name it was opened and from whichever device of that UUID; what is left
/// over from a disk that went away is none.
pub fn unlocked(luks_uuid: &str) -> Option<PathBuf> {
    let mappings = Mappings::read();
    let found = mappings.of_uuid(luks_uuid)?;
    Some(Path::new("/dev").join(&found.kernel))
}

/// Whether this very device, which has that UUID on it or in its header elsewhere, is open.
pub fn opened(luks_uuid: &str, device: &Path) -> Opened {
    Mappings::read().opened(luks_uuid, number_of(device).as_deref())
}

/// The device of that name, if it is there now.
///
/// # Errors
/// `blkid` could not be run.
pub fn find(id: &BlockId) -> io::Result<Option<PathBuf>> {
    match id {
        BlockId::Path(path) => Ok(Path::new(path).exists().then(|| PathBuf::from(path))),
        id => {
            Ok(blkid(&["-c", "/dev/null", "-l", "-o", "device", "-t", &id.to_string()])?.map(PathBuf::from))
        }
    }
}

/// The file system on a device, as blkid calls it: `ext4`, `crypto_LUKS`.
///
/// # Errors
/// `blkid` could not be run.
pub fn fstype(device: &Path) -> io::Result<Option<String>> {
    blkid(&[
        "-c",
        "/dev/null",
        "-s",
        "TYPE",
        "-o",
        "value",
        &device.to_string_lossy(),
    ])
}

/// Every device of that name that is there now, sorted.
///
/// # Errors
/// `blkid` could not be run.
pub fn find_all(id: &BlockId) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = match id {
        BlockId::Path(_) => find(id)?.into_iter().collect(),
        id => blkid_lines(&["-c", "/dev/null", "-o", "device", "-t", &id.to_string()])?
            .into_iter()
            .map(PathBuf::from)
            .collect(),
    };
    found.sort();
    Ok(found)
}

fn blkid(args: &[&str]) -> io::Result<Option<String>> {
    Ok(blkid_lines(args)?.into_iter().next())
}

pub(crate) fn blkid_lines(args: &[&str]) -> io::Result<Vec<String>> {
    let output = Command::new("/usr/sbin/blkid")
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("blkid: {error}")))?;
    if !output.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// What was waited for is not wanted any more.
pub fn given_up(what: impl std::fmt::Display) -> Failure {
    failure(
        Stage::Mount,
        format!("{what}: given up, another root was asked for"),
    )
}

/// Waits until a device is there. Where it is not, `bring_up` may make more devices appear, each time others have.
///
/// # Errors
/// It did not come in time; the message says how many block devices there are.
pub fn await_device(
    id: &BlockId,
    orders: &Orders,
    at_most: Duration,
    mut bring_up: impl FnMut(),
) -> Result<PathBuf, Failure> {
    let mut trouble = None;
    let found = wait_for(orders, Some(at_most), || {
        let mut look = || {
            find(id).unwrap_or_else(|error| {
                trouble = Some(chain(&error));
                None
            })
        };
        look().or_else(|| {
            bring_up();
            look()
        })
    });
    found.ok_or_else(|| {
        if orders.is_redirected() {
            return given_up(id);
        }
        let count = fs::read_dir("/sys/class/block")
            .map(|dir| dir.count())
            .unwrap_or(0);
        let mut failed = failure(
            Stage::Mount,
            format!(
                "{id} did not appear within {} s; {count} block devices are there",
                at_most.as_secs()
            ),
        );
        failed.cause = trouble;
        failed.hint = Some("'rescue disks' lists what is there".to_owned());
        failed
    })
}
