//! ext2, ext3 and ext4: e2fsck, and the copies of the superblock it can start from when the first is gone.

use super::found::{Condition, Found, Step, line};
use super::job::{Job, Ran};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// From this code on e2fsck did not do its work, see e2fsck(8): 1 corrected, 2 corrected and the machine must restart, 4 left
/// uncorrected, 8 could not, 32 stopped.
const UNABLE: i32 = 8;
const UNCORRECTED: i32 = 4;
/// Blocks of these sizes are looked for; others exist only where memory pages are larger.
const BLOCK_SIZES: [u64; 3] = [1024, 2048, 4096];
/// With sparse_super copies are in the groups 0, 1 and the powers of 3, 5 and 7; without it in every one.
const GROUPS: [u16; 8] = [1, 3, 5, 7, 9, 25, 27, 49];

/// A copy of the superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copy {
    block: u64,
    block_size: u64,
}

/// Looks.
///
/// # Errors
/// When e2fsck cannot be started.
pub fn look(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let waits = needs_replay(device);
    // Where there is no superblock at the beginning e2fsck would look for another by itself, and not say which.
    if superblock(device).is_some_and(|first| is_ext(&first)) {
        let ran = job.run("checking", &line(&["e2fsck", "-f", "-n", "-C", "2", device]))?;
        if has_no_journal(&ran) {
            return Ok(without_journal(&ran, waits, device));
        }
        if ran.stopped || ran.code.is_some_and(|code| code < UNABLE) {
            return Ok(Found {
                // What blkid does not recognize is not repaired because everything is.
                only_by_name: job.disk.fs.is_none(),
                ..judge(&ran, waits, device)
            });
        }
    }
    for copy in copies(device) {
        let [block, size] = [copy.block, copy.block_size].map(|number| number.to_string());
        let words = ["e2fsck", "-f", "-n", "-C", "2", "-b", &block, "-B", &size, device];
        let ran = job.run("checking", &line(&words))?;
        if ran.stopped {
            return Ok(judge(&ran, false, device));
        }
        if has_no_journal(&ran) || ran.code.is_some_and(|code| code < UNABLE) {
            // Whether it waited, the first superblock knew.
            let journal = match has_no_journal(&ran) {
                true => "; its journal is damaged too, and what only that had is lost",
                false => "",
            };
            let says = format!("its superblock is damaged, the copy in block {block} is good{journal}");
            let words = ["e2fsck", "-f", "-y", "-C", "2", "-b", &block, "-B", &size, device];
            return Ok(Found {
                // It may be what is left of a file system that was given up.
                only_by_name: true,
                ..Found::damaged(&says, ran.code, vec![Step::Run(line(&words))])
            });
        }
    }
    Ok(Found::unable(None))
}

fn judge(ran: &Ran, waits: bool, device: &str) -> Found {
    let repair = repair(device);
    match (ran.code, waits) {
        _ if ran.stopped => Found {
            condition: Condition::Stopped,
            ..Found::sound("", ran.code)
        },
        (Some(0), false) => Found::sound("clean", ran.code),
        (Some(0), true) => Found {
            condition: Condition::Waiting,
            steps: repair,
            ..Found::sound(
                "clean, though not unmounted cleanly: its journal is replayed when it is mounted",
                ran.code,
            )
        },
        (Some(1..UNABLE), true) => Found::damaged(
            "not unmounted cleanly, and errors were found that its journal may mend",
            ran.code,
            repair,
        ),
        (Some(1..UNABLE), false) => Found::damaged("errors were found", ran.code, repair),
        _ => Found::unable(ran.code),
    }
}

/// Whether e2fsck could do nothing only because it must not throw away a journal that it cannot read. One on another device may be
/// no worse than not plugged in.
fn has_no_journal(ran: &Ran) -> bool {
    let said = ran.said.to_lowercase();
    !ran.stopped
        && ran.code == Some(UNCORRECTED + UNABLE)
        && said.contains("journal superblock is corrupt")
        && !said.contains("external journal")
}

fn without_journal(ran: &Ran, waits: bool, device: &str) -> Found {
    let says = match waits {
        true => {
            "not unmounted cleanly, and its journal is damaged: a repair makes a new one, and what only the old one had is lost"
        }
        false => "its journal is damaged, in which nothing waited: a repair makes a new one",
    };
    Found {
        // Somebody may want to save what is in it.
        only_by_name: waits,
        ..Found::damaged(says, ran.code, repair(device))
    }
}

fn repair(device: &str) -> Vec<Step> {
    vec![Step::Run(line(&["e2fsck", "-f", "-y", "-C", "2", device]))]
}

/// Whether there are copies of an ext superblock on a device on which nothing was recognized.
pub fn is_hidden_on(device: &str) -> bool {
    !copies(device).is_empty()
}

/// Whether an ext journal waits to be replayed. A check that writes nothing cannot replay it and then takes what the
/// journal would mend for damage.
fn needs_replay(device: &str) -> bool {
    superblock(device).is_some_and(|first| wants_recovery(&first))
}

/// The bytes where the first superblock belongs.
fn superblock(device: &str) -> Option<[u8; 1024]> {
    let mut bytes = [0; 1024];
    let read = File::open(device).and_then(|file| file.read_exact_at(&mut bytes, 1024));
    read.is_ok().then_some(bytes)
}

