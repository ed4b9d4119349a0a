//! How far the list of roots has been tried, what is being waited for and since when.

use super::{Phase, Status, seconds};
use crate::event::{Event, Stage};
use crate::plan::Hold;
use serde::{Deserialize, Serialize};

/// Milliseconds of silence that need no words.
const MOMENT_MS: u64 = 3000;

/// What a stage that takes its time is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// The stage.
    pub stage: Stage,
    /// A clause for people.
    pub what: String,
    /// When that was told first, in milliseconds since the kernel started: of a fetch, when the last bytes came.
    #[serde(default)]
    pub since_ms: u64,
}

impl Doing {
    /// What an event tells about that.
    pub fn of(event: &Event) -> Option<Doing> {
        // A query may be a secret like a password.
        let url = event.str("url").split(['?', '#']).next().unwrap_or_default();
        let megabytes = |key| event.u64(key).map(|bytes| format!("{:.1}", bytes as f64 / 1e6));
        let (stage, what) = match event.name.as_str() {
            "fetch.start" => (Stage::Fetch, format!("Fetching {url}")),
            "fetch.progress" => {
                let came = megabytes("bytes").unwrap_or_default();
                let of = megabytes("of").map(|of| format!(" of {of}")).unwrap_or_default();
                (Stage::Fetch, format!("Fetching {url}: {came}{of} MB"))
            }
            "fetch.retry" => {
                let next = event.u64("try").unwrap_or_default() + 1;
                let what = event.str("what");
                (Stage::Fetch, format!("Fetching {url}: {what}; now at try {next}"))
            }
            "network.failed" => {
                let what = event.str("what");
                let what = what.strip_prefix("network: ").unwrap_or(what);
                (Stage::Network, format!("Waiting for the network: {what}"))
            }
            _ => return None,
        };
        Some(Doing {
            stage,
            what,
            since_ms: event.ms,
        })
    }
}

impl Status {
    /// Takes what an event tells about what is being waited for; that the same still holds makes it no younger.
    pub fn take_doing(&mut self, event: &Event) {
        let Some(doing) = Doing::of(event) else { return };
        let same = |before: &Doing| (before.stage, &before.what) == (doing.stage, &doing.what);
        if !self.doing.as_ref().is_some_and(same) {
            self.doing = Some(doing);
        }
    }

    /// What the stage that runs is at, and what follows it.
    pub(super) fn under_way(&self, stage: Stage) -> String {
        let then = self.holding("The boot goes on by itself.");
        match self.doing.as_ref().filter(|doing| doing.stage == stage) {
            Some(doing) => match self.uptime_ms.saturating_sub(doing.since_ms) {
                ..MOMENT_MS => format!("{}. {then}", doing.what),
                ago => format!("{} ({} ago). {then}", doing.what, seconds(ago)),
            },
            None => then,
        }
    }

    pub(super) fn holding(&self, otherwise: &str) -> String {
        match (self.hold, self.sessions.len()) {
            (Hold::Always, _) => "The system is not started before 'rescue boot' is typed.".to_owned(),
            (Hold::Never, _) | (Hold::Session, 0) => otherwise.to_owned(),
            (Hold::Session, 1) => "The system is not started before this session ends.".to_owned(),
            (Hold::Session, n) => {
                format!("The system is not started before the last of {n} sessions ends.")
            }
        }
    }

