//! The boot parameters, as a table: what is accepted, and the text of `docs/cmdline.md`.
//!
//! A `lifeboot.*` word that is not in this table is a note on the console and an error event, and the boot goes on. Words
//! of others (`console=`, `systemd.*`) are none of our business and are not reported.

/// A boot parameter.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The word before `=`.
    pub name: &'static str,
    /// What may stand behind it.
    pub values: &'static str,
    /// What it does, and what happens without it.
    pub meaning: &'static str,
    /// Whether the word may be given several times.
    pub many: bool,
}

const fn one(name: &'static str, values: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        values,
        meaning,
        many: false,
    }
}

const fn many(name: &'static str, values: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        values,
        meaning,
        many: true,
    }
}

/// Every boot parameter that lifeboot reads.
pub const KEYS: &[Key] = &[
    many(
        "root",
        "http://… https://… live:URL UUID=… LABEL=… PARTUUID=… PARTLABEL=… /dev/…",
        "Where the OS is. An URL is a squashfs that is fetched into memory, verified and put under an overlay (`live:URL` is \
         dracut's spelling of the same); everything else is a local file system. May be given several times: the list is tried in \
         order. Without it the machine stays in rescue.",
    ),
    one(
        "rootfstype",
        "TYPE",
        "File system of a local root; found out when absent.",
    ),
    one("rootflags", "OPTION,…", "Mount options of a local root."),
    one(
        "ro",
        "",
        "Mount a local root read-only (the default, as the kernel's).",
    ),
    one("rw", "", "Mount a local root writable."),
    one(
        "init",
        "PATH",
        "What to execute in the new root. Default: the first of /sbin/init, /lib/systemd/systemd, /etc/init, /bin/init.",
    ),
    many(
        "ip",
        "dhcp | off | auto6 | IFACE:dhcp | CLIENT:PEER:GATEWAY:NETMASK:HOSTNAME:IFACE:AUTOCONF[:DNS0[:DNS1[:NTP]]]",
        "As in the kernel's nfsroot documentation and dracut.cmdline(7); IPv6 addresses in brackets, a prefix length may stand for \
         the netmask. When no interface that is asked for has appeared within 15 s, or none of them has had a carrier for 20 s while another \
         wired one has, DHCP is used on every wired one; and where `ip=` names a single interface, its addresses are set on the only other one there \
         is, or the only one with a carrier. One that comes later is still configured as asked. Default: DHCP on every wired interface at once, first lease wins.",
    ),
    many(
        "nameserver",
        "ADDRESS",
        "A DNS server, used before those of the lease.",
    ),
    one(
        "BOOTIF",
        "01-MAC",
        "Only the interface with this MAC address is used (PXELINUX's word); when it has not appeared within 15 s, or has had no \
         carrier for 20 s while another wired one has, every wired one.",
    ),
    many(
        "vlan",
        "NAME:INTERFACE",
        "Makes the VLAN interface NAME (eth0.5, vlan5 or vlan0005: the number is the tag) on INTERFACE and uses that.",
    ),
    many(
        "rd.luks.uuid",
        "UUID",
        "Unlock this LUKS volume before the root is looked for; `luks-UUID` is understood too.",
    ),
    many(
        "rd.luks.name",
        "UUID=NAME",
        "Unlock this LUKS volume under /dev/mapper/NAME.",
    ),
    many(
        "rd.luks.key",
        "PATH[:KEYDEV[:LUKSDEV]] | UUID=PATH[:KEYDEV]",
        "A key file in the image, or on the file system of KEYDEV (UUID=, LABEL=, PARTUUID=, PARTLABEL= or /dev/), tried without anybody \
         being asked; a passphrase may be given meanwhile. See unlock.md.",
    ),
    many(
        "rd.luks.data",
        "UUID=DEVICE",
        "Where a volume is whose header is elsewhere (systemd's word).",
    ),
    many(
        "rd.luks.options",
        "[UUID=]OPTION,…",
        "`discard`, `read-only`, and for one volume `header=/PATH[:DEVICE]` or `header=DEVICE`, its detached header (others are noted and \
         not used).",
    ),
    one(
        "lifeboot.tang",
        "on | off",
        "Whether the Tang servers that a volume of `rd.luks.uuid=` is bound to (`clevis luks bind`) are asked to unlock it. Default: on.",
    ),
    one(
        "rd.break",
        "STAGE",
        "Stop before a stage: plan, devices, network, time, fetch, verify, mount or handover; `rescue boot` goes on.",
    ),
    one(
        "lifeboot.verify",
        "required | sha256:HEX | off",
        "How an OS image proves itself: a minisign signature by a key in the image (the default), the SHA-256 given here, or \
         not at all - which is said on every console.",
    ),
    many(
        "lifeboot.min-version",
        "NAME:VERSION",
        "An OS image proved by signature must carry one of these names and at least this version (numbers with dots between them) in \
         its signed comment, so that an old image cannot be put in the place of a newer one. Lock it together with `lifeboot.verify`.",
    ),
    one(
        "lifeboot.overlay",
        "tmpfs[:SIZE] | DEVICE | none",
        "Where the writable layer of an OS image lives. SIZE as tmpfs takes it (512M, 50%); default tmpfs:50%.",
    ),
    one(
        "lifeboot.hold",
        "never | session | always",
        "Whether a ready system is started while somebody is logged in. `session` (the default) waits until the last session \
         ends or `rescue boot` is typed; `always` waits for `rescue boot`; `never` does not wait.",
    ),
    one(
        "lifeboot.on-failure",
        "rescue | reboot",
        "What follows when every root has failed as often as `lifeboot.retry` allows. Default: rescue.",
    ),
    one(
        "lifeboot.retry",
        "forever | N",
        "How often the list of roots is tried again in the background. Default: forever.",
    ),
    one(
        "lifeboot.deadline",
        "SECONDS",
        "When the system is not handed over by then, `lifeboot.on-failure` applies; a session holds it off.",
    ),
    one(
        "lifeboot.watchdog",
        "SECONDS | off",
        "Timeout of the hardware watchdog. Default: 15 where there is one.",
    ),
    one(
        "lifeboot.key-partition",
        "LABEL=… | UUID=… | PARTUUID=… | PARTLABEL=… | /dev/… | off",
        "A FAT file system with this machine's own `ssh_host_ed25519_key`, `authorized_keys` and `config.toml`, each optional; it is \
         read before the network and the ssh server begin, see boot.md. Default: off, since whoever can plug in a disk of that name \
         could log in.",
    ),
    one(
        "lifeboot.key-wait",
        "SECONDS",
        "How long the boot waits for the key partition to appear (0 to 600). Default: 10.",
    ),
    many(
        "lifeboot.ssh-key",
        "\"TYPE BASE64 COMMENT\"",
        "A public key that may log in as root, beside those in the image; options before it as in sshd(8), see ssh.md.",
    ),
    many(
        "lifeboot.ssh-unlock-key",
        "\"TYPE BASE64 COMMENT\"",
        "A public key that may log in as the user `unlock` alone, who gets the passphrase prompt and nothing else.",
    ),
    many(
        "lifeboot.ssh-status-key",
        "\"TYPE BASE64 COMMENT\"",
        "A public key that may log in as the user `status` alone, who gets the report of `rescue status` and nothing else.",
    ),
    many(
        "lifeboot.ssh-user-ca",
        "\"TYPE BASE64 COMMENT\"",
        "The public key of an authority: a certificate it made (`ssh-keygen -s`) lets in the users that are its principals. Locking \
         `lifeboot.ssh-key` locks this word and the two above with it.",
    ),
    one(
        "lifeboot.ssh-port",
        "PORT",
        "Port of the ssh server. Default: 22.",
    ),
    many(
        "lifeboot.tunnel",
        "USER@HOST[:PORT][,listen=PORT]",
        "Keeps a reverse ssh tunnel to this bastion, so that `ssh -p PORT root@localhost` there reaches this machine's ssh server, see \
         tunnel.md. Without `listen=` the bastion chooses the port. Needs `lifeboot.tunnel-hostkey`.",
    ),
    many(
        "lifeboot.tunnel-hostkey",
        "\"[HOST] TYPE BASE64\" | \"[HOST] SHA256:…\"",
        "The host key a bastion must show, or its fingerprint; with HOST (or [HOST]:PORT, as in known_hosts) for that bastion alone. Without one no \
         tunnel is kept: there is no trust on first use.",
    ),
    one(
        "lifeboot.console-password",
        "$argon2id$… | off",
        "The hash of a password that consoles ask for before they give a shell, as `image-builder hash-password` makes it; ssh does not ask for \
         it, and a disk can be unlocked without it. A value that is no such hash shuts the consoles. Best in the image and locked. Default: off.",
    ),
    one(
        "lifeboot.hostname",
        "TEMPLATE",
        "Host name; wins over the one of the lease.",
    ),
    many(
        "lifeboot.ntp",
        "HOST[:PORT]",
        "An SNTP server, used when the lease names none.",
    ),
    one(
        "lifeboot.log",
        "error | warn | info | debug",
        "Which events are printed on the consoles. Default: info.",
    ),
    one(
        "lifeboot.events",
        "DEVICE",
        "A serial or virtio port that gets every event as a line of JSON (ttyS1, vport0p1, virtio-ports/NAME).",
    ),
    one(
        "lifeboot.syslog",
        "ADDRESS[:PORT]",
        "An IP address that events are sent to as syslog datagrams (RFC 5424, UDP, port 514).",
    ),
    one(
        "lifeboot.debug",
        "panic:STAGE",
        "Makes the pipeline panic once before that stage: for testing that this does no harm.",
    ),
];

