//! What a guest is made of, and the QEMU command that follows from it.

use super::events::EventLog;
use super::firmware::Firmware;
use super::network::Network;
use super::{Board, Guest};
use crate::artefacts::{self, BootFiles};
use crate::bad_cable::BadCable;
use crate::lan::Lan;
use crate::loopback::Port;
use crate::process::{self, private_dir};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image file.
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    pub format: &'static str,
    /// Whether what is written is forgotten at the end.
    pub snapshot: bool,
}

impl Disk {
    /// A raw image that keeps what is written.
    pub fn raw(path: impl Into<PathBuf>) -> Disk {
        Disk {
            path: path.into(),
            format: "raw",
            snapshot: false,
        }
    }

    /// The same, but the file itself is not changed.
    #[must_use]
    pub fn forgetting(mut self) -> Disk {
        self.snapshot = true;
        self
    }
}

/// A guest that has not been started.
#[derive(Debug, Clone)]
#[must_use]
pub struct GuestBuilder {
    board: Board,
    name: String,
    memory_mb: u32,
    processors: Option<u32>,
    words: Vec<String>,
    disks: Vec<Disk>,
    files: Option<BootFiles>,
    initrd: Option<PathBuf>,
    watchdog: bool,
    extra: Vec<String>,
    ssh_port_in_guest: u16,
    network: Option<Network>,
    cable: Option<PathBuf>,
}

impl GuestBuilder {
    pub(super) fn new(board: Board, name: &str) -> GuestBuilder {
        GuestBuilder {
            board,
            name: name.to_owned(),
            memory_mb: match board {
                Board::Pi3 => 1024,
                Board::Pi4 => 2048,
                _ => 512,
            },
            processors: None,
            words: board.words(),
            disks: Vec::new(),
            files: None,
            initrd: None,
            watchdog: false,
            extra: Vec::new(),
            ssh_port_in_guest: 22,
            network: None,
            cable: None,
        }
    }

    /// RAM in MiB; a Pi 3 has 1024, a Pi 4 2048, whatever is asked.
    pub fn memory_mb(mut self, memory: u32) -> GuestBuilder {
        if self.board.has_pci() {
            self.memory_mb = memory;
        }
        self
    }

    /// Another number of processors than the board's.
    pub fn processors(mut self, count: u32) -> GuestBuilder {
        self.processors = Some(count);
        self
    }

    /// A word for the kernel's command line; one with spaces in it must bring its own quotes.
    pub fn word(mut self, word: impl Into<String>) -> GuestBuilder {
        self.words.push(word.into());
        self
    }

    /// A disk.
    pub fn disk(mut self, disk: Disk) -> GuestBuilder {
        self.disks.push(disk);
        self
    }

    /// Kernel and initramfs other than those built for the board's tests.
    pub fn files(mut self, files: BootFiles) -> GuestBuilder {
        self.files = Some(files);
        self
    }

    /// The image that has every feature, which is for the PC, with the memory it takes.
    ///
    /// # Errors
    /// It has not been built.
    pub fn with_everything(self) -> Result<GuestBuilder> {
        ensure!(
            self.board == Board::PcX86_64,
            "there is no such image for {}",
            self.board.name()
        );
        Ok(self.files(artefacts::everything_image()?).memory_mb(1024))
    }

    /// Another initramfs with the same kernel.
    pub fn initrd(mut self, initrd: impl Into<PathBuf>) -> GuestBuilder {
        self.initrd = Some(initrd.into());
        self
    }

    /// A hardware watchdog that ends QEMU when nobody pets it.
    pub fn watchdog(mut self) -> GuestBuilder {
        self.watchdog = true;
        self
    }

    /// A QEMU argument.
    pub fn argument(mut self, argument: impl Into<String>) -> GuestBuilder {
        self.extra.push(argument.into());
        self
    }

    /// Nothing is handed to QEMU: firmware boots what it finds on that network. The words for the kernel are then the server's, and
    /// events come only if `lifeboot.events=vport0p1` is among them.
    ///
    /// # Errors
    /// Those of ip(8).
    pub fn boots_from(mut self, lan: &Lan, firmware: Firmware) -> Result<GuestBuilder> {
        self.network = Some(Network::on(lan, Some(firmware))?);
        Ok(self)
    }

    /// Cabled to that network instead of QEMU's own; no port of loopback leads to it.
    ///
    /// # Errors
    /// Those of ip(8).
    pub fn cabled_to(mut self, lan: &Lan) -> Result<GuestBuilder> {
        self.network = Some(Network::on(lan, None)?);
        Ok(self)
    }

    /// On QEMU's own network by a bad cable.
    pub fn cabled_by(mut self, cable: &BadCable) -> GuestBuilder {
        self.cable = Some(cable.dir().to_owned());
        self
    }

    /// What boots it instead of QEMU.
    fn firmware(&self) -> Option<Firmware> {
        self.network.as_ref().and_then(|network| network.firmware)
    }

