//! What `rescue mount` and `rescue chroot` have done, kept in /run so that it can be undone by another session.
//!
//! The file is written before a thing is done, and compared with what the kernel says whenever it is read: a session that was cut between the
//! two leaves nothing unknown behind. Whoever changes it holds a lock.

use super::table::{self, Mounted};
use crate::control;
use anyhow::Context as _;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Everything that was done.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Systems and file systems that are mounted.
    pub systems: Vec<Placed>,
    /// Devices that were made to appear, in that order.
    pub opened: Vec<Opened>,
}

/// A system at its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// `/mnt`
    pub at: PathBuf,
    /// For people.
    pub title: String,
    /// Where its root is.
    pub device: String,
    /// The kernel's number of the mount of its root; none while it is being mounted.
    pub mount: Option<u64>,
    /// Who mounted it.
    pub by: By,
    /// What a chroot has put into it.
    pub binds: Vec<PathBuf>,
    /// Chroots that are in it.
    pub sessions: Vec<Session>,
}

/// Who mounted a system, which decides who unmounts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// `rescue mount`: it stays until `rescue umount`.
    Mount,
    /// `rescue chroot`: it goes with the last chroot.
    Chroot,
    /// A person, by other means: it stays.
    Person,
}

/// A process of `rescue chroot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its number.
    pub pid: u32,
    /// When it began, in the kernel's ticks: numbers are used again.
    pub began: u64,
}

/// A device that was made to appear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Opened {
    /// A RAID was assembled.
    Raid {
        /// `/dev/md127`
        device: String,
    },
    /// A logical volume was activated.
    Volume {
        /// `/dev/vg/root`
        name: String,
    },
    /// A LUKS device was unlocked.
    Luks {
        /// `/dev/vda2`
        device: String,
        /// `/dev/mapper/luks-…`
        mapper: String,
    },
}

/// The state, for as long as nobody else may change it.
#[derive(Debug)]
pub struct Held {
    /// What may be changed.
    pub state: State,
    /// Whose end lets others in.
    lock: File,
}

impl Held {
    /// Waits for whoever changes it now, reads it, and drops from it what is gone.
    ///
    /// # Errors
    /// The run directory cannot be written, or /proc not read.
    pub fn take() -> anyhow::Result<Held> {
        let path = control::run_dir().join("mount.lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        if lock.try_lock().is_err() {
            crate::output::complain(
                "Another 'rescue mount', 'chroot' or 'umount' is at work; this one waits for it.",
            );
            lock.lock().with_context(|| path.display().to_string())?;
        }
        let mut state = read();
        state.reconcile(&table::read()?, Path::exists, Session::is_alive);
        Ok(Held { state, lock })
    }

    /// Keeps what has changed.
    ///
    /// # Errors
    /// The run directory is full, or not writable.
    pub fn save(&self) -> anyhow::Result<()> {
        let path = path();
        if self.state == State::default() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| path.display().to_string())
                }
                _ => Ok(()),
            };
        }
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(&self.state).context("state")?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| path.display().to_string())
    }

    /// Lets others change it.
    pub fn release(self) {
        drop(self.lock);
    }
}

fn path() -> PathBuf {
    control::run_dir().join("mount.json")
}

