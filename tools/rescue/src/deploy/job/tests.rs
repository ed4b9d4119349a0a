use super::super::format::tests::tar;
use super::super::write::Landed;
use super::*;
use std::path::PathBuf;

struct World {
    path: PathBuf,
    job: Job,
}

const SIZE: usize = 2 * CHUNK;

impl World {
    /// A "disk" full of what was there before, and a job for it.
    fn new(name: &str, proof: Proof) -> World {
        let path = std::env::temp_dir().join(format!("lifeboot-job-{name}-{}", std::process::id()));
        std::fs::write(&path, vec![0xA5; SIZE]).unwrap();
        let medium = Medium::open(&path).unwrap();
        let progress = Arc::new(Progress::new());
        let mut job = Job::new(Purpose::Write, proof, ("/dev/x", SIZE as u64), progress);
        job.medium = Some(Arc::new(medium));
        World { path, job }
    }

    fn give(&mut self, bytes: &[u8]) -> Result<(), String> {
        let put = bytes.chunks(7000).try_for_each(|piece| self.job.put(piece));
        put.map_err(|_| self.job.error.take().unwrap().to_string())
    }

    fn disk(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn untouched(&self) -> bool {
        !self.job.touched.load(Ordering::SeqCst) && self.disk().iter().all(|byte| *byte == 0xA5)
    }

    fn finish(self) -> (Result<Landed, String>, Vec<u8>) {
        let World { path, mut job } = self;
        let landed = job.finish().map_err(|error| format!("{error:#}"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        (landed, bytes)
    }

    fn end(self) {
        drop(self.job);
        std::fs::remove_file(self.path).unwrap();
    }
}

fn image() -> Vec<u8> {
    let mut state = 0x2545_F491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..CHUNK + 70_000).map(|_| next()).collect()
}

fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    let command = command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    output.stdout
}

#[test]
fn an_image_lands_whole_but_for_its_first_megabyte_however_it_is_packed() {
    let image = image();
    for program in ["cat", "gzip", "xz", "zstd", "bzip2"] {
        let mut world = World::new(program, Proof::Whole);
        let source = match program {
            "cat" => image.clone(),
            program => packed(program, &image),
        };
        world.job.begin(Some(source.len() as u64)).unwrap();
        world.give(&source).unwrap();
        let (landed, disk) = world.finish();
        assert_eq!(landed.unwrap().len, image.len() as u64, "{program}");
        assert!(disk[..1 << 20].iter().all(|byte| *byte == 0), "{program}");
        assert!(disk[1 << 20..image.len()] == image[1 << 20..], "{program}");
    }
}

#[test]
fn a_second_beginning_replaces_the_first() {
    let image = image();
    let mut world = World::new("again", Proof::Whole);
    world.job.begin(Some(image.len() as u64)).unwrap();
    world.give(&vec![9; CHUNK + 5]).unwrap();
    world.job.begin(Some(image.len() as u64)).unwrap();
    world.give(&image).unwrap();
    let (landed, disk) = world.finish();
    assert_eq!(landed.unwrap().len, image.len() as u64);
    assert!(disk[1 << 20..image.len()] == image[1 << 20..]);
}

#[test]
fn what_is_packed_and_cut_does_not_land() {
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        let source = packed(program, &image());
        let mut world = World::new(&format!("cut-{program}"), Proof::Length);
        world.job.begin(None).unwrap();
        world.give(&source[..source.len() - 5]).unwrap();
        let (landed, _) = world.finish();
        assert!(landed.is_err(), "{program}");
    }
}

#[test]
fn a_raw_source_needs_a_length_or_a_proof() {
    let image = image();
    for (proof, total, size, taken) in [
        (Proof::Length, None, None, false),
        (Proof::Whole, None, None, true),
        (Proof::Length, Some(image.len() as u64), None, true),
        (Proof::Length, None, Some(image.len() as u64), true),
    ] {
        let mut world = World::new("length", proof);
        world.job.size = size;
        world.job.begin(total).unwrap();
        let given = world.give(&image);
        assert_eq!(given.is_ok(), taken, "{proof:?} {total:?} {size:?}");
        assert_eq!(world.untouched(), !taken);
        world.end();
    }
}

#[test]
fn a_size_that_was_told_wrong_is_no_success() {
    let mut world = World::new("told", Proof::Length);
    world.job.size = Some(image().len() as u64 + 1);
    world.job.begin(None).unwrap();
    world.give(&image()).unwrap();
    let (landed, _) = world.finish();
    assert_eq!(
        landed.err().unwrap(),
        "the image has 4264304 bytes, 4264305 were expected"
    );
}

