//! The pipeline against a fake world: what follows from each outcome, not how the stages reach it.

use super::*;
use crate::report::Memory;
use lifeboot_contract::event::Level;
use std::sync::mpsc;

/// A world whose roots succeed or fail as scripted, by the source's text.
#[derive(Default)]
struct Fake {
    prepared: u32,
    prepare_fails: u32,
    /// How often each root still fails, and at which stage.
    failing: Vec<(&'static str, Stage, u32)>,
    tried: Vec<String>,
}

impl World for Fake {
    fn prepare(&mut self, boot: &mut Boot) -> Result<(), Failure> {
        self.prepared += 1;
        boot.enter(Stage::Devices);
        if self.prepared <= self.prepare_fails {
            return Err(failure(Stage::Devices, "scripted"));
        }
        Ok(())
    }

    fn root(&mut self, boot: &Boot, source: &Source) -> Result<ReadyRoot, Failure> {
        let name = source.to_string();
        self.tried.push(name.clone());
        boot.enter(Stage::Mount);
        match self
            .failing
            .iter_mut()
            .find(|(root, _, left)| *root == name && *left > 0)
        {
            Some((_, stage, left)) => {
                *left -= 1;
                Err(failure(*stage, format!("{name}: scripted")))
            }
            None => Ok(ReadyRoot {
                path: "/sysroot".into(),
                init: "/sbin/init".into(),
                args: Vec::new(),
                source: name,
            }),
        }
    }
}

struct Bench {
    boot: Boot,
    memory: Arc<Memory>,
    orders: mpsc::Sender<Order>,
}

fn bench(cmdline: &str) -> Bench {
    let memory = Arc::new(Memory::default());
    let (sender, receiver) = mpsc::channel();
    let plan = Arc::new(Plan::make(cmdline, &Default::default(), Default::default(), ""));
    let reporter = Reporter::new(memory.clone());
    let boot = Boot {
        plan,
        orders: Orders::new(receiver),
        reporter,
        first_pause: Duration::from_millis(1),
    };
    Bench {
        boot,
        memory,
        orders: sender,
    }
}

impl Bench {
    fn ready(&self) -> Option<ReadyRoot> {
        self.memory.reports().into_iter().find_map(|report| match report {
            Report::Ready(root) => Some(root),
            _ => None,
        })
    }

    fn failures(&self) -> Vec<(Failure, Option<u64>)> {
        let failed = self
            .memory
            .reports()
            .into_iter()
            .filter_map(|report| match report {
                Report::Failed {
                    failure, next_try_ms, ..
                } => Some((failure, next_try_ms)),
                _ => None,
            });
        failed.collect()
    }
}

#[test]
fn the_first_root_that_works_is_taken() {
    let mut bench = bench("root=http://a/x root=LABEL=b");
    let mut world = Fake::default();
    bench.boot.until_ready(&mut world);
    assert_eq!(bench.ready().unwrap().source, "http://a/x");
    assert_eq!(world.tried, ["http://a/x"]);
}

#[test]
fn a_root_that_fails_gives_way_to_the_next_without_a_pause() {
    let mut bench = bench("root=http://a/x root=LABEL=b");
    let mut world = Fake {
        failing: vec![("http://a/x", Stage::Fetch, 1)],
        ..Fake::default()
    };
    bench.boot.until_ready(&mut world);
    assert_eq!(bench.ready().unwrap().source, "LABEL=b");
    assert!(bench.failures().is_empty());
    let failed = |bench: &Bench| {
        let events = bench.memory.events();
        let failed = events.into_iter().find(|event| event.name == "fetch.failed");
        failed.map(|event| (event.level, event.text.is_some()))
    };
    assert_eq!(failed(&bench), Some((Level::Warn, true)));
    let mut alone = super::tests::bench("root=http://a/x");
    let mut world = Fake {
        failing: vec![("http://a/x", Stage::Fetch, 1)],
        ..Fake::default()
    };
    alone.boot.until_ready(&mut world);
    assert_eq!(failed(&alone), Some((Level::Debug, false)), "told as the boot's");
}

#[test]
fn every_stage_may_fail_once_and_the_boot_still_comes_up() {
    for stage in [Stage::Network, Stage::Fetch, Stage::Verify, Stage::Mount] {
        let mut bench = bench("root=http://a/x");
        let mut world = Fake {
            failing: vec![("http://a/x", stage, 1)],
            ..Fake::default()
        };
        bench.boot.until_ready(&mut world);
        assert!(bench.ready().is_some(), "{stage}");
        assert_eq!(bench.failures()[0].0.stage, stage);
    }
    let mut bench = bench("root=http://a/x");
    let mut world = Fake {
        prepare_fails: 1,
        ..Fake::default()
    };
    bench.boot.until_ready(&mut world);
    assert_eq!((bench.failures().len(), bench.ready().is_some()), (1, true));
}

#[test]
fn the_list_is_tried_again_with_growing_pauses() {
    let mut bench = bench("root=http://a/x");
    let mut world = Fake {
        failing: vec![("http://a/x", Stage::Fetch, 4)],
        ..Fake::default()
    };
    bench.boot.until_ready(&mut world);
    assert_eq!(world.tried.len(), 5);
    let pauses: Vec<u64> = bench.failures().iter().map(|(_, next)| next.unwrap()).collect();
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
}

#[test]
fn without_a_root_nothing_is_tried_and_rescue_stays() {
    let mut bench = bench("");
    let mut world = Fake::default();
    bench.boot.until_ready(&mut world);
    assert!(world.tried.is_empty() && bench.memory.reports().contains(&Report::Idle));
}

#[test]
fn a_refused_plan_tries_no_root_but_prepares_the_machine() {
    let mut bench = bench("root=http://a/x lifeboot.verify=of");
    bench.orders.send(Order::GoOn).unwrap();
    let mut world = Fake::default();
    assert_eq!(bench.boot.attempt(&mut world, 1).unwrap_err().stage, Stage::Plan);
    assert_eq!((world.prepared, world.tried.len()), (1, 0));
}

#[test]
fn after_the_last_try_only_a_person_starts_another() {
    let mut bench = bench("root=http://a/x lifeboot.retry=1");
    let mut world = Fake {
        failing: vec![("http://a/x", Stage::Fetch, 2)],
        ..Fake::default()
    };
    // A nudge alone does not start a try that is not due; the person's order does.
    bench.orders.send(Order::Nudge).unwrap();
    let orders = bench.orders.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        orders.send(Order::GoOn)
    });
    bench.boot.until_ready(&mut world);
    assert_eq!(bench.failures().last().unwrap().1, None);
    assert_eq!(world.tried.len(), 3);
}

