//! The command `modprobe`, which the kernel calls by that name.

use super::{ModuleError, Modules};
use crate::report::chain;
use std::collections::HashSet;

/// `modprobe` as the kernel and people call it: `-q`, `-a`, `-r` (refused), names and aliases. Returns the exit code and what to print.
pub fn modprobe(args: &[String]) -> (u8, String) {
    let quiet = args
        .iter()
        .any(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.contains('q'));
    if args.iter().any(|arg| arg == "-r" || arg == "--remove") {
        return (
            1,
            "modprobe: removing modules is not supported, use rmmod".to_owned(),
        );
    }
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let all = args.iter().any(|arg| arg == "-a" || arg == "--all");
    let Some((first, options)) = names.split_first() else {
        return (2, "usage: modprobe [-q] [-a] MODULE…".to_owned());
    };
    let modules = Modules::of_running_kernel();
    let wanted: &[&String] = if all { &names } else { std::slice::from_ref(first) };
    if !all && !options.is_empty() {
        let options = options
            .iter()
            .map(|option| option.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        return outcome(modules.insert_with(first, &options), quiet);
    }
    for name in wanted {
        if let (1, text) = outcome(modules.insert(name).map(|_| ()), quiet) {
            return (1, text);
        }
    }
    (0, String::new())
}

impl Modules {
    fn insert_with(&self, name: &str, options: &str) -> Result<(), ModuleError> {
        let found = self.resolve(name);
        let Some(module) = found.first() else {
            return Err(ModuleError::Unknown(name.to_owned()));
        };
        self.insert_one(module, options, &mut HashSet::new(), &mut Vec::new())
    }
}

fn outcome(result: Result<(), ModuleError>, quiet: bool) -> (u8, String) {
    match result {
        Ok(()) => (0, String::new()),
        Err(ModuleError::Unknown(_)) if quiet => (1, String::new()),
        Err(error) => (1, format!("modprobe: {}", chain(&error))),
    }
}
