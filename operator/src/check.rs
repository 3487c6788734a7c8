//! `check`: whether an installed operator works, as `helm test` wants to know.
//!
//! It asks with the rights that everybody has: whether the API server serves RaftClusters, and each
//! process of the operator by its probe port. Must not write anything.

use kube::Client;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// What the API server is to serve.
const VERSION: &str = "/apis/quorate.dev/v1alpha1";
const RESOURCES: [&str; 3] = ["raftclusters", "raftclusters/status", "raftclusters/scale"];
/// All is well within this, or something is wrong: the DNS remembers for half a minute.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);
/// A probe answers within this.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Asks until all is well: the API server serves RaftClusters, `replicas` processes answer at the
/// name and port `probe`, and just one of them works. Gives what it found.
///
/// # Errors
/// What was still not so after a minute, in a sentence.
pub async fn check(client: &Client, probe: &str, replicas: usize) -> Result<String, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = match served(client).await {
            Ok(()) => answering(probe, replicas).await,
            Err(why) => Err(why),
        };
        match found {
            Ok(addresses) => {
                let found = addresses.join(", ");
                return Ok(format!(
                    "the API server serves RaftClusters; {found} ready, one of them works"
                ));
            }
            Err(why) if Instant::now() > end => return Err(why),
            Err(_) => sleep(LOOK).await,
        }
    }
}

async fn served(client: &Client) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("the API server at {VERSION}: {e}");
    let request = axum::http::Request::get(VERSION).body(Vec::new()).map_err(|e| failed(&e))?;
    let list: Value = client.request(request).await.map_err(|e| failed(&e))?;
    let has = |name: &&str| {
        let all = list["resources"].as_array();
        all.is_some_and(|all| all.iter().any(|one| one["name"] == **name))
    };
    match RESOURCES.iter().find(|name| !has(name)) {
        Some(missing) => Err(format!("the API server does not serve {missing}")),
        None => Ok(()),
    }
}

async fn answering(probe: &str, replicas: usize) -> Result<Vec<String>, String> {
    let found = tokio::net::lookup_host(probe).await.map_err(|e| format!("{probe}: {e}"))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.len() != replicas {
        let found = addresses.len();
        return Err(format!("{found} processes of the operator are ready, not {replicas}"));
    }
    let mut work = 0;
    for address in &addresses {
        ask(*address, "/readyz").await?;
        let metrics = ask(*address, "/metrics").await?;
        work += usize::from(metrics.lines().any(|line| line == "quorate_operator_leads 1"));
    }
    if work != 1 {
        return Err(format!("{work} processes of the operator hold the Lease, and one should"));
    }
    Ok(addresses.iter().map(ToString::to_string).collect())
}

/// What an operator's probe port answers; only 200 will do.
async fn ask(address: SocketAddr, path: &str) -> Result<String, String> {
    let failed = |e: &dyn std::fmt::Display| format!("http://{address}{path}: {e}");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // By this version of HTTP the answer ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(ANSWER_MAX, exchange).await.map_err(|_| failed(&"no answer"))?;
    let answer = answer.map_err(|e| failed(&e))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(body.to_owned());
    }
    Err(failed(&format!("{status}: {}", body.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Health, serve};
    use tokio::net::TcpListener;

    async fn operator(ready: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let health = Health::default();
        health.set_up();
        if ready {
            health.leads();
        }
        tokio::spawn(serve(listener, health));
        address
    }

    #[tokio::test]
    async fn one_process_works_and_all_are_there() {
        let (works, waits) = (operator(true).await, operator(false).await);
        assert_eq!(answering(&works.to_string(), 1).await, Ok(vec![works.to_string()]));
        let wrong = answering(&waits.to_string(), 1).await.expect_err("nobody works");
        assert!(wrong.starts_with("0 processes"), "{wrong}");
        let wrong = answering(&works.to_string(), 2).await.expect_err("one is missing");
        assert!(wrong.starts_with("1 processes of the operator are ready, not 2"), "{wrong}");
    }

    #[tokio::test]
    async fn another_answer_than_200_is_none() {
        let works = operator(true).await;
        let wrong = ask(works, "/none").await.expect_err("there is nothing");
        assert!(wrong.contains("404"), "{wrong}");
    }
}
