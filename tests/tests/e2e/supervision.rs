//! PID 1 outlives everything it started.

use crate::world::{BOOT, FULL_BOOT, OS, pc, pc_booting_from, tiny_server, wait_for_tiny};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::guest::{Client, Guest, Peer};

/// Prints `PID COMMAND…` of each child of PID 1 that is a program.
const CHILDREN: &str = "for s in /proc/[0-9]*/stat; do read -r pid _ state parent _ <$s 2>/dev/null || continue; \
     [ \"$parent\" = 1 ] && echo $pid $(tr '\\0' ' ' </proc/$pid/cmdline); done; true";

fn rescue(name: &str) -> Result<(Guest, Client)> {
    let mut guest = pc(name).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

#[test]
fn each_child_that_is_killed_is_started_again() -> Result<()> {
    let (mut guest, client) = rescue("kill each child")?;
    guest.wait_event("boot.idle", BOOT)?;
    let children = client.run(&[CHILDREN])?.success()?.text();
    let pids: Vec<&str> = children
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    ensure!(pids.len() >= 2, "children of PID 1: {children}");
    for pid in &pids {
        // The connection goes with the ssh server; the kill itself is seen in the events.
        client.run(&["kill", "-9", pid])?;
        guest.wait_ssh(Peer::Rescue, BOOT)?;
    }
    let all = Deadline::after(BOOT).wait_for("respawn of each", || {
        let events = guest.events()?.iter();
        let respawns = events.filter(|event| event.name == "init.respawn").count();
        Ok((respawns >= pids.len()).then_some(()))
    });
    all.with_context(|| format!("children of PID 1: {children}"))?;
    // The last one may still be in its pause.
    Deadline::after(BOOT).wait_for("all children again", || {
        let after = client.run(&[CHILDREN])?.text();
        Ok((after.lines().count() >= pids.len()).then_some(()))
    })?;
    guest.passed()
}

/// With `root=` the kernel gives the initramfs a file system without a limit, and without one half of the memory.
#[test]
fn files_that_fill_the_memory_are_refused_and_the_machine_is_reached_after_that() -> Result<()> {
    for (name, words) in [
        ("full without root=", &["panic=3"][..]),
        ("full with root=", &["root=LABEL=none"]),
    ] {
        let mut builder = pc(name);
        for word in words {
            builder = builder.word(*word);
        }
        let mut guest = builder.boot()?;
        let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
        for place in ["/tmp", "/root", "/run", "/dev/shm"] {
            let outcome = client.run(&[&format!("dd if=/dev/zero of={place}/fill bs=1M")])?;
            ensure!(
                outcome.status == Some(1) && outcome.errors().contains("No space left"),
                "{name}: {place}: {}",
                outcome.errors()
            );
        }
        let panic = guest
            .wait_ssh(Peer::Rescue, BOOT)?
            .run(&["cat /proc/sys/kernel/panic"])?;
        let seconds = if words.contains(&"panic=3") { "3" } else { "10" };
        ensure!(panic.text().trim() == seconds, "{name}: {}", panic.text());
        client.run(&["rescue status"])?.success()?;
        guest.passed()?;
    }
    Ok(())
}

#[test]
fn a_fork_bomb_of_zombies_leaves_none() -> Result<()> {
    let (guest, client) = rescue("zombies")?;
    client
        .run(&["i=0; while [ $i -lt 400 ]; do (sleep 0.2 &) ; i=$((i + 1)); done"])?
        .success()?;
    Deadline::after(BOOT).wait_for("end of the zombies", || {
        let zombies = client
            .run(&["cat /proc/[0-9]*/stat 2>/dev/null | awk '$3 == \"Z\"' | wc -l"])?
            .text();
        Ok((zombies.trim() == "0").then_some(()))
    })?;
    ensure!(
        client.run(&["rescue", "status"])?.status == Some(0),
        "PID 1 does not answer"
    );
    guest.passed()
}

#[test]
fn a_pipeline_that_panics_is_started_again_and_boots() -> Result<()> {
    let (server, _os) = tiny_server()?;
    let mut guest = pc_booting_from(&server, "pipeline panic")
        .word("lifeboot.debug=panic:fetch")
        .boot()?;
    let respawn = guest.wait_event("init.respawn", BOOT)?;
    ensure!(
        respawn.str("child") == "pipeline",
        "{} was started again",
        respawn.str("child")
    );
    ensure!(
        respawn.str("reason").contains("panic"),
        "the reason is {}",
        respawn.str("reason")
    );
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
fn an_init_that_cannot_be_executed_leaves_a_rescue_that_is_reached() -> Result<()> {
    let server = FaultServer::start()?;
    let disks = Disks::new("no-interpreter")?;
    // Everything about it is right, but the interpreter of its init is not there.
    let image = disks.squashfs("broken.squashfs", "#!/no/such/interpreter\n")?;
    server.serve_file(OS, &image)?;
    let mut guest = pc_booting_from(&server, "no interpreter")
        .word("lifeboot.verify=off")
        .boot()?;
    let failed = guest.wait_event("handover.failed", FULL_BOOT)?;
    ensure!(
        failed.str("what").contains("/sbin/init"),
        "it says: {}",
        failed.str("what")
    );
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let mounts = client
        .run(&["cat /proc/mounts; ls /sys/class /dev/null"])?
        .success()?
        .text();
    ensure!(mounts.contains("devtmpfs /dev "), "no /dev in {mounts}");
    guest.passed()
}

#[test]
fn pid_1_survives_signals() -> Result<()> {
    let (guest, client) = rescue("signals to PID 1")?;
    for signal in ["HUP", "INT", "USR1", "SEGV", "PIPE", "KILL", "STOP"] {
        client.run(&["kill", "-s", signal, "1"])?;
    }
    ensure!(
        client.run(&["rescue", "status"])?.status == Some(0),
        "PID 1 does not answer"
    );
    guest.passed()
}

#[test]
fn reboot_and_poweroff_end_the_machine() -> Result<()> {
    for word in ["reboot", "poweroff"] {
        let (mut guest, client) = rescue(word)?;
        client.run(&["rescue", word])?;
        guest.wait_exit(BOOT)?;
        guest.passed()?;
    }
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn a_watchdog_is_petted_longer_than_its_timeout() -> Result<()> {
    let mut guest = pc("watchdog").watchdog().word("lifeboot.watchdog=15").boot()?;
    let petted = guest.wait_event("init.watchdog", BOOT)?;
    ensure!(
        petted.u64("timeout_s").is_some_and(|seconds| seconds >= 15),
        "{petted:?}"
    );
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    // Three timeouts of the guest's own clock.
    client.run(&["sleep", "45"])?.success()?;
    ensure!(guest.status().is_ok(), "the watchdog bit");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn enter_on_the_console_gives_a_shell() -> Result<()> {
    let mut guest = pc("console shell").boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    let from = guest.console_length()?;
    // What is typed before an invitation is thrown away, and the end of the boot brings a new one.
    Deadline::after(BOOT).wait_for("prompt", || {
        guest.type_on_console("\n")?;
        Ok(guest.wait_console_after(from, ":~# ", 10).ok())
    })?;
    guest.type_on_console("echo sh''ell-$((40+2))\n")?;
    guest.wait_console_after(from, "shell-42", BOOT)?;
    guest.passed()
}
