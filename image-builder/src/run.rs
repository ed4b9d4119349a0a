//! `image-builder run`: boots a built image in QEMU.
//!
//! `/dev/kvm` may exist and be useless, so KVM is used only after this very kernel was seen to print something under it.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use argh::FromArgs;
use serde::Deserialize;

use crate::board::{Board, Qemu};

/// What a kernel is given to print its first line under KVM.
const PROBE: Duration = Duration::from_secs(6);

/// boot a built image in QEMU, the serial console on this terminal
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    example = "image-builder run target/image",
    example = "image-builder run --drive disk.img --append 'root=LABEL=system' target/image",
    note = "Ctrl-A x ends QEMU, Ctrl-A h helps; Ctrl-C goes to the machine, as on a serial line."
)]
pub struct Arguments {
    /// memory in MiB
    #[argh(option, arg_name = "mib")]
    memory: Option<u32>,
    /// words to add to the kernel command line
    #[argh(option, arg_name = "words")]
    append: Vec<String>,
    /// raw disk image; may be given several times
    #[argh(option, arg_name = "file")]
    drive: Vec<PathBuf>,
    /// port on 127.0.0.1 that leads to the device's ssh; a free one by default
    #[argh(option, arg_name = "port")]
    port: Option<u16>,
    /// tcg (default), kvm, or auto for kvm where it works
    #[argh(option, arg_name = "name", default = "String::from(\"tcg\")")]
    accel: String,
    /// print the command and do not run it
    #[argh(switch)]
    dry_run: bool,
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
    /// directory that 'build' wrote
    #[argh(positional)]
    image: PathBuf,
}

/// The part of `manifest.json` that matters here.
#[derive(Deserialize)]
struct Manifest {
    image: Image,
    files: Vec<Written>,
}

#[derive(Deserialize)]
struct Image {
    board: String,
    arch: String,
}

#[derive(Deserialize)]
struct Written {
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accelerator {
    Tcg,
    Kvm,
}

/// Becomes QEMU.
pub fn run(arguments: &Arguments) -> Result<()> {
    let path = arguments.image.join("manifest.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let manifest: Manifest = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let board = Board::load(&manifest.image.board, arguments.kernel_config.as_deref())?;
    let qemu = board.qemu.as_ref().with_context(|| {
        format!(
            "{0}: 'run' cannot start it, {0}.toml has no table [qemu]",
            board.name
        )
    })?;
    let accelerator = accelerator(arguments, qemu, &manifest.image.arch)?;
    let port = match arguments.port {
        Some(port) => port,
        None => free_port()?,
    };
    let mut command = Command::new(&qemu.program);
    command.args(machine(qemu, accelerator));
    command.args(image_arguments(arguments, &board, qemu, &manifest)?);
    command.args(devices(arguments, qemu, port));
    command.args(["-nographic", "-no-reboot"]);
    if arguments.dry_run {
        println!("{command:?}");
        return Ok(());
    }
    eprintln!("ssh -p {port} root@127.0.0.1");
    // Only returns when it could not be started.
    Err(anyhow!(
        "{}: {}; it is in the Debian packages qemu-system-*",
        qemu.program,
        command.exec()
    ))
}

fn machine(qemu: &Qemu, accelerator: Accelerator) -> Vec<String> {
    let mut words = qemu.args.clone();
    match accelerator {
        Accelerator::Tcg => words.extend(["-accel".into(), "tcg,thread=multi".into()]),
        Accelerator::Kvm => {
            words.extend(qemu.kvm_args.clone().unwrap_or_default());
            words.extend(["-accel".into(), "kvm".into()]);
        }
    }
    words
}

fn image_arguments(
    arguments: &Arguments,
    board: &Board,
    qemu: &Qemu,
    manifest: &Manifest,
) -> Result<Vec<String>> {
    let initramfs = manifest
        .files
        .iter()
        .find(|file| file.name.starts_with("initramfs."));
    let initramfs = &initramfs.context("manifest.json: no initramfs")?.name;
    let at = |name: &str| arguments.image.join(name).display().to_string();
    let mut append: Vec<String> = board
        .consoles
        .first()
        .map(|console| format!("console={console}"))
        .into_iter()
        .collect();
    append.extend(qemu.append.iter().chain(&arguments.append).cloned());
    let memory = arguments.memory.unwrap_or(qemu.memory);
    let mut words = vec!["-m".into(), memory.to_string(), "-kernel".into(), at("kernel")];
    words.extend([
        "-initrd".into(),
        at(initramfs),
        "-append".into(),
        append.join(" "),
    ]);
    if let Some(tree) = &qemu.device_tree {
        words.extend(["-dtb".into(), at(tree)]);
    }
    Ok(words)
}

fn devices(arguments: &Arguments, qemu: &Qemu, port: u16) -> Vec<String> {
    let forward = format!("user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22");
    let mut words = vec![
        "-netdev".into(),
        forward,
        "-device".into(),
        format!("{},netdev=net0", qemu.network),
    ];
    for (index, drive) in arguments.drive.iter().enumerate() {
        // A comma in a file name is doubled for QEMU.
        let file = drive.display().to_string().replace(',', ",,");
        if qemu.disk == "sd" {
            words.extend(["-drive".into(), format!("if=sd,format=raw,file={file}")]);
        } else {
            words.extend([
                "-drive".into(),
                format!("if=none,id=disk{index},format=raw,file={file}"),
            ]);
            words.extend(["-device".into(), format!("{},drive=disk{index}", qemu.disk)]);
        }
    }
    words
}

fn accelerator(arguments: &Arguments, qemu: &Qemu, arch: &str) -> Result<Accelerator> {
    let wanted = arguments.accel.as_str();
    if !["auto", "kvm", "tcg"].contains(&wanted) {
        bail!("unknown accelerator '{wanted}'; known are auto kvm tcg");
    }
    if wanted == "tcg" {
        return Ok(Accelerator::Tcg);
    }
    let possible =
        qemu.kvm_args.is_some() && arch == std::env::consts::ARCH && Path::new("/dev/kvm").exists();
    if possible && boots_under_kvm(qemu, &arguments.image.join("kernel"))? {
        return Ok(Accelerator::Kvm);
    }
    if wanted == "kvm" {
        bail!(
            "kvm: the kernel printed nothing under it within {} s",
            PROBE.as_secs()
        );
    }
    Ok(Accelerator::Tcg)
}

fn boots_under_kvm(qemu: &Qemu, kernel: &Path) -> Result<bool> {
    let mut child = Command::new(&qemu.program)
        .args(machine(qemu, Accelerator::Kvm))
        .args([
            "-m",
            "512",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .args([
            "-append",
            "console=ttyS0 console=ttyAMA0 earlycon panic=-1",
            "-kernel",
        ])
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| qemu.program.clone())?;
    let mut output = child.stdout.take().context("QEMU: no output")?;
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut buffer = [0_u8; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            text.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if String::from_utf8_lossy(&text).contains("Linux version") {
                return sender.send(()).is_ok();
            }
        }
        false
    });
    let seen = receiver.recv_timeout(PROBE).is_ok();
    // It may have ended by itself; either way it is gone after the wait.
    if let Err(error) = child.kill() {
        eprintln!("{}: {error}", qemu.program);
    }
    child.wait().context("QEMU")?;
    Ok(reader.join().unwrap_or(false) && seen)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
