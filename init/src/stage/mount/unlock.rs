//! Opening the volumes of the plan: by a key file, by a Tang server, or by a person, whoever comes first.
//!
//! A key file in the image is tried at once. Everything that may take time - a stick that has to appear, a disk that does not answer, a server
//! that is away - is tried on threads, while the passphrase is asked for: nothing here delays the person.

use super::{Means, PATIENCE};
use crate::block::{self, Orders};
use crate::luks::{self, Key, Outcome, Volume};
use crate::lvm;
use crate::report::Reporter;
use lifeboot_contract::control::Report;
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::{FilePlace, Tang};
use lifeboot_contract::status::LockedVolume;
use ring::digest::{SHA256, digest};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod tang;

/// How often it is looked whether devices have come or somebody has unlocked it.
const LOOK: Duration = Duration::from_millis(200);

/// A volume that waits, with everything the threads need.
#[derive(Clone)]
struct Locked {
    uuid: String,
    volume: Volume,
    key: Option<FilePlace>,
}

/// Whether the volumes are still waited for; shared with the threads, who end when it says no.
#[derive(Clone)]
struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// Whether this volume is still locked and somebody still wants it open.
    fn is(&self, uuid: &str) -> bool {
        self.0.load(Ordering::Relaxed) && block::unlocked(uuid).is_none()
    }
}

/// Ends the threads' work when the wait is over, whatever ended it.
struct Ends(Wanted);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// Opens the volumes of the plan.
///
/// # Errors
/// A volume did not appear.
pub(super) fn run(means: &Means) -> Result<(), Failure> {
    let Means {
        plan,
        orders,
        reporter,
        ..
    } = means;
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let _ends = Ends(wanted.clone());
    let mut locked: Vec<Locked> = Vec::new();
    for planned in &plan.luks {
        if block::unlocked(&planned.uuid).is_some() {
            continue;
        }
        if !locked.is_empty() {
            // This one may be inside one of those, or far away: they are asked for meanwhile.
            say_wanted(&locked, reporter);
        }
        let device = block::await_device(&planned.device(), orders, PATIENCE, || activate(reporter))?;
        let volume = Locked {
            uuid: planned.uuid.clone(),
            volume: Volume::planned(planned, &device, plan),
            key: planned.key.clone(),
        };
        if !by_key_in_image(&volume, reporter) {
            say_waiting(&volume, reporter);
            unattended(means, &volume, &wanted);
            locked.push(volume);
        }
    }
    wait(locked, orders, reporter);
    // What is on the volumes may itself be made of logical volumes; what is not there yet is waited for where it is needed.
    activate(reporter);
    reporter.report(Report::Waiting(Vec::new()));
    reporter.report(Report::Stage(Stage::Mount));
    Ok(())
}

/// Waits until all are open, by whomever.
fn wait(mut locked: Vec<Locked>, orders: &Orders, reporter: &Reporter) {
    while !locked.is_empty() {
        say_wanted(&locked, reporter);
        let open = |volume: &Locked| block::unlocked(&volume.uuid);
        block::wait_for(orders, None, || {
            locked.iter().any(|volume| open(volume).is_some()).then_some(())
        });
        locked.retain(|volume| match open(volume) {
            None => true,
            Some(device) => {
                let text = format!("{} is unlocked", volume.told().describe());
                let event = reporter.info("mount.unlocked").with("uuid", volume.uuid.as_str());
                reporter.event(event.with("device", device.display().to_string()).text(text));
                false
            }
        });
    }
}

/// Has consoles and others ask for those that are still locked.
fn say_wanted(locked: &[Locked], reporter: &Reporter) {
    let still = locked
        .iter()
        .filter(|volume| block::unlocked(&volume.uuid).is_none());
    reporter.report(Report::Waiting(still.map(Locked::told).collect()));
}

impl Locked {
    fn told(&self) -> LockedVolume {
        LockedVolume {
            device: Some(self.volume.device.clone()),
            uuid: self.uuid.clone(),
            name: self.volume.name.clone(),
        }
    }
}

