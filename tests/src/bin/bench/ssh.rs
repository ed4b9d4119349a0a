//! Our ssh server beside Debian's OpenSSH server, in the same guest, to the same client, turn by turn.

use super::{Row, bring_programs, by_turns};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::guest::{Board, Client, Guest, Peer};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// Bytes sent each time.
const BYTES: usize = 96 << 20;

/// Where OpenSSH listens in the guest.
const PORT: u16 = 2222;

/// Makes what the package's own scripts would have made, starts it, and waits until it listens on [`PORT`], 08AE.
const START: &str = "cd /c && mkdir -p run/sshd root/.ssh etc/ssh dev/pts && cp /etc/lifeboot/authorized_keys root/.ssh/ && \
    echo 'root:x:0:0::/root:/bin/sh' >etc/passwd && echo 'sshd:x:100:65534::/run/sshd:/bin/false' >>etc/passwd && \
    echo 'root:x:0:' >etc/group && cp -L /bin/busybox usr/bin/sh && cp -L /bin/busybox usr/bin/cat && cp -L /bin/busybox usr/bin/head && \
    chroot /c /usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key && \
    chroot /c /usr/sbin/sshd -f /dev/null -p 2222 -o UsePAM=no -o StrictModes=no -o PermitRootLogin=yes -o HostKey=/etc/ssh/ssh_host_ed25519_key && \
    until grep -q ':08AE 00000000:0000 0A' /proc/net/tcp; do sleep 1; done";

/// What the process takes that was started as `… sshd`.
const RESIDENT: &str = r#"for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline | grep -q '[^ ]* sshd *$' && grep VmRSS $p/status; done"#;

/// Both directions, and what the server takes of memory when nobody is there.
pub fn rows(board: Board) -> Result<Vec<Row>> {
    let mut guest = Guest::on(board, "throughput")
        .memory_mb(1024)
        .processors(2)
        .boot()?;
    let ours = guest.wait_ssh(Peer::Rescue, 240)?;
    let idle = ours.run(&[RESIDENT])?.text();
    bring_programs(board, &ours, "openssh-server")?;
    ours.run(&[START])?
        .success()
        .context("starting OpenSSH's server")?;
    let theirs = guest.client_to(PORT)?;
    theirs.run(&["true"])?.success().context("OpenSSH's server")?;
    let zeros = guest.dir().join("zeros");
    let mut file = File::create(&zeros).context("zeros")?;
    file.write_all(&vec![0; BYTES]).context("zeros")?;
    let mut rows = Vec::new();
    for (name, measure) in [("to the guest", up as Measure), ("from the guest", down)] {
        let (our_rate, their_rate) = by_turns(|| measure(&ours, &zeros), || measure(&theirs, &zeros))?;
        rows.push((
            format!("{}: ssh {name}, {} MB", board.name(), BYTES >> 20),
            format!(
                "{our_rate:.1} MB/s, {:.2} of OpenSSH's {their_rate:.1} MB/s",
                our_rate / their_rate
            ),
            "0.8 of OpenSSH".to_owned(),
        ));
    }
    let kilobytes = idle.split_whitespace().nth(1).unwrap_or("?").to_owned();
    rows.push((
        format!("{}: sshd with one session, resident", board.name()),
        format!("{kilobytes} kB"),
        String::new(),
    ));
    guest.passed()?;
    Ok(rows)
}

type Measure = fn(&Client, &Path) -> Result<f64>;

/// MB/s into the guest.
fn up(client: &Client, zeros: &Path) -> Result<f64> {
    let input = File::open(zeros).context("zeros")?;
    timed(client, "cat >/dev/null", Stdio::from(input))
}

/// MB/s out of it.
fn down(client: &Client, _: &Path) -> Result<f64> {
    timed(client, &format!("head -c {BYTES} /dev/zero"), Stdio::null())
}

fn timed(client: &Client, line: &str, input: Stdio) -> Result<f64> {
    let mut command = client.command(&[], &[line]);
    let start = Instant::now();
    let status = command
        .stdin(input)
        .stdout(Stdio::null())
        .status()
        .context("ssh")?;
    ensure!(status.success(), "{line}: {status}");
    Ok(BYTES as f64 / 1e6 / start.elapsed().as_secs_f64())
}
