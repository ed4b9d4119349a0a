//! Who uses a mounted system, found in /proc: what is named there is what an unmount would fail for.

use super::os_release::tame;
use std::fs;
use std::path::{Path, PathBuf};

/// A process, or something of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number; none for what the kernel does by itself.
    pub pid: Option<u32>,
    /// For people: `sshd (process 412)`.
    pub shown: String,
}

/// Everything that has a file, a directory, its program or its root at or beneath `place`; this process is left out.
pub fn of(place: &Path) -> Vec<Holder> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut numbers: Vec<u32> = numbers.filter(|pid| *pid != own && uses(*pid, place)).collect();
    numbers.sort_unstable();
    let mut holders: Vec<Holder> = numbers.into_iter().map(process).collect();
    holders.extend(of_the_kernel(place));
    holders
}

/// Processes whose root is `place`.
pub fn inside(place: &Path) -> Vec<Holder> {
    let root = |pid: u32| fs::read_link(format!("/proc/{pid}/root"));
    let is_inside = |pid: u32| root(pid).is_ok_and(|root| root.starts_with(place));
    of(place)
        .into_iter()
        .filter(|holder| holder.pid.is_some_and(is_inside))
        .collect()
}

fn process(pid: u32) -> Holder {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Holder {
        pid: Some(pid),
        shown: format!("{} (process {pid})", tame(name.trim())),
    }
}

fn uses(pid: u32, place: &Path) -> bool {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let leads_there = |link: PathBuf| fs::read_link(link).is_ok_and(|to| to.starts_with(place));
    if ["root", "cwd", "exe"]
        .iter()
        .any(|link| leads_there(dir.join(link)))
    {
        return true;
    }
    let files = fs::read_dir(dir.join("fd")).into_iter().flatten().flatten();
    files.into_iter().any(|file| leads_there(file.path())) || has_mapped(&dir, place)
}

/// Libraries of a program that is somewhere else.
fn has_mapped(dir: &Path, place: &Path) -> bool {
    let maps = fs::read(dir.join("maps")).unwrap_or_default();
    String::from_utf8_lossy(&maps).lines().any(|line| {
        let path = line.find('/').and_then(|start| line.get(start..));
        path.is_some_and(|path| Path::new(path).starts_with(place))
    })
}

/// Swap files and loop devices.
fn of_the_kernel(place: &Path) -> Vec<Holder> {
    let holder = |shown: String| Holder { pid: None, shown };
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let swaps = swaps.lines().filter_map(|line| line.split_whitespace().next());
    let swaps = swaps.filter(|file| Path::new(file).starts_with(place));
    let swaps = swaps.map(|file| holder(format!("swap on {} (swapoff {0})", tame(file))));
    let loops = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let loops = loops.filter_map(|entry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        let device = entry.file_name().to_string_lossy().into_owned();
        Path::new(file.trim())
            .starts_with(place)
            .then(|| holder(format!("/dev/{device}, a loop device of {}", tame(file.trim()))))
    });
    swaps.chain(loops).collect()
}

/// A sentence's worth of them: the first few, and how many more.
pub fn shown(holders: &[Holder]) -> String {
    const FEW: usize = 5;
    let mut text: Vec<String> = holders
        .iter()
        .take(FEW)
        .map(|holder| holder.shown.clone())
        .collect();
    if let Some(more) = holders.len().checked_sub(FEW).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_sits_in_a_directory_is_named_and_one_beside_it_is_not() {
        let dir = std::env::temp_dir().join(format!("lifeboot-holders-{}", std::process::id()));
        fs::create_dir_all(dir.join("in")).unwrap();
        let dir = fs::canonicalize(&dir).unwrap();
        let mut child = Command::new("sleep")
            .arg("30")
            .current_dir(dir.join("in"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pids: Vec<_> = of(&dir).into_iter().map(|holder| holder.pid).collect();
        let beside = of(&dir.join("i"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(pids, [Some(child.id())]);
        assert_eq!(beside, []);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn many_are_counted() {
        let one = Holder {
            pid: Some(7),
            shown: "sh (process 7)".into(),
        };
        assert_eq!(shown(std::slice::from_ref(&one)), "sh (process 7)");
        assert!(shown(&vec![one; 7]).ends_with("sh (process 7), 2 more"));
    }
}
