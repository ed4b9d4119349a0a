//! The web servers: whole files, lengths, HEAD, and parts of files.

use super::document;
use anyhow::{Context, Result, ensure};
use lifeboot_tests::lan::{Lan, SERVER};
use lifeboot_tests::process::{self, Outcome};

/// Whether a server gives parts of files, which a download that was cut goes on with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Given,
    Never,
}

/// More than one packet and not a power of two.
const SIZE: usize = 300_001;

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

fn curl(lan: &Lan, arguments: &[&str]) -> Result<Outcome> {
    let mut command = lan.server().command("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
    command.args(arguments).arg(format!("http://{SERVER}/boot.img"));
    process::run_with(&mut command, b"")
}

fn serves(lan: Lan, name: &str, line: &str, parts: Parts) -> Result<()> {
    lan.put("http/boot.img", &content())?;
    lan.shell(name, line, 80)?;
    let whole = curl(&lan, &["--fail"])?.success()?;
    ensure!(whole.stdout == content(), "{name}: another file");
    let head = curl(&lan, &["--head", "--fail"])?
        .success()?
        .text()
        .to_lowercase();
    ensure!(
        head.contains(&format!("content-length: {SIZE}")),
        "{name}: {head}"
    );
    let status = curl(&lan, &["--range", "300000-", "--write-out", "%{http_code}"])?.success()?;
    let code = status.stdout.len().saturating_sub(3);
    let (body, code) = status.stdout.split_at(code);
    match parts {
        Parts::Given => ensure!(code == b"206" && body == &content()[300_000..], "{name}: no part"),
        Parts::Never => ensure!(
            code == b"200" && body == content(),
            "{name}: the document says that it gives none"
        ),
    }
    lan.passed();
    Ok(())
}

#[test]
fn python3_serves() -> Result<()> {
    serves(Lan::new()?, "python3", &command("# python3")?, Parts::Never)
}

#[test]
fn busybox_serves() -> Result<()> {
    serves(Lan::new()?, "busybox", &command("# busybox")?, Parts::Given)
}

#[test]
fn caddy_serves() -> Result<()> {
    serves(Lan::new()?, "caddy", &command("# caddy")?, Parts::Given)
}

#[test]
fn nginx_serves() -> Result<()> {
    let lan = Lan::new()?;
    // What a Debian nginx.conf has around the files of conf.d, without its users and directories.
    let around = [
        "daemon off;\nuser root;\npid /srv/lifeboot/nginx.pid;\nevents {}\nhttp {\naccess_log off;\n",
        "client_body_temp_path /srv/lifeboot/1;\nproxy_temp_path /srv/lifeboot/2;\nfastcgi_temp_path /srv/lifeboot/3;\n",
        "uwsgi_temp_path /srv/lifeboot/4;\nscgi_temp_path /srv/lifeboot/5;\n",
        &document::block("nginx", "# nginx")?,
        "}\n",
    ];
    lan.put("nginx.conf", lan.substituted(&around.concat()).as_bytes())?;
    serves(
        lan,
        "nginx",
        "nginx -e stderr -c /srv/lifeboot/nginx.conf",
        Parts::Given,
    )
}

/// The command of a block: its last line.
fn command(first: &str) -> Result<String> {
    let block = document::block("sh", first)?;
    Ok(block.lines().last().context("an empty block")?.to_owned())
}