/// The parameter of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// `docs/cmdline.md`.
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for key in KEYS {
        let shape = match key.values {
            "" => format!("`{}`", key.name),
            values => format!("`{}={}`", key.name, values.replace('|', "\\|")),
        };
        let times = if key.many { " Several allowed." } else { "" };
        out.push_str(&format!(
            "| {shape} | {}{times} |\n",
            key.meaning.replace('|', "\\|")
        ));
    }
    out.push_str(TEMPLATES);
    for (name, meaning) in crate::template::NAMES {
        out.push_str(&format!("| `{{{name}}}` | {meaning} |\n"));
    }
    out
}

const HEAD: &str = "\
<!-- Made from init/contract/src/keys.rs by `UPDATE_DOCS=1 cargo test -p lifeboot-contract`; a test fails when it is stale. -->
# Boot parameters

The same words are read from the kernel command line and from `/etc/lifeboot/config.toml` in the image, where they are TOML keys
(`lifeboot.verify = \"required\"`, `root = [\"http://a/os.squashfs\", \"LABEL=rescue\"]`). The command line wins, word by word: a `root=` there
replaces the whole list of the file. A key partition's `config.toml` (see `lifeboot.key-partition`) stands between the two. `locked = [\"lifeboot.verify\", \"lifeboot.ssh-key\"]` in the image's file makes those words deaf to both.

A `lifeboot.*` word that is not listed here is reported and ignored. Of one that cannot be given several times the last holds, and that it was given with different values
is reported. A value that cannot be understood is reported too; where running on with
the default could run the wrong thing (`root`, `init`, `lifeboot.verify`, `lifeboot.min-version`, `lifeboot.overlay`, `rd.luks.*`), the boot is refused and the machine stays in
rescue.

| Word | Meaning |
|---|---|
";

const TEMPLATES: &str = "
## Templates

In every URL, in `lifeboot.hostname` and in `lifeboot.tunnel`:

| Name | Is replaced by |
|---|---|
";
