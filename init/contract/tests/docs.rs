//! The generated documents are what the tables say.

use std::path::Path;

fn matches(name: &str, fresh: &str) -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, fresh)?;
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == fresh,
        "docs/{name} is stale: UPDATE_DOCS=1 cargo test -p lifeboot-contract"
    );
    Ok(())
}

#[test]
fn the_command_line_document_is_what_the_table_says() -> std::io::Result<()> {
    matches("cmdline.md", &lifeboot_contract::keys::markdown())
}

#[test]
fn the_event_document_is_what_the_table_says() -> std::io::Result<()> {
    matches("events.md", &lifeboot_contract::event::markdown())
}
