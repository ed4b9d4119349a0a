//! Keeping tunnels: each bastion is dialled again for ever, with growing, jittered pauses.

use super::dial::{Dialer, Identity, tell};
use super::{authorized_keys, bastion_of, facts};
use crate::control;
use lifeboot_contract::event::Level;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::status::{Address, Status};
use lifeboot_contract::tunnel::Bastion;
use lifeboot_init::boot::jittered;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// The pause after the first failure; doubled by each further one, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A tunnel that stood so long is dialled again at once.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// How often PID 1 is asked for addresses and the ssh server.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps every tunnel of the plan until killed.
///
/// # Errors
/// When there is no plan or no host key; PID 1 starts it again.
pub async fn serve() -> anyhow::Result<ExitCode> {
    let plan = control::plan(&control::run_dir())?;
    let (status, ssh_port) = wait_for_ssh().await;
    let identity = Identity::load(&control::run_dir())?;
    say_key(&plan, &identity).await;
    let (addresses, known) = watch::channel(status.addresses);
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_addresses(addresses));
    for (index, planned) in plan.tunnels.iter().enumerate() {
        let number = u8::try_from(index).unwrap_or(u8::MAX).saturating_add(1);
        let keeper = Keeper {
            planned: planned.clone(),
            plan: plan.clone(),
            identity: identity.clone(),
            ssh_port,
            source: Ipv4Addr::new(127, 84, 0, number),
        };
        tasks.spawn(keeper.keep(known.clone()));
    }
    // None of them returns; a panic in one must not leave the others alone with half the work.
    drop(tasks.join_next().await);
    Ok(ExitCode::FAILURE)
}

/// What is needed to keep one tunnel.
struct Keeper {
    planned: lifeboot_contract::tunnel::Tunnel,
    plan: Plan,
    identity: Identity,
    ssh_port: u16,
    source: Ipv4Addr,
}

impl Keeper {
    async fn keep(self, mut addresses: watch::Receiver<Vec<Address>>) {
        // A fact such as the MAC address comes with the network.
        drop(addresses.wait_for(|addresses| !addresses.is_empty()).await);
        let mut dialer = None;
        let mut failures: u32 = 0;
        loop {
            let now = addresses.borrow_and_update().clone();
            let why = match self.dialer(&mut dialer, &now) {
                Ok(dialer) => attempt(dialer, &mut failures).await,
                Err(what) => {
                    let event = control::event(Level::Warn, "tunnel.off")
                        .with("bastion", self.planned.to_string())
                        .with("what", what.clone());
                    tell(event.text(format!("the tunnel to {} is not kept: {what}", self.planned))).await;
                    std::future::pending().await
                }
            };
            failures += 1;
            if let Some(dialer) = &dialer {
                say_down(&dialer.bastion, &why, failures).await;
            }
            let pause = Instant::now() + jittered(pause(failures));
            tokio::select! {
                () = sleep_until(pause) => {}
                // A new address is a new chance, after a moment for its routes.
                Ok(()) = addresses.changed() => sleep(FIRST_PAUSE).await,
            }
            drop(addresses.wait_for(|addresses| !addresses.is_empty()).await);
        }
    }

    /// Made once there is an address.
    fn dialer<'a>(&self, made: &'a mut Option<Dialer>, addresses: &[Address]) -> Result<&'a Dialer, String> {
        if made.is_none() {
            let (bastion, pins) = bastion_of(&self.planned, &facts(&self.plan, addresses), &self.plan)?;
            *made = Some(Dialer::new(
                bastion,
                pins,
                self.identity.clone(),
                self.ssh_port,
                self.source,
            ));
        }
        made.as_ref().ok_or_else(|| "has no dialer".to_owned())
    }
}

/// Dials, and waits for the end; why it ended.
async fn attempt(dialer: &Dialer, failures: &mut u32) -> String {
    let tunnel = match dialer.dial().await {
        Ok(tunnel) => tunnel,
        Err(error) => return format!("{error:#}"),
    };
    let event = control::event(Level::Info, "tunnel.up")
        .with("bastion", dialer.bastion.to_string())
        .with("port", tunnel.port)
        .with("host_key", tunnel.host_key.clone())
        .with("source", dialer.source.to_string());
    let text = format!(
        "tunnel: port {} on {} leads to this machine's ssh",
        tunnel.port, dialer.bastion
    );
    tell(event.text(text)).await;
    let since = Instant::now();
    let why = tunnel.watch().await;
    // One that falls at once, again and again, is a failure like others.
    if since.elapsed() > GOOD_LIFE {
        *failures = 0;
    }
    why
}

async fn wait_for_ssh() -> (Status, u16) {
    loop {
        if let Some(status) = ask_status().await
            && let Some(port) = status.ssh.as_ref().map(|ssh| ssh.port)
        {
            return (status, port);
        }
        sleep(LOOK).await;
    }
}

async fn ask_status() -> Option<Status> {
    tokio::task::spawn_blocking(control::status).await.ok()?.ok()
}

async fn follow_addresses(addresses: watch::Sender<Vec<Address>>) {
    loop {
        sleep(LOOK).await;
        if let Some(status) = ask_status().await {
            addresses.send_if_modified(|known| {
                let other = *known != status.addresses;
                *known = status.addresses;
                other
            });
        }
    }
}

async fn say_key(plan: &Plan, identity: &Identity) {
    let lines = authorized_keys(plan, identity);
    let event = control::event(Level::Info, "tunnel.key")
        .with("public_key", identity.public.clone())
        .with("fingerprint", identity.fingerprint.clone())
        .with("authorized_keys", lines);
    let text = format!("tunnel: the bastion must let in {}", identity.public);
    tell(event.text(text)).await;
}

/// A bastion that is away for days is not a line a minute.
async fn say_down(bastion: &Bastion, why: &str, failures: u32) {
    if failures.is_power_of_two() {
        let event = control::event(Level::Info, "tunnel.down")
            .with("bastion", bastion.to_string())
            .with("what", why)
            .with("tries", failures);
        tell(event.text(format!("tunnel to {bastion} is down: {why}"))).await;
    }
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_are_at_most_a_quarter_longer() {
        let pauses: Vec<u64> = (1..=9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX), LAST_PAUSE);
        for _ in 0..100 {
            let longer = jittered(LAST_PAUSE);
            assert!(longer >= LAST_PAUSE && longer <= LAST_PAUSE * 5 / 4);
        }
    }
}
