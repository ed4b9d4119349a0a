//! `make bench`: the figures of `docs/benchmarks.md`, measured on this machine and printed as a table.
//!
//! Where a figure is relative, both sides are measured in the same run: our image beside a bare kernel, beside a busybox script,
//! our fetch beside curl in the same guest.
#![forbid(unsafe_code)]

mod deploy;
mod fetch;
mod medians;
mod ssh;

use anyhow::{Context, Result, bail, ensure};
use lifeboot_tests::artefacts::{
    Os, OsImage, Wanted, device_executable, image_builder, image_dir, keys_dir, prepare, target_dir,
    test_image,
};
use lifeboot_tests::cpio;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::{keys, tiny};
use lifeboot_tests::guest::{Board, Client, Guest, Peer};
use lifeboot_tests::{interrupt, process};
use medians::{by_turns, median_of};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const OS: &str = "/os.squashfs";

/// Modules the busybox script loads, in this order.
const MODULES: [&str; 9] = [
    "failover",
    "net_failover",
    "virtio_net",
    "loop",
    "squashfs",
    "overlay",
    "af_packet",
    "crc32c_generic",
    "virtio_console",
];

/// As little as starts an OS image over HTTP: no ssh, no check, no second try.
const BARE: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs run /run
for m in MODULES; do [ -f /m/$m.ko ] && $b insmod /m/$m.ko; done
port=/dev/vport1p1; for p in /dev/vport*; do [ -c "$p" ] && port=$p; done
say() { echo "{\"seq\":0,\"ms\":$($b awk '{ printf "%d", $1 * 1000 }' /proc/uptime),\"name\":\"$1\",\"level\":\"info\"}" >$port; }
say init.start
[ -n "URL" ] || { while :; do $b sleep 3600; done; }
printf '#!/bin/busybox sh\n[ "$1" = bound ] && /bin/busybox ip addr add $ip/$mask dev $interface && /bin/busybox ip route add default via $router\n' >/lease
$b chmod 755 /lease
$b ip link set eth0 up
$b udhcpc -q -n -f -i eth0 -s /lease -t 10 -T 1
say network.lease
$b mount -t tmpfs tmpfs /mem; $b mkdir -p /mem/upper /mem/work /lower /root
$b wget -q -O /mem/os URL
say fetch.done
$b mount -o loop,ro -t squashfs /mem/os /lower
$b mount -t overlay -o lowerdir=/lower,upperdir=/mem/upper,workdir=/mem/work overlay /root
for d in dev proc sys run; do $b mount -o move /$d /root/$d; done
exec $b switch_root /root /sbin/init
"#;