    /// The port the guest's ssh server listens on.
    pub fn ssh_port_in_guest(mut self, port: u16) -> GuestBuilder {
        self.ssh_port_in_guest = port;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// Something it needs has not been built, or QEMU does not start.
    pub fn boot(self) -> Result<Guest> {
        let dir = private_dir("guest")?;
        let ssh_port = Port::reserve()?;
        let command = self.command(&dir, ssh_port.number())?;
        self.start(command, dir, ssh_port)
    }

    fn start(self, mut command: Command, dir: PathBuf, ssh_port: Port) -> Result<Guest> {
        let shown = process::shown(&command);
        let log = fs::File::create(dir.join("qemu.log")).context("qemu.log")?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("qemu.log")?)
            .stderr(log);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("could not run: {}", self.board.qemu()))?;
        Ok(Guest {
            name: self.name,
            board: self.board,
            events: EventLog::at(dir.join("events")),
            dir,
            child,
            started,
            shown,
            ssh_port,
            keyboard: super::console::Keyboard::default(),
            passed: false,
            kept: false,
            told: false.into(),
        })
    }

    fn command(&self, dir: &Path, ssh_port: u16) -> Result<Command> {
        let board = self.board;
        let mut words = self.words.clone();
        let mut command = match &self.network {
            None if board == Board::Pi4 => artefacts::qemu_with_machine("raspi4b")?,
            None => Command::new(board.qemu()),
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.namespace.display()));
                command.args(["--", board.qemu()]);
                command
            }
        };
        command.args(board.machine());
        command.args(["-accel", "tcg,thread=multi", "-m", &self.memory_mb.to_string()]);
        if let Some(processors) = self.processors {
            command.args(["-smp", &processors.to_string()]);
        }
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        match self.firmware() {
            Some(firmware) => firmware.add(board, dir, &mut command)?,
            None => self.load(&mut command)?,
        }
        let socket = |name: &str| {
            format!(
                "socket,id={name},path={}/{name},server=on,wait=off",
                dir.display()
            )
        };
        command.args([
            "-chardev",
            &format!("{},logfile={}/console.log", socket("console"), dir.display()),
        ]);
        command.args(["-serial", "chardev:console"]);
        command.args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
        let user = format!(",hostfwd=tcp:127.0.0.1:{ssh_port}-:{}", self.ssh_port_in_guest);
        command.args(super::network::back(
            self.network.as_ref(),
            self.cable.as_deref(),
            &user,
        ));
        if board.has_pci() {
            // The first virtio device, so that its port has the same name whatever disks there are.
            command.args(["-device", "virtio-serial-pci"]);
            command.args([
                "-chardev",
                &format!("file,id=events,path={}/events", dir.display()),
            ]);
            command.args(["-device", "virtserialport,chardev=events,name=lifeboot.events"]);
            words.push("lifeboot.events=vport0p1".to_owned());
            let card = self
                .firmware()
                .map_or("virtio-net-pci,netdev=n0,romfile=", Firmware::card);
            command.args(["-device", card, "-device", "virtio-rng-pci"]);
        } else {
            command.args(["-device", "usb-net,netdev=n0"]);
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let interface = if board.has_pci() { "virtio" } else { "sd" };
            let snapshot = if disk.snapshot { "on" } else { "off" };
            command.args([
                "-drive",
                &format!(
                    "file={},format={},if={interface},index={index},snapshot={snapshot}",
                    disk.path.display(),
                    disk.format
                ),
            ]);
        }
        if self.watchdog {
            ensure!(board.has_pci(), "the watchdog of {} is built in", board.name());
            command.args(["-device", "i6300esb"]);
        }
        if self.firmware().is_none() {
            command.args(["-append", &words.join(" ")]);
        }
        command.args(&self.extra);
        Ok(command)
    }

    /// Has QEMU load kernel and initramfs.
    fn load(&self, command: &mut Command) -> Result<()> {
        let files = match &self.files {
            Some(files) => files.clone(),
            None => artefacts::test_image(self.board)?,
        };
        let initrd = self.initrd.as_ref().unwrap_or(&files.initrd);
        for file in [&files.kernel, initrd] {
            ensure!(
                file.exists(),
                "could not run: {}: not there, `make images` builds it",
                file.display()
            );
        }
        command
            .arg("-kernel")
            .arg(&files.kernel)
            .arg("-initrd")
            .arg(initrd);
        if let Some(dtb) = &files.dtb {
            command.arg("-dtb").arg(dtb);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(builder: GuestBuilder) -> String {
        let files = BootFiles {
            kernel: "/dev/null".into(),
            initrd: "/dev/null".into(),
            dtb: None,
        };
        process::shown(&builder.files(files).command(Path::new("/tmp/g"), 2222).unwrap())
    }

    #[test]
    fn no_guest_ever_uses_kvm() {
        for board in [Board::VirtArm64, Board::PcX86_64, Board::Pi3] {
            let command = shown(Guest::on(board, "x"));
            assert!(
                command.contains("-accel tcg") && !command.contains("kvm"),
                "{command}"
            );
        }
    }

    #[test]
    fn words_and_disks_are_given_in_order() {
        let command = shown(
            Guest::on(Board::PcX86_64, "x")
                .word("root=http://a")
                .disk(Disk::raw("/d0"))
                .disk(Disk::raw("/d1").forgetting()),
        );
        assert!(
            command.contains("console=ttyS0 no_timer_check root=http://a lifeboot.events="),
            "{command}"
        );
        assert!(
            command.contains("file=/d0,format=raw,if=virtio,index=0,snapshot=off"),
            "{command}"
        );
        assert!(
            command.contains("file=/d1,format=raw,if=virtio,index=1,snapshot=on"),
            "{command}"
        );
    }

    #[test]
    fn a_pi_3_has_its_own_memory_and_no_virtio() {
        let command = shown(Guest::on(Board::Pi3, "x").memory_mb(256));
        assert!(
            command.contains("-m 1024") && !command.contains("virtio"),
            "{command}"
        );
    }

    #[test]
    fn boards_are_found_by_name() {
        for board in [Board::VirtArm64, Board::PcX86_64, Board::Pi3] {
            assert_eq!(Board::from_name(board.name()), Some(board));
        }
        assert_eq!(Board::from_name("pi9"), None);
    }
}
