//! A demo that is asked to end takes its processes and files with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Notes SIGINT, SIGTERM and SIGHUP from here on, instead of dying of them.
pub fn watch() -> Result<(), String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let guard = runtime.enter();
        let mut signals = signal(kind).map_err(|e| e.to_string())?;
        drop(guard);
        runtime.spawn(async move {
            signals.recv().await;
            ASKED.store(true, Ordering::Relaxed);
        });
    }
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(())
}

/// Waits, unless the demo was asked to end.
pub fn pause(time: Duration) -> Result<(), String> {
    std::thread::sleep(time);
    if ASKED.load(Ordering::Relaxed) {
        return Err("asked to end; everything that it started has ended too".to_owned());
    }
    Ok(())
}