fn main() -> ExitCode {
    match interrupt::catch().and_then(|()| bench()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A line of the table: what, measured, to reach.
type Row = (String, String, String);

fn bench() -> Result<()> {
    let subject = std::env::args().nth(1);
    if !matches!(subject.as_deref(), None | Some("deploy" | "ssh")) {
        bail!("usage: bench [deploy|ssh]");
    }
    let boards = [Board::VirtArm64, Board::PcX86_64];
    prepare(&Wanted {
        boards: boards.into(),
        everything: false,
        os: boards
            .iter()
            .flat_map(|board| [(Os::Tiny, *board), (Os::Debian, *board)])
            .collect(),
    })?;
    // One subject alone.
    let alone = match subject.as_deref() {
        Some("deploy") => {
            let both = boards
                .map(deploy::deploy)
                .into_iter()
                .collect::<Result<Vec<_>>>()?;
            Some(both.concat())
        }
        Some("ssh") => Some(ssh::rows(Board::PcX86_64)?),
        _ => None,
    };
    if let Some(rows) = alone {
        show(rows);
        return Ok(());
    }
    println!("\n| What | Measured | To reach |\n|---|---|---|");
    show(sizes()?);
    show(vec![build_time()?]);
    show(arm_boot()?);
    show(pc_boot()?);
    for board in boards {
        show(vec![fetch::fetch(board)?]);
        show(deploy::deploy(board)?);
    }
    show(ssh::rows(Board::PcX86_64)?);
    Ok(())
}

/// Prints lines of the table as they are known.
fn show(rows: Vec<Row>) {
    for (what, measured, wanted) in rows {
        println!("| {what} | {measured} | {wanted} |");
    }
}

fn sizes() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for board in [Board::VirtArm64, Board::PcX86_64] {
        let executable = device_executable(board.arch())?;
        let bytes = executable
            .metadata()
            .with_context(|| executable.display().to_string())?
            .len();
        rows.push((
            format!("device executable, {}", board.arch()),
            megabytes(bytes),
            "4.5 MB".to_owned(),
        ));
        let initrd = test_image(board)?.initrd;
        let bytes = initrd
            .metadata()
            .with_context(|| initrd.display().to_string())?
            .len();
        let wanted = if board == Board::VirtArm64 { "9 MB" } else { "" };
        rows.push((
            format!("initramfs of {}, zstd", board.name()),
            megabytes(bytes),
            wanted.to_owned(),
        ));
    }
    Ok(rows)
}

fn build_time() -> Result<Row> {
    let out = target_dir().join("lifeboot").join("bench-image");
    let executable = device_executable(Board::VirtArm64.arch())?;
    let build = || -> Result<f64> {
        let mut command = Command::new(image_builder());
        command
            .args(["build", "--board", Board::VirtArm64.name(), "--out"])
            .arg(&out);
        command.arg("--executable").arg(&executable);
        command
            .arg("--authorized-keys")
            .arg(keys_dir().join("authorized_keys"));
        command
            .arg("--trusted-key")
            .arg(keys_dir().join(keys::TRUSTED).with_extension("pub"));
        let start = Instant::now();
        process::run_with(&mut command, b"")?.success()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let seconds = median_of(build)?;
    Ok((
        "image build, virt-arm64, packages cached".to_owned(),
        format!("{seconds:.1} s"),
        "5 s".to_owned(),
    ))
}

/// Seconds of the guest's own clock to events of a guest that boots `url`, and to a login by ssh if there is one to be had.
struct Boot {
    /// Seconds from the start of QEMU to where that clock starts: firmware, the kernel's decompression.
    before: f64,
    init: f64,
    login: Option<f64>,
    lease: Option<f64>,
    fetched: Option<f64>,
    real_init: Option<f64>,
}

/// The guest's own clock and the one here differ by what QEMU needs before the kernel starts.
/// One boot with two processors, which may die in the emulator before init (see the harness's board): that is said, and repeated.
fn boot(board: Board, initrd: Option<&Path>, url: Option<&str>) -> Result<Boot> {
    match boot_once(board, initrd, url) {
        Err(error) if format!("{error:#}").contains("init.start") => {
            eprintln!("a boot died before init and is repeated");
            boot_once(board, initrd, url)
        }
        outcome => outcome,
    }
}

fn boot_once(board: Board, initrd: Option<&Path>, url: Option<&str>) -> Result<Boot> {
    let mut builder = Guest::on(board, "benchmark")
        .memory_mb(1024)
        .processors(2)
        .word("loglevel=4");
    if let Some(initrd) = initrd {
        builder = builder.initrd(initrd);
    } else if let Some(url) = url {
        builder = builder.word(format!("root={url}")).word("lifeboot.hold=never");
    }
    let mut guest = builder.boot()?;
    let at =
        |guest: &mut Guest, name: &str| -> Result<f64> { Ok(guest.wait_event(name, 60)?.ms as f64 / 1000.0) };
    let init = at(&mut guest, "init.start")?;
    let mut seen = Boot {
        before: (guest.age() - init).max(0.0),
        init,
        login: None,
        lease: None,
        fetched: None,
        real_init: None,
    };
    if initrd.is_none() && url.is_none() {
        guest.wait_ssh(Peer::Rescue, 180)?;
        seen.login = Some(at(&mut guest, "ssh.login")?);
    }
    if url.is_some() {
        seen.lease = Some(at(&mut guest, "network.lease")?);
        seen.fetched = Some(at(&mut guest, "fetch.done")?);
        let up = guest.wait_event("tiny.up", 180)?;
        seen.real_init = up.u64("started_ms").map(|ms| ms as f64 / 1000.0);
    }
    guest.passed()?;
    Ok(seen)
}

fn arm_boot() -> Result<Vec<Row>> {
    let board = Board::VirtArm64;
    let bare = bare_initramfs(board, "")?;
    let to_init = median_of(|| Ok(boot(board, Some(&bare), None)?.init))?;
    let to_login = median_of(|| boot(board, None, None)?.login.context("no login"))?;
    let wanted = 1.5 * to_init + 3.0;
    Ok(vec![
        (
            "virt-arm64: kernel start to a bare init".to_owned(),
            format!("{to_init:.1} s"),
            String::new(),
        ),
        (
            "virt-arm64: kernel start to first ssh login".to_owned(),
            format!("{to_login:.1} s"),
            format!("{wanted:.1} s"),
        ),
    ])
}

fn pc_boot() -> Result<Vec<Row>> {
    let board = Board::PcX86_64;
    let server = FaultServer::start()?;
    let os = Os::Tiny.packed(board)?;
    serve(&server, &os)?;
    let url = server.url(OS);
    let bare = bare_initramfs(board, &url)?;
    // Both sides from the start of QEMU, as somebody waits for it who has switched a machine on.
    let since_start = |seen: Boot, what: fn(&Boot) -> Option<f64>| {
        what(&seen)
            .map(|seconds| seen.before + seconds)
            .context("an event is missing")
    };
    let bare_lease = median_of(|| since_start(boot(board, Some(&bare), Some(&url))?, |seen| seen.lease))?;
    let bare_init = median_of(|| since_start(boot(board, Some(&bare), Some(&url))?, |seen| seen.real_init))?;
    let login = median_of(|| since_start(boot(board, None, None)?, |seen| seen.login))?;
    let ours = median_of(|| since_start(boot(board, None, Some(&url))?, |seen| seen.real_init))?;
    Ok(vec![
        (
            "pc-x86_64: busybox script, QEMU start to lease".to_owned(),
            format!("{bare_lease:.1} s"),
            "(7.2 s)".to_owned(),
        ),
        (
            "pc-x86_64: busybox script, QEMU start to real init".to_owned(),
            format!("{bare_init:.1} s"),
            "(9.5 s)".to_owned(),
        ),
        (
            "pc-x86_64: QEMU start to first ssh login".to_owned(),
            format!("{login:.1} s"),
            format!("{:.1} s", bare_lease * 9.0 / 7.2),
        ),
        (
            "pc-x86_64: QEMU start to real init".to_owned(),
            format!("{ours:.1} s"),
            format!("{:.1} s", bare_init * 11.0 / 9.5),
        ),
    ])
}

/// An initramfs with busybox, the board's modules and the script; an empty `url` stays at the start.
fn bare_initramfs(board: Board, url: &str) -> Result<PathBuf> {
    let image = test_image(board)?.initrd;
    let mut command = Command::new("zstd");
    let archive = process::run_with(command.args(["-dc"]).arg(&image), b"")?
        .success()
        .context("zstd")?
        .stdout;
    let mut writer = cpio::Writer::default();
    for dir in ["bin", "m", "dev", "proc", "sys", "run", "mem"] {
        writer.directory(dir);
    }
    writer.console();
    writer.file("bin/busybox", 0o755, &tiny::busybox(board)?);
    writer.link("bin/sh", "busybox");
    let wanted = |path: &str| {
        let name = Path::new(path)
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .replace('-', "_");
        path.ends_with(".ko") && MODULES.contains(&name.as_str())
    };
    for (path, content) in cpio::files(&archive, wanted)? {
        let name = Path::new(&path)
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .replace('-', "_");
        writer.file(&format!("m/{name}"), 0o644, &content);
    }
    writer.file(
        "init",
        0o755,
        BARE.replace("MODULES", &MODULES.join(" "))
            .replace("URL", url)
            .as_bytes(),
    );
    let mut command = Command::new("zstd");
    let packed = process::run_with(command.args(["-19", "-c"]), &writer.finish())?
        .success()
        .context("zstd")?
        .stdout;
    let path = image_dir(board).join(if url.is_empty() {
        "bare-init.zst"
    } else {
        "bare-script.zst"
    });
    std::fs::write(&path, packed).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn serve(server: &FaultServer, os: &OsImage) -> Result<()> {
    server.serve_file(OS, &os.squashfs)?;
    server.serve_file(&format!("{OS}.minisig"), &os.signature)
}

/// Seconds of the guest's own clock that a command takes there.
fn timed(client: &Client, what: &str) -> Result<f64> {
    let script = format!(
        "a=$(cut -d' ' -f1 /proc/uptime); {what} >/dev/null 2>&1 || exit 1; echo $a $(cut -d' ' -f1 /proc/uptime)"
    );
    let text = client
        .run(&[&script])?
        .success()
        .with_context(|| what.to_owned())?
        .text();
    let times: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    ensure!(times.len() == 2, "{what}: {text}");
    Ok(times[1] - times[0])
}

/// Debian's curl and other packages with their libraries under /c of the guest.
fn bring_programs(board: Board, client: &Client, packages: &str) -> Result<()> {
    let archive = tiny::packages(board, packages)?;
    let mut unpack = client.command(
        &[],
        &["mkdir /c && tar -C /c -xf - && mkdir -p /c/dev && mount -o bind /dev /c/dev && cd /c && for l in bin sbin lib lib64; do [ -e $l ] || [ ! -d usr/$l ] || ln -s usr/$l $l; done"],
    );
    process::run_with(&mut unpack, &archive)?
        .success()
        .with_context(|| format!("bringing {packages}"))?;
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
