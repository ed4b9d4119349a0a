//! `image-builder build`: a kernel and an initramfs for a board.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;
use lifeboot_contract::image::ImageInfo;

use crate::archive::Archive;
use crate::authority;
use crate::board::Board;
use crate::check_kernel::{self, Carried};
use crate::compose::{self, Given};
use crate::compress::{Compression, Store};
use crate::elf;
use crate::kernel::Kernel;
use crate::listing::{Listing, Provenance};
use crate::login;
use crate::output::{self, Built, Wanted};
use crate::packages::{self, Freshness};
use crate::public;
use crate::recipe::{self, Recipe};
use crate::report;
use crate::sources::{self, Fetching, Named};
use crate::tree::Tree;

/// build a kernel and an initramfs for a board
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "build",
    example = "image-builder build --board virt-arm64 --authorized-keys ~/.ssh/id_ed25519.pub --out target/image",
    example = "image-builder build --recipe rescue.toml --out target/image",
    note = "Packages come from the mirror in the system's own apt configuration and are kept in $XDG_CACHE_HOME/lifeboot; \
            after the first time no network is needed."
)]
pub struct Arguments {
    /// recipe file; flags win over it
    #[argh(option, arg_name = "file")]
    recipe: Option<PathBuf>,
    /// board, by the name that 'image-builder boards' lists it under
    #[argh(option, arg_name = "name")]
    board: Option<String>,
    /// the static executable, target/<triple>/device/rescue by default
    #[argh(option, arg_name = "file")]
    executable: Option<PathBuf>,
    /// directory to write kernel, initramfs and manifest.json to; what an earlier build's manifest.json lists and this one does not
    /// write is removed
    #[argh(option, arg_name = "dir")]
    out: PathBuf,
    /// what the image calls itself
    #[argh(option, arg_name = "name")]
    name: Option<String>,
    /// the same as --from-debian where no other source is named; trixie by default
    #[argh(option, arg_name = "suite")]
    suite: Option<String>,
    /// suite the kernel comes from, the suite's backports by default
    #[argh(option, arg_name = "suite")]
    kernel_suite: Option<String>,
    /// release of the kernel, where the tree has several
    #[argh(option, arg_name = "release")]
    kernel: Option<String>,
    /// features, separated by commas; all of bash,core,disks,ext4,luks,rsync,sftp,tls,vfat by default
    #[argh(option, arg_name = "list")]
    features: Option<String>,
    /// public keys that may log in, OpenSSH format
    #[argh(option, arg_name = "file")]
    authorized_keys: Option<PathBuf>,
    /// public keys that may log in as the user unlock alone, who gets the passphrase prompt
    #[argh(option, arg_name = "file")]
    unlock_keys: Option<PathBuf>,
    /// public keys that may log in as the user status alone, who gets the report
    #[argh(option, arg_name = "file")]
    status_keys: Option<PathBuf>,
    /// public keys of authorities whose ssh certificates (ssh-keygen -s) let people in as the users they name
    #[argh(option, arg_name = "file")]
    user_ca: Option<PathBuf>,
    /// minisign public key an OS image must be signed with; may be given several times
    #[argh(option, arg_name = "file")]
    trusted_key: Vec<PathBuf>,
    /// PEM certificates of a private authority that https servers may be signed by, beside those of feature tls; may be given
    /// several times
    #[argh(option, arg_name = "file")]
    ca: Vec<PathBuf>,
    /// boot parameters to bake in, TOML
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// zstd (default), gzip, xz or lz4
    #[argh(option, arg_name = "name")]
    compression: Option<String>,
    /// compression level
    #[argh(option, arg_name = "n")]
    level: Option<i32>,
    /// time the image says it was built at, seconds since 1970; default $SOURCE_DATE_EPOCH, else when the kernel was packed
    #[argh(option, arg_name = "seconds")]
    build_time: Option<u64>,
    /// mirror to fetch packages from
    #[argh(option, arg_name = "url")]
    mirror: Option<String>,
    /// fetch the packages again
    #[argh(switch)]
    refresh: bool,
    /// take kernel and programs from a disk image, as Raspberry Pi OS comes: .img, .img.xz, .img.zst, .img.gz or .zip
    #[argh(option, arg_name = "file")]
    from_image: Option<PathBuf>,
    /// take kernel and programs from an unpacked system, or from the running one (/)
    #[argh(option, arg_name = "dir")]
    from_root: Option<PathBuf>,
    /// take kernel and programs from packages of this suite of Debian, which is what is done when no source is named
    #[argh(option, arg_name = "suite")]
    from_debian: Option<String>,
    /// words for the kernel command line, behind the board's consoles, for --uki and the files of a Raspberry Pi's boot loader
    #[argh(option, arg_name = "words")]
    cmdline: Option<String>,
    /// private key that signs boot.img for HTTP boot and secure boot, RSA of 2048 bits, PEM
    #[argh(option, arg_name = "file")]
    boot_key: Option<PathBuf>,
    /// program that signs it instead, called with -a rsa2048-sha256 FILE as rpi-eeprom-digest calls its HSM wrapper
    #[argh(option, arg_name = "program")]
    boot_signer: Option<PathBuf>,
    /// serial number to make a TFTP directory for; may be given several times
    #[argh(option, arg_name = "hex")]
    serial: Vec<String>,
    /// network address to make a TFTP directory for; may be given several times
    #[argh(option, arg_name = "address")]
    mac: Vec<String>,
    /// day of the oldest bootloader to serve, 2025-09-23; newer ones take larger files by TFTP
    #[argh(option, arg_name = "day")]
    bootloader: Option<String>,
    /// also write an image for an SD card or USB disk here
    #[argh(option, arg_name = "file")]
    disk: Option<PathBuf>,
    /// directory whose files go to its key partition: ssh_host_ed25519_key, authorized_keys, config.toml
    #[argh(option, arg_name = "dir")]
    key_partition: Option<PathBuf>,
    /// lines for config.txt; they win over the board's
    #[argh(option, arg_name = "file")]
    config_txt: Option<PathBuf>,
    /// leave out Raspberry Pi's firmware, which is not free software; a Pi 5 does without
    #[argh(switch)]
    no_firmware: bool,
    /// also write lifeboot.efi, a unified kernel image for UEFI firmware
    #[argh(switch)]
    uki: bool,
    /// the EFI stub it is made from, that of the package systemd-boot-efi by default
    #[argh(option, arg_name = "file")]
    uki_stub: Option<PathBuf>,
    /// private key to sign lifeboot.efi with for Secure Boot, PEM; wants sbsign
    #[argh(option, arg_name = "file")]
    secureboot_key: Option<PathBuf>,
    /// its certificate, PEM
    #[argh(option, arg_name = "file")]
    secureboot_cert: Option<PathBuf>,
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
}