/// What was kept; something that is no state counts as none.
fn read() -> State {
    fs::read(path())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// A line for whoever asks how things stand, for each system that is mounted.
pub fn lines() -> Vec<String> {
    let mut state = read();
    match table::read() {
        Ok(mounts) => state.reconcile(&mounts, Path::exists, Session::is_alive),
        Err(_) => return Vec::new(),
    }
    let line = |placed: &Placed| match placed.by {
        By::Person => format!("{} is mounted at {}.", placed.title, placed.at.display()),
        _ => format!(
            "{} is mounted at {}; 'rescue umount' undoes that.",
            placed.title,
            placed.at.display()
        ),
    };
    state.systems.iter().map(line).collect()
}

impl State {
    /// The system at a place.
    pub fn at(&self, place: &Path) -> Option<&Placed> {
        self.systems.iter().find(|placed| placed.at == place)
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, place: &Path) -> Option<&mut Placed> {
        self.systems.iter_mut().find(|placed| placed.at == place)
    }

    /// Drops what is gone: unmounted or closed by other means, sessions that have ended.
    fn reconcile(
        &mut self,
        mounts: &[Mounted],
        is_there: impl Fn(&Path) -> bool,
        is_alive: impl Fn(&Session) -> bool,
    ) {
        self.systems.retain(|placed| match placed.mount {
            Some(id) => mounts
                .iter()
                .any(|mount| mount.id == id && mount.target == placed.at),
            // Cut while it was being mounted.
            None => table::at(mounts, &placed.at).is_some(),
        });
        for placed in &mut self.systems {
            placed.sessions.retain(&is_alive);
            placed.binds.retain(|bind| table::at(mounts, bind).is_some());
        }
        self.opened.retain(|opened| match opened {
            Opened::Raid { device } => is_there(Path::new(device)),
            Opened::Luks { mapper, .. } => is_there(Path::new(mapper)),
            Opened::Volume { .. } => true,
        });
    }
}

impl Session {
    /// This process.
    pub fn own() -> Session {
        let pid = std::process::id();
        Session {
            pid,
            began: began(pid).unwrap_or_default(),
        }
    }

    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid).is_ok()) && began(self.pid) == Some(self.began)
    }
}

/// When a process began: field 22 of /proc/PID/stat, behind a name that may hold anything.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, target: &str) -> Mounted {
        Mounted {
            id,
            target: target.into(),
            root: "/".into(),
            fs: "ext4".into(),
            source: "/dev/vda1".into(),
            read_only: false,
        }
    }

    fn placed(at: &str, mount: Option<u64>) -> Placed {
        Placed {
            at: at.into(),
            title: "x".into(),
            device: "/dev/vda1".into(),
            mount,
            by: By::Mount,
            binds: vec![Path::new(at).join("dev")],
            sessions: vec![Session { pid: 1, began: 1 }, Session { pid: 2, began: 2 }],
        }
    }

    fn reconciled(systems: Vec<Placed>, mounts: &[Mounted]) -> State {
        let mut state = State {
            systems,
            opened: vec![
                Opened::Raid {
                    device: "/there".into(),
                },
                Opened::Raid {
                    device: "/gone".into(),
                },
            ],
        };
        state.reconcile(
            mounts,
            |path| path == Path::new("/there"),
            |session| session.pid == 2,
        );
        state
    }

    #[test]
    fn what_somebody_unmounted_by_hand_is_forgotten_and_the_rest_is_not() {
        let state = reconciled(
            vec![placed("/mnt", Some(7)), placed("/other", Some(8))],
            &[mount(7, "/mnt"), mount(9, "/other"), mount(10, "/mnt/dev")],
        );
        let places: Vec<&Path> = state.systems.iter().map(|placed| placed.at.as_path()).collect();
        assert_eq!(places, [Path::new("/mnt")], "another mount at /other is not ours");
        assert_eq!(state.systems[0].binds, [Path::new("/mnt/dev")]);
        assert_eq!(state.systems[0].sessions, [Session { pid: 2, began: 2 }]);
        assert_eq!(state.opened.len(), 1);
    }

    #[test]
    fn a_mount_that_was_cut_before_it_was_noted_is_still_ours() {
        assert_eq!(
            reconciled(vec![placed("/mnt", None)], &[mount(7, "/mnt")])
                .systems
                .len(),
            1
        );
        assert_eq!(reconciled(vec![placed("/mnt", None)], &[]).systems.len(), 0);
    }

    #[test]
    fn a_state_reads_back() {
        let state = reconciled(vec![placed("/mnt", Some(7))], &[mount(7, "/mnt")]);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert!(Session::own().is_alive());
        let other = Session {
            began: 1,
            ..Session::own()
        };
        assert!(
            !other.is_alive(),
            "a process of that number that began at another time"
        );
    }
}
