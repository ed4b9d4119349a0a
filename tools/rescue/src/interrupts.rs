//! Ctrl-C and SIGTERM counted instead of obeyed.

use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use tokio::signal::unix::{SignalKind, signal};

/// How often somebody has asked this process to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupts(Arc<AtomicU32>);

impl Interrupts {
    /// From now on they are counted.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn heed() -> anyhow::Result<Interrupts> {
        let counted = Interrupts::default();
        let counter = counted.clone();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            // The sender goes with an error: nobody waits for ever.
            drop(ready.send(count(&counter, &ready)));
        });
        is_ready.recv().context("signals")??;
        Ok(counted)
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Returns only when it could not begin.
fn count(counter: &Interrupts, ready: &mpsc::Sender<anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("signals")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        if ready.send(Ok(())).is_err() {
            return Ok(());
        }
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            counter.0.fetch_add(1, Ordering::Relaxed);
        }
    })
}
