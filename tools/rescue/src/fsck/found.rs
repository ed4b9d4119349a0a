//! What a look at a file system found, and what a repair would do about it.

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing wrong.
    Sound,
    /// Nothing wrong, and something is to be done all the same: a journal waits.
    Waiting,
    /// Something is wrong.
    Damaged,
    /// The checker could not do its work.
    Unable,
    /// Somebody stopped it.
    Stopped,
}

/// What a look found.
#[derive(Debug)]
pub struct Found {
    pub condition: Condition,
    /// In the middle of a sentence: `errors were found`.
    pub says: String,
    /// What a repair does, in order.
    pub steps: Vec<Step>,
    /// Whether a repair must be asked for by the device's name: `all` leaves it alone.
    pub only_by_name: bool,
    /// What a person can do where no repair is offered, or where it did not help.
    pub advice: Option<String>,
    /// How the checker ended.
    pub code: Option<i32>,
}

/// Something that writes to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A program.
    Run(Vec<String>),
    /// A program that can make things worse, and what is said before it runs.
    Dangerous {
        words: Vec<String>,
        warning: &'static str,
    },
    /// Mount it as `fs` and unmount it again; where that fails, and only then, the program.
    Replay {
        fs: &'static str,
        otherwise: Option<Vec<String>>,
    },
    /// Mount a btrfs and have every copy of everything compared with its checksum.
    Scrub,
    /// Write one copy of the partition table from the other.
    RestoreTable,
}

impl Found {
    /// Nothing wrong.
    pub fn sound(says: &str, code: Option<i32>) -> Found {
        Found {
            condition: Condition::Sound,
            says: says.to_owned(),
            steps: Vec::new(),
            only_by_name: false,
            advice: None,
            code,
        }
    }

    /// Something is wrong, and this is done about it.
    pub fn damaged(says: &str, code: Option<i32>, steps: Vec<Step>) -> Found {
        Found {
            condition: Condition::Damaged,
            steps,
            ..Found::sound(says, code)
        }
    }

    /// The checker could not do its work.
    pub fn unable(code: Option<i32>) -> Found {
        Found {
            condition: Condition::Unable,
            ..Found::sound("the checker could not do its work", code)
        }
    }
}

impl Step {
    /// As a person would say it.
    pub fn shown(&self, device: &str) -> String {
        match self {
            Step::Run(words) | Step::Dangerous { words, .. } => words.join(" "),
            Step::Replay { otherwise: None, .. } => format!("mount and unmount {device}"),
            Step::Replay {
                otherwise: Some(words),
                ..
            } => format!("mount and unmount {device}, or if that fails {}", words.join(" ")),
            Step::Scrub => format!("mount {device}, btrfs scrub, and unmount it"),
            Step::RestoreTable => format!("write the partition table of {device} from its other copy"),
        }
    }
}

/// `words` as a command line.
pub fn line(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
