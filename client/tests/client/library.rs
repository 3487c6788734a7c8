//! Sessions and guards, beside a fake sidecar.

use crate::fake::Sidecar;
use crate::process::Scratch;
use quorate_client::{
    Client, Endpoint, Error, Loss, Order, Reason, Session, SessionOptions, clock,
};
use std::time::Duration;

async fn session(sidecar: &Sidecar, ttl_ms: u64) -> Session {
    let endpoint = Endpoint::parse(&sidecar.socket.display().to_string()).unwrap();
    let client = Client::connect(&endpoint).await.unwrap();
    let ttl = Duration::from_millis(ttl_ms);
    client.session(SessionOptions { ttl, ..SessionOptions::default() }).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    let patience = clock::now_ns() + 20_000_000_000;
    while !condition() {
        assert!(clock::now_ns() < patience, "it does not come true");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_dropped_guard_releases_and_a_dropped_session_closes() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let session = session(&sidecar, 5_000).await;
    let lock = session.lock("a").await.unwrap();
    assert_eq!((lock.name(), lock.token()), ("a", 1));
    assert!(lock.deadline_ns() > clock::now_ns());
    let taken = session.try_campaign("a", b"v").await;
    assert!(matches!(taken, Err(Error::NotAcquired(Some(_)))), "{taken:?}");
    drop(lock);
    until(|| sidecar.state().names.is_empty()).await;
    let election = session.campaign("b", b"v").await.unwrap();
    assert_eq!(election.token(), 2);
    drop(session);
    assert_eq!(sidecar.state().names.len(), 1, "a guard keeps its session");
    election.resign().await.unwrap();
    until(|| sidecar.state().sessions.is_empty()).await;
}

#[tokio::test]
async fn a_dropped_wait_withdraws() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let (first, second) = (session(&sidecar, 5_000).await, session(&sidecar, 5_000).await);
    let lock = first.lock("a").await.unwrap();
    {
        let waiting = second.lock("a");
        tokio::pin!(waiting);
        tokio::select! {
            _ = &mut waiting => panic!("two holders"),
            () = until(|| sidecar.state().names["a"].len() == 2) => {}
        }
    }
    until(|| sidecar.state().names["a"].len() == 1).await;
    lock.release().await.unwrap();
    assert!(sidecar.state().names.is_empty());
    second.close().await.unwrap();
    first.close().await.unwrap();
    assert!(sidecar.state().sessions.is_empty() && !first.is_live());
}

#[tokio::test]
async fn the_lowest_wanted_outcome_follows_the_answers() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let session = session(&sidecar, 5_000).await;
    let held = session.lock("long").await.unwrap();
    for _ in 0..3 {
        session.lock("short").await.unwrap().release().await.unwrap();
    }
    // A grant that is held is known by itself; its outcome is not wanted any more.
    assert_eq!(sidecar.state().holds, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    held.release().await.unwrap();
}

#[tokio::test]
async fn the_loss_comes_before_the_deadline() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let session = session(&sidecar, 1_000).await;
    let lock = session.lock("a").await.unwrap();
    let mut watchdog = lock.watchdog().unwrap();
    sidecar.state().frozen = true;
    assert_eq!(lock.lost().await, Loss::Deadline);
    assert_eq!(watchdog.next().await, Order::Stop);
    assert!(clock::now_ns() < lock.deadline_ns() - 50_000_000);
    assert_eq!(watchdog.next().await, Order::Kill(None));
    assert!(clock::now_ns() < lock.deadline_ns());
    let mut pulse = session.pulse();
    let over = pulse.wait_for(|pulse| pulse.over.is_some()).await.unwrap();
    assert_eq!(over.over, Some(Reason::SessionExpired));
    assert!(clock::now_ns() >= over.deadline_ns, "not before its own deadline");
}

#[tokio::test]
async fn a_session_that_somebody_else_took_is_lost_at_once() {
    let scratch = Scratch::new();
    let mut sidecar = Sidecar::start(&scratch.0);
    let session = session(&sidecar, 10_000).await;
    let lock = session.lock("a").await.unwrap();
    sidecar.down();
    for session in sidecar.state().sessions.values_mut() {
        session.generation += 1;
    }
    sidecar.up();
    assert_eq!(lock.lost().await, Loss::Ended(Reason::SessionMoved));
    assert!(clock::now_ns() < lock.deadline_ns() - 5_000_000_000, "not by the deadline");
    let again = session.lock("b").await.map(|lock| lock.token());
    assert_eq!(again, Err(Error::SessionOver(Reason::SessionMoved)));
}

#[tokio::test]
async fn a_wait_and_a_release_outlive_a_restart() {
    let scratch = Scratch::new();
    let mut sidecar = Sidecar::start(&scratch.0);
    let (first, second) = (session(&sidecar, 5_000).await, session(&sidecar, 5_000).await);
    let lock = first.lock("a").await.unwrap();
    let waiting = async { second.lock("a").await.unwrap().token() };
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("two holders"),
        () = until(|| sidecar.state().names["a"].len() == 2) => {}
    }
    sidecar.down();
    // Asked for while nobody is there.
    let release = lock.release();
    tokio::pin!(release);
    tokio::select! {
        biased;
        _ = &mut release => panic!("nobody could release it"),
        () = tokio::task::yield_now() => {}
    }
    sidecar.up();
    let (token, released) = tokio::join!(waiting, release);
    assert_eq!((token, released), (2, Ok(())));
    assert_eq!(sidecar.state().resumes, 2);
}
