//! What clients may say wrong, and what they are told: field, value, limit. Nothing of it harms
//! anybody else.

use quorate_proto::v1::acquire_response::Outcome;
use quorate_proto::v1::elections_client::ElectionsClient;
use quorate_proto::v1::locks_client::LocksClient;
use quorate_proto::v1::sessions_client::SessionsClient;
use quorate_proto::v1::{
    AcquireRequest, CampaignRequest, ObserveRequest, OpenRequest, ReleaseRequest, ResumeRequest,
};
use quorate_sidecar::reason::Reason;
use quorate_tests::block_on;
use quorate_tests::cluster::{Cluster, Process, Scratch};
use quorate_tests::load::{Caller, channel};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[track_caller]
fn refused<T>(answer: Result<T, Status>, code: Code, expected: &str, words: &[&str]) {
    let Err(status) = answer else { panic!("it was not refused; {expected} was expected") };
    assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} is not in {:?}", status.message());
    }
}

#[test]
fn every_refusal_names_field_value_and_limit() {
    let scratch = Scratch::new("bad-input").expect("scratch");
    let arguments = ["--members", "1", "--no-restart"];
    let cluster = Cluster::start(scratch.path(), &arguments).expect("the group starts");
    let endpoint = cluster.members[0].endpoint.clone();
    block_on(async {
        let mut good = Caller::connect(endpoint.clone(), vec![1; 16]).await.expect("connected");
        let _kept = good.open(5_000, "good").await.expect("opened");
        let wire = channel(endpoint.clone()).await.expect("connected");
        let mut sessions = SessionsClient::new(wire.clone());
        let mut locks = LocksClient::new(wire.clone());

        let open = |key: usize, ttl_ms| OpenRequest {
            key: vec![2; key],
            ttl_ms,
            ..OpenRequest::default()
        };
        let bad = Code::InvalidArgument;
        refused(sessions.open(open(15, 5_000)).await, bad, "BAD_REQUEST", &["key", "15", "16"]);
        refused(sessions.open(open(16, 999)).await, bad, "TTL_OUT_OF_RANGE", &["999", "1000"]);
        let long = sessions.open(open(16, 600_001)).await;
        refused(long, bad, "TTL_OUT_OF_RANGE", &["600001", "600000"]);
        let mut clock = open(16, 5_000);
        clock.boottime_ns = u64::MAX;
        refused(sessions.open(clock).await, bad, "CLOCK_NAMESPACE", &["boottime_ns"]);
        let mut label = open(16, 5_000);
        label.label = "l".repeat(257);
        refused(sessions.open(label).await, bad, "BAD_REQUEST", &["label", "257", "256"]);

        let claim = |key: u8, name: &str| AcquireRequest {
            key: vec![key; 16],
            name: name.to_owned(),
            request_id: 1,
            lowest_unacked: 1,
            wait_ms: 0,
        };
        refused(locks.acquire(claim(1, "")).await, bad, "BAD_NAME", &["name", "256"]);
        let long = locks.acquire(claim(1, &"n".repeat(257))).await;
        refused(long, bad, "BAD_NAME", &["257", "256"]);
        let missing = Code::NotFound;
        refused(locks.acquire(claim(9, "x")).await, missing, "SESSION_UNKNOWN", &["key"]);
        let mut none = claim(1, "x");
        none.request_id = 0;
        refused(locks.acquire(none).await, bad, "BAD_REQUEST", &["request_id"]);
        let mut value = CampaignRequest { key: vec![1; 16], ..CampaignRequest::default() };
        (value.name, value.request_id, value.value) = ("x".to_owned(), 1, vec![0; 4_097]);
        let mut elections = quorate_proto::v1::elections_client::ElectionsClient::new(wire.clone());
        let large = elections.campaign(value).await;
        refused(large, bad, "VALUE_TOO_LARGE", &["4097", "4096"]);

        let foreign = ReleaseRequest {
            key: vec![1; 16],
            name: "x".to_owned(),
            token: 12,
            request_id: 5,
            lowest_unacked: 5,
        };
        let answer = locks.release(foreign).await;
        refused(answer, Code::FailedPrecondition, "NOT_HOLDER", &["not hold"]);
        let resume = ResumeRequest { key: vec![8; 16], generation: 1, ..Default::default() };
        let mut answer = sessions.resume(resume).await.expect("a stream").into_inner();
        refused(answer.message().await, missing, "SESSION_UNKNOWN", &["key"]);

        // None of it harmed the good client.
        let request = good.request();
        assert!(good.acquire("x", request, 0).await.expect("answered").is_some());
    });
}

