//! `make demo`: builds an image, boots it in an emulator and uses it as a person with a broken remote machine would.
//!
//! Ends with 0 only if every step was seen. What was measured goes to `target/demo/summary.json`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use lifeboot_tests::artefacts::{
    self, Os, OsImage, Wanted, device_executable, image, image_dir, prepare, target_dir, test_image,
};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT, PASSPHRASE};
use lifeboot_tests::guest::{Board, Client, Disk, Guest, Peer};
use lifeboot_tests::interrupt;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const MEMORY_MB: u32 = 1024;
const OS: &str = "/debian.squashfs";

/// What was measured. Times are in seconds of the guest's own clock.
#[derive(Debug, Default, Serialize)]
struct Summary {
    arch: String,
    executable_bytes: u64,
    initramfs_bytes: u64,
    kernel_to_init_s: f64,
    kernel_to_ssh_s: f64,
    /// From the first byte asked for to the last one received and checked.
    fetch_s: f64,
    fetch_bytes_sent: u64,
    image_bytes: u64,
    /// From the fetch's start, right after `rescue boot`, to the execution of the real init.
    handover_s: f64,
    /// From the execution of the real init to systemd's multi-user target.
    multi_user_s: f64,
    guest_memory_mb: u32,
    rescue_memory_used_mb: u64,
    full_os_memory_used_mb: u64,
    verified: bool,
    unlocked: bool,
    repaired: bool,
    root_is_overlay: bool,
    full_os_ssh: bool,
    wall_s: f64,
}

