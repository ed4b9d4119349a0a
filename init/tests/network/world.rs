//! Namespaces, cables and a DHCP server for one test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a world that cannot be made fails its test"
)]

use lifeboot_contract::control::Report;
use lifeboot_contract::event::Event;
use lifeboot_init::report::{Memory, Reporter};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const INSIDE: &str = "LIFEBOOT_NETWORK_TEST";
const FAR: &str = "far";

/// Runs `test` in namespaces of its own, by starting this executable again with only the test `name`.
pub fn isolated(name: &str, test: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        test();
        return;
    }
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    assert!(
        root,
        "could not run: needs root, for namespaces with a DHCP server in them"
    );
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            name,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INSIDE, "1")
        .status()
        .expect("unshare(1) of util-linux is needed");
    assert!(status.success(), "{name} failed in its namespaces, see above");
}

/// The machine under test, and what lies at the other ends of its cables.
pub struct World {
    /// What the stage under test reports to.
    pub reporter: Reporter,
    memory: Arc<Memory>,
    servers: AtomicU32,
}

/// A server that ends with the test.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl World {
    /// Empty /etc and /run, no interface but lo.
    pub fn new() -> World {
        let keep = [
            "/etc/passwd",
            "/etc/group",
            "/etc/nsswitch.conf",
            "/etc/protocols",
            "/etc/services",
        ]
        .map(|path| (path, std::fs::read(path)));
        for directory in ["/etc", "/run"] {
            run("mount", &["-t", "tmpfs", "none", directory]);
        }
        for (path, content) in keep {
            if let Ok(content) = content {
                std::fs::write(path, content).unwrap();
            }
        }
        run("ip", &["netns", "add", FAR]);
        let memory = Arc::new(Memory::default());
        World {
            reporter: Reporter::new(memory.clone()),
            memory,
            servers: AtomicU32::new(0),
        }
    }

    /// A cable: `name` on this side, `far-NAME` on the other, with 10.9.0.1 and carrying.
    pub fn cable(&self, name: &str, mac: &str) {
        let far = format!("far-{name}");
        run(
            "ip",
            &[
                "link", "add", name, "address", mac, "type", "veth", "peer", "name", &far, "netns", FAR,
            ],
        );
        self.far(&["link", "set", "lo", "up"]);
        self.far(&["addr", "add", "10.9.0.1/24", "dev", &far]);
        self.far(&["link", "set", &far, "up"]);
    }

    /// Takes the cable out of the far end.
    pub fn pull(&self, name: &str) {
        self.far(&["link", "set", &format!("far-{name}"), "down"]);
    }

    /// Puts it in again.
    pub fn plug(&self, name: &str) {
        self.far(&["link", "set", &format!("far-{name}"), "up"]);
    }

    /// ip(8) on the far side.
    pub fn far(&self, args: &[&str]) {
        run("ip", &[&["-n", FAR], args].concat());
    }

    /// dnsmasq at the far end of the cable `name`; listens when this returns.
    pub fn dnsmasq(&self, name: &str, args: &[&str]) -> Server {
        let pid_file = format!(
            "/run/dnsmasq-{}.pid",
            self.servers.fetch_add(1, Ordering::Relaxed)
        );
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                FAR,
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
            ])
            .args([
                "--bind-dynamic",
                "--no-ping",
                "--leasefile-ro",
                "--user=root",
                "--no-resolv",
                "--no-hosts",
            ])
            .arg(format!("--interface=far-{name}"))
            .arg(format!("--pid-file={pid_file}"))
            .args(args)
            .stdout(Stdio::null())
            .stderr(if std::env::var_os("VERBOSE").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .expect("ip(8) and dnsmasq are needed");
        let server = Server(child);
        eventually("dnsmasq listens", || std::fs::metadata(&pid_file).is_ok());
        server
    }

    /// The events of that name so far.
    pub fn events(&self, name: &str) -> Vec<Event> {
        self.memory
            .events()
            .into_iter()
            .filter(|event| event.name == name)
            .collect()
    }

    /// The addresses as last reported.
    pub fn addresses(&self) -> Vec<String> {
        let last = self
            .memory
            .reports()
            .into_iter()
            .rev()
            .find_map(|report| match report {
                Report::Addresses(addresses) => Some(addresses),
                _ => None,
            });
        last.unwrap_or_default()
            .iter()
            .map(|address| address.address.to_string())
            .collect()
    }

    /// Everything that happened, for people.
    fn print(&self) {
        for event in self.memory.events() {
            println!("{event:?}");
        }
        println!("{:?}", self.memory.reports());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print();
        }
    }
}

/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What ip(8) prints on this side.
pub fn ip(args: &[&str]) -> String {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
