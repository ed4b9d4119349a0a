//! Reading an initramfs: as the kernel does, then against its own listing and sentinel.

use anyhow::{Context, Result};
use lifeboot_contract::image::{self, ListingEntry, parse_listing, write_listing};
use sha2::{Digest, Sha256};

use super::Findings;
use crate::compress::Compression;
use crate::cpio::{self, Entry};
use crate::packages::hex;

/// Reads a whole initramfs.
pub fn read(bytes: &[u8]) -> Result<(Findings, Vec<ListingEntry>)> {
    let compression = Compression::of(bytes);
    let unpacked = match compression {
        Some(compression) => compression
            .unpack(bytes)
            .with_context(|| format!("{compression:?}").to_lowercase())?,
        None => bytes.to_vec(),
    };
    let entries = cpio::read(&unpacked)?;
    let mut findings = Findings {
        kind: "initramfs",
        ..Findings::default()
    };
    findings.compression = compression.map(|compression| format!("{compression:?}").to_lowercase());
    let data = |path: &str| find(&entries, path).map(|entry| entry.data);
    findings.init = find(&entries, "init").map(|_| "/init".to_owned());
    if findings.init.is_none() {
        findings.problems.push("no init".to_owned());
    }
    if let Some(text) = data(image::IMAGE_INFO) {
        let info = serde_json::from_slice(text);
        match info {
            Ok(info) => findings.image = Some(info),
            Err(error) => findings.problems.push(format!("{}: {error}", image::IMAGE_INFO)),
        }
    }
    let listing: Vec<ListingEntry> = entries.iter().map(listed).collect();
    findings.problems.extend(check_sentinel(&entries, &listing));
    Ok((findings, listing))
}

fn find<'e, 'a>(entries: &'e [Entry<'a>], path: &str) -> Option<&'e Entry<'a>> {
    let path = path.trim_start_matches('/');
    entries
        .iter()
        .find(|entry| entry.path.trim_start_matches("./") == path)
}

fn listed(entry: &Entry<'_>) -> ListingEntry {
    let size = if entry.node.kind == 'f' {
        entry.data.len() as u64
    } else {
        0
    };
    ListingEntry {
        kind: entry.node.kind,
        mode: entry.node.mode,
        size,
        path: entry.path.clone(),
    }
}

/// What the device would find wrong, and what only the builder can see: a listing that is not the archive's.
fn check_sentinel(entries: &[Entry<'_>], listing: &[ListingEntry]) -> Option<String> {
    let Some(text) = find(entries, image::LISTING) else {
        return Some(format!(
            "no {}: not made by lifeboot, or cut short",
            image::LISTING
        ));
    };
    let Some(sentinel) = find(entries, image::SENTINEL) else {
        return Some(format!("no {}: cut short", image::SENTINEL));
    };
    if sentinel.data != format!("{}\n", hex(&Sha256::digest(text.data))).as_bytes() {
        return Some("the sentinel is not the listing's digest".to_owned());
    }
    let own = [image::LISTING, image::SENTINEL].map(|path| path.trim_start_matches('/'));
    let expected: Vec<ListingEntry> = listing
        .iter()
        .filter(|entry| !own.contains(&entry.path.as_str()))
        .cloned()
        .collect();
    match parse_listing(&String::from_utf8_lossy(text.data)) {
        Err(error) => Some(error.to_string()),
        Ok(found) if found != expected => {
            let differs = found
                .iter()
                .zip(&expected)
                .find(|(found, expected)| found != expected);
            let place = differs.map_or_else(String::new, |(found, _)| {
                format!(
                    " from '{}' on",
                    write_listing(std::slice::from_ref(found)).trim_end()
                )
            });
            Some(format!("the listing is not the archive's{place}"))
        }
        Ok(_) => None,
    }
}