    /// The three lines, and before the second of them one for each root that failed earlier.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.three_lines().to_vec();
        if matches!(self.phase, Phase::Failed { .. } | Phase::Booting { .. }) {
            let earlier = self.failures.iter().map(|what| format!("Failed: {what}."));
            lines.splice(1..1, earlier);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::SessionKind;
    use crate::event::{Failure, Level};
    use crate::status::Session;

    fn failed(failures: &[&str]) -> Status {
        let failure = Failure {
            stage: Stage::Fetch,
            what: "http://b/os: refused".into(),
            cause: None,
            hint: None,
        };
        Status {
            phase: Phase::Failed {
                failure,
                since_ms: 0,
                next_try_ms: None,
                rootless: false,
                refused: false,
            },
            failures: failures.iter().map(|what| (*what).to_owned()).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn while_a_fetch_stalls_the_second_line_says_so_and_in_another_stage_it_does_not() {
        let retry = Event::new(1, Level::Warn, "fetch.retry")
            .with("url", "http://10.0.2.2:8001/os.squashfs?token=secret")
            .with("try", 1u64)
            .with("what", "10.0.2.2:8001: no answer for 20 s");
        let why = |stage, uptime_ms| {
            let status = Status {
                phase: Phase::Booting { stage },
                doing: Doing::of(&retry),
                uptime_ms,
                ..Status::default()
            };
            status.three_lines()[1].clone()
        };
        let stalls =
            "Fetching http://10.0.2.2:8001/os.squashfs: 10.0.2.2:8001: no answer for 20 s; now at try 2";
        assert_eq!(
            why(Stage::Fetch, 3000),
            format!("{stalls}. The boot goes on by itself.")
        );
        assert_eq!(
            why(Stage::Fetch, 15_001),
            format!("{stalls} (15 s ago). The boot goes on by itself.")
        );
        assert_eq!(why(Stage::Mount, 15_001), "The boot goes on by itself.");
    }

    #[test]
    fn what_a_ready_system_waits_for_is_what_was_asked_for() {
        let said = |hold, sessions| {
            let session = Session {
                who: "root".into(),
                kind: SessionKind::Shell,
                since_ms: 1,
            };
            let status = Status {
                phase: Phase::Held {
                    source: "/dev/vda".into(),
                },
                hold,
                sessions: vec![session; sessions],
                ..Status::default()
            };
            status.three_lines()[1].clone()
        };
        let (free, typed) = (
            "/dev/vda is ready; it waits for 'rescue boot'.",
            "The system is not started before 'rescue boot' is typed.",
        );
        let one = "The system is not started before this session ends.";
        assert_eq!(
            (said(Hold::Never, 1).as_str(), said(Hold::Never, 0).as_str()),
            (free, free)
        );
        assert_eq!(
            (said(Hold::Session, 1).as_str(), said(Hold::Session, 0).as_str()),
            (one, free)
        );
        assert_eq!(
            (said(Hold::Always, 1).as_str(), said(Hold::Always, 0).as_str()),
            (typed, typed)
        );
        assert!(said(Hold::Session, 2).contains("the last of 2 sessions"));
    }

    #[test]
    fn what_is_told_again_is_since_the_first_time_and_what_is_new_is_not() {
        let mut status = Status::default();
        let failed = |ms, what| Event::new(ms, Level::Warn, "network.failed").with("what", what);
        for (ms, what, since_ms) in [
            (1000, "no lease", 1000),
            (31_000, "no lease", 1000),
            (62_000, "no carrier", 62_000),
        ] {
            status.take_doing(&failed(ms, what));
            let doing = status.doing.clone().unwrap();
            assert!(
                doing.since_ms == since_ms && doing.what.ends_with(what),
                "{doing:?}"
            );
        }
        status.take_doing(&Event::new(63_000, Level::Debug, "fetch.done"));
        assert!(status.doing.is_some());
    }

    #[test]
    fn what_has_come_is_told_and_what_cannot_be_reached_too() {
        let what = |event: Event| Doing::of(&event).map(|doing| doing.what);
        let came = Event::new(1, Level::Debug, "fetch.progress")
            .with("url", "http://h/os")
            .with("bytes", 41_200_000u64);
        assert_eq!(what(came.clone()).unwrap(), "Fetching http://h/os: 41.2 MB");
        let of = came.with("of", 100_000_000u64);
        assert_eq!(what(of).unwrap(), "Fetching http://h/os: 41.2 of 100.0 MB");
        let failed =
            Event::new(1, Level::Warn, "network.failed").with("what", "network: eth0 has no carrier");
        assert_eq!(
            what(failed).unwrap(),
            "Waiting for the network: eth0 has no carrier"
        );
        assert_eq!(what(Event::new(1, Level::Debug, "fetch.done")), None);
    }

    #[test]
    fn every_root_that_failed_has_its_line() {
        let lines = failed(&["verify: http://a/os.minisig: 404 Not Found"]).lines();
        assert_eq!(
            lines[1..3],
            [
                "Failed: verify: http://a/os.minisig: 404 Not Found.",
                "Failed: fetch: http://b/os: refused."
            ]
        );
        assert_eq!(lines.len(), 4);
        assert_eq!(failed(&[]).lines(), failed(&[]).three_lines());
    }
}