fn main() -> ExitCode {
    let done = interrupt::catch().and_then(|()| demo());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::happened() => {
            eprintln!("demo: interrupted; everything it started has ended");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let board = match std::env::var("ARCH").as_deref() {
        Ok("x86_64") => Board::PcX86_64,
        Ok("aarch64" | "") | Err(_) => Board::VirtArm64,
        Ok(other) => bail!("ARCH={other}: aarch64 or x86_64"),
    };
    let keep = std::env::var("KEEP").is_ok_and(|value| !value.is_empty() && value != "0");
    let mut demo = Demo {
        board,
        started: Instant::now(),
        summary: Summary {
            arch: board.arch().to_owned(),
            guest_memory_mb: MEMORY_MB,
            ..Summary::default()
        },
    };
    let os = demo.build()?;
    let server = demo.serve(&os)?;
    let disks = Disks::new("demo")?;
    let mut guest = demo.boot(&server, &disks)?;
    let rescue = demo.reach(&mut guest)?;
    demo.repair(&rescue)?;
    demo.go_on(&mut guest, &rescue, &server)?;
    let full = demo.full_os(&mut guest)?;
    demo.finish()?;
    if keep {
        println!("\nleft running; log in:\n  {}", full.shown());
        println!("end it:\n  kill {}", guest.leave_running());
        Ok(())
    } else {
        guest.passed()
    }
}

struct Demo {
    board: Board,
    started: Instant,
    summary: Summary,
}

impl Demo {
    fn say(&self, text: &str) {
        println!("\n[{:6.1} s] {text}", self.started.elapsed().as_secs_f64());
    }

    /// Runs a command in the guest and shows it as a person would have seen it.
    fn shown(&self, client: &Client, words: &[&str]) -> Result<lifeboot_tests::process::Outcome> {
        println!("$ ssh {} {}", self.board.name(), words.join(" "));
        let outcome = client.run(words)?;
        print!("{}{}", outcome.text(), outcome.errors());
        Ok(outcome)
    }

    fn build(&mut self) -> Result<OsImage> {
        self.say("building: executable, image, and a Debian for it to start (kept in the cache after the first time)");
        prepare(&Wanted {
            boards: [self.board].into(),
            everything: false,
            os: [(Os::Debian, self.board)].into(),
        })?;
        let length = |path: &Path| -> Result<u64> {
            Ok(path.metadata().with_context(|| path.display().to_string())?.len())
        };
        self.summary.executable_bytes = length(&device_executable(self.board.arch())?)?;
        self.summary.initramfs_bytes = length(&test_image(self.board)?.initrd)?;
        println!("\n{}", image(self.board)?.trim_end());
        println!("image: {}", image_dir(self.board).display());
        let os = Os::Debian.packed(self.board)?;
        self.summary.image_bytes = length(&os.squashfs)?;
        Ok(os)
    }

    fn serve(&mut self, os: &OsImage) -> Result<FaultServer> {
        let server = FaultServer::start()?;
        server.serve_file(OS, &os.squashfs)?;
        server.serve_file(&format!("{OS}.minisig"), &os.signature)?;
        self.say(&format!(
            "serving {} ({} bytes) and its signature on loopback",
            OS, self.summary.image_bytes
        ));
        Ok(server)
    }

    fn boot(&mut self, server: &FaultServer, disks: &Disks) -> Result<Guest> {
        let disk = disks.luks("locked.img", "data", Damage::Repairable)?;
        let guest = Guest::on(self.board, "demo")
            .memory_mb(MEMORY_MB)
            .word(format!("root={}", server.url(OS)))
            .word("rd.break=fetch")
            .disk(Disk::raw(disk))
            .boot()?;
        self.say("QEMU, emulating, with a LUKS2 disk whose ext4 is damaged:");
        println!("$ {}", guest.command());
        Ok(guest)
    }

    fn reach(&mut self, guest: &mut Guest) -> Result<Client> {
        let init = guest.wait_event("init.start", 180)?;
        let client = guest.wait_ssh(Peer::Rescue, 240)?;
        let login = guest.wait_event("ssh.login", 30)?;
        self.summary.kernel_to_init_s = seconds(init.ms);
        self.summary.kernel_to_ssh_s = seconds(login.ms);
        self.say(&format!(
            "ssh reachable after {:.1} s of the guest's time, {:.1} s of yours",
            seconds(login.ms),
            guest.age()
        ));
        guest.wait_event("boot.break", 60)?;
        self.shown(&client, &["rescue", "status"])?.success()?;
        self.shown(&client, &["rescue", "disks"])?.success()?;
        self.summary.rescue_memory_used_mb = used_memory(&client)?;
        Ok(client)
    }

    fn repair(&mut self, client: &Client) -> Result<()> {
        self.say("unlocking the disk and repairing what is in it");
        println!("$ ssh -t {} rescue unlock /dev/vda", self.board.name());
        let mut conversation = client.converse(&["rescue", "unlock", "/dev/vda"])?;
        conversation.expect("assphrase", 60)?;
        conversation.expect(":", 10)?;
        conversation.send(&format!("{PASSPHRASE}\n"))?;
        let status = conversation.end(120)?;
        print!("{}", conversation.heard());
        ensure!(status == 0, "rescue unlock ended with status {status}");
        let name = client.run(&["ls /dev/mapper | grep -v control"])?.text();
        let device = format!("/dev/mapper/{}", name.trim());
        self.summary.unlocked = true;

        let before = self.shown(client, &["rescue", "fsck", &device])?;
        ensure!(before.status == Some(1), "the damage was not found");
        self.shown(client, &["rescue", "fsck", "--repair", &device])?
            .success()?;
        self.shown(client, &["rescue", "fsck", &device])?.success()?;
        let read = format!("mkdir -p /mnt; mount {device} /mnt && cat /mnt/{LETTER} && umount /mnt");
        let letter = self.shown(client, &[&read])?.success()?.text();
        ensure!(letter == LETTER_TEXT, "the letter reads {letter:?}");
        self.summary.repaired = true;
        Ok(())
    }

    fn go_on(&mut self, guest: &mut Guest, client: &Client, server: &FaultServer) -> Result<()> {
        self.say("going on with the boot");
        self.shown(client, &["rescue", "boot"])?.success()?;
        let start = guest.wait_event("fetch.start", 60)?;
        self.watch_fetch(guest)?;
        let done = guest.wait_event("fetch.done", 10)?;
        let verified = guest.wait_event("verify.done", 120)?;
        self.say(&format!(
            "verified by {}: {}",
            verified.str("how"),
            verified.str("comment")
        ));
        self.summary.verified = true;
        let handover = guest.wait_event("handover.start", 120)?;
        self.say(&format!("handover to {}", handover.str("init")));
        self.summary.fetch_s = seconds(verified.ms.max(done.ms) - start.ms);
        self.summary.handover_s = seconds(handover.ms - start.ms);
        self.summary.multi_user_s = -seconds(handover.ms);
        self.summary.fetch_bytes_sent = server.stats(OS).body_bytes;
        Ok(())
    }

    /// Shows the fetch's progress until it is done.
    fn watch_fetch(&self, guest: &mut Guest) -> Result<()> {
        let mut shown = 0;
        Deadline::after(300).wait_for("end of the fetch", || {
            let events = guest.events()?;
            let progress = events.iter().filter(|event| event.name.starts_with("fetch."));
            for event in progress.clone().skip(shown) {
                let text = match (&event.text, event.u64("bytes"), event.u64("of")) {
                    (Some(text), ..) => text.clone(),
                    (None, Some(bytes), Some(of)) => format!("{bytes} of {of} bytes"),
                    (None, ..) => event.name.clone(),
                };
                println!("  {:7.1} s  {text}", seconds(event.ms));
            }
            shown = progress.clone().count();
            ensure!(
                !progress.clone().any(|event| event.name == "fetch.failed"),
                "the fetch failed"
            );
            Ok(progress
                .clone()
                .any(|event| event.name == "fetch.done")
                .then_some(()))
        })
    }

    fn full_os(&mut self, guest: &mut Guest) -> Result<Client> {
        let client = guest.wait_ssh(Peer::FullOs, 400)?;
        self.summary.full_os_ssh = true;
        let reached = Deadline::after(300).wait_for("multi-user.target", || {
            let words = [
                "systemctl",
                "show",
                "--value",
                "-p",
                "ActiveEnterTimestampMonotonic",
                "multi-user.target",
            ];
            let text = client.run(&words)?.text();
            Ok(text
                .trim()
                .parse::<u64>()
                .ok()
                .filter(|microseconds| *microseconds > 0))
        })?;
        self.summary.multi_user_s += seconds(reached / 1000);
        self.say(&format!(
            "multi-user target {:.1} s after the handover; logged in by ssh",
            self.summary.multi_user_s
        ));
        self.shown(&client, &["uname", "-srm"])?.success()?;
        let root = self.shown(&client, &["findmnt", "/"])?.success()?.text();
        self.summary.root_is_overlay = root.contains("overlay");
        ensure!(self.summary.root_is_overlay, "/ is not an overlay");
        self.summary.full_os_memory_used_mb = used_memory(&client)?;
        Ok(client)
    }

    fn finish(&mut self) -> Result<()> {
        let s = &mut self.summary;
        s.wall_s = self.started.elapsed().as_secs_f64();
        println!("\n{:34}{:>12}", format!("{}, emulated", s.arch), "");
        for (what, value) in [
            ("device executable", megabytes(s.executable_bytes)),
            ("initramfs", megabytes(s.initramfs_bytes)),
            ("kernel start to init", format!("{:.1} s", s.kernel_to_init_s)),
            ("kernel start to ssh login", format!("{:.1} s", s.kernel_to_ssh_s)),
            ("OS image", megabytes(s.image_bytes)),
            ("fetched and verified in", format!("{:.1} s", s.fetch_s)),
            ("sent by the server", megabytes(s.fetch_bytes_sent)),
            ("rescue boot to real init", format!("{:.1} s", s.handover_s)),
            ("real init to multi-user", format!("{:.1} s", s.multi_user_s)),
            ("memory of the guest", format!("{} MB", s.guest_memory_mb)),
            ("in use in rescue", format!("{} MB", s.rescue_memory_used_mb)),
            (
                "in use in the full OS",
                format!("{} MB", s.full_os_memory_used_mb),
            ),
            ("the whole demo", format!("{:.0} s", s.wall_s)),
        ] {
            println!("  {what:30}{value:>14}");
        }
        let dir = target_dir().join("demo");
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let path = dir.join("summary.json");
        std::fs::write(&path, serde_json::to_string_pretty(s)? + "\n")
            .with_context(|| path.display().to_string())?;
        let shown = path.strip_prefix(artefacts::workspace()).unwrap_or(&path);
        println!("\n{}", shown.display());
        Ok(())
    }
}

/// Memory that is neither free nor a cache which could be, in MB.
fn used_memory(client: &Client) -> Result<u64> {
    let script = "awk '/^MemTotal/ { t = $2 } /^MemAvailable/ { a = $2 } END { print int((t - a) / 1024) }' /proc/meminfo";
    let text = client.run(&[script])?.success()?.text();
    text.trim().parse().with_context(|| text.clone())
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
