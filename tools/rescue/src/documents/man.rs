//! Manual pages in the macros of man(7).

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

/// What the exit codes of every command mean.
const EXIT: &str = ".SH EXIT STATUS
.TP
.B 0
done
.TP
.B 1
could not; the reason is on standard error
.TP
.B 2
wrong usage
";

const MADE: &str =
    ".\\\" Made from the command line's own description by `UPDATE_DOCS=1 cargo test -p lifeboot-rescue`.\n";

/// The page of `rescue` itself.
pub fn overview(commands: &[CommandInfoWithArgs]) -> String {
    let mut out = head(
        "rescue",
        "repairs, unlocks and boots the machine that lifeboot runs on",
    );
    out.push_str(".SH SYNOPSIS\n.B rescue\n.I command\n[\\fIoptions\\fR]\n.SH DESCRIPTION\n");
    out.push_str(&text(
        "Typed in a shell of the rescue system, by ssh or at a console. Every command explains itself with --help and has a page of its own.",
    ));
    out.push_str(".SH COMMANDS\n");
    for command in commands {
        out.push_str(&format!(
            ".TP\n.BR rescue\\-{} (8)\n{}",
            escaped(command.name),
            text(command.description)
        ));
    }
    out.push_str(
        ".SH OPTIONS\n.TP\n\\fB\\-\\-version\\fR\nsay which version this program and its image have\n",
    );
    out + EXIT
}

/// The page of one command.
pub fn page(command: &CommandInfoWithArgs) -> String {
    let name = format!("rescue {}", command.name);
    let mut out = head(&name.replace(' ', "-"), command.description);
    out.push_str(&format!(".SH SYNOPSIS\n.B {}\n", escaped(&name)));
    for flag in visible(command.flags) {
        out.push_str(&format!("{}\n", in_synopsis(&flag_name(flag), &flag.optionality)));
    }
    for positional in command.positionals {
        let word = format!("\\fI{}\\fR", escaped(positional.name));
        out.push_str(&format!("{}\n", in_synopsis(&word, &positional.optionality)));
    }
    if !command.commands.is_empty() {
        out.push_str("\\fIcommand\\fR [\\fIoptions\\fR]\n");
    }
    if !command.notes.is_empty() {
        out.push_str(".SH DESCRIPTION\n");
        command.notes.iter().for_each(|note| out.push_str(&text(note)));
    }
    arguments(&mut out, command.positionals);
    options(&mut out, command.flags);
    for sub in &command.commands {
        subcommand(&mut out, &name, &sub.command);
    }
    examples(&mut out, &name, command.examples);
    out + EXIT + ".SH SEE ALSO\n.BR rescue (8)\n"
}

fn head(name: &str, description: &str) -> String {
    format!(
        "{MADE}.TH {} 8 \"\" lifeboot \"lifeboot\"\n.SH NAME\n{} \\- {}\n",
        escaped(&name.to_uppercase()),
        escaped(name),
        escaped(description)
    )
}

fn visible<'a>(flags: &'a [FlagInfo<'a>]) -> impl Iterator<Item = &'a FlagInfo<'a>> {
    flags.iter().filter(|flag| !flag.hidden && flag.long != "--help")
}

fn flag_name(flag: &FlagInfo) -> String {
    let long = format!("\\fB{}\\fR", escaped(flag.long));
    match flag.kind {
        FlagInfoKind::Switch => long,
        FlagInfoKind::Option { arg_name } => format!("{long} \\fI{}\\fR", escaped(arg_name)),
    }
}

fn in_synopsis(word: &str, how: &Optionality) -> String {
    match how {
        Optionality::Required => word.to_owned(),
        Optionality::Optional => format!("[{word}]"),
        Optionality::Repeating | Optionality::Greedy => format!("[{word} ...]"),
    }
}

fn arguments(out: &mut String, positionals: &[PositionalInfo]) {
    if positionals.is_empty() {
        return;
    }
    out.push_str(".SH ARGUMENTS\n");
    for positional in positionals {
        out.push_str(&format!(
            ".TP\n.I {}\n{}",
            escaped(positional.name),
            text(positional.description)
        ));
    }
}

fn options(out: &mut String, flags: &[FlagInfo]) {
    out.push_str(".SH OPTIONS\n");
    for flag in visible(flags) {
        let short = flag
            .short
            .map(|letter| format!("\\fB\\-{letter}\\fR, "))
            .unwrap_or_default();
        out.push_str(&format!(
            ".TP\n{short}{}\n{}",
            flag_name(flag),
            text(flag.description)
        ));
    }
    out.push_str(".TP\n\\fB\\-\\-help\\fR\nsay all this\n");
}

/// A command of a command: a section of its page.
fn subcommand(out: &mut String, above: &str, command: &CommandInfoWithArgs) {
    let name = format!("{above} {}", command.name);
    out.push_str(&format!(
        ".SH {}\n{}",
        escaped(&name.to_uppercase()),
        text(command.description)
    ));
    command.notes.iter().for_each(|note| out.push_str(&text(note)));
    for flag in visible(command.flags) {
        out.push_str(&format!(".TP\n{}\n{}", flag_name(flag), text(flag.description)));
    }
    command
        .examples
        .iter()
        .for_each(|example| out.push_str(&shown(&name, example)));
}

fn examples(out: &mut String, name: &str, examples: &[&str]) {
    if examples.is_empty() {
        return;
    }
    out.push_str(".SH EXAMPLES\n");
    examples
        .iter()
        .for_each(|example| out.push_str(&shown(name, example)));
}

/// A sentence, and the lines to type behind it.
fn shown(name: &str, example: &str) -> String {
    let mut out = String::new();
    for line in braces(&example.replace("{command_name}", name)).lines() {
        match line.strip_prefix("$ ") {
            Some(typed) => out.push_str(&format!(".PP\n.nf\n.RS\n{}\n.RE\n.fi\n", escaped(typed))),
            None => out.push_str(&format!(".PP\n{}\n", escaped(line))),
        }
    }
    out
}

/// Paragraphs; within one the lines are filled anew.
fn text(text: &str) -> String {
    let text = braces(text);
    let paragraphs = text.trim().split("\n\n");
    let filled = paragraphs.map(|paragraph| paragraph.lines().map(escaped).collect::<Vec<_>>().join("\n"));
    filled.collect::<Vec<_>>().join("\n.PP\n") + "\n"
}

/// argh takes a pair of braces for one.
fn braces(text: &str) -> String {
    text.replace("{{", "{").replace("}}", "}")
}

/// No letter of it is taken for a request or an escape.
fn escaped(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\\' => "\\e".to_owned(),
        '-' => "\\-".to_owned(),
        letter if letter.is_ascii() => letter.to_string(),
        letter => format!("\\[u{:04X}]", u32::from(letter)),
    };
    let text: String = text.chars().map(letter).collect();
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[test]
fn what_troff_would_take_for_its_own_is_escaped() {
    assert_eq!(escaped(".it's a-b\\c…"), "\\&.it's a\\-b\\ec\\[u2026]");
    assert_eq!(text("one\n.two\n\nthree"), "one\n\\&.two\n.PP\nthree\n");
}
