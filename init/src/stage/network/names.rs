//! resolv.conf and the host name.

use crate::report::Reporter;
use lifeboot_contract::image::RUN;
use lifeboot_contract::plan::is_hostname;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// musl's resolver reads no more than this many servers (resolv.conf(5), MAXNS).
const SERVERS: usize = 3;

/// The file's text.
pub(super) fn resolv_conf(servers: &[IpAddr], domains: &[String]) -> String {
    let mut text = String::new();
    if !domains.is_empty() {
        text.push_str(&format!("search {}\n", domains.join(" ")));
    }
    let mut seen: Vec<IpAddr> = Vec::new();
    for server in servers {
        if seen.len() < SERVERS && !seen.contains(server) {
            text.push_str(&format!("nameserver {server}\n"));
            seen.push(*server);
        }
    }
    text
}

/// Writes it under /run, which moves into the real system, and makes /etc point there.
pub(super) fn write_resolv_conf(text: &str) -> io::Result<()> {
    let path = Path::new(RUN).join("resolv.conf");
    fs::create_dir_all(RUN)?;
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, &path)?;
    if fs::read_link(RESOLV_CONF).is_ok_and(|target| target == path) {
        return Ok(());
    }
    match fs::remove_file(RESOLV_CONF) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(&path, RESOLV_CONF),
    }
}

/// Sets the host name; one that Linux or a prompt could not carry is left out and said.
pub(super) fn set_hostname(name: &str, reporter: &Reporter) -> bool {
    if !is_hostname(name) {
        let what = format!("'{name}' is not a host name");
        reporter.event(
            reporter
                .warn("child.error")
                .with("child", "network")
                .with("what", what),
        );
        return false;
    }
    let result = nix::unistd::sethostname(name);
    let set = result.is_ok();
    reporter.ignore("set the host name", result);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_servers_each_once_in_order() {
        let servers: Vec<IpAddr> = ["10.0.0.1", "10.0.0.1", "2001:db8::1", "10.0.0.2", "10.0.0.3"]
            .map(|a| a.parse().unwrap())
            .into();
        let text = resolv_conf(&servers, &["example.org".into(), "lan".into()]);
        assert_eq!(
            text,
            "search example.org lan\nnameserver 10.0.0.1\nnameserver 2001:db8::1\nnameserver 10.0.0.2\n"
        );
        assert_eq!(resolv_conf(&[], &[]), "");
    }
}
