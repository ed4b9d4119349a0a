//! The table that `rescue disks` prints.

use super::gpt::Gpt;
use super::health::Verdict;
use super::{Disk, LUKS, Luks, PartOf, Standing, lvm, md};

/// `1.5 GiB`, three digits at most.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match tenths {
        0..100 if unit > 0 => format!("{}.{} {name}", tenths / 10, tenths % 10),
        _ => format!("{} {name}", tenths / 10),
    }
}

const HEAD: [&str; 6] = ["DEVICE", "SIZE", "CONTENT", "LABEL", "UUID", "STATE"];
const SIZE: usize = 1;
const UUID: usize = 4;
const STATE: usize = 5;

/// The table, its columns as wide as what is in them.
pub fn lines(disks: &[Disk]) -> Vec<String> {
    aligned(&rows(disks), &[0, 1, 2, 3, UUID, STATE])
}

/// The table for a terminal of `width` columns: what does not fit is below it.
pub fn lines_within(disks: &[Disk], width: usize) -> Vec<String> {
    let fits = |lines: &[String]| lines.iter().all(|line| line.chars().count() <= width);
    let rows = rows(disks);
    let wide = lines(disks);
    if fits(&wide) {
        return wide;
    }
    let narrow = aligned(&rows, &[0, 1, 2, 3, STATE]);
    let mut lines = match fits(&narrow) {
        true => narrow,
        false => below(&rows, width),
    };
    let with_uuid: Vec<[String; 6]> = rows.into_iter().filter(|row| row[UUID] != "-").collect();
    if with_uuid.len() > 1 {
        lines.push(String::new());
        lines.extend(aligned(&with_uuid, &[0, UUID]));
    }
    lines
}

/// The state on lines of its own below each device.
fn below(rows: &[[String; 6]], width: usize) -> Vec<String> {
    let table = aligned(rows, &[0, 1, 2, 3]);
    let state = |row: &[String; 6]| match row[STATE].as_str() {
        "" | "STATE" => Vec::new(),
        text => crate::output::wrapped(&format!("    {text}"), width, 4),
    };
    table
        .into_iter()
        .zip(rows)
        .flat_map(|(line, row)| std::iter::once(line).chain(state(row)))
        .collect()
}

fn rows(disks: &[Disk]) -> Vec<[String; 6]> {
    std::iter::once(HEAD.map(str::to_owned))
        .chain(disks.iter().map(row))
        .collect()
}

