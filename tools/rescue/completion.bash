# Tab behind 'rescue': commands, options, devices, files.
# Made from the command line's own description by `UPDATE_DOCS=1 cargo test -p lifeboot-rescue`; a test fails when it is stale.
_rescue_commands='backup boot chroot deploy disks eeprom fetch fsck lock log mount net poweroff reboot report resize status tunnel umount unlock help'

# Block devices: paths, or bare names where something else than a path was begun.
_rescue_devices() {
    local paths
    paths=$(lsblk --noheadings --raw --paths --output NAME 2>/dev/null)
    case $1 in
    '' | /*) printf '%s\n' "$paths" ;;
    *) printf '%s\n' "${paths//\/dev\//}" ;;
    esac
}

_rescue() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local options= values= takes= words= one_of=
    COMPREPLY=()
    if ((COMP_CWORD == 1)) || [[ ${COMP_WORDS[1]} == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$_rescue_commands" -- "$word")
        return
    fi
    case ${COMP_WORDS[1]} in
    backup) options='--all-blocks --raw --skip-errors --verify --post --dry-run --json' values='' takes='device file' ;;
    boot) options='' values='' takes='' ;;
    chroot) options='--subvolume --read-only' values='--subvolume' takes='device' ;;
    deploy) options='--sha256 --signature --no-verify --bmap --bmap-sha256 --size --yes --dry-run --json' values='--sha256 --signature --bmap --bmap-sha256 --size' takes='file device' ;;
    disks) options='--health --json' values='' takes='' ;;
    eeprom) options='' values='' takes='words:show' ;;
    fetch) options='--output --sha256 --no-verify' values='--output --sha256' takes='' ;;
    fsck) options='--repair --dry-run --data --zero-log --rewrite-btrfs --json' values='' takes='device' ;;
    lock) options='--json' values='' takes='device' ;;
    log) options='--json --follow --since' values='--since' takes='' ;;
    mount) options='--list --read-only --at --root-only --subvolume --dry-run --json' values='--at --subvolume' takes='device' ;;
    net) options='--json' values='' takes='' ;;
    poweroff) options='' values='' takes='' ;;
    reboot) options='--to --argument --dry-run' values='--to --argument' takes=''; [[ $before == --to ]] && one_of='network sd usb nvme rescue' ;;
    report) options='--json --out --only' values='--out --only' takes=''; [[ $before == --only ]] && one_of='system firmware power network disks mounts modules parameters status events kernel-log pstore' ;;
    resize) options='' values='' takes='' ;;
    status) options='--json' values='' takes='' ;;
    tunnel) options='--check --json --serve' values='' takes='' ;;
    umount) options='--close --lazy' values='' takes='file' ;;
    unlock) options='--all --key-file --header --name --read-only --tang --test --show --json' values='--key-file --header --name' takes='device' ;;
    esac
    if [[ -n $one_of ]]; then
        words=$one_of
    elif [[ $word == -* ]]; then
        words="$options --help"
    elif [[ " $values " == *" $before "* ]]; then
        takes=file
    else
        [[ $takes == *device* ]] && words+=" $(_rescue_devices "$word")"
        [[ $takes == *words:* ]] && words+=" ${takes#*words:}"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if [[ $takes == *file* && $word != -* ]]; then
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames
    fi
}
complete -F _rescue rescue