fn say_waiting(locked: &Locked, reporter: &Reporter) {
    let device = locked.volume.device.as_str();
    let waiting = reporter.info("mount.waiting").with("uuid", locked.uuid.as_str());
    let text = format!("{device} is locked: type 'rescue unlock' or give the passphrase here");
    reporter.event(waiting.with("device", device).text(text));
}

/// A key file in the image itself takes no time to look for.
fn by_key_in_image(locked: &Locked, reporter: &Reporter) -> bool {
    match &locked.key {
        Some(place) if place.device.is_none() => match by_key(locked, place, &mut HashSet::new()) {
            Ok(()) => true,
            Err(what) => {
                say_key_failed(locked, place, what, reporter);
                false
            }
        },
        _ => false,
    }
}

fn say_key_failed(locked: &Locked, place: &FilePlace, what: String, reporter: &Reporter) {
    let device = locked.volume.device.as_str();
    let event = reporter
        .warn("unlock.key")
        .with("uuid", locked.uuid.as_str())
        .with("device", device)
        .with("key", place.to_string())
        .with("what", what.as_str());
    reporter.event(event.text(format!("{device}: not unlocked by its key file: {what}")));
}

/// Starts what needs nobody: a thread for a key file on another device, one for Tang servers.
fn unattended(means: &Means, locked: &Locked, wanted: &Wanted) {
    let reporter = means.reporter;
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        reporter.ignore(name, spawned);
    };
    let with_key = locked.key.clone().filter(|place| place.device.is_some());
    if let Some(place) = with_key {
        let (locked, wanted, reporter) = (locked.clone(), wanted.clone(), reporter.clone());
        start(
            "key device",
            Box::new(move || key_device(&locked, &place, &wanted, &reporter)),
        );
    }
    if means.plan.tang == Tang::On {
        let (locked, wanted, reporter) = (locked.clone(), wanted.clone(), reporter.clone());
        let uplink = means.uplink.clone();
        start(
            "tang",
            Box::new(move || tang::keep_asking(&locked, &wanted, &uplink, &reporter)),
        );
    }
}

/// Tries the key file whenever devices come or go, until nobody wants it any more.
fn key_device(locked: &Locked, place: &FilePlace, wanted: &Wanted, reporter: &Reporter) {
    let mut said = HashSet::new();
    let mut wrong = HashSet::new();
    let mut seen = None;
    while wanted.is(&locked.uuid) {
        let now = block::snapshot();
        if seen.as_ref() != Some(&now)
            && let Err(what) = by_key(locked, place, &mut wrong)
            && wanted.is(&locked.uuid)
            && said.insert(what.clone())
        {
            say_key_failed(locked, place, what, reporter);
        }
        seen = Some(now);
        std::thread::sleep(LOOK);
    }
}

/// Opens it by its key file. A key that has been found wrong is not tried again: trying one may itself make devices come and go.
fn by_key(locked: &Locked, place: &FilePlace, wrong: &mut HashSet<Vec<u8>>) -> Result<(), String> {
    let secret = luks::read_key(place)?;
    let mark = digest(&SHA256, secret.bytes()).as_ref().to_vec();
    if wrong.contains(&mark) {
        return Ok(());
    }
    match locked.volume.open(Key::Passphrase(&secret)) {
        Ok(Outcome::Open) => Ok(()),
        Ok(Outcome::WrongKey) => {
            wrong.insert(mark);
            Err(format!("{place} does not open it"))
        }
        Err(trouble) => Err(trouble.to_string()),
    }
}

/// Activates volume groups, and says what has appeared.
pub(super) fn activate(reporter: &Reporter) {
    match lvm::activate() {
        Ok(None) => {}
        Ok(Some(found)) => {
            let text = format!("lvm: {}", found.volumes.join(", "));
            let event = reporter.info("unlock.lvm").with("groups", found.groups);
            reporter.event(event.with("volumes", found.volumes).text(text));
        }
        Err(what) => {
            let event = reporter.warn("unlock.lvm").with("what", what.as_str());
            reporter.event(event.text(format!("logical volumes: {what}")));
        }
    }
}
