//! `squashfs`: tarballs that play tricks. Each is refused by name and leaves nothing behind.

use std::fs;

use crate::support::{image_builder, program};

fn header(path: &[u8], kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A member as it is, without anybody's opinion of its name.
fn member(path: &[u8], kind: u8, link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = header(path, kind, data.len() as u64);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend([0; 1024]);
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::write(path("os.tar"), bytes).unwrap();
    let made = image_builder(&["squashfs".into(), path("os.tar"), path("image")]);
    assert!(
        made.code == 1 && made.err.contains("os.tar: ") && made.err.contains(why),
        "{why}: {} {}",
        made.code,
        made.err
    );
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        1,
        "something was left behind"
    );
}

#[track_caller]
fn listed(bytes: &[u8]) -> String {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::write(path("os.tar"), bytes).unwrap();
    let made = image_builder(&["squashfs".into(), path("os.tar"), path("image")]);
    assert_eq!(made.code, 0, "{}", made.err);
    image_builder(&["inspect".into(), "--list".into(), path("image")]).out
}

#[test]
fn a_name_that_leads_out_is_refused_and_an_absolute_one_stays_inside() {
    for name in [&b"../etc/passwd"[..], b"a/../../b", b"/..", b"a/.."] {
        refused(
            &archive(&[member(name, b'0', b"", b"x")]),
            "a name that leads out of the archive",
        );
    }
    let list = listed(&archive(&[
        member(b"etc/", b'5', b"", b""),
        member(b"/etc/passwd", b'0', b"", b"x"),
    ]));
    assert!(list.contains(" etc/passwd\n"), "{list}");
}

#[test]
fn nothing_is_written_through_a_link_and_a_link_may_point_anywhere() {
    let link = member(b"out", b'2', b"/etc", b"");
    refused(
        &archive(&[link.clone(), member(b"out/passwd", b'0', b"", b"x")]),
        "lies below /out, which is a symbolic link",
    );
    let list = listed(&archive(&[
        link,
        member(b"up", b'2', b"../../../etc/shadow", b""),
    ]));
    assert!(
        list.contains("l 777 0 out\n") && list.contains("l 777 0 up\n"),
        "{list}"
    );
}

#[test]
fn a_hard_link_is_to_a_file_that_came_before() {
    let file = member(b"file", b'0', b"", b"x");
    refused(
        &archive(&[member(b"same", b'1', b"/etc/passwd", b"")]),
        "a hard link to /etc/passwd, which does not come before it",
    );
    refused(
        &archive(&[member(b"same", b'1', b"../file", b"")]),
        "a name that leads out",
    );
    refused(
        &archive(&[member(b"d/", b'5', b"", b""), member(b"same", b'1', b"d", b"")]),
        "a hard link to /d, which is a directory",
    );
    listed(&archive(&[file, member(b"same", b'1', b"/file", b"")]));
}

#[test]
fn a_name_comes_once() {
    let file = member(b"file", b'0', b"", b"x");
    refused(&archive(&[file.clone(), file.clone()]), "file: comes twice");
    refused(
        &archive(&[file, member(b"file/x", b'0', b"", b"x")]),
        "lies below /file, which is no directory",
    );
    let directory = member(b"d/", b'5', b"", b"");
    listed(&archive(&[directory.clone(), directory]));
}

#[test]
fn sizes_are_believed_up_to_a_limit() {
    for size in [1 << 37, 1 << 62, u64::MAX] {
        let mut bytes = header(b"huge", b'0', size).as_bytes().to_vec();
        bytes.extend([0; 4096]);
        refused(&bytes, "");
    }
    let mut bytes = header(b"huge", b'0', 1 << 37).as_bytes().to_vec();
    bytes.extend([0; 4096]);
    refused(&bytes, "huge: says it has 137438953472 bytes");
    // A file the archive does not hold all of.
    let mut bytes = header(b"large", b'0', 1 << 30).as_bytes().to_vec();
    bytes.extend([0; 4096]);
    refused(&bytes, "large: ends 1073737728 bytes early");
    // Names and attributes are read into memory, so they have a limit of their own.
    for kind in [b'x', b'L', b'K', b'g'] {
        let mut bytes = header(b"about", kind, 1 << 30).as_bytes().to_vec();
        bytes.extend([0; 4096]);
        refused(&bytes, "1073741824 bytes about one name");
    }
}