fn aligned(rows: &[[String; 6]], columns: &[usize]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<(usize, usize)> = columns.iter().map(|column| (*column, width(*column))).collect();
    let line = |row: &[String; 6]| {
        let cells = widths.iter().map(|(column, width)| {
            let cell = &row[*column];
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            if *column == SIZE {
                format!("{pad}{cell}")
            } else {
                format!("{cell}{pad}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(disk: &Disk) -> [String; 6] {
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    [
        format!("{}{}", "  ".repeat(disk.depth), disk.device),
        human(disk.size),
        content(disk),
        label(disk),
        or_dash(&disk.uuid),
        state(disk),
    ]
}

/// What the file system is called, else in brackets what the partition is.
fn label(disk: &Disk) -> String {
    match (&disk.label, &disk.partlabel) {
        (Some(label), _) => label.clone(),
        (None, Some(name)) => format!("({name})"),
        (None, None) => "-".to_owned(),
    }
}

fn content(disk: &Disk) -> String {
    match (disk.fs.as_deref(), disk.table.as_deref()) {
        (Some(LUKS), _) => "LUKS".to_owned(),
        (Some(lvm::MEMBER), _) => "LVM".to_owned(),
        (Some(md::MEMBER), _) => "RAID".to_owned(),
        (Some(fs), _) => fs.to_owned(),
        (None, Some(table)) => match disk.gpt {
            Some(Gpt::PrimaryDamaged | Gpt::Lost) => format!("{table} (damaged)"),
            _ => table.to_owned(),
        },
        (None, None) => "-".to_owned(),
    }
}

fn state(disk: &Disk) -> String {
    let mut says = Vec::new();
    if disk.depth == 0 {
        let told = [&disk.model, &disk.serial, &disk.transport];
        let told: Vec<&str> = told.into_iter().flatten().map(String::as_str).collect();
        says.push(told.join(" "));
    }
    if let Some(health) = &disk.health {
        says.push(match health.verdict {
            Verdict::Failing => "FAILING".to_owned(),
            Verdict::Worn => "wears out".to_owned(),
            Verdict::Good | Verdict::Unknown => health.says.clone(),
        });
    }
    match &disk.luks {
        Some(Luks::Locked) => says.push("locked".to_owned()),
        Some(Luks::Unlocked(device)) => says.push(format!("unlocked as {device}")),
        None => {}
    }
    says.extend(disk.part_of.as_ref().and_then(member));
    if let Some(array) = &disk.array {
        let here = array.devices.saturating_sub(array.missing.len() as u64);
        says.extend(
            array
                .degraded()
                .then(|| format!("{here} of {} devices", array.devices)),
        );
        says.extend(array.doing.clone());
    }
    if disk.trouble.is_some() {
        says.push("in trouble".to_owned());
    }
    says.extend(
        disk.holder
            .map(|holder| format!("being {}", holder.purpose.participle())),
    );
    match disk.mounted.as_slice() {
        [] => {}
        [swap] if swap == "[SWAP]" => says.push("used as swap".to_owned()),
        points => says.push(format!("mounted on {}", points.join(", "))),
    }
    if disk.read_only && disk.depth == 0 && disk.kind != "rom" {
        says.push("read-only".to_owned());
    }
    says.retain(|words| !words.is_empty());
    says.join(", ")
}

fn member(part: &PartOf) -> Option<String> {
    let name = part.name.as_deref().unwrap_or("?");
    Some(match &part.standing {
        Standing::Active => format!("in {name}"),
        Standing::Degraded => format!("in {name}, degraded"),
        Standing::LeftOut => format!("left out of {name}"),
        Standing::Inactive => format!("in {name}, inactive"),
        Standing::InactiveIncomplete { .. } | Standing::Incomplete { .. } => format!("in {name}, incomplete"),
        Standing::Unused => "unused".to_owned(),
        Standing::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::seen;
    use super::*;

    #[test]
    fn the_table_is_aligned_and_says_what_matters() {
        let table = lines(&seen());
        assert_eq!(
            table[0],
            "DEVICE                       SIZE  CONTENT  LABEL  UUID  STATE"
        );
        assert_eq!(
            table[1],
            "/dev/vda                  2.0 GiB  -        -      -     QEMU DISK"
        );
        assert_eq!(
            table[2],
            "  /dev/vda1               999 MiB  ext4     data   u-1   mounted on /mnt"
        );
        assert_eq!(
            table[5],
            "  /dev/vda3               1.0 MiB  LUKS     -      u-4   locked"
        );
    }

    /// The sample with identifiers as long as they are in life.
    fn long() -> Vec<Disk> {
        let mut disks = seen();
        for disk in disks.iter_mut().filter(|disk| disk.uuid.is_some()) {
            disk.uuid = Some("f73768af-108b-437c-85a3-d03a5226bd8e".to_owned());
        }
        disks
    }

    #[test]
    fn a_narrow_terminal_gets_the_same_facts_in_more_lines() {
        for width in [80, 66, 40] {
            let lines = lines_within(&long(), width);
            let text = lines.join("\n");
            let long: Vec<_> = lines.iter().filter(|line| line.chars().count() > width).collect();
            assert!(width == 40 || long.is_empty(), "{width}: {long:#?}");
            for fact in ["/dev/vda3", "mounted on /mnt", "unlocked as", "QEMU DISK", "bd8e"] {
                assert!(text.contains(fact), "{width}: {fact} in\n{text}");
            }
        }
        assert_eq!(lines_within(&long(), 200), lines(&long()));
    }

    #[test]
    fn words_are_wrapped_and_never_lost() {}

    #[test]
    fn sizes_have_at_most_three_digits() {
        let expected = [
            (0, "0 B"),
            (999, "999 B"),
            (1024, "1.0 KiB"),
            (10 << 20, "10 MiB"),
            (1_099_511_627_776, "1.0 TiB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human(u64::MAX), "16383 PiB");
    }
}
