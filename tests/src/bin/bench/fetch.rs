//! Fetching an OS image with its check, beside curl, which throws the bytes away.

use super::{OS, Row, bring_programs, by_turns, serve, timed};
use anyhow::{Context, Result};
use lifeboot_tests::artefacts::Os;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::guest::{Board, Guest, Peer};

/// Bytes a second of `rescue fetch` with verification, divided by those of `curl -o /dev/null`, in one guest.
pub fn fetch(board: Board) -> Result<Row> {
    let server = FaultServer::start()?;
    let os = Os::Debian.packed(board)?;
    serve(&server, &os)?;
    let bytes = os.squashfs.metadata().context("squashfs")?.len() as f64;
    let mut guest = Guest::on(board, "fetch").memory_mb(1024).processors(2).boot()?;
    let client = guest.wait_ssh(Peer::Rescue, 240)?;
    bring_programs(board, &client, "curl")?;
    let url = server.url(OS);
    let curl = format!("chroot /c /usr/bin/curl -s -f -o /dev/null {url}");
    let ours = format!("rescue fetch {url}");
    let (ours, curl) = by_turns(|| timed(&client, &ours), || timed(&client, &curl))?;
    guest.passed()?;
    Ok((
        format!("{}: fetch with verification, {:.0} MB", board.name(), bytes / 1e6),
        format!(
            "{:.0} MB/s, {:.2} of curl's {:.0} MB/s",
            bytes / ours / 1e6,
            curl / ours,
            bytes / curl / 1e6
        ),
        "0.8 of curl".to_owned(),
    ))
}
