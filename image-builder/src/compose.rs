//! The image's contents, from top to bottom in the order they are unpacked on the device.

use anyhow::{Context, Result};
use lifeboot_contract::image::{self, ImageInfo};

use crate::archive::{Archive, Part};
use crate::board::{Arch, Board};
use crate::feature::Features;
use crate::kernel::Kernel;
use crate::modules::{Available, Chosen, Module, Need};
use crate::tree::Tree;
use crate::userland;

/// Files a person gives to be put into an image as they are.
#[derive(Debug, Default)]
pub struct Given {
    /// The static executable.
    pub executable: Vec<u8>,
    /// Public keys for the ssh server, by their place in the image.
    pub login_keys: Vec<(&'static str, Vec<u8>)>,
    /// minisign public keys, by file name.
    pub trusted_keys: Vec<(String, Vec<u8>)>,
    /// PEM certificates that follow those of the features.
    pub authorities: Vec<u8>,
    pub config: Option<Vec<u8>>,
}

/// Everything but the compression.
pub fn compose(
    tree: &Tree,
    board: &Board,
    features: &Features,
    kernel: &Kernel,
    info: &ImageInfo,
    given: Given,
) -> Result<Archive> {
    userland::check(tree, features)?;
    let mut archive = Archive::default();
    archive.file("init", 0o755, given.executable, Part::Executable)?;
    skeleton(&mut archive, board.arch)?;
    lifeboot_settings(
        &mut archive,
        info,
        given.login_keys,
        given.trusted_keys,
        given.config,
    )?;
    userland::settings(&mut archive)?;
    archive.cut();
    if features.contains_key("core") {
        userland::busybox(&mut archive, tree, board.arch)?;
    }
    modules(&mut archive, tree, board, features, kernel)?;
    userland::programs(&mut archive, tree, board.arch, features)?;
    for (path, text) in features.values().flat_map(|feature| &feature.settings) {
        let path = path.trim_start_matches('/');
        archive.file(path, 0o644, text.clone().into_bytes(), Part::Settings)?;
    }
    if features.contains_key("bash") {
        userland::completion(&mut archive)?;
    }
    userland::applets(&mut archive)?;
    let directories = features
        .values()
        .filter_map(|feature| feature.certificates.as_deref());
    userland::certificates(&mut archive, tree, directories, &given.authorities)?;
    archive.cut();
    archive.seal()?;
    Ok(archive)
}

/// Directories, the links of a merged /usr, the two devices the kernel and PID 1 open before /dev is mounted, and the
/// names the executable is called by.
fn skeleton(archive: &mut Archive, arch: Arch) -> Result<()> {
    for directory in [
        "dev", "etc", "mnt", "proc", "run", "sys", "usr/bin", "usr/lib", "usr/sbin", "var",
    ] {
        archive.directory(directory, 0o755)?;
    }
    archive.directory("root", 0o700)?;
    archive.directory("tmp", 0o1777)?;
    let lib64 = (arch == Arch::X86_64).then_some("lib64");
    for name in ["bin", "lib", "sbin"].into_iter().chain(lib64) {
        archive.link(name, &format!("usr/{name}"))?;
    }
    archive.link("var/run", "../run")?;
    archive.device("dev/console", 0o600, (5, 1))?;
    archive.device("dev/null", 0o666, (1, 3))?;
    archive.link("usr/bin/rescue", "/init")?;
    archive.link("usr/sbin/modprobe", "/init")
}

fn lifeboot_settings(
    archive: &mut Archive,
    info: &ImageInfo,
    login_keys: Vec<(&str, Vec<u8>)>,
    trusted_keys: Vec<(String, Vec<u8>)>,
    config: Option<Vec<u8>>,
) -> Result<()> {
    let mut text = serde_json::to_vec(info).context(image::IMAGE_INFO)?;
    text.push(b'\n');
    let mut put =
        |path: &str, bytes| archive.file(path.trim_start_matches('/'), 0o644, bytes, Part::Settings);
    put(image::IMAGE_INFO, text)?;
    if let Some(config) = config {
        put(image::CONFIG, config)?;
    }
    for (path, keys) in login_keys {
        put(path, keys)?;
    }
    for (name, key) in trusted_keys {
        put(&format!("{}/{name}", image::TRUSTED_KEYS), key)?;
    }
    Ok(())
}

/// The modules that a board with these features carries, and all that the kernel has.
pub fn choose_modules<'t>(
    tree: &'t Tree,
    board: &Board,
    features: &Features,
    kernel: &Kernel,
) -> Result<(Available<'t>, Chosen)> {
    let available = Available::read(tree, &kernel.modules)?;
    let mut chosen = Chosen::default();
    let who = |module: &str, file: &str| format!("{file}: module {module}");
    let board_file = format!("{}.toml", board.name);
    for module in board.modules.network.keys().chain(board.modules.devices.keys()) {
        available
            .choose(module, Need::Required, &mut chosen)
            .with_context(|| who(module, &board_file))?;
    }
    for module in features.values().flat_map(|feature| feature.modules.keys()) {
        available
            .choose(module, Need::Required, &mut chosen)
            .with_context(|| who(module, "features.toml"))?;
    }
    let optional = features.values().flat_map(|feature| feature.optional.keys());
    for module in board.modules.optional.keys().chain(optional) {
        available
            .choose(module, Need::Optional, &mut chosen)
            .with_context(|| who(module, &board_file))?;
    }
    Ok((available, chosen))
}

/// Index files first, so that even a torn archive's modules can be found; then the network's, then the rest.
fn modules(
    archive: &mut Archive,
    tree: &Tree,
    board: &Board,
    features: &Features,
    kernel: &Kernel,
) -> Result<()> {
    let (available, chosen) = choose_modules(tree, board, features, kernel)?;
    let base = format!("usr/lib/modules/{}", kernel.release);
    let mut put =
        |name: &str, bytes: Vec<u8>| archive.file(&format!("{base}/{name}"), 0o644, bytes, Part::Modules);
    put("modules.dep", chosen.dep().into_bytes())?;
    put("modules.alias", chosen.alias().into_bytes())?;
    put("modules.softdep", chosen.softdep().into_bytes())?;
    put("modules.builtin", available.builtin_list())?;
    chosen
        .into_modules()
        .into_iter()
        .try_for_each(|Module { path, bytes, .. }| put(&path, bytes))
}
