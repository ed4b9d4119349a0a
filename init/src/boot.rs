//! The pipeline, top to bottom: plan, devices, network, time, fetch, verify, mount; the handover is PID 1's.
//!
//! It is a process of its own, so that whatever it does PID 1 lives. It ends only by being killed: after a failure it tries
//! again, after success it keeps the lease until PID 1 becomes the real init. The network runs on a thread beside it, because a local
//! disk needs none and a person needs it first.

use crate::block::Orders;
use crate::control::PipelineSink;
use crate::key_partition;
use crate::report::{FailureExt, Reporter, failure, now_ms};
use crate::stage::{devices, fetch, mount, plan, verify};
use crate::uplink::Uplink;
use lifeboot_contract::control::{Order, ReadyRoot, Report};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::image::TRUSTED_KEYS;
use lifeboot_contract::plan::{Plan, Retry, Source};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Memory that is left for what runs beside an OS image in memory: the rescue system, the real init until it has freed the initramfs.
const RESERVE: u64 = 48 << 20;
/// Remembers that `lifeboot.debug=panic:` has been obeyed.
const PANICKED: &str = "/run/lifeboot/panicked";
/// The first pause between two tries of the whole list; doubled each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// Runs the pipeline until the process is killed. Returns only when PID 1 cannot be reached.
///
/// # Errors
/// The control socket's or the plan's.
pub fn run() -> std::io::Result<std::convert::Infallible> {
    let (sink, orders) = PipelineSink::connect()?;
    let plan = Arc::new(plan::stored()?);
    let build_time = plan::image_info(Path::new("/")).build_time;
    let mut boot = Boot {
        plan,
        orders: Orders::new(orders),
        reporter: Reporter::new(Arc::new(sink)),
        first_pause: FIRST_PAUSE,
    };
    let mut machine = Machine {
        build_time,
        ground: None,
    };
    loop {
        boot.until_ready(&mut machine);
        boot.rest();
    }
}

/// What the stages do to a machine; tests put a fake one here.
trait World {
    /// The stages that are done once, whatever is booted.
    fn prepare(&mut self, boot: &mut Boot) -> Result<(), Failure>;
    /// The stages that make a root of a source.
    fn root(&mut self, boot: &Boot, source: &Source) -> Result<ReadyRoot, Failure>;
}

/// The machine this runs on.
struct Machine {
    build_time: u64,
    ground: Option<Ground>,
}

/// What the stages that are done once have made.
struct Ground {
    devices: devices::Devices,
    uplink: Uplink,
    keys: verify::TrustedKeys,
}

impl World for Machine {
    fn prepare(&mut self, boot: &mut Boot) -> Result<(), Failure> {
        if self.ground.is_some() {
            return Ok(());
        }
        boot.enter(Stage::Devices);
        let devices = devices::run(&boot.plan, &boot.reporter)?;
        boot.replan(&devices);
        boot.enter(Stage::Network);
        let uplink = Uplink::start(boot.plan.clone(), self.build_time, &boot.reporter);
        let (keys, notes) = verify::TrustedKeys::load(Path::new(TRUSTED_KEYS));
        for note in notes {
            boot.reporter.event(
                boot.reporter
                    .warn("verify.failed")
                    .with("what", note.as_str())
                    .text(note),
            );
        }
        self.ground = Some(Ground {
            devices,
            uplink,
            keys,
        });
        Ok(())
    }

    fn root(&mut self, boot: &Boot, source: &Source) -> Result<ReadyRoot, Failure> {
        let Some(ground) = &self.ground else {
            return Err(failure(Stage::Devices, "no stage has run"));
        };
        let (plan, reporter, orders) = (&boot.plan, &boot.reporter, &boot.orders);
        match source {
            Source::Http(url) => {
                let link = ground.uplink.wait()?;
                let url = url
                    .expand(&link.facts)
                    .map_err(|error| failure(Stage::Plan, format!("root={url}")).because(&error))?;
                boot.go_to(Stage::Time)?;
                let clock = ground.uplink.clock();
                boot.go_to(Stage::Fetch)?;
                let limits = fetch::Limits::of_this_machine(RESERVE);
                let fetched = fetch::run(plan, &url, &ground.keys, &*clock, reporter, &limits)?;
                boot.go_to(Stage::Verify)?;
                let verified = verify::run(plan, fetched, reporter)?;
                boot.go_to(Stage::Mount)?;
                mount::image(plan, &ground.devices, verified, orders, reporter)
            }
            Source::Local(id) => {
                boot.go_to(Stage::Mount)?;
                let means = mount::Means {
                    plan: plan.clone(),
                    devices: &ground.devices,
                    uplink: &ground.uplink,
                    orders,
                    reporter,
                };
                mount::local(&means, id)
            }
        }
    }
}

