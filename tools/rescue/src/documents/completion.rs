//! What Tab offers behind `rescue`, as a script for bash.

use crate::reboot::Target;
use crate::report;
use argh::{CommandInfoWithArgs, FlagInfoKind};
use std::fmt::Write as _;

const HEAD: &str = "\
# Tab behind 'rescue': commands, options, devices, files.
# Made from the command line's own description by `UPDATE_DOCS=1 cargo test -p lifeboot-rescue`; a test fails when it is stale.

# Block devices: paths, or bare names where something else than a path was begun.
_rescue_devices() {
    local paths
    paths=$(lsblk --noheadings --raw --paths --output NAME 2>/dev/null)
    case $1 in
    '' | /*) printf '%s\\n' \"$paths\" ;;
    *) printf '%s\\n' \"${paths//\\/dev\\//}\" ;;
    esac
}

_rescue() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local options= values= takes= words= one_of=
    COMPREPLY=()
    if ((COMP_CWORD == 1)) || [[ ${COMP_WORDS[1]} == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W \"$_rescue_commands\" -- \"$word\")
        return
    fi
    case ${COMP_WORDS[1]} in
";

const TAIL: &str = "    esac
    if [[ -n $one_of ]]; then
        words=$one_of
    elif [[ $word == -* ]]; then
        words=\"$options --help\"
    elif [[ \" $values \" == *\" $before \"* ]]; then
        takes=file
    else
        [[ $takes == *device* ]] && words+=\" $(_rescue_devices \"$word\")\"
        [[ $takes == *words:* ]] && words+=\" ${takes#*words:}\"
    fi
    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")
    if [[ $takes == *file* && $word != -* ]]; then
        mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$word\")
        compopt -o filenames
    fi
}
complete -F _rescue rescue
";

/// The script.
pub fn script(commands: &[CommandInfoWithArgs]) -> String {
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let mut cases = String::new();
    for command in commands {
        cases.push_str(&case(command));
    }
    let (about, functions) = HEAD.split_at(HEAD.find("\n\n").map_or(0, |at| at + 1));
    format!(
        "{about}_rescue_commands='{} help'\n{functions}{cases}{TAIL}",
        names.join(" ")
    )
}

fn case(command: &CommandInfoWithArgs) -> String {
    let flags = || command.flags.iter().filter(|flag| !flag.hidden);
    let options: Vec<&str> = flags()
        .map(|flag| flag.long)
        .filter(|long| *long != "--help")
        .collect();
    let values: Vec<&str> = flags()
        .filter(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }))
        .map(|flag| flag.long)
        .collect();
    let mut takes: Vec<&str> = command
        .positionals
        .iter()
        .filter_map(|positional| kind(positional.name))
        .collect();
    takes.dedup();
    let mut takes = takes.join(" ");
    if !command.commands.is_empty() {
        let names: Vec<&str> = command.commands.iter().map(|sub| sub.name).collect();
        let _infallible = write!(takes, "words:{}", names.join(" "));
    }
    let mut chosen = String::new();
    for value in &values {
        if let Some(words) = one_of(command.name, value) {
            let _infallible = write!(
                chosen,
                "; [[ $before == {value} ]] && one_of='{}'",
                words.join(" ")
            );
        }
    }
    format!(
        "    {}) options='{}' values='{}' takes='{takes}'{chosen} ;;\n",
        command.name,
        options.join(" "),
        values.join(" ")
    )
}

/// What an option takes, where it is one of a few words.
fn one_of(command: &str, option: &str) -> Option<Vec<&'static str>> {
    match (command, option) {
        ("reboot", "--to") => Some(Target::names()),
        ("report", "--only") => Some(report::section_names()),
        _ => None,
    }
}

/// What an argument of that name can be.
fn kind(name: &str) -> Option<&'static str> {
    match name {
        "device" | "devices" | "disk" => Some("device"),
        "source" | "target" | "file" | "path" => Some("file"),
        _ => None,
    }
}

#[test]
fn tab_offers_what_an_option_takes_and_nothing_where_anything_may_stand() {
    let script = script(&super::commands());
    let offered = |words: &[&str]| {
        let play = format!(
            "{script}\nCOMP_WORDS=(rescue \"$@\"); COMP_CWORD=$#; _rescue; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = std::process::Command::new("bash");
        let ended = bash
            .args(["--norc", "-c", &play, "bash"])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&ended.stdout).trim().to_owned()
    };
    for (words, offers) in [
        (["reboot", "--to", ""], "network sd usb nvme rescue"),
        (["reboot", "--to", "n"], "network nvme"),
        (["reboot", "--dry-run", "n"], ""),
        (["reboot", "--dry-run", "--t"], "--to"),
        (["report", "--only", "ke"], "kernel-log"),
        (["report", "--json", "ke"], ""),
    ] {
        assert_eq!(offered(&words), offers, "{words:?}");
    }
}
