//! How far the list of roots has been tried.

use super::{Phase, Status};

impl Status {
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
    use crate::event::{Failure, Stage};

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
