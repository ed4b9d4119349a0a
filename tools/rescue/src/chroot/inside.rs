//! What is run in a chroot, and the last step into it: `rescue enter-chroot DIRECTORY PROGRAM ARG0 [ARG...]`, for nobody to type.
//!
//! A process changes its root between fork and exec. A small program that then becomes the other one needs no unsafe code for it.

use super::elf;
use crate::mount::attach::Root;
use crate::mount::os_release::tame;
use anyhow::{Context as _, bail};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// The word after `rescue`.
pub const WORD: &str = "enter-chroot";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    program: String,
    arg0: String,
    args: Vec<String>,
    shell: String,
}

impl Program {
    /// A shell of the system, or that command.
    ///
    /// # Errors
    /// Nothing in it can be run here, and why.
    pub fn choose(root: &Root, command: &[String]) -> anyhow::Result<Program> {
        let shell = shell(root);
        if let [program, args @ ..] = command {
            check(root, program)?;
            return Ok(Program {
                program: program.clone(),
                arg0: program.clone(),
                args: args.to_vec(),
                shell: shell.unwrap_or_else(|_| "/bin/sh".to_owned()),
            });
        }
        let shell = shell?;
        let name = shell.rsplit('/').next().unwrap_or_default();
        Ok(Program {
            arg0: format!("-{name}"),
            program: shell.clone(),
            args: Vec::new(),
            shell,
        })
    }

    /// For people.
    pub fn shown(&self) -> String {
        tame(&self.program)
    }

    /// The command that goes in and becomes it.
    pub fn command(&self, at: &Path) -> Command {
        let own = std::env::current_exe().unwrap_or_else(|_| "/init".into());
        let mut command = Command::new(own);
        command
            .arg(WORD)
            .arg(at)
            .args([&self.program, &self.arg0])
            .args(&self.args);
        let kept = [
            "TERM",
            "COLORTERM",
            "LANG",
            "http_proxy",
            "https_proxy",
            "no_proxy",
        ];
        let kept = kept
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let kept: Vec<(&str, OsString)> = kept.collect();
        command
            .env_clear()
            .envs(kept)
            .envs([
                ("HOME", "/root"),
                ("LOGNAME", "root"),
                ("USER", "root"),
                ("PATH", PATH),
            ])
            // Debian's shells show it in their prompt.
            .envs([("SHELL", self.shell.as_str()), ("debian_chroot", "rescue")]);
        command
    }
}

/// Root's own shell, else one of the usual.
fn shell(root: &Root) -> anyhow::Result<String> {
    let passwd = root.read("/etc/passwd", 1 << 20).unwrap_or_default();
    let mut why = Vec::new();
    for shell in of_root(&passwd)
        .into_iter()
        .chain(["/bin/bash".to_owned(), "/bin/sh".to_owned()])
    {
        match check(root, &shell) {
            Ok(()) => return Ok(shell),
            Err(error) => why.push(format!("{error:#}")),
        }
    }
    why.dedup();
    bail!("there is no shell in it that can be run: {}", why.join("; "))
}

/// The shell of the user with number 0, unless it lets nobody in.
fn of_root(passwd: &[u8]) -> Option<String> {
    let passwd = String::from_utf8_lossy(passwd);
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let shell = fields.into_iter().find_map(|fields| match fields.as_slice() {
        [_, _, "0", _, _, _, shell] => Some((*shell).to_owned()),
        _ => None,
    })?;
    let refuses = ["nologin", "false", "true", "sync"]
        .iter()
        .any(|name| shell.ends_with(&format!("/{name}")));
    (shell.starts_with('/') && !refuses).then_some(shell)
}

/// Whether a program is there and made for this machine. One without a slash is looked for as a shell would, so nothing is known of it.
fn check(root: &Root, program: &str) -> anyhow::Result<()> {
    let path = match program.contains('/') {
        true => program.to_owned(),
        false => {
            let places = PATH.split(':').map(|dir| format!("{dir}/{program}"));
            let found = places.into_iter().find(|path| root.find(path).is_ok());
            found.with_context(|| format!("{}: not found in it", tame(program)))?
        }
    };
    let head = root.read(&path, 20).with_context(|| tame(&path))?;
    match elf::kind(&head).refusal() {
        Some(why) => bail!("{}: {why}", tame(&path)),
        None => Ok(()),
    }
}

/// Becomes the program named in `words`, the words after [`WORD`], in that directory.
///
/// # Errors
/// Only when it could not: it does not return otherwise.
pub fn enter(words: &[OsString]) -> anyhow::Result<Infallible> {
    let [directory, program, arg0, args @ ..] = words else {
        bail!("{WORD}: no program named");
    };
    rustix::process::chroot(Path::new(directory)).with_context(|| directory.display().to_string())?;
    rustix::process::chdir("/").context("/")?;
    // Where root would be; a system without that directory has a root one.
    if let Err(error) = rustix::process::chdir("/root")
        && error != rustix::io::Errno::NOENT
    {
        return Err(error).context("/root");
    }
    let error = Command::new(program).arg0(arg0).args(args).exec();
    Err(explain(error, program))
}

/// What the kernel's word for a program that cannot be started means here.
fn explain(error: std::io::Error, program: &OsStr) -> anyhow::Error {
    let name = program.display();
    match error.raw_os_error() {
        // ENOEXEC of include/uapi/asm-generic/errno-base.h
        Some(8) => anyhow::anyhow!(
            "{name}: the kernel cannot execute it (exec format error): it is made for another machine, or damaged"
        ),
        _ if error.kind() == std::io::ErrorKind::NotFound && Path::new(program).exists() => {
            anyhow::anyhow!(
                "{name}: it is there, but the program that loads it is not: its system is not whole"
            )
        }
        _ => anyhow::Error::from(error).context(name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn roots_shell_is_the_one_with_number_0_unless_it_lets_nobody_in() {
        let shell = |line: &str| of_root(format!("daemon:x:1:1::/:/bin/x\n{line}\n").as_bytes());
        assert_eq!(
            shell("root:x:0:0:root:/root:/bin/zsh").as_deref(),
            Some("/bin/zsh")
        );
        assert_eq!(shell("toor:x:0:0::/root:/usr/sbin/nologin"), None);
        for broken in [
            "root:x:0:0",
            "",
            "root:x:0:0:root:/root:",
            "::0::::",
            "root:x:0:0:a:b:bash",
        ] {
            assert_eq!(shell(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_shell_for_another_machine_is_passed_over_and_explained_when_there_is_no_other() {
        let dir = std::env::temp_dir().join(format!("lifeboot-inside-{}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/zsh\n").unwrap();
        let mut strange = b"\x7fELF\x02\x01".to_vec();
        strange.resize(18, 0);
        strange.extend([243, 0]);
        fs::write(dir.join("bin/zsh"), &strange).unwrap();
        let root = Root::open(&dir).unwrap();
        let why = format!("{:#}", Program::choose(&root, &[]).unwrap_err());
        assert!(why.contains("/bin/zsh: made for RISC-V"), "{why}");
        fs::write(dir.join("bin/sh"), "#!/bin/x\n").unwrap();
        let program = Program::choose(&root, &[]).unwrap();
        assert_eq!(
            (program.program.as_str(), program.arg0.as_str()),
            ("/bin/sh", "-sh")
        );
        let asked = Program::choose(&root, &["zsh".to_owned()]).unwrap_err();
        assert!(format!("{asked:#}").contains("made for RISC-V"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
