//! How far a way led, for machines and for people.

use serde::Serialize;

/// How far the way led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walked {
    pub why: String,
    pub name: String,
    pub reached: bool,
    pub steps: Vec<Step>,
    /// What to do about the step that failed.
    pub hint: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub step: &'static str,
    pub ok: bool,
    pub what: String,
    pub ms: u64,
}

impl Walked {
    /// A test that died itself.
    pub fn broken(name: &str) -> Walked {
        Walked {
            why: "not tested".to_owned(),
            name: name.to_owned(),
            reached: false,
            steps: Vec::new(),
            hint: None,
        }
    }

    /// One sentence about a way that fails.
    pub fn sentence(&self) -> String {
        match self.steps.last() {
            Some(step) => format!("{} {}: {} fails: {}", self.why, self.name, step.step, step.what),
            None => format!("{} {}", self.why, self.name),
        }
    }

    /// For people: every step where it is the only one asked for or one has failed, else the last.
    pub fn lines(&self, all: bool) -> Vec<String> {
        let mark = if self.reached { "reached" } else { "NOT REACHED" };
        let mut lines = vec![format!("{} {}: {mark}", self.why, self.name)];
        let shown = if all || !self.reached {
            0
        } else {
            self.steps.len().saturating_sub(1)
        };
        for step in self.steps.iter().skip(shown) {
            let sign = if step.ok { "" } else { "FAILS: " };
            lines.push(format!("  {:<9} {sign}{} ({} ms)", step.step, step.what, step.ms));
        }
        lines.extend(self.hint.as_ref().map(|hint| format!("  hint: {hint}")));
        lines
    }
}
