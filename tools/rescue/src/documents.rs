//! Manual pages and shell completion, made from what argh knows of the commands, so that they cannot say anything else than
//! `rescue COMMAND --help`. Made on the host by a test; the device carries the completion as a file and none of this.

use crate::Rescue;
use argh::{ArgsInfo as _, CommandInfoWithArgs, FromArgs as _};
use std::fs;
use std::path::{Path, PathBuf};

mod completion;
mod man;

/// What PID 1 starts says so in its description; nobody types it.
const BY_INIT: &str = "(started by init)";

/// The commands that people type, in alphabetical order.
fn commands() -> Vec<CommandInfoWithArgs> {
    let mut commands: Vec<_> = Rescue::get_args_info()
        .commands
        .into_iter()
        .map(|sub| sub.command)
        .filter(|command| !command.description.contains(BY_INIT))
        .collect();
    commands.sort_by_key(|command| command.name);
    commands
}

/// Every generated file with its text.
fn generated() -> Vec<(PathBuf, String)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = workspace.join("docs/man");
    let commands = commands();
    let mut files = vec![
        (
            workspace.join("tools/rescue/completion.bash"),
            completion::script(&commands),
        ),
        (pages.join("rescue.8"), man::overview(&commands)),
    ];
    for command in &commands {
        let path = pages.join(format!("rescue-{}.8", command.name));
        files.push((path, man::page(command)));
    }
    files
}

#[test]
fn manual_pages_and_completion_are_those_of_the_commands() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let generated = generated();
    for (path, text) in &generated {
        if update {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert!(
            fs::read_to_string(path).is_ok_and(|there| there == *text),
            "{} is stale: UPDATE_DOCS=1 cargo test -p lifeboot-rescue",
            path.display()
        );
    }
    for page in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man")).unwrap() {
        let name = page.unwrap().file_name();
        let known = generated.iter().any(|(path, _)| path.file_name() == Some(&name));
        assert!(
            known,
            "docs/man/{} is the page of no command",
            name.to_string_lossy()
        );
    }
}

#[test]
fn every_command_shows_how_it_is_used_and_is_on_the_screen() {
    for command in commands() {
        let name = command.name;
        assert!(!command.examples.is_empty(), "{name} has no example");
        assert!(
            crate::help::SCREEN.contains(&format!("rescue {name}")),
            "{name} is not in 'rescue help'"
        );
    }
}

/// The lines of the notes in `rescue COMMAND --help`.
fn notes_on_screen(words: &[&str]) -> Vec<String> {
    let help = Rescue::from_args(&["rescue"], &[words, &["--help"]].concat()).unwrap_err();
    let screen = crate::help::broken(help.output.trim_end());
    let lines = screen.lines().skip_while(|line| *line != "Notes:").skip(1);
    let notes = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    notes.map(str::to_owned).collect()
}

/// Lines of a paragraph that end although the first word of the next one would have fit.
fn ends_early(lines: &[String]) -> Vec<&String> {
    let early = |pair: &&[String]| {
        let next = pair[1].split_whitespace().next();
        let room = 79_usize.saturating_sub(pair[0].trim_end().chars().count());
        !pair[0].trim().is_empty() && next.is_some_and(|word| word.chars().count() < room)
    };
    lines.windows(2).filter(early).map(|pair| &pair[0]).collect()
}

#[test]
fn the_notes_of_a_command_are_broken_where_the_screen_ends_and_nowhere_else() {
    let mut seen = 0;
    for command in commands() {
        let inner = command.commands.iter().map(|sub| vec![command.name, sub.name]);
        for words in inner.chain([vec![command.name]]) {
            let notes = notes_on_screen(&words);
            seen += notes.len();
            assert_eq!(ends_early(&notes), [""; 0], "rescue {}", words.join(" "));
        }
    }
    assert!(seen > 50, "{seen} lines of notes were seen");
    let twice = ["  A line that ends".to_owned(), "  early, and one".to_owned()];
    assert_eq!(ends_early(&twice), [&twice[0]]);
}
