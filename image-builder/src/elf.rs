//! Shared libraries: what a program names, and what those name in turn, looked up where the tree's own dynamic linker
//! would look.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::board::Arch;
use crate::tree::Tree;

/// What an executable or a library asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The dynamic linker, for a program that is not static.
    pub interpreter: Option<String>,
    pub needed: Vec<String>,
    run_paths: Vec<String>,
}

/// Libraries by the path they are to have in the image, without a leading slash.
#[derive(Debug)]
pub struct Libraries<'a> {
    tree: &'a Tree,
    arch: Arch,
    found: BTreeMap<String, Vec<u8>>,
}

/// Reads a program that must start where there is nothing but itself.
pub fn static_executable(path: &Path, arch: Arch) -> Result<Vec<u8>> {
    let about = || path.display().to_string();
    let bytes = fs::read(path).with_context(about)?;
    match wants(&bytes, arch).with_context(about)? {
        None => bail!("{}: not an ELF executable", about()),
        Some(wants) if wants.interpreter.is_some() => bail!(
            "{}: not a static executable, there is no dynamic linker when it starts",
            about()
        ),
        Some(_) => Ok(bytes),
    }
}

/// Reads the dynamic section of a 64-bit ELF file; `None` when the file is not ELF at all (a script).
pub fn wants(bytes: &[u8], arch: Arch) -> Result<Option<Wants>> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Ok(None);
    }
    let header = elf::FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let machine = header.e_machine(endian);
    if machine != arch.elf_machine() {
        bail!(
            "built for another machine (ELF machine {}, wanted {})",
            machine.0,
            arch.elf_machine().0
        );
    }
    let mut wants = Wants::default();
    let segments = header.program_headers(endian, bytes)?;
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            wants.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
        if let Some(entries) = segment.dynamic(endian, bytes)? {
            read_dynamic(entries, segments, endian, bytes, &mut wants)?;
        }
    }
    Ok(Some(wants))
}

fn read_dynamic(
    entries: &[elf::Dyn64<Endianness>],
    segments: &[elf::ProgramHeader64<Endianness>],
    endian: Endianness,
    bytes: &[u8],
    wants: &mut Wants,
) -> Result<()> {
    let value = |tag| {
        entries
            .iter()
            .find(|entry| entry.tag(endian) == tag)
            .map(|entry| entry.val(endian))
    };
    let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return Ok(());
    };
    let strings = segments
        .iter()
        .find_map(|segment| segment.data_range(endian, bytes, address, size).ok().flatten())
        .context("string table outside the file")?;
    for entry in entries
        .iter()
        .take_while(|entry| entry.tag(endian) != elf::DT_NULL)
    {
        let tag = entry.tag(endian);
        if !matches!(tag, elf::DT_NEEDED | elf::DT_RUNPATH | elf::DT_RPATH) {
            continue;
        }
        let from = usize::try_from(entry.val(endian))
            .ok()
            .and_then(|offset| strings.get(offset..));
        let name = from
            .and_then(|rest| rest.split(|byte| *byte == 0).next())
            .context("name outside the string table")?;
        let name = String::from_utf8_lossy(name).into_owned();
        if tag == elf::DT_NEEDED {
            wants.needed.push(name);
        } else {
            wants.run_paths.extend(name.split(':').map(str::to_owned));
        }
    }
    Ok(())
}

impl<'a> Libraries<'a> {
    /// None yet.
    pub fn new(tree: &'a Tree, arch: Arch) -> Self {
        Self {
            tree,
            arch,
            found: BTreeMap::new(),
        }
    }

    /// Takes everything a program names, and everything that names.
    pub fn add_program(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let Some(wants) = wants(bytes, self.arch).with_context(|| path.to_owned())? else {
            return Ok(());
        };
        let linker = wants.interpreter.clone();
        if let Some(linker) = &linker {
            let place = under_usr(linker);
            if !self.found.contains_key(&place) {
                let bytes = self.tree.read(linker).with_context(|| path.to_owned())?;
                self.found.insert(place, bytes);
            }
        }
        self.close(path, &wants)
    }

    /// Takes a library nobody names, because it is opened at run time.
    pub fn add_library(&mut self, name: &str, who: &str) -> Result<()> {
        self.add(name, who, &[])
    }

    /// What was taken, by path in the image.
    pub fn finish(self) -> BTreeMap<String, Vec<u8>> {
        self.found
    }

    fn close(&mut self, path: &str, wants: &Wants) -> Result<()> {
        let origin = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let run_paths: Vec<String> = wants
            .run_paths
            .iter()
            .map(|path| path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
            .collect();
        wants
            .needed
            .iter()
            .try_for_each(|name| self.add(name, path, &run_paths))
    }

    fn add(&mut self, name: &str, who: &str, run_paths: &[String]) -> Result<()> {
        // The dynamic linker is a library too; it is there already, under the name programs ask for.
        if self
            .found
            .keys()
            .any(|path| path.rsplit('/').next() == Some(name))
        {
            return Ok(());
        }
        let triplet = self.arch.triplet();
        let usual = [
            format!("/usr/lib/{triplet}"),
            format!("/lib/{triplet}"),
            "/usr/lib".into(),
            "/lib".into(),
        ];
        let directories = run_paths.iter().chain(&usual);
        let mut found = None;
        for path in directories.map(|directory| format!("{directory}/{name}")) {
            if self.tree.is_file(&path)? {
                found = Some(path);
                break;
            }
        }
        let Some(path) = found else {
            bail!("{who}: needs {name}, which {} does not have", self.tree.name());
        };
        let bytes = self.tree.read(&path)?;
        let wants = wants(&bytes, self.arch)
            .with_context(|| path.clone())?
            .unwrap_or_default();
        self.found.insert(under_usr(&path), bytes);
        self.close(&path, &wants)
    }
}

/// The path in an image with merged /usr, without a leading slash.
pub fn under_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if ["bin/", "sbin/", "lib/", "lib64/"]
        .iter()
        .any(|top| path.starts_with(top))
    {
        return format!("usr/{path}");
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_wants_nothing_and_half_an_elf_is_refused() {
        assert_eq!(wants(b"#!/bin/sh\n", Arch::X86_64).unwrap(), None);
        assert!(wants(b"\x7fELF\x02\x01\x01", Arch::X86_64).is_err());
    }

    #[test]
    fn this_very_test_names_libc_and_a_linker() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let arch = if cfg!(target_arch = "x86_64") {
            Arch::X86_64
        } else {
            Arch::Aarch64
        };
        let found = wants(&me, arch).unwrap().unwrap();
        assert!(found.needed.iter().any(|name| name == "libc.so.6"), "{found:?}");
        assert!(found.interpreter.is_some());
        let other = if arch == Arch::X86_64 {
            Arch::Aarch64
        } else {
            Arch::X86_64
        };
        assert!(
            wants(&me, other)
                .unwrap_err()
                .to_string()
                .starts_with("built for another machine")
        );
    }

    #[test]
    fn paths_move_under_usr() {
        assert_eq!(
            under_usr("/lib64/ld-linux-x86-64.so.2"),
            "usr/lib64/ld-linux-x86-64.so.2"
        );
        assert_eq!(under_usr("/usr/lib/x"), "usr/lib/x");
    }
}
