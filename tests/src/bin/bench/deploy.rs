//! `rescue deploy`, which checks and reads back, beside a pipe that does neither, in the same guest.

use super::{Row, bring_programs, by_turns, timed};
use anyhow::{Context, Result};
use lifeboot_tests::artefacts::Os;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::guest::{Board, Disk, Guest, Peer};
use lifeboot_tests::process;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

const MIB: usize = 1 << 20;
/// An image of files as they are on a card: the first of Debian's tarball.
const SIZE: usize = 128 * MIB;

/// Seconds of both, for zstd and gzip.
pub fn deploy(board: Board) -> Result<Vec<Row>> {
    let disks = Disks::new("bench")?;
    let image = disks.dir().join("card.img");
    let tarball = fs::read(Os::Debian.tarball(board)?).context("the tarball")?;
    // Behind an empty boot sector: a tar archive itself would be refused.
    let mut card = vec![0; 512];
    card.extend(tarball.get(..SIZE - card.len()).unwrap_or(&tarball));
    fs::write(&image, card).context("card.img")?;
    let disk = disks.blank("disk.img", 160)?;
    let server = FaultServer::start()?;
    let mut guest = Guest::on(board, "deploy")
        .memory_mb(1024)
        .processors(2)
        .disk(Disk::raw(disk))
        .boot()?;
    let client = guest.wait_ssh(Peer::Rescue, 240)?;
    bring_programs(board, &client, "curl,zstd,gzip")?;
    let mut rows = Vec::new();
    for (format, unpack, suffix) in [("zstd", "zstd -d", "zst"), ("gzip", "gzip -d", "gz")] {
        let packed = packed(&image, format, suffix)?;
        let path = format!("/card.img.{suffix}");
        server.serve_file(&path, &packed)?;
        let url = server.url(&path);
        let digest = sha256(&packed)?;
        let pipe = format!(
            "sh -c 'chroot /c curl -s -f {url} | chroot /c {unpack} | dd of=/dev/vda bs=4M iflag=fullblock oflag=direct && sync'"
        );
        let ours = format!("rescue deploy --yes --sha256 {digest} {url} /dev/vda");
        let (ours, pipe) = by_turns(|| timed(&client, &ours), || timed(&client, &pipe))?;
        rows.push((
            format!(
                "{}: deploy of {} MB, {format}, checked and read back",
                board.name(),
                SIZE / 1_000_000
            ),
            format!(
                "{ours:.1} s, {:.2} of the {pipe:.1} s of curl, {unpack} and dd",
                ours / pipe
            ),
            "1.1".to_owned(),
        ));
    }
    guest.passed()?;
    Ok(rows)
}

fn packed(image: &Path, program: &str, suffix: &str) -> Result<std::path::PathBuf> {
    let mut command = Command::new(program);
    let bytes = process::run_with(command.args(["-c"]).arg(image), b"")?
        .success()
        .context(program.to_owned())?
        .stdout;
    let path = image.with_extension(format!("img.{suffix}"));
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
