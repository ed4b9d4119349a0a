//! The fourth field of an fstab line: which options the kernel's mount wants as attributes, which the file system reads, and which are
//! words for mount(8) and systemd alone.

use rustix::mount::MountAttrFlags;

/// Options, sorted by who reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// nosuid, nodev, noexec and how access times are kept.
    pub attributes: MountAttrFlags,
    /// Nothing may be written.
    pub read_only: bool,
    /// What is given to the file system: `subvol` and `@`, `umask` and `0077`, `discard` alone.
    pub own: Vec<(String, Option<String>)>,
    /// Not to be mounted at the start, and nobody mounts it on access either.
    pub not_automatic: bool,
    /// Its device may be missing.
    pub may_be_missing: bool,
    /// It wants the network.
    pub network: bool,
    /// It is a file that wants a loop device.
    pub image_file: bool,
    /// A directory shown at a second place, with or without what is mounted in it.
    pub bind: Option<Bind>,
}

/// How much a bind mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// The directory alone.
    Plain,
    /// What is mounted in it too.
    Recursive,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            attributes: MountAttrFlags::empty(),
            read_only: false,
            own: Vec::new(),
            not_automatic: false,
            may_be_missing: false,
            network: false,
            image_file: false,
            bind: None,
        }
    }
}

impl Options {
    /// Reads them as mount(8), systemd.mount(5) and the kernel's fs/fs_context.c do.
    pub fn parse(text: &str) -> Options {
        let mut options = Options::default();
        let mut on_access = false;
        for word in split(text) {
            match word.as_str() {
                "noauto" => options.not_automatic = true,
                "auto" => options.not_automatic = false,
                "nofail" => options.may_be_missing = true,
                "x-systemd.automount" => on_access = true,
                "_netdev" => options.network = true,
                "bind" => options.bind = Some(Bind::Plain),
                "rbind" => options.bind = Some(Bind::Recursive),
                "ro" => options.read_only = true,
                "rw" => options.read_only = false,
                word if word == "loop" || word.starts_with("loop=") => options.image_file = true,
                word => options.attribute(word),
            }
        }
        options.not_automatic &= !on_access;
        options
    }

    fn attribute(&mut self, word: &str) {
        let (safe, times) = (
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
            MountAttrFlags::MOUNT_ATTR__ATIME,
        );
        match word {
            "nosuid" => self.attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "suid" => self.attributes -= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => self.attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "dev" => self.attributes -= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => self.attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "exec" => self.attributes -= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "user" | "users" => self.attributes |= safe | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "owner" | "group" => self.attributes |= safe,
            "nodiratime" => self.attributes |= MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            "noatime" => self.attributes = (self.attributes - times) | MountAttrFlags::MOUNT_ATTR_NOATIME,
            "strictatime" => {
                self.attributes = (self.attributes - times) | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
            }
            "relatime" | "atime" | "norelatime" | "nostrictatime" => self.attributes -= times,
            word if is_for_others(word) => {}
            word => self.own.push(match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            }),
        }
    }

    /// Says it as mount(8) would.
    pub fn shown(&self) -> String {
        let mut words = vec![if self.read_only { "ro" } else { "rw" }.to_owned()];
        let names = [
            (MountAttrFlags::MOUNT_ATTR_NOSUID, "nosuid"),
            (MountAttrFlags::MOUNT_ATTR_NODEV, "nodev"),
            (MountAttrFlags::MOUNT_ATTR_NOEXEC, "noexec"),
            (MountAttrFlags::MOUNT_ATTR_NOATIME, "noatime"),
            (MountAttrFlags::MOUNT_ATTR_NODIRATIME, "nodiratime"),
            (MountAttrFlags::MOUNT_ATTR_STRICTATIME, "strictatime"),
        ];
        let set = names.iter().filter(|(flag, _)| self.attributes.contains(*flag));
        words.extend(set.map(|(_, name)| (*name).to_owned()));
        words.extend(self.own.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        }));
        super::os_release::tame(&words.join(","))
    }
}

/// Words that no file system is asked about: for mount(8), for systemd, for security modules that a rescue system has not.
fn is_for_others(word: &str) -> bool {
    const WORDS: [&str; 7] = [
        "defaults",
        "nouser",
        "nousers",
        "noowner",
        "nogroup",
        "iversion",
        "noiversion",
    ];
    const PREFIXES: [&str; 10] = [
        "x-",
        "X-",
        "comment=",
        "uhelper=",
        "helper=",
        "context=",
        "fscontext=",
        "defcontext=",
        "rootcontext=",
        "offset=",
    ];
    word.is_empty() || WORDS.contains(&word) || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

/// At commas that are not between double quotes; the quotes go.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => words.push(String::new()),
            other => {
                if let Some(word) = words.last_mut() {
                    word.push(other);
                }
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
        let found = options.own.iter().rfind(|(own, _)| own == key);
        found.and_then(|(_, value)| value.as_deref())
    }

    fn own(text: &str) -> Vec<(String, Option<String>)> {
        Options::parse(text).own
    }

    #[test]
    fn options_go_to_whom_they_are_for() {
        let options = Options::parse("defaults,noatime,nodev,errors=remount-ro,x-systemd.growfs,discard,ro");
        assert!(options.read_only);
        assert_eq!(
            options.own,
            [
                ("errors".to_owned(), Some("remount-ro".to_owned())),
                ("discard".to_owned(), None)
            ]
        );
        assert_eq!(options.shown(), "ro,nodev,noatime,errors=remount-ro,discard");
        assert_eq!(Options::parse("ro,rw").shown(), "rw", "the last word counts");
        assert_eq!(Options::parse("").shown(), "rw");
        assert_eq!(
            value(&Options::parse("subvol=@,subvol=/@home"), "subvol"),
            Some("/@home")
        );
    }

    #[test]
    fn a_mount_that_any_user_may_make_is_as_safe_as_mount_8_makes_it() {
        assert_eq!(Options::parse("user").shown(), "rw,nosuid,nodev,noexec");
        assert_eq!(Options::parse("user,exec").shown(), "rw,nosuid,nodev");
        assert_eq!(Options::parse("exec,user").shown(), "rw,nosuid,nodev,noexec");
    }

    #[test]
    fn what_is_mounted_on_access_is_mounted_here_and_what_nobody_mounts_is_not() {
        assert!(Options::parse("noauto").not_automatic);
        assert!(!Options::parse("noauto,x-systemd.automount").not_automatic);
        assert!(!Options::parse("nofail").not_automatic);
        assert!(Options::parse("nofail").may_be_missing);
    }

    #[test]
    fn a_comma_between_quotes_does_not_part() {
        assert_eq!(own("context=\"a:c1,c2\",ro"), []);
        assert_eq!(
            own("a=\"b,c\",d"),
            [("a".into(), Some("b,c".into())), ("d".into(), None)]
        );
        assert_eq!(own("\",\",\""), [(",".into(), None)]);
        assert_eq!(own(",,=,"), [(String::new(), Some(String::new()))]);
    }
}
