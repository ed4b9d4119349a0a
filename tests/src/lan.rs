//! A network with nothing of this machine's on it: network namespaces, a bridge, cables, servers. Firmware in QEMU boots from it.
//!
//! That needs root, for namespaces and taps; without, [`Lan::new`] fails with "could not run". Nothing is left behind: a namespace goes
//! when the process that holds it open goes, and that one reads a pipe from this process.

mod service;
mod station;

pub use service::Service;
pub use station::Station;

use crate::artefacts::web_servers;
use crate::deadline::Deadline;
use crate::process::{may_fail, private_dir};
use anyhow::{Context, Result, bail};
use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The server's address, which the examples in docs/serving.md use too.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
/// The interface of the server, likewise.
pub const INTERFACE: &str = "eth0";
/// The directory the examples serve from, which stands for [`Lan::files`].
const SERVED: &str = "/srv/lifeboot";
/// Lines of a log shown when something failed.
const LAST_LINES: usize = 30;

/// A server with an interface that others are cabled to.
#[derive(Debug)]
pub struct Lan {
    server: Station,
    dir: PathBuf,
    services: RefCell<Vec<Service>>,
    ports: Cell<u32>,
    passed: Cell<bool>,
}

impl Lan {
    /// Only the server is there; the two directories it serves, `http` and `tftp`, are empty.
    ///
    /// # Errors
    /// Not root, or a program is missing.
    pub fn new() -> Result<Lan> {
        let server = Station::new()?;
        // Without the delay of 15 s, in which a bridge only listens, the first DHCP requests are not lost.
        server.ip(&["link", "add", INTERFACE, "type", "bridge", "forward_delay", "0"])?;
        server.ip(&["addr", "add", &format!("{SERVER}/24"), "dev", INTERFACE])?;
        server.ip(&["link", "set", INTERFACE, "up"])?;
        let lan = Lan {
            server,
            dir: private_dir("lan")?,
            services: RefCell::default(),
            ports: Cell::new(0),
            passed: Cell::new(false),
        };
        for root in ["http", "tftp"].map(|name| lan.files().join(name)) {
            fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        }
        Ok(lan)
    }

    /// What is served lies here.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// The server's namespace.
    pub fn server(&self) -> &Station {
        &self.server
    }