#[test]
fn garbage_on_any_socket_harms_nobody() {
    let scratch = Scratch::new("garbage").expect("scratch");
    let arguments = ["--members", "1", "--no-restart"];
    let cluster = Cluster::start(scratch.path(), &arguments).expect("the group starts");
    let member = &cluster.members[0];
    for length in [1, 24, 100, 70_000] {
        for byte in [0_u8, 0x50, 0xff] {
            let mut socket = UnixStream::connect(&member.endpoint).expect("it listens");
            let _ = socket.write_all(&vec![byte; length]); // It may hang up half-way.
            for port in [&member.metrics, &member.admin] {
                let address = port.trim_start_matches("http://").split('/').next();
                let address = address.expect("an address");
                let mut socket = std::net::TcpStream::connect(address).expect("it listens");
                let _ = socket.write_all(&vec![byte; length]); // As above.
            }
        }
    }
    block_on(async {
        let endpoint = member.endpoint.clone();
        let mut client = Caller::connect(endpoint, vec![1; 16]).await.expect("connected");
        let _kept = client.open(5_000, "after").await.expect("opened");
        let request = client.request();
        assert!(client.acquire("x", request, 0).await.expect("answered").is_some());
    });
    assert!(!Process::new(member.pid).await_gone(std::time::Duration::ZERO), "it ended");
}

/// One table of refusals: the sidecar's is the source, the page and the client's words follow it.
#[test]
fn refusals_are_the_same_in_code_page_and_client() {
    let page = include_str!("../../docs/reference/errors.md");
    // What the command adds of its own stands behind.
    let refusals = page.split("\n## ").next().unwrap_or(page);
    let rows = refusals.lines().filter_map(|line| line.strip_prefix("| "));
    let cell = |row: &'static str, at: usize| row.split(" | ").nth(at).map(str::to_owned);
    let listed: Vec<(String, String)> = rows
        .filter_map(|row| Some((cell(row, 0)?, cell(row, 1)?.replace('_', "").to_lowercase())))
        .filter(|(reason, _)| reason != "reason")
        .collect();
    let known: Vec<(String, String)> = Reason::ALL
        .iter()
        .map(|reason| (reason.name().to_owned(), format!("{:?}", reason.code()).to_lowercase()))
        .collect();
    assert_eq!(listed, known);
    for reason in Reason::ALL {
        let parsed = quorate_client::Reason::parse(reason.name());
        assert!(!matches!(parsed, quorate_client::Reason::Other(_)), "{reason:?} is not known");
    }
}

/// What waits for a client that does not read is bounded: it is cut, told so, and nobody else
/// notices.
#[test]
fn a_client_that_never_reads_is_cut_and_told_so() {
    let scratch = Scratch::new("slow-reader").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &["--members", "1"]).expect("the group starts");
    let endpoint = cluster.members[0].endpoint.clone();
    block_on(async {
        let name = || "chair".to_owned();
        let connect = || async { channel(endpoint.clone()).await.expect("it listens") };
        let mut idle = ElectionsClient::new(connect().await);
        let observed = idle.observe(ObserveRequest { name: name() }).await;
        let mut unread = observed.expect("answered").into_inner();
        let mut caller = Caller::connect(endpoint.clone(), vec![5; 16]).await.expect("it listens");
        let _attached = caller.open(5_000, "talks").await.expect("opened");
        let mut elections = ElectionsClient::new(connect().await);
        // Far more than all buffers between the two hold.
        for _ in 0..1_500 {
            let request_id = caller.request();
            let campaign = CampaignRequest {
                key: caller.key.clone(),
                name: name(),
                request_id,
                lowest_unacked: request_id,
                wait_ms: 5_000,
                value: vec![7; 4096],
            };
            let answer = elections.campaign(campaign).await.expect("answered").into_inner();
            let Some(Outcome::Granted(granted)) = answer.outcome else { panic!("{answer:?}") };
            let request_id = caller.request();
            let resign = ReleaseRequest {
                key: caller.key.clone(),
                name: name(),
                token: granted.token,
                request_id,
                lowest_unacked: request_id,
            };
            elections.resign(resign).await.expect("resigned");
        }
        let mut items = 0;
        let end = loop {
            match unread.message().await {
                Ok(Some(_)) => items += 1,
                Ok(None) => panic!("the stream ended without a word after {items} items"),
                Err(status) => break status,
            }
        };
        assert_eq!((end.code(), reason(&end).as_str()), (Code::ResourceExhausted, "SLOW_READER"));
        assert!(items < 2_000, "{items} items waited for it");
        let again = idle.observe(ObserveRequest { name: name() }).await.expect("answered");
        let first = again.into_inner().message().await.expect("the state comes first");
        assert!(first.is_some());
    });
}
