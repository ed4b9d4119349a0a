//! The table that `rescue disks` prints.

use super::{Disk, LUKS, Luks};

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

/// The table, its columns as wide as what is in them.
pub fn lines(disks: &[Disk]) -> Vec<String> {
    const HEAD: [&str; 6] = ["DEVICE", "SIZE", "FILE SYSTEM", "LABEL", "UUID", "STATE"];
    let rows: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(disks.iter().map(row))
        .collect();
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if column == 1 {
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
    let fs = match disk.fs.as_deref() {
        Some(LUKS) => "LUKS".to_owned(),
        Some(fs) => fs.to_owned(),
        None => "-".to_owned(),
    };
    let label = or_dash(&disk.label);
    let uuid = or_dash(&disk.uuid);
    [
        format!("{}{}", "  ".repeat(disk.depth), disk.device),
        human(disk.size),
        fs,
        label,
        uuid,
        state(disk),
    ]
}

fn state(disk: &Disk) -> String {
    match (&disk.luks, disk.mounted.as_slice()) {
        (Some(Luks::Locked), _) => "locked".to_owned(),
        (Some(Luks::Unlocked(device)), _) => format!("unlocked as {device}"),
        (None, []) if disk.depth == 0 => disk.model.clone().unwrap_or_default(),
        (None, []) => String::new(),
        (None, points) => format!("mounted on {}", points.join(", ")),
    }
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
            "DEVICE                       SIZE  FILE SYSTEM  LABEL  UUID  STATE"
        );
        assert_eq!(
            table[1],
            "/dev/vda                  2.0 GiB  -            -      -     QEMU DISK"
        );
        assert_eq!(
            table[2],
            "  /dev/vda1               999 MiB  ext4         data   u-1   mounted on /mnt"
        );
        assert_eq!(
            table[5],
            "  /dev/vda3               1.0 MiB  LUKS         -      u-4   locked"
        );
    }

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