    /// Puts a file where it is served.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.files().join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path)).with_context(|| path.display().to_string())?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    /// The same with a file that is there already.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put_file(&self, name: &str, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        self.put(name, &bytes)
    }

    /// A text of docs/serving.md with the directory of this network in the place of the one named there.
    pub fn substituted(&self, text: &str) -> String {
        text.replace(SERVED, &self.files().display().to_string())
    }

    /// Starts dnsmasq with a configuration on the server.
    ///
    /// # Errors
    /// It is not installed or does not take the configuration.
    pub fn dnsmasq(&self, configuration: &str) -> Result<()> {
        self.dnsmasq_on(&self.server, configuration)
    }

    /// The same on another machine.
    ///
    /// # Errors
    /// It is not installed or does not take the configuration.
    pub fn dnsmasq_on(&self, station: &Station, configuration: &str) -> Result<()> {
        let number = self.services.borrow().len();
        let path = |what: &str| self.dir.join(format!("dnsmasq-{number}.{what}"));
        let (conf, pid) = (path("conf"), path("pid"));
        fs::write(&conf, self.substituted(configuration)).with_context(|| conf.display().to_string())?;
        let mut command = station.command("dnsmasq");
        // What is not in the configuration: this machine's own files and users, and the three seconds of asking whether an
        // address is taken.
        command.args(["--keep-in-foreground", "--user=root", "--no-ping", "--log-dhcp"]);
        command.args(["--no-hosts", "--no-resolv", "--log-facility=-"]);
        command.arg(format!("--conf-file={}", conf.display()));
        command.arg(format!("--pid-file={}", pid.display()));
        command.arg(format!("--dhcp-leasefile={}", path("leases").display()));
        let mut service = Service::start("dnsmasq", command, &path("log"))?;
        service.wait_until("dnsmasq has started", || Ok(pid.exists()))?;
        self.services.borrow_mut().push(service);
        Ok(())
    }

    /// Starts a server by a line of the shell, in the directory of what is served; it is there when it accepts connections at `port`.
    ///
    /// # Errors
    /// It did not, or ended.
    pub fn shell(&self, name: &str, line: &str, port: u16) -> Result<()> {
        let number = self.services.borrow().len();
        let mut command = self.server.command("sh");
        command.arg("-c").arg(format!("exec {}", self.substituted(line)));
        command.current_dir(self.files()).env("HOME", &self.dir);
        command.env("PATH", web_servers::search_path());
        let log = self.dir.join(format!("{name}-{number}.log"));
        let mut service = Service::start(name, command, &log)?;
        let address = SocketAddr::from((SERVER, port));
        let there = service.wait_until(&format!("{name} accepts connections"), || {
            self.server
                .inside(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()))
        });
        if there.is_err() && service.log().contains("not found") {
            bail!("could not run: {name}: not there, `make images` fetches it");
        }
        there?;
        self.services.borrow_mut().push(service);
        Ok(())
    }

    /// Another machine, cabled to the server: its interface is called [`INTERFACE`] too and has the address, if one is given.
    ///
    /// # Errors
    /// Those of ip(8).
    pub fn station(&self, mac: &str, address: Option<Ipv4Addr>) -> Result<Station> {
        let station = Station::new()?;
        let near = self.next_port();
        let far = station.pid().to_string();
        self.server.ip(&[
            "link", "add", &near, "type", "veth", "peer", "name", INTERFACE, "address", mac, "netns", &far,
        ])?;
        self.server
            .ip(&["link", "set", &near, "master", INTERFACE, "up"])?;
        if let Some(address) = address {
            station.ip(&["addr", "add", &format!("{address}/24"), "dev", INTERFACE])?;
        }
        station.ip(&["link", "set", INTERFACE, "up"])?;
        Ok(station)
    }

    /// A tap for QEMU, cabled to the server.
    ///
    /// # Errors
    /// Those of ip(8).
    pub(crate) fn tap(&self) -> Result<String> {
        let name = self.next_port();
        self.server.ip(&["tuntap", "add", &name, "mode", "tap"])?;
        self.server
            .ip(&["link", "set", &name, "master", INTERFACE, "up"])?;
        Ok(name)
    }

    fn next_port(&self) -> String {
        let number = self.ports.get();
        self.ports.set(number + 1);
        format!("port{number}")
    }

    /// What the servers have written so far, all together.
    pub fn log(&self) -> String {
        self.services.borrow().iter().map(Service::log).collect()
    }

    /// Waits for a text in what the servers write: what they were asked, in their own words.
    ///
    /// # Errors
    /// It did not come in time.
    pub fn wait_log(&self, text: &str, seconds: u64) -> Result<()> {
        Deadline::after(seconds)
            .wait_for(&format!("'{text}' in the servers' logs"), || {
                Ok(self.log().contains(text).then_some(()))
            })
            .with_context(|| self.diagnosis())
    }

    /// What a person needs to see why something failed.
    pub fn diagnosis(&self) -> String {
        let mut text = String::new();
        for service in self.services.borrow().iter() {
            let log = service.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            text.push_str(&format!("last lines of {}:\n{tail}\n", service.name()));
        }
        text
    }

    /// The test has seen all it wanted: nothing is printed when this network goes.
    pub fn passed(self) {
        self.passed.set(true);
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if !self.passed.get() {
            eprintln!("{}", self.diagnosis());
        }
        self.services.borrow_mut().clear();
        may_fail("removing the network's directory", fs::remove_dir_all(&self.dir));
    }
}