/// Offsets and values from the kernel's fs/ext4/ext4.h: s_magic, s_feature_incompat, EXT4_FEATURE_INCOMPAT_RECOVER.
fn wants_recovery(superblock: &[u8; 1024]) -> bool {
    is_ext(superblock) && superblock[0x60] & 0x04 != 0
}

fn is_ext(superblock: &[u8; 1024]) -> bool {
    superblock[0x38..0x3A] == [0x53, 0xEF]
}

/// The copies on a device that say of themselves that they belong where they are, in the order of the disk.
fn copies(device: &str) -> Vec<Copy> {
    let Ok(disk) = File::open(device) else {
        return Vec::new();
    };
    BLOCK_SIZES
        .iter()
        .map(|block_size| copies_of(&disk, *block_size))
        .find(|copies| !copies.is_empty())
        .unwrap_or_default()
}

fn copies_of(disk: &File, block_size: u64) -> Vec<Copy> {
    // A group is as large as one block of bits can account for. The first block is 1 where a block is what the boot sector needs.
    let first = u64::from(block_size == 1024);
    let places = GROUPS.map(|group| (group, u64::from(group) * 8 * block_size + first));
    places
        .into_iter()
        .filter(|(group, block)| {
            let mut superblock = [0; 1024];
            disk.read_exact_at(&mut superblock, block * block_size).is_ok()
                && is_copy(&superblock, *group, block_size)
        })
        .map(|(_, block)| Copy { block, block_size })
        .collect()
}

/// s_log_block_size at 0x18, s_blocks_per_group at 0x20, s_block_group_nr at 0x5A.
fn is_copy(superblock: &[u8; 1024], group: u16, block_size: u64) -> bool {
    let word = |at: usize| {
        let bytes = superblock.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    is_ext(superblock)
        && 1024_u64.checked_shl(word(0x18)) == Some(block_size)
        && u64::from(word(0x20)) == 8 * block_size
        && superblock[0x5A..0x5C] == group.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, stopped: bool) -> Ran {
        Ran {
            code: Some(code),
            stopped,
            ..Ran::default()
        }
    }

    #[test]
    fn e2fsck_exit_codes() {
        let told = |code, waits| judge(&ran(code, false), waits, "/dev/x").condition;
        assert_eq!(told(0, false), Condition::Sound);
        assert_eq!(told(0, true), Condition::Waiting);
        assert_eq!(told(4, false), Condition::Damaged);
        assert_eq!(told(8, false), Condition::Unable);
        assert_eq!(told(12, true), Condition::Unable);
        assert_eq!(
            judge(&ran(32, true), false, "/dev/x").condition,
            Condition::Stopped
        );
        let dead = Ran::default();
        assert_eq!(judge(&dead, false, "/dev/x").condition, Condition::Unable);
    }

    #[test]
    fn a_journal_that_cannot_be_read_is_damage_unless_it_is_elsewhere() {
        let said = "Superblock has an invalid journal (inode 8).\nClear? no\n\n\
                    e2fsck: The journal superblock is corrupt while checking journal for /dev/x\n";
        let told = |code, said: &str| {
            has_no_journal(&Ran {
                said: said.to_owned(),
                ..ran(code, false)
            })
        };
        assert!(told(12, said));
        assert!(!told(8, said), "e2fsck names nothing that it left");
        assert!(!told(
            12,
            "e2fsck: Attempt to read block from filesystem resulted in short read\n"
        ));
        assert!(!told(12, &format!("External journal has bad superblock\n{said}")));
    }

    #[test]
    fn what_only_a_damaged_journal_had_is_given_up_by_name_alone_and_said_to_be_lost() {
        let told = |waits| without_journal(&ran(12, false), waits, "/dev/x");
        assert!(told(true).only_by_name && told(true).says.contains("is lost"));
        assert!(!told(false).only_by_name && !told(false).says.contains("lost"));
        assert_eq!(told(false).steps, repair("/dev/x"));
    }

    #[test]
    fn what_is_sound_has_no_step_that_writes() {
        assert!(judge(&ran(0, false), false, "/dev/x").steps.is_empty());
        assert_eq!(judge(&ran(4, false), false, "/dev/x").steps.len(), 1);
    }

    #[test]
    fn a_journal_is_seen_to_wait() {
        let mut superblock = [0u8; 1024];
        superblock[0x60] = 0x04;
        assert!(!wants_recovery(&superblock), "no magic");
        superblock[0x38] = 0x53;
        superblock[0x39] = 0xEF;
        assert!(wants_recovery(&superblock));
        superblock[0x60] = 0x02;
        assert!(!wants_recovery(&superblock));
    }

    #[test]
    fn a_copy_is_one_only_where_it_belongs() {
        let mut superblock = [0u8; 1024];
        superblock[0x38] = 0x53;
        superblock[0x39] = 0xEF;
        superblock[0x20..0x24].copy_from_slice(&8192u32.to_le_bytes());
        superblock[0x5A] = 3;
        assert!(is_copy(&superblock, 3, 1024));
        assert!(!is_copy(&superblock, 1, 1024));
        assert!(!is_copy(&superblock, 3, 4096));
        superblock[0x18..0x1C].fill(0xff);
        assert!(!is_copy(&superblock, 3, 1024), "a shift of four thousand million");
    }
}