#[test]
fn less_than_was_announced_is_no_success() {
    let image = image();
    for (short, lands) in [(0, true), (1, false)] {
        let mut world = World::new("announced", Proof::Length);
        world.job.begin(Some(image.len() as u64 + short)).unwrap();
        world.give(&image).unwrap();
        let (landed, disk) = world.finish();
        assert_eq!(landed.is_ok(), lands);
        assert!(disk[..1 << 20].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_the_first_write() {
    let large = SIZE as u64 + 1;
    let zstd = [&b"\x28\xb5\x2f\xfd\xe4"[..], &large.to_le_bytes(), &[0; 5000]].concat();
    for (source, total, says) in [
        (vec![1; 5000], Some(large), "too small"),
        (zstd, None, "8388609 bytes and it has 8388608"),
        (
            [&b"PK\x03\x04\x14\0\x01\0"[..], &[0; 5000]].concat(),
            Some(5008),
            "encrypted",
        ),
        (
            [&b"<!DOCTYPE html>"[..], &[b' '; 5000]].concat(),
            Some(5015),
            "web page",
        ),
    ] {
        let mut world = World::new("refused", Proof::Whole);
        world.job.begin(total).unwrap();
        let error = world.give(&source).unwrap_err();
        assert!(error.contains(says), "{error}");
        assert!(world.untouched(), "{says}");
        world.end();
    }
}

/// A tar archive, and a disk that differs from it by one byte; each short and long.
fn archives() -> [(Vec<u8>, bool); 4] {
    let mut disk = tar();
    disk[148] ^= 1;
    let long = |first: &[u8]| [first, &image()[..]].concat();
    [
        (long(&tar()), true),
        (tar(), true),
        (long(&disk), false),
        (disk, false),
    ]
}

#[test]
fn what_is_no_disk_image_inside_is_refused_before_the_first_write_however_it_is_packed() {
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        for (bytes, refused) in archives() {
            let source = packed(program, &bytes);
            let mut world = World::new(&format!("within-{program}"), Proof::Length);
            world.job.begin(None).unwrap();
            let given = world.give(&source);
            let landed = given.and_then(|()| world.job.finish().map_err(|error| format!("{error:#}")));
            assert_eq!(landed.is_err(), refused, "{program}");
            if let Err(said) = landed {
                assert!(said.contains("a tar archive"), "{program}: {said}");
                assert!(world.untouched(), "{program}");
            }
            world.end();
        }
    }
}

#[test]
fn a_look_sees_what_is_packed_and_writes_nothing() {
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        for (bytes, refused) in archives() {
            let source = packed(program, &bytes);
            let mut world = World::new(&format!("look-{program}"), Proof::Length);
            world.job.purpose = Purpose::Look;
            world.job.begin(None).unwrap();
            let said = match world.give(&source) {
                Ok(()) => world.job.look_at_all().err().map(|error| format!("{error:#}")),
                Err(said) => Some(said).filter(|_| world.job.found.is_none()),
            };
            assert_eq!(said.is_some(), refused, "{program}: {said:?}");
            assert!(
                said.is_none_or(|said| said.contains("a tar archive")),
                "{program}"
            );
            assert!(world.untouched(), "{program}");
            world.end();
        }
    }
}

#[test]
fn nothing_that_was_packed_is_nothing() {
    let mut world = World::new("packed-empty", Proof::Length);
    world.job.begin(None).unwrap();
    world.give(&packed("gzip", b"")).unwrap();
    assert_eq!(
        world.job.finish().err().unwrap().to_string(),
        "the image is empty"
    );
    assert!(world.untouched());
    world.end();
}

#[test]
fn nothing_and_next_to_nothing() {
    let world = World::new("empty", Proof::Whole);
    let (landed, disk) = world.finish();
    assert_eq!(landed.err().unwrap(), "it is empty");
    assert!(disk.iter().all(|byte| *byte == 0xA5));
    let mut world = World::new("tiny", Proof::Whole);
    world.job.begin(Some(3)).unwrap();
    world.give(b"abc").unwrap();
    assert!(world.untouched());
    let (landed, _) = world.finish();
    assert_eq!(landed.unwrap().len, 3);
}

#[test]
fn an_image_that_grows_beyond_the_disk_ends_there() {
    let source = packed("gzip", &vec![7; SIZE + 1]);
    let mut world = World::new("beyond", Proof::Whole);
    world.job.begin(Some(source.len() as u64)).unwrap();
    let given = world.give(&source);
    let (landed, disk) = world.finish();
    let said = given.err().or(landed.err()).unwrap();
    assert!(said.contains("more than 8388608 bytes"), "{said}");
    assert!(disk[..1 << 20].iter().all(|byte| *byte == 0));
}