#[test]
fn rd_break_stops_before_its_stage_until_told() {
    let mut bench = bench("root=LABEL=b rd.break=mount");
    bench.orders.send(Order::Nudge).unwrap();
    bench.orders.send(Order::GoOn).unwrap();
    bench.boot.until_ready(&mut Fake::default());
    let reports = bench.memory.reports();
    let at = |wanted: &Report| reports.iter().position(|report| report == wanted).unwrap();
    assert!(at(&Report::Break(Stage::Mount)) < at(&Report::Stage(Stage::Mount)));
    assert!(bench.ready().is_some());
}

#[test]
fn pauses_grow_and_stay_within_bounds() {
    assert_eq!(backoff(FIRST_PAUSE, 1), Duration::from_secs(5));
    assert_eq!(backoff(FIRST_PAUSE, 3), Duration::from_secs(20));
    assert_eq!(backoff(FIRST_PAUSE, 1000), LAST_PAUSE);
    let jittered = jittered(Duration::from_secs(100));
    assert!((100..=125).contains(&jittered.as_secs()));
}

fn other(root: &str) -> Order {
    Order::BootOnce(Source::parse(root).unwrap())
}

#[test]
fn a_root_for_once_is_booted_instead_of_the_list() {
    let mut bench = bench("root=http://a/x");
    bench.orders.send(other("LABEL=other")).unwrap();
    let mut world = Fake::default();
    bench.boot.until_ready(&mut world);
    assert_eq!(world.tried, ["LABEL=other"]);
    assert_eq!(bench.ready().unwrap().source, "LABEL=other");
    // Only once: the next boot is the list's.
    bench.boot.until_ready(&mut world);
    assert_eq!(world.tried, ["LABEL=other", "http://a/x"]);
}

#[test]
fn a_root_for_once_that_fails_restores_the_list() {
    let mut bench = bench("root=http://a/x");
    bench.orders.send(other("LABEL=other")).unwrap();
    let mut world = Fake {
        failing: vec![("LABEL=other", Stage::Mount, 9)],
        ..Fake::default()
    };
    bench.boot.until_ready(&mut world);
    assert_eq!(world.tried, ["LABEL=other", "http://a/x"]);
    assert!(
        bench.failures()[0].1.is_some(),
        "the list is tried again by itself"
    );
    let events = bench.memory.events();
    assert!(events.iter().any(|event| event.name == "boot.once-failed"));
}

#[test]
fn without_a_list_a_root_for_once_that_fails_leaves_the_machine_in_rescue() {
    let mut bench = bench("");
    bench.orders.send(other("LABEL=other")).unwrap();
    bench.orders.send(Order::GoOn).unwrap();
    let mut world = Fake {
        failing: vec![("LABEL=other", Stage::Mount, 9)],
        ..Fake::default()
    };
    bench.boot.until_ready(&mut world);
    assert_eq!(world.tried, ["LABEL=other"]);
    assert_eq!(bench.failures()[0].1, None);
    assert_eq!(bench.memory.reports().last(), Some(&Report::Idle));
}

#[test]
fn a_refused_plan_boots_no_other_root_either() {
    let mut bench = bench("lifeboot.verify=of");
    bench.orders.send(other("LABEL=other")).unwrap();
    bench.orders.send(Order::GoOn).unwrap();
    let mut world = Fake::default();
    let source = Source::parse("LABEL=other").unwrap();
    assert_eq!(
        bench.boot.once(&mut world, &source).unwrap_err().stage,
        Stage::Plan
    );
    assert!(world.tried.is_empty());
}

#[test]
fn at_a_break_another_root_is_taken_at_once() {
    let mut bench = bench("root=http://a/x rd.break=mount");
    bench.orders.send(other("LABEL=other")).unwrap();
    bench.orders.send(Order::GoOn).unwrap();
    bench.orders.send(Order::GoOn).unwrap();
    bench.boot.until_ready(&mut Fake::default());
    assert_eq!(bench.ready().unwrap().source, "LABEL=other");
}

#[test]
fn whoever_waits_for_a_device_is_told_that_it_is_not_wanted_any_more() {
    let bench = bench("");
    bench.orders.send(other("LABEL=other")).unwrap();
    let never = crate::block::wait_for(&bench.boot.orders, None, || None::<()>);
    assert_eq!(never, None);
    assert!(bench.boot.orders.is_redirected());
    assert_eq!(bench.boot.orders.take_other().unwrap().to_string(), "LABEL=other");
    assert!(!bench.boot.orders.is_redirected());
    // It was no order to go on with anything else.
    assert_eq!(bench.boot.orders.wait(Duration::ZERO), None);
}