/// Builds.
pub fn run(arguments: Arguments) -> Result<()> {
    let started = Instant::now();
    let recipe = merged(&arguments)?;
    let (mut board, features) =
        recipe.look_up(arguments.recipe.as_deref(), arguments.kernel_config.as_deref())?;
    let wanted = Wanted::of(&recipe, &board)?;
    let given = read_given(&recipe, &board)?;
    let nobody = login::warning(&recipe, given.config.as_deref());
    let fetching = Fetching {
        mirror: arguments.mirror.as_deref(),
        freshness: if arguments.refresh {
            Freshness::Refetched
        } else {
            Freshness::Cached
        },
    };
    let sources = sources::open(&recipe, &board, &features, fetching)?;
    let kernel = Kernel::find(&sources.tree, recipe.kernel.as_deref(), &board.kernel_flavours)?;
    board.settle_device_trees(&kernel, &sources.tree)?;
    let info = ImageInfo {
        name: recipe.name.clone().unwrap_or_else(|| "lifeboot".to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        board: board.name.clone(),
        arch: board.arch.name().to_owned(),
        kernel: kernel.release.clone(),
        build_time: build_time(&recipe, &kernel, &sources.tree)?,
        features: features.keys().cloned().collect(),
    };
    let archive = compose::compose(&sources.tree, &board, &features, &kernel, &info, given)?;
    let carried = Carried::archive(&archive);
    let checked = check_kernel::of_build(&board, &features, &sources.tree, &kernel, &carried)?;
    checked.refuse(&format!("kernel {}", kernel.release))?;
    let compression = recipe.compression.unwrap_or(Compression::Zstd);
    let segments = archive.segments(kernel.packed_at(&sources.tree)?)?;
    let store = sources
        .keep
        .then(packages::cache_directory)
        .transpose()?
        .map(|cache| Store::new(cache.join("packed")));
    let level = recipe.level.unwrap_or(compression.default_level());
    let packed = compression.pack_segments(&segments, level, store.as_ref())?;
    let built = Built {
        board: &board,
        tree: &sources.tree,
        packages: &sources.packages,
        kernel: &kernel,
        kernel_image: kernel.read(&sources.tree)?,
        initramfs: packed,
        compression,
        archive: &archive,
        features: &features,
        store: store.as_ref(),
        info: &info,
    };
    output::write(&built, &wanted, &arguments.out)?;
    output::put(&arguments.out, "kernel-check.txt", checked.text().as_bytes())?;
    list(&built, &arguments.out)?;
    tell(&arguments.out, &archive, built.initramfs.len(), started);
    print!("{}", report::features::table(&archive, &features, board.arch));
    for warning in checked.warnings() {
        println!("kernel {}: {warning}", kernel.release);
    }
    if let Some(warning) = nobody {
        println!("{warning}");
    }
    Ok(())
}

/// Every file of the image and of what lies beside it, with where it comes from.
fn list(built: &Built, out: &Path) -> Result<()> {
    let from = Provenance {
        tree: built.tree,
        kernel: built.kernel,
        features: built.features,
    };
    let of_kernel = built.kernel.file.as_str();
    let mut beside = vec![("kernel", of_kernel, built.kernel_image.as_slice())];
    let device_trees: Vec<(&str, Vec<u8>)> = built
        .board
        .device_trees
        .iter()
        .map(|name| Ok((name.as_str(), built.kernel.device_tree(built.tree, name)?)))
        .collect::<Result<_>>()?;
    // Device trees are of the package that the kernel is of.
    beside.extend(
        device_trees
            .iter()
            .map(|(name, bytes)| (*name, of_kernel, bytes.as_slice())),
    );
    let listing = Listing::of(built.archive, &beside, &from, built.info)?;
    output::put(out, "listing.txt", listing.text().as_bytes())?;
    output::put(out, "listing.spdx.json", &listing.spdx()?)?;
    Ok(())
}

fn merged(arguments: &Arguments) -> Result<Recipe> {
    let mut recipe = arguments
        .recipe
        .as_deref()
        .map(Recipe::read)
        .transpose()?
        .unwrap_or_default();
    let replace =
        |old: &mut Option<PathBuf>, new: &Option<PathBuf>| *old = new.clone().or_else(|| old.take());
    replace(&mut recipe.executable, &arguments.executable);
    replace(&mut recipe.authorized_keys, &arguments.authorized_keys);
    replace(&mut recipe.unlock_keys, &arguments.unlock_keys);
    replace(&mut recipe.status_keys, &arguments.status_keys);
    replace(&mut recipe.user_ca, &arguments.user_ca);
    replace(&mut recipe.config, &arguments.config);
    replace(&mut recipe.uki_stub, &arguments.uki_stub);
    replace(&mut recipe.secureboot_key, &arguments.secureboot_key);
    replace(&mut recipe.secureboot_cert, &arguments.secureboot_cert);
    replace(&mut recipe.boot_key, &arguments.boot_key);
    replace(&mut recipe.boot_signer, &arguments.boot_signer);
    replace(&mut recipe.disk, &arguments.disk);
    replace(&mut recipe.key_partition, &arguments.key_partition);
    replace(&mut recipe.config_txt, &arguments.config_txt);
    let replace = |old: &mut Option<String>, new: &Option<String>| *old = new.clone().or_else(|| old.take());
    replace(&mut recipe.name, &arguments.name);
    replace(&mut recipe.suite, &arguments.suite);
    let named = Named {
        image: arguments.from_image.clone(),
        root: arguments.from_root.clone(),
        suite: arguments.from_debian.clone(),
    };
    named.replace(&mut recipe)?;
    replace(&mut recipe.kernel_suite, &arguments.kernel_suite);
    replace(&mut recipe.kernel, &arguments.kernel);
    replace(&mut recipe.cmdline, &arguments.cmdline);
    replace(&mut recipe.bootloader, &arguments.bootloader);
    let replace = |old: &mut Vec<String>, new: &[String]| {
        if !new.is_empty() {
            *old = new.to_vec();
        }
    };
    replace(&mut recipe.serial, &arguments.serial);
    replace(&mut recipe.mac, &arguments.mac);
    recipe.firmware = arguments.no_firmware.then_some(false).or(recipe.firmware);
    recipe.uki = arguments.uki.then_some(true).or(recipe.uki);
    if let Some(board) = &arguments.board {
        recipe.board = Some(recipe::unplaced(board));
    }
    if let Some(features) = &arguments.features {
        let names = features.split(',').map(str::trim).filter(|name| !name.is_empty());
        recipe.features = Some(names.map(recipe::unplaced).collect());
    }
    if !arguments.trusted_key.is_empty() {
        recipe.trusted_keys.clone_from(&arguments.trusted_key);
    }
    if !arguments.ca.is_empty() {
        recipe.ca.clone_from(&arguments.ca);
    }
    if let Some(name) = &arguments.compression {
        recipe.compression = Some(Compression::named(name)?);
    }
    recipe.level = arguments.level.or(recipe.level);
    recipe.build_time = arguments.build_time.or(recipe.build_time);
    Ok(recipe)
}

fn read_given(recipe: &Recipe, board: &Board) -> Result<Given> {
    let executable = executable(recipe.executable.as_deref(), board)?;
    let mut trusted_keys: Vec<(String, Vec<u8>)> = Vec::new();
    for path in &recipe.trusted_keys {
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .context("trusted key: no file name")?;
        let name = format!("{name}.pub");
        if let Some(other) = trusted_keys.iter().position(|(taken, _)| *taken == name) {
            bail!(
                "--trusted-key: {} and {} would both be {name} in the image; rename one",
                recipe.trusted_keys.get(other).unwrap_or(path).display(),
                path.display()
            );
        }
        trusted_keys.push((name, public::trusted_key(path)?.into_bytes()));
    }
    let mut authorities = Vec::new();
    for path in &recipe.ca {
        authorities.extend(authority::read(path)?);
    }
    let config = recipe.config.as_deref().map(public::config).transpose()?;
    Ok(Given {
        executable,
        login_keys: login::keys(recipe)?,
        trusted_keys,
        authorities,
        config: config.map(String::into_bytes),
    })
}

/// What becomes `/init`; the one that this workspace builds where none is named.
fn executable(named: Option<&Path>, board: &Board) -> Result<Vec<u8>> {
    if let Some(path) = named {
        return elf::static_executable(path, board.arch);
    }
    let path = PathBuf::from(format!("target/{}/device/rescue", board.arch.rust_target()));
    ensure!(
        path.exists(),
        "{}: not there; 'make images' builds it, --executable names another",
        path.display()
    );
    elf::static_executable(&path, board.arch)
}

fn build_time(recipe: &Recipe, kernel: &Kernel, tree: &Tree) -> Result<u64> {
    if let Some(time) = recipe.build_time {
        return Ok(time);
    }
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text}")),
        Err(_) => kernel.packed_at(tree),
    }
}

fn tell(out: &Path, archive: &Archive, packed: usize, started: Instant) {
    print!("{}", report::sizes(archive, packed));
    println!(
        "{}: {packed} bytes in {:.1} s",
        out.display(),
        started.elapsed().as_secs_f64()
    );
}
