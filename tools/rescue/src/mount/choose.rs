//! Showing the systems that were found, and having a person say which one is meant.

use super::find::{Found, System};
use super::os_release::tame;
use crate::output;
use anyhow::bail;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};

/// What is found, a line each, in columns.
pub fn table(systems: &[&System]) -> Vec<String> {
    let head = ["SYSTEM", "DEVICE", "SUBVOLUME", "MOUNTED ON", "FSTAB"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head)
        .chain(systems.iter().map(|system| row(system)))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    // A column in which nothing stands says nothing.
    let shown: Vec<usize> = (0..5)
        .filter(|column| rows.iter().skip(1).any(|row| row[*column] != "-"))
        .collect();
    let line = |row: &[String; 5]| {
        let cells = shown
            .iter()
            .map(|column| format!("{:<1$}", row[*column], width(*column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(system: &System) -> [String; 5] {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let places = system.fstab.iter().map(|entry| match entry.fs.as_str() {
        "swap" => "swap".to_owned(),
        _ => tame(&entry.target),
    });
    [
        system.name.clone(),
        system.device.clone(),
        or_dash(system.subvolume.clone().unwrap_or_default()),
        or_dash(system.mounted.join(" ")),
        or_dash(places.collect::<Vec<_>>().join(" ")),
    ]
}

/// What else was seen and is in nobody's way.
pub fn remarks(found: &Found) -> Vec<String> {
    let locked = found
        .locked
        .iter()
        .map(|device| format!("{device} is locked; 'rescue unlock {device}' opens it."));
    let unreadable = found
        .unreadable
        .iter()
        .map(|device| format!("{} could not be looked into: {}.", device.device, device.why));
    locked.chain(unreadable).collect()
}

/// The one that is meant; `None`: nobody can be asked, and that has been said.
///
/// # Errors
/// There is none, or the answer is none.
pub fn one<'a>(systems: &[&'a System], command: &str) -> anyhow::Result<Option<&'a System>> {
    match systems {
        [] => bail!("no installed system was found; 'rescue disks' shows what is there"),
        [one] => return Ok(Some(one)),
        _ => {}
    }
    output::complain(&format!("{} systems are installed:", systems.len()));
    for (index, line) in table(systems).iter().enumerate() {
        let number = if index == 0 {
            String::new()
        } else {
            index.to_string()
        };
        output::complain(&format!("{number:>3}  {line}"));
    }
    if !stdin().is_terminal() {
        output::complain(&format!("rescue: say which one: {command} DEVICE"));
        if systems.iter().any(|system| system.subvolume.is_some()) {
            output::complain("rescue: of one device, --subvolume NAME tells them apart");
        }
        return Ok(None);
    }
    write!(stderr(), "Which one (number)? ")?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let number = line
        .trim()
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1));
    let Some(system) = number.and_then(|index| systems.get(index)) else {
        bail!(
            "'{}' is not a number from 1 to {}",
            tame(line.trim()),
            systems.len()
        );
    };
    Ok(Some(system))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::fstab::Fstab;

    fn system(name: &str, device: &str, fstab: &str) -> System {
        System {
            name: name.into(),
            id: None,
            version: None,
            device: device.into(),
            fs: "ext4".into(),
            label: None,
            uuid: None,
            subvolume: None,
            mounted: vec![],
            fstab: Fstab::parse(fstab.as_bytes()).entries,
            unclear: vec![],
            mappings: vec![],
        }
    }

    #[test]
    fn systems_are_shown_in_columns_and_empty_columns_are_not() {
        let (first, second) = (
            system("Debian", "/dev/vda2", "a / ext4\nb /boot vfat\nc none swap"),
            system("Void Linux", "/dev/vdb", ""),
        );
        let expected = [
            "SYSTEM      DEVICE     FSTAB",
            "Debian      /dev/vda2  / /boot swap",
            "Void Linux  /dev/vdb   -",
        ];
        assert_eq!(table(&[&first, &second]), expected);
    }

    #[test]
    fn the_only_one_is_not_asked_for() {
        let only = system("Debian", "/dev/vda2", "");
        assert_eq!(
            one(&[&only], "rescue mount").unwrap().unwrap().device,
            "/dev/vda2"
        );
        assert!(one(&[], "rescue mount").is_err());
    }
}
