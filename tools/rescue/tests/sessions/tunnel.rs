//! A tunnel from the ssh server to the system's own OpenSSH server, and back through it.

use crate::port::Port;
use crate::server::Server;
use crate::stand_in::{output, output_with, until};
use lifeboot_contract::plan::Plan;
use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A device with a tunnel to a bastion of its own.
struct Tunnelled {
    device: Server,
    bastion: Child,
    tunnel: Child,
    /// The port of the bastion that leads to the device.
    port: u64,
    /// The bastion's own.
    _own: Port,
}

impl Tunnelled {
    fn start() -> Tunnelled {
        let device = Server::start();
        let dir = device.dir.display();
        let own = Port::reserve();
        let port = own.number;
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/unknown\nAuthorizedKeysFile {dir}/bastion_keys\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        );
        fs::write(device.dir.join("bastion"), config).unwrap();
        // Debian's package has it made by systemd, and only root's server wants it.
        drop(fs::create_dir_all("/run/sshd"));
        let mut bastion = Command::new("/usr/sbin/sshd");
        bastion.args(["-D", "-e", "-f"]).arg(device.dir.join("bastion"));
        let bastion = bastion.stderr(Stdio::null()).spawn().unwrap();
        until("the bastion", || TcpStream::connect(("127.0.0.1", port)).is_ok());

        let mut id = Command::new("id");
        id.arg("-un");
        let user = String::from_utf8(output(id).stdout).unwrap();
        let pin = fs::read_to_string(device.dir.join("unknown.pub")).unwrap();
        let words = format!(
            "lifeboot.tunnel={}@127.0.0.1:{port} lifeboot.tunnel-hostkey=\"{}\"",
            user.trim(),
            pin.trim()
        );
        let plan = Plan::make(&words, &Default::default(), Default::default(), "");
        assert_eq!(plan.notes, []);
        fs::write(
            device.dir.join("plan.json"),
            serde_json::to_string(&plan).unwrap(),
        )
        .unwrap();
        let mut tunnel = Command::new(env!("CARGO_BIN_EXE_rescue"));
        tunnel
            .args(["tunnel", "--serve"])
            .env("LIFEBOOT_RUN", &device.dir);
        let tunnel = tunnel.stdin(Stdio::null()).spawn().unwrap();
        let key = device.init.event("tunnel.key");
        let line = key.fields["authorized_keys"][0].as_str().unwrap().to_owned();
        fs::write(device.dir.join("bastion_keys"), line).unwrap();
        let port = device.init.event("tunnel.up").u64("port").unwrap();
        Tunnelled {
            device,
            bastion,
            tunnel,
            port,
            _own: own,
        }
    }

    fn ssh(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        // Of two ports OpenSSH takes the first.
        command.args(["-o", &format!("Port={}", self.port)]);
        command.args(self.device.options("ed25519"));
        command.arg("root@127.0.0.1").args(words).stdin(Stdio::null());
        command
    }
}

impl Drop for Tunnelled {
    fn drop(&mut self) {
        for child in [&mut self.tunnel, &mut self.bastion] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn what_goes_through_a_tunnel_arrives_unchanged_and_its_end_too() {
    let tunnelled = Tunnelled::start();
    let data: Vec<u8> = (0..20_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let echoed = output_with(tunnelled.ssh(&["cat; exit 3"]), data.clone());
    assert_eq!(echoed.status.code(), Some(3));
    assert!(
        echoed.stdout == data,
        "{} bytes came back, or others",
        echoed.stdout.len()
    );
    let login = tunnelled.device.init.event("ssh.login");
    assert!(login.str("peer").starts_with("127.84.0.1:"), "{login:?}");
}

#[test]
fn an_upload_that_nobody_takes_yet_neither_stops_other_sessions_nor_loses_a_byte() {
    let tunnelled = Tunnelled::start();
    let data = vec![b'x'; 1_500_000];
    let slow = std::thread::spawn({
        let command = tunnelled.ssh(&["until [ -e go ]; do sleep 0.1; done; wc -c"]);
        move || output_with(command, data)
    });
    tunnelled.device.init.until_held(1);
    std::thread::sleep(Duration::from_secs(1));
    let quick = output(tunnelled.ssh(&["echo quick"]));
    assert_eq!(quick.stdout, b"quick\n");
    fs::write(tunnelled.device.dir.join("home/go"), "").unwrap();
    let counted = String::from_utf8(slow.join().unwrap().stdout).unwrap();
    assert_eq!(counted.trim(), "1500000");
}