/// One boot: the plan, and how it talks to the people.
struct Boot {
    plan: Arc<Plan>,
    orders: Orders,
    reporter: Reporter,
    first_pause: Duration,
}

impl Boot {
    /// Tries until a root stands, or until it is clear that there is none to stand.
    fn until_ready(&mut self, world: &mut dyn World) {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let other = self.orders.take_other();
            let tried = match &other {
                Some(source) => self.once(world, source).map(Some),
                None => self.attempt(world, attempts),
            };
            match tried {
                // Asked for while this one was being made, or at a break in it.
                _ if self.orders.is_redirected() => attempts = 0,
                Ok(Some(root)) => {
                    self.enter(Stage::Handover);
                    if self.orders.is_redirected() {
                        continue;
                    }
                    let ready = self
                        .reporter
                        .debug("boot.ready")
                        .with("root", root.source.as_str())
                        .with("init", root.init.as_str());
                    self.reporter.event(ready);
                    self.reporter.report(Report::Ready(root));
                    return;
                }
                Ok(None) => {
                    self.reporter.event(
                        self.reporter
                            .info("boot.idle")
                            .text("no root= was given: this machine stays in rescue"),
                    );
                    self.reporter.report(Report::Idle);
                    return;
                }
                Err(failed) => {
                    // A root for once that fails leaves things as they were: the list is tried again, where there is one.
                    let again =
                        self.may_try_again(attempts) && (other.is_none() || !self.plan.roots.is_empty());
                    self.pause(failed, attempts, again);
                }
            }
        }
    }

    /// One try of a root that a person named; the plan's list stays as it is.
    fn once(&mut self, world: &mut dyn World, source: &Source) -> Result<ReadyRoot, Failure> {
        world.prepare(self)?;
        self.allowed()?;
        self.reporter
            .event(self.reporter.info("boot.once").with("root", source.to_string()));
        world.root(self, source).inspect_err(|failed| {
            let list = match self.plan.roots.as_slice() {
                [] => "no other root is named, so this machine stays in rescue".to_owned(),
                roots => format!(
                    "the list of the boot parameters is in force again: {}",
                    listed(roots)
                ),
            };
            let event = self
                .reporter
                .warn("boot.once-failed")
                .with("root", source.to_string())
                .with("what", failed.to_string());
            self.reporter
                .event(event.text(format!("{source} was for once and has failed; {list}")));
        })
    }

    /// Whether any root may be tried.
    fn allowed(&self) -> Result<(), Failure> {
        match &self.plan.refusal {
            Some(refusal) => Err(failure(Stage::Plan, refusal.clone()).hint("'rescue log' has every note")),
            None => Ok(()),
        }
    }

    fn may_try_again(&self, attempts: u32) -> bool {
        let left = match self.plan.retry {
            Retry::Forever => true,
            Retry::Times(times) => attempts <= times,
        };
        left && self.plan.refusal.is_none()
    }

    /// One pass over the list of roots. `None`: there is nothing to boot.
    fn attempt(&mut self, world: &mut dyn World, attempts: u32) -> Result<Option<ReadyRoot>, Failure> {
        world.prepare(self)?;
        self.allowed()?;
        let mut last = None;
        let plan = self.plan.clone();
        for (index, source) in plan.roots.iter().enumerate() {
            let event = self
                .reporter
                .debug("boot.attempt")
                .with("try", attempts)
                .with("place", index + 1)
                .with("root", source.to_string());
            self.reporter.event(event);
            match world.root(self, source) {
                Ok(root) => return Ok(Some(root)),
                Err(failed) => {
                    let name = format!("{}.failed", failed.stage);
                    // The last one is told as the failure of the boot.
                    let event = match plan.roots.get(index + 1) {
                        Some(_) => {
                            let text = format!("{failed}; the next root is tried");
                            self.reporter.warn(&name).text(text)
                        }
                        None => self.reporter.debug(&name),
                    };
                    self.reporter.event(
                        event
                            .with("what", failed.to_string())
                            .with("root", source.to_string()),
                    );
                    last = Some(failed);
                }
            }
            if self.orders.is_redirected() {
                break;
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Reads the key partition where there is to be one, and goes on with the plan that follows from it.
    fn replan(&mut self, devices: &devices::Devices) {
        if self.plan.key_partition.is_none() {
            return;
        }
        key_partition::run(&self.plan, devices, &self.reporter);
        match plan::again(&self.plan) {
            Ok(plan) => self.plan = Arc::new(plan),
            Err(error) => self.reporter.ignore("plan.json", Err::<(), _>(error)),
        }
        devices.also(&self.plan);
        self.reporter.report(Report::Replanned);
    }

    /// Says which stage begins; where `rd.break=` names it, waits for a person first.
    fn enter(&self, stage: Stage) {
        if self.plan.panic_before == Some(stage) && std::fs::File::create_new(PANICKED).is_ok() {
            #[expect(
                clippy::panic,
                reason = "asked for by lifeboot.debug=panic:STAGE, to show that a panic here does no harm"
            )]
            {
                panic!("lifeboot.debug=panic:{stage}");
            }
        }
        if self.plan.break_before == Some(stage) {
            let text = format!("stopped before stage {stage} (rd.break); type 'rescue boot' to go on");
            self.reporter.event(
                self.reporter
                    .info("boot.break")
                    .with("stage", stage.name())
                    .text(text),
            );
            self.reporter.report(Report::Break(stage));
            self.rest();
        }
        self.reporter.report(Report::Stage(stage));
    }

    /// The next stage of a root, unless another root has been asked for meanwhile.
    fn go_to(&self, stage: Stage) -> Result<(), Failure> {
        self.enter(stage);
        if self.orders.is_redirected() {
            return Err(failure(stage, "given up, another root was asked for"));
        }
        Ok(())
    }

    /// Waits for a person's `rescue boot`.
    fn rest(&self) {
        while self.orders.wait(Duration::from_secs(3600)) != Some(Order::GoOn) {}
    }

    /// Says what failed and waits for the next try.
    fn pause(&self, failed: Failure, attempts: u32, again: bool) {
        let pause = again.then(|| jittered(backoff(self.first_pause, attempts)));
        let next_try_ms = pause.map(|pause| pause.as_millis() as u64);
        let when = pause.map_or("no further try".to_owned(), |pause| {
            format!("next try in {} s", pause.as_secs().max(1))
        });
        let hint = failed
            .hint
            .as_ref()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        let mut event = self
            .reporter
            .error("boot.failed")
            .with("stage", failed.stage.name())
            .with("what", failed.to_string());
        if let Some(ms) = next_try_ms {
            event = event.with("next_try_ms", ms);
        }
        self.reporter
            .event(event.text(format!("boot failed: {failed}{hint}; {when}")));
        self.reporter.report(Report::Failed {
            failure: failed,
            attempts,
            next_try_ms,
        });
        let started = now_ms();
        loop {
            let left = match next_try_ms {
                None => Duration::from_secs(3600),
                Some(ms) => Duration::from_millis((started + ms).saturating_sub(now_ms())),
            };
            let order = if left.is_zero() {
                Some(Order::GoOn)
            } else {
                self.orders.wait(left)
            };
            // A nudge says that something was unlocked or repaired: that is worth a try at once.
            if matches!(order, Some(Order::GoOn)) || (order == Some(Order::Nudge) && again) {
                return;
            }
        }
    }
}

fn listed(roots: &[Source]) -> String {
    let names: Vec<String> = roots.iter().map(Source::to_string).collect();
    names.join(", ")
}

fn backoff(first: Duration, attempts: u32) -> Duration {
    doubled(first, attempts).min(LAST_PAUSE)
}

/// The pause after so many attempts, twice as long each time.
pub(crate) fn doubled(first: Duration, attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.saturating_sub(1).min(10))
}

/// Up to a quarter longer, so that a hall of machines does not come back at once.
pub fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    let jitter = match rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(1) => u32::from(byte[0]),
        _ => 128,
    };
    pause + pause * jitter / 1024
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
