//! A real group of three sidecars: every test runs on processes, sockets and logs as users have
//! them.

use quorate_proto::v1::claim_event::Event;
use quorate_proto::v1::locks_client::LocksClient;
use quorate_proto::v1::{Claim, HoldRequest};
use quorate_tests::block_on;
use quorate_tests::cluster::{Cluster, Process, Scratch};
use quorate_tests::load::{Caller, boottime_ns, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn key() -> Vec<u8> {
    let mut key = vec![0; 16];
    rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty()).expect("random");
    key
}

async fn caller(cluster: &Cluster, member: usize) -> Caller {
    let endpoint = cluster.members[member].endpoint.clone();
    Caller::connect(endpoint, key()).await.expect("the member listens")
}

/// Both ways: peers without certificates on loopback, and with mutual TLS.
fn both_ways(name: &str, check: impl Fn(Cluster)) {
    for tls in [false, true] {
        let scratch = Scratch::new(&format!("{name}-{tls}")).expect("scratch");
        let mut arguments = vec!["--restart-after", "200ms"];
        if tls {
            arguments.push("--tls");
        }
        check(Cluster::start(scratch.path(), &arguments).expect("the group starts"));
    }
}

async fn leader(cluster: &Cluster, ask: usize) -> usize {
    let mut caller = caller(cluster, ask).await;
    loop {
        let name = caller.leader().await.expect("status");
        if let Some(place) = cluster.members.iter().position(|m| m.name == name) {
            return place;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_lock_is_held_by_one_at_a_time_and_tokens_rise() {
    both_ways("one-holder", |cluster| {
        block_on(async {
            let mut last = 0;
            for round in 0..9 {
                let mut first = caller(&cluster, round % 3).await;
                let mut second = caller(&cluster, (round + 1) % 3).await;
                let _one = first.open(5_000, "first").await.expect("opened");
                let _two = second.open(5_000, "second").await.expect("opened");
                let request = first.request();
                let token = first.acquire("x", request, 5_000).await.expect("answered");
                let token = token.expect("free");
                assert!(token > last, "token {token} after {last}");
                let request = second.request();
                assert_eq!(second.acquire("x", request, 0).await.expect("answered"), None);
                let holder = second.holder("x").await.expect("answered").expect("held");
                assert_eq!(holder.token, token);
                let request = second.request();
                let waits = second.acquire("x", request, 5_000);
                let release = first.request();
                let (next, released) = tokio::join!(waits, first.release("x", token, release));
                released.expect("released");
                last = next.expect("answered").expect("granted to the waiter");
                assert!(last > token);
                first.close().await.expect("closed");
                second.close().await.expect("closed");
            }
            assert_eq!(caller(&cluster, 0).await.holder("x").await.expect("answered"), None);
        });
    });
}

#[test]
fn a_grant_survives_the_death_of_the_raft_leader() {
    both_ways("failover", |mut cluster| {
        block_on(async {
            let leader = leader(&cluster, 0).await;
            let mut holder = caller(&cluster, (leader + 1) % 3).await;
            let _kept = holder.open(5_000, "holder").await.expect("opened");
            let request = holder.request();
            let token = holder.acquire("x", request, 5_000).await.expect("answered");
            let token = token.expect("free");
            let before = vec![cluster.pids()[leader].clone()];
            let killed = boottime_ns();
            Process::new(cluster.members[leader].pid).kill();
            let held = holder.holder("x").await.expect("answered").expect("still held");
            let gap = Duration::from_nanos(boottime_ns() - killed);
            assert_eq!(held.token, token);
            assert!(gap < Duration::from_secs(3), "it took {gap:?} to answer");
            cluster.await_restart(&before).expect("it comes back");
            let request = holder.request();
            holder.release("x", token, request).await.expect("released");
        });
    });
}

#[test]
fn a_sidecar_that_comes_back_takes_its_sessions_back() {
    both_ways("resume", |mut cluster| {
        block_on(async {
            let mut holder = caller(&cluster, 1).await;
            let attached = holder.open(10_000, "holder").await.expect("opened");
            let request = holder.request();
            let token = holder.acquire("x", request, 5_000).await.expect("answered");
            let before = vec![cluster.pids()[1].clone()];
            Process::new(cluster.members[1].pid).kill();
            cluster.await_restart(&before).expect("it comes back");
            let end = boottime_ns() + 8_000_000_000;
            let again = loop {
                if holder.reconnect().await.is_ok() {
                    match holder.resume(attached.generation).await {
                        Ok(again) => break again,
                        Err(failed) => assert!(boottime_ns() < end, "{failed:?}"),
                    }
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(again.generation, attached.generation + 1);
            // The same request id is the same claim, and has the same token.
            assert_eq!(holder.acquire("x", request, 5_000).await.expect("answered"), token);
        });
    });
}

#[test]
fn a_sidecar_that_is_asked_to_end_does_so_in_time() {
    both_ways("sigterm", |mut cluster| {
        let leader = block_on(leader(&cluster, 0));
        let before = vec![cluster.pids()[leader].clone()];
        let process = Process::new(cluster.members[leader].pid);
        process.terminate();
        assert!(process.await_gone(Duration::from_secs(5)), "it did not end within 5 s");
        cluster.await_restart(&before).expect("it comes back");
        block_on(async {
            let mut client = caller(&cluster, (leader + 1) % 3).await;
            let _kept = client.open(5_000, "after").await.expect("opened");
            let request = client.request();
            assert!(client.acquire("x", request, 5_000).await.expect("answered").is_some());
        });
    });
}

#[test]
fn a_dead_process_frees_its_locks_at_once() {
    let scratch = Scratch::new("dead-process").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &["--no-restart"]).expect("the group starts");
    let quorate = quorate_tests::cluster::binary("quorate").expect("built");
    let mut holder = std::process::Command::new(quorate)
        .arg("--endpoint")
        .arg(&cluster.members[0].endpoint)
        .args(["lock", "x", "--ttl", "60s", "--", "sleep", "1000"])
        .spawn()
        .expect("quorate starts");
    block_on(async {
        let mut other = caller(&cluster, 1).await;
        let _kept = other.open(5_000, "other").await.expect("opened");
        while other.holder("x").await.expect("answered").is_none() {
            tokio::task::yield_now().await;
        }
        let killed = boottime_ns();
        Process::new(holder.id()).kill();
        let request = other.request();
        let token = other.acquire("x", request, 20_000).await.expect("answered");
        let gap = Duration::from_nanos(boottime_ns() - killed);
        assert!(token.is_some() && gap < PATIENCE / 10, "it took {gap:?}");
    });
    holder.wait().expect("reaped");
}

#[test]
fn a_hold_that_is_half_closed_at_once_is_released() {
    let scratch = Scratch::new("half-closed").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &[]).expect("the group starts");
    block_on(async {
        for round in 0..30 {
            let endpoint = cluster.members[round % 3].endpoint.clone();
            let mut locks = LocksClient::new(channel(endpoint).await.expect("it listens"));
            let claim = Claim {
                key: key(),
                ttl_ms: 5_000,
                boottime_ns: boottime_ns(),
                name: "x".to_owned(),
                request_id: 1,
                lowest_unacked: 1,
                ..Claim::default()
            };
            // The request's stream ends with its first message.
            let request = tokio_stream::once(HoldRequest { claim: Some(claim) });
            let mut events = locks.hold(request).await.expect("answered").into_inner();
            let mut last = None;
            let end = async {
                while let Some(event) = events.message().await.expect("no failure") {
                    last = event.event;
                }
            };
            tokio::time::timeout(PATIENCE, end).await.expect("the stream ends");
            assert!(matches!(last, Some(Event::Released(_))), "{last:?}");
            let mut asks = caller(&cluster, round % 3).await;
            assert_eq!(asks.holder("x").await.expect("answered"), None);
        }
    });
}
