//! Clients that acquire and release names of their own.

use crate::floor::median;
use quorate_tests::load::Caller;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const TTL_MS: u64 = 60_000;
/// Left out of the measurement.
const WARM_UP: usize = 100;

async fn open(endpoint: PathBuf, number: usize) -> Result<(Caller, impl Sized), String> {
    let mut key = vec![3; 16];
    rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| e.to_string())?;
    let mut caller = Caller::connect(endpoint, key).await.map_err(|f| f.message)?;
    let label = format!("bench {number}");
    let attached = caller.open(TTL_MS, &label).await.map_err(|f| f.message)?;
    Ok((caller, attached))
}

async fn pair(caller: &mut Caller, name: &str) -> Result<u64, String> {
    let request = caller.request();
    let begun = Instant::now();
    let token = caller.acquire(name, request, 5_000).await.map_err(|f| f.message)?;
    let taken = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let token = token.ok_or_else(|| format!("{name} is taken"))?;
    let request = caller.request();
    caller.release(name, token, request).await.map_err(|f| f.message)?;
    Ok(taken)
}

/// One client: the median time of an acquire, in ns.
pub async fn one(endpoint: PathBuf, samples: usize) -> Result<u64, String> {
    let (mut caller, _attached) = open(endpoint, 0).await?;
    let mut taken = Vec::with_capacity(samples);
    for i in 0..samples + WARM_UP {
        let nanos = pair(&mut caller, "bench-one").await?;
        if i >= WARM_UP {
            taken.push(nanos);
        }
    }
    caller.close().await.map_err(|f| f.message)?;
    Ok(median(taken))
}

/// So many clients for so long, at all members: pairs done.
pub async fn many(endpoints: &[PathBuf], clients: usize, window: Duration) -> Result<f64, String> {
    let (stop, stopped) = watch::channel(false);
    let mut running = Vec::new();
    for number in 0..clients {
        let endpoint = endpoints[number % endpoints.len()].clone();
        let stopped = stopped.clone();
        running.push(tokio::spawn(async move {
            let (mut caller, _attached) = open(endpoint, number).await?;
            let name = format!("bench-{number}");
            let mut pairs = 0_u32;
            while !*stopped.borrow() {
                pair(&mut caller, &name).await?;
                pairs += 1;
            }
            caller.close().await.map_err(|f| f.message)?;
            Ok::<u32, String>(pairs)
        }));
    }
    tokio::time::sleep(window).await;
    let _ = stop.send(true); // Whoever failed does not listen any more, and says so below.
    let mut pairs = 0.0;
    for client in running {
        pairs += f64::from(client.await.map_err(|e| e.to_string())??);
    }
    Ok(pairs)
}
