//! The listing as an SPDX 2.3 document. Source: the SPDX Specification 2.3, chapters 6 to 11, and its JSON schema.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{Listed, Listing, Origin};
use crate::packages::hex;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The whole document, the same bytes for the same image.
pub fn document(listing: &Listing) -> Result<Vec<u8>> {
    let digest = hex(&Sha256::digest(listing.text()));
    let mut packages = vec![image(listing)];
    packages.extend(
        listing
            .origins
            .iter()
            .enumerate()
            .map(|(index, origin)| package(index, origin)),
    );
    let files: Vec<Value> = listing
        .files
        .iter()
        .enumerate()
        .map(|(index, file)| entry(index, file))
        .collect();
    let references: BTreeSet<&String> = listing
        .origins
        .iter()
        .flat_map(|origin| &origin.licence.names)
        .filter(|name| name.starts_with("LicenseRef-"))
        .collect();
    let references: Vec<Value> = references.into_iter().map(|name| reference(name)).collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": listing.name,
        // A name for the document, not a place it could be fetched from.
        "documentNamespace": format!("https://lifeboot.invalid/spdx/{digest}"),
        "creationInfo": {
            "created": timestamp(listing.created),
            "creators": [format!("Tool: lifeboot-image-builder-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "files": files,
        "hasExtractedLicensingInfos": references,
        "relationships": relationships(listing),
    });
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

fn image(listing: &Listing) -> Value {
    let mut digests: Vec<&str> = listing.files.iter().map(|file| file.sha1.as_str()).collect();
    digests.sort_unstable();
    json!({
        "SPDXID": IMAGE,
        "name": listing.name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": true,
        "packageVerificationCode": {"packageVerificationCodeValue": hex(&Sha1::digest(digests.concat()))},
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn package(index: usize, origin: &Origin) -> Value {
    let mut package = json!({
        "SPDXID": package_id(index),
        "name": origin.name,
        "versionInfo": origin.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": origin.licence.expression(),
        "copyrightText": "NOASSERTION",
    });
    if let Some(fields) = package.as_object_mut() {
        if let Some(source) = &origin.source {
            fields.insert("sourceInfo".to_owned(), json!(format!("source package {source}")));
        }
        if let Some(text) = &origin.licence.text {
            let comment = format!(
                "the package's copyright file, SHA-256 {text}, names these for the whole of its source"
            );
            fields.insert("licenseComments".to_owned(), json!(comment));
        }
    }
    package
}

fn entry(index: usize, file: &Listed) -> Value {
    json!({
        "SPDXID": file_id(index),
        "fileName": format!("./{}", file.name),
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": file.sha1},
            {"algorithm": "SHA256", "checksumValue": file.sha256},
        ],
        "licenseConcluded": "NOASSERTION",
        "licenseInfoInFiles": ["NOASSERTION"],
        "copyrightText": "NOASSERTION",
    })
}

fn reference(name: &str) -> Value {
    let short = name.trim_start_matches("LicenseRef-Debian-");
    json!({
        "licenseId": name,
        "name": short,
        "extractedText": format!("Called '{short}' in /usr/share/doc/PACKAGE/copyright of the packages that name it."),
    })
}

fn relationships(listing: &Listing) -> Vec<Relationship> {
    let relate = |one: &str, how, other: String| Relationship {
        spdx_element_id: one.to_owned(),
        relationship_type: how,
        related_spdx_element: other,
    };
    let mut all = vec![relate(DOCUMENT, "DESCRIBES", IMAGE.to_owned())];
    for (index, file) in listing.files.iter().enumerate() {
        all.push(relate(IMAGE, "CONTAINS", file_id(index)));
        if let Some(origin) = file.origin {
            all.push(relate(&file_id(index), "GENERATED_FROM", package_id(origin)));
        }
    }
    all
}

fn package_id(index: usize) -> String {
    format!("SPDXRef-Package-{index}")
}

fn file_id(index: usize) -> String {
    format!("SPDXRef-File-{index}")
}

/// `YYYY-MM-DDThh:mm:ssZ`. The days since 1970 are turned into a date by counting from 1 March of the year 0, so that the
/// day that leap years add comes last.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + next,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::licence::Licence;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_795_212_345), "2026-11-20T22:05:45Z");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let file = |name: &str, origin| Listed {
            name: name.into(),
            sha1: "0".repeat(40),
            sha256: "0".repeat(64),
            origin,
        };
        let listing = Listing {
            name: "x".into(),
            created: 0,
            origins: vec![Origin {
                name: "p".into(),
                version: "1".into(),
                source: Some("s".into()),
                licence: Licence::known("MIT"),
            }],
            files: vec![file("a", Some(0)), file("b", None)],
        };
        let document: Value = serde_json::from_slice(&document(&listing).unwrap()).unwrap();
        let ids = |what: &str| -> Vec<String> {
            let items = document[what].as_array().unwrap().iter();
            items
                .map(|item| item["SPDXID"].as_str().unwrap().to_owned())
                .collect()
        };
        let known: Vec<String> = [ids("packages"), ids("files"), vec![DOCUMENT.into()]].concat();
        let relationships = document["relationships"].as_array().unwrap();
        assert_eq!(relationships.len(), 4);
        for relationship in relationships {
            for end in ["spdxElementId", "relatedSpdxElement"] {
                let end = relationship[end].as_str().unwrap();
                assert!(known.iter().any(|id| id == end), "{end}");
            }
        }
    }
}
