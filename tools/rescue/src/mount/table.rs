//! What the kernel has mounted: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
//!
//! One mount can hide another at the same place, so the last one of a place is the one that is seen.

use anyhow::Context as _;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The kernel's number, used again after an unmount.
    pub id: u64,
    /// Where.
    pub target: PathBuf,
    /// Which directory of the file system is shown: `/`, or `/@` of a subvolume.
    pub root: String,
    /// Which file system.
    pub fs: String,
    /// What is mounted: `/dev/vda1`, `tmpfs`.
    pub source: String,
    /// Whether nothing can be written through it.
    pub read_only: bool,
}

/// Every mount, the oldest first.
///
/// # Errors
/// When /proc is not there.
pub fn read() -> anyhow::Result<Vec<Mounted>> {
    const PATH: &str = "/proc/self/mountinfo";
    Ok(parse(&fs::read(PATH).context(PATH)?))
}

/// The mount that is seen at exactly this place.
pub fn at<'a>(mounts: &'a [Mounted], place: &Path) -> Option<&'a Mounted> {
    mounts.iter().rfind(|mount| mount.target == place)
}

/// Those at and beneath a place, the oldest first.
pub fn within<'a>(mounts: &'a [Mounted], place: &Path) -> Vec<&'a Mounted> {
    mounts
        .iter()
        .filter(|mount| mount.target.starts_with(place))
        .collect()
}

/// A line that is not understood is left out.
fn parse(text: &[u8]) -> Vec<Mounted> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |index: usize| {
        let field = fields.get(index)?;
        Some(String::from_utf8_lossy(&unescape(field)).into_owned())
    };
    let says_read_only =
        |index: usize| text(index).is_some_and(|options| options.split(',').any(|o| o == "ro"));
    Some(Mounted {
        id: text(0)?.parse().ok()?,
        target: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        root: text(3)?,
        fs: text(dash + 1)?,
        source: text(dash + 2)?,
        read_only: says_read_only(5) || says_read_only(dash + 3),
    })
}

/// Takes `\040` and its like for the byte they stand for, in mountinfo as in fstab.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match octal(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

fn octal(text: &[u8]) -> Option<u8> {
    let [
        b'\\',
        high @ b'0'..=b'3',
        middle @ b'0'..=b'7',
        low @ b'0'..=b'7',
        ..,
    ] = text
    else {
        return None;
    };
    Some(((high - b'0') << 6) | ((middle - b'0') << 3) | (low - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
1 1 0:2 / / rw - rootfs none rw
28 1 0:6 / /dev rw,nosuid - devtmpfs devtmpfs rw,size=4k
36 1 254:1 / /mnt rw,noatime shared:1 master:2 - ext4 /dev/vda1 rw,errors=remount-ro
37 36 254:2 /sub /mnt/my\\040files rw - ext4 /dev/vda2 ro
38 1 254:3 / /mnt2 ro - vfat /dev/vda3 rw
39 1 254:4 / /mnt rw - ext4 /dev/vda4 rw
";

    #[test]
    fn mounts_are_read_with_their_escapes_and_optional_fields() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 6);
        assert_eq!(mounts[2].source, "/dev/vda1");
        assert_eq!(mounts[3].root, "/sub");
        assert_eq!(mounts[3].target, Path::new("/mnt/my files"));
        let read_only: Vec<u64> = mounts.iter().filter(|m| m.read_only).map(|m| m.id).collect();
        assert_eq!(
            read_only,
            [37, 38],
            "for the whole file system, and for this mount of it"
        );
    }

    #[test]
    fn the_last_mount_of_a_place_is_the_one_that_is_seen() {
        let mounts = parse(TABLE);
        assert_eq!(at(&mounts, Path::new("/mnt")).unwrap().id, 39);
        let ids: Vec<u64> = within(&mounts, Path::new("/mnt")).iter().map(|m| m.id).collect();
        assert_eq!(ids, [36, 37, 39], "/mnt2 is not beneath /mnt");
        assert_eq!(at(&mounts, Path::new("/mnt/my")), None);
    }

    #[test]
    fn lines_that_are_cut_or_no_table_at_all_are_left_out() {
        for text in [
            &b""[..],
            b"\n\n",
            b"1",
            b"1 1 0:2 / / rw",
            b"1 1 0:2 / / rw -",
            b"x 1 0:2 / / rw - a b c",
            b"\xff\xfe - \xff",
        ] {
            assert_eq!(parse(text), [], "{text:?}");
        }
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999\\1343"), b"\\999\\3");
        assert_eq!(unescape(b"\\377\\"), b"\xff\\");
    }
}