#[test]
fn a_header_that_says_nonsense_is_refused() {
    refused(
        &archive(&[
            member(b"about", b'x', b"", b"99 path=../x\n"),
            member(b"file", b'0', b"", b"x"),
        ]),
        "malformed PAX header",
    );
    refused(
        &archive(&[
            member(b"about", b'x', b"", b"13 path=../x\n"),
            member(b"file", b'0', b"", b"x"),
        ]),
        "../x: a name that leads out",
    );
    refused(
        &archive(&[
            member(b"about", b'x', b"", b"22 GNU.sparse.major=1\n"),
            member(b"file", b'0', b"", b"x"),
        ]),
        "file: sparse map: no length",
    );
    let mut bytes = archive(&[member(b"file", b'0', b"", b"x")]);
    bytes[0] ^= 1;
    refused(&bytes, "not a tar archive, or damaged, after 0 entries");
    refused(
        &archive(&[member(b"", b'0', b"", b"x")]),
        "no name for what is not a directory",
    );
}

#[test]
fn a_compressed_tarball_that_is_cut_is_noticed() {
    let data: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let bytes = archive(&[member(b"file", b'0', b"", &data)]);
    let packed = zstd::encode_all(bytes.as_slice(), 3).unwrap();
    listed(&packed);
    refused(&packed[..packed.len() / 2], "file: ");
}

#[test]
fn damage_anywhere_in_the_headers_is_an_answer_and_never_a_crash() {
    let bytes = archive(&[
        member(b"about", b'x', b"", b"30 SCHILY.xattr.user.a=12345\n\n"),
        member(b"file", b'0', b"", b"x"),
        member(b"null", b'3', b"", b""),
        member(b"same", b'1', b"file", b""),
    ]);
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for at in (0..bytes.len() - 1024).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        fs::write(path("os.tar"), &damaged).unwrap();
        let made = image_builder(&["squashfs".into(), path("os.tar"), path("image")]);
        assert!(
            matches!(made.code, 0 | 1),
            "byte {at}: {} {}",
            made.code,
            made.err
        );
    }
}

#[test]
fn sparse_members_are_the_files_they_stand_for() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("tree")).unwrap();
    let file = fs::File::create(path("tree/holes")).unwrap();
    // More pieces than a header has room for.
    for piece in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 5000], piece * 200_000).unwrap();
    }
    file.set_len(10_000_000).unwrap();
    let whole = fs::read(path("tree/holes")).unwrap();
    for format in [
        "gnu",
        "pax --sparse-version=0.0",
        "pax --sparse-version=0.1",
        "pax --sparse-version=1.0",
    ] {
        let (tar, tree, out) = (path("os.tar"), path("tree"), path("out"));
        let (tar, tree) = (tar.to_str().unwrap(), tree.to_str().unwrap());
        let mut words = vec!["--sparse", "-cf", tar, "-C", tree];
        let format_words: Vec<String> = format!("--format={format}")
            .split(' ')
            .map(str::to_owned)
            .collect();
        words.extend(format_words.iter().map(String::as_str));
        words.push(".");
        assert_eq!(program("tar", &words).code, 0, "{format}");
        assert!(
            fs::metadata(tar).unwrap().len() < 1_000_000,
            "{format}: not sparse"
        );
        let made = image_builder(&["squashfs".into(), path("os.tar"), path("image")]);
        assert_eq!(made.code, 0, "{format}: {}", made.err);
        let image = path("image");
        program(
            "unsquashfs",
            &[
                "-q",
                "-n",
                "-f",
                "-d",
                out.to_str().unwrap(),
                image.to_str().unwrap(),
            ],
        );
        assert!(fs::read(path("out/holes")).unwrap() == whole, "{format}");
    }
}
