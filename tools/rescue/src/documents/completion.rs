//! What Tab offers behind `rescue`, as a script for bash.

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
    local options= values= takes= words=
    COMPREPLY=()
    if ((COMP_CWORD == 1)) || [[ ${COMP_WORDS[1]} == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W \"$_rescue_commands\" -- \"$word\")
        return
    fi
    case ${COMP_WORDS[1]} in
";

const TAIL: &str = "    esac
    if [[ $word == -* ]]; then
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
    format!(
        "    {}) options='{}' values='{}' takes='{takes}' ;;\n",
        command.name,
        options.join(" "),
        values.join(" ")
    )
}

/// What an argument of that name can be.
fn kind(name: &str) -> Option<&'static str> {
    match name {
        "device" | "devices" | "disk" => Some("device"),
        "source" | "target" | "file" | "path" => Some("file"),
        _ => None,
    }
}
