//! A worker: claims names that nobody else claims, keeps some, gives back most, and records what
//! was acknowledged.

use super::client::{Caller, Failed};
use super::history::{Fact, History};
use std::path::PathBuf;
use tokio::sync::watch;

/// The longest session there is: nothing ends by itself while the checker looks.
const TTL_MS: u64 = 600_000;
/// Of so many names one is kept.
const KEEP_EVERY: u64 = 8;

/// Runs until told to stop, or until its connection fails. `prefix` makes its names its own.
pub async fn work(
    endpoint: PathBuf,
    prefix: String,
    mut stop: watch::Receiver<bool>,
) -> Result<History, String> {
    let mut history = History::default();
    let mut key = [0; 16];
    rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| e.to_string())?;
    let message = |f: Failed| f.message;
    let mut caller = Caller::connect(endpoint, key.to_vec()).await.map_err(message)?;
    let attached = caller.open(TTL_MS, &prefix).await.map_err(message)?;
    tokio::select! {
        () = claim(&mut caller, &prefix, &mut history) => {}
        // An error means that nobody can say stop any more.
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(attached);
    Ok(history)
}

async fn claim(caller: &mut Caller, prefix: &str, history: &mut History) {
    for number in 0_u64.. {
        let name = format!("{prefix}-{number}");
        let request = caller.request();
        let Ok(Some(token)) = caller.acquire(&name, request, 5_000).await else { return };
        history.add(Fact::Granted { name: name.clone(), token });
        if number.is_multiple_of(KEEP_EVERY) {
            continue;
        }
        let request = caller.request();
        // Until it is acknowledged it may or may not have been done, also when this is cut short
        // here.
        history.add(Fact::ReleaseUnknown { name: name.clone(), token });
        match caller.release(&name, token, request).await {
            Ok(()) => history.add(Fact::Released { name, token }),
            Err(_) => return,
        }
    }
}
