use super::*;
use crate::deploy::bmap::hex;
use lifeboot_init::stage::fetch::Url;
use ring::digest::{SHA256, digest};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

fn disk() -> Vec<u8> {
    (0..CHUNK + 5).map(|at| (at / 7) as u8).collect()
}

/// Reads a backup of that disk back from a server that answers one request so.
fn read_back(status: &'static str, kept: fn(&[u8]) -> Vec<u8>) -> Result<(), String> {
    read_back_seen(status, kept, &Arc::new(Progress::new()))
}

fn read_back_seen(
    status: &'static str,
    kept: fn(&[u8]) -> Vec<u8>,
    progress: &Arc<Progress>,
) -> Result<(), String> {
    let packed = zstd::encode_all(&disk()[..], 1).unwrap();
    let body = kept(&packed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while !lines.next().unwrap().unwrap().is_empty() {}
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        // It may be enough for the other side already.
        drop(stream.write_all(&body));
    });
    let url = Url::parse(&format!("http://me:s3cret@127.0.0.1:{port}/a.img.zst")).unwrap();
    let digest = hex(digest(&SHA256, &packed).as_ref());
    let sums = Arc::new(disk().chunks(CHUNK).map(sum).collect());
    let unpacked = (Format::Zstd, disk().len() as u64);
    let read = verify(
        &Target::Url(url),
        &Plan::default(),
        (&digest, &sums),
        unpacked,
        progress,
    );
    server.join().unwrap();
    read.map_err(|error| format!("{error:#}"))
}

#[test]
fn what_the_server_kept_is_compared_and_what_it_refuses_is_said() {
    assert_eq!(read_back("200 OK", |packed| packed.to_vec()), Ok(()));
    let refused = read_back("404 Not Found", |packed| packed.to_vec()).unwrap_err();
    assert!(
        refused.starts_with("fetch: http://127.0.0.1:") && refused.ends_with("/a.img.zst: 404 Not Found"),
        "{refused}"
    );
}

#[test]
fn it_is_seen_how_much_was_read_back() {
    let progress = Arc::new(Progress::new());
    read_back_seen("200 OK", |packed| packed.to_vec(), &progress).unwrap();
    let line = progress.line();
    let packed = zstd::encode_all(&disk()[..], 1).unwrap().len() as u64;
    let start = format!("verifying: {}, ", crate::disks::human(packed));
    assert!(
        line.starts_with(&start) && !line.contains(" 0 B/s") && line.contains("100 %"),
        "{line}"
    );
}

#[test]
fn what_is_not_what_was_read_is_found_out() {
    let other = |_: &[u8]| zstd::encode_all(&disk()[1..], 1).unwrap();
    let said = read_back("200 OK", other).unwrap_err();
    assert!(said.contains("differs from the disk between byte 0"), "{said}");
    let nothing = read_back("200 OK", |_| Vec::new()).unwrap_err();
    assert!(
        nothing.contains("(0 bytes)") && !nothing.contains("s3cret"),
        "{nothing}"
    );
}
