//! The DNS record of the host key.

use crate::server::Server;
use crate::stand_in::output;
use std::fs;
use std::process::Command;

#[test]
fn the_dns_record_that_is_told_is_the_one_ssh_keygen_makes() {
    let server = Server::start();
    let told = server.init.event("ssh.listening").str("sshfp").to_owned();
    let private = server.dir.join("ssh_host_ed25519_key");
    let public = server.dir.join("host.pub");
    let mut command = Command::new("ssh-keygen");
    command.arg("-y").arg("-f").arg(&private);
    fs::write(&public, output(command).stdout).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-r", "device.example.net", "-f"]).arg(&public);
    let records = String::from_utf8(output(command).stdout).unwrap();
    let wanted = format!("device.example.net IN SSHFP {told}");
    assert!(
        records.lines().any(|line| line == wanted),
        "{wanted} is not in\n{records}"
    );
}
