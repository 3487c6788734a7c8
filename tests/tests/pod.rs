//! Members set up as in pods: settings from a file, one certificate for all, addresses from hellos,
//! probes, the control socket, calls that say which pod they mean. On real processes.

mod pods;

use pods::{MEMBERS, Pods, name, uid};
use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{RetireRequest, StatusRequest};
use quorate_sidecar::control;
use quorate_tests::block_on;
use quorate_tests::cluster::{Process, Scratch, binary};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tonic::{Code, Request};

#[test]
fn a_group_of_pods_starts_serves_and_hands_over() {
    let scratch = Scratch::new("pods").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        for member in 0..MEMBERS {
            pods.start(member).await;
            // Blank: started and live, and not ready.
            assert_eq!(pods.probe(member, "/livez"), Some(200));
            assert_eq!(pods.probe(member, "/readyz"), Some(503));
            assert!(!pods.status(member).await.caught_up);
            let tool = scratch.path().join(format!("run-{member}/bin/quorate"));
            let mode = std::fs::metadata(tool).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o555);
        }
        pods.bootstrap().await;
        for member in 0..MEMBERS {
            pods.until(member, "/readyz", 200).await;
        }
        for member in 0..MEMBERS {
            let status = pods.status(member).await;
            assert_eq!(status.pod_uid, uid(member));
            assert!(status.caught_up && status.format_version == 1, "{status:?}");
        }
        guarded(&pods).await;
        control_socket(&pods).await;
        handed_over(&mut pods).await;
    });
}

/// Who may use the admin port, and whom a call may reach.
async fn guarded(pods: &Pods) {
    let mut operator = pods.admin(1, "operator").await;
    let mut ask = async |meant: &str| {
        let mut request = Request::new(StatusRequest::default());
        let key = "quorate-pod-uid";
        request.metadata_mut().insert(key, meant.parse().expect("ASCII"));
        operator.status(request).await
    };
    ask(&uid(1)).await.expect("the pod that is meant");
    let refused = ask(&uid(2)).await.expect_err("another pod is meant");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let message = refused.message();
    assert!(message.contains(&uid(1)) && message.contains(&uid(2)), "{message}");
    // The certificate that all members share is for the peer port.
    let refused = pods.admin(1, "member").await.status(StatusRequest::default()).await;
    assert_eq!(refused.expect_err("refused").code(), Code::PermissionDenied);
}

/// The control socket is this user's, and has no more than a pod's end needs.
async fn control_socket(pods: &Pods) {
    let socket = control::socket(&pods.data(2));
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let channel = quorate_tests::load::channel(socket).await.expect("it listens");
    let mut members = MembersClient::new(channel);
    let status = members.status(StatusRequest::default()).await.expect("answered").into_inner();
    assert_eq!(status.name, name(2));
    let retire = RetireRequest { member_id: status.member_id, still_a_member: true };
    let refused = members.retire(retire).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
}

/// Each pod drains as it stops; one that is killed is found again, and caught up.
async fn handed_over(pods: &mut Pods) {
    let first = pods.leader().await;
    let (output, took) = pods.drain(first);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
    assert!(said.contains("does not stand for leadership any more"), "{said}");
    assert!(pods.status(first).await.draining);
    let second = pods.leader().await;
    assert_ne!(first, second);
    pods.kill(second);
    let (output, took) = pods.drain(second);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
    assert!(said.contains("no sidecar answers at"), "{said}");
    pods.start(second).await;
    pods.until(second, "/readyz", 200).await;
    assert_eq!(pods.status(second).await.boot_seq, 2);
    // One that hangs keeps nobody.
    let process = Process::new(pods.running[second].as_ref().expect("it runs").id());
    process.stop();
    let (output, took) = pods.drain(second);
    process.resume();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
    assert!(said.contains("the sidecar did not answer within 5 s"), "{said}");
    // Alone, a member has no quorum; it asked to be ready only with one.
    let rest: BTreeSet<usize> = (0..MEMBERS).filter(|member| *member != first).collect();
    rest.iter().for_each(|member| pods.kill(*member));
    pods.until(first, "/readyz", 503).await;
    assert_eq!(pods.probe(first, "/livez"), Some(200));
    assert!(pods.status(first).await.caught_up);
}

#[test]
fn bad_settings_are_all_named_and_nothing_starts() {
    let scratch = Scratch::new("settings").expect("scratch");
    let pods = Pods::new(scratch.path());
    let path = pods.settings(0);
    let good = std::fs::read_to_string(&path).expect("written");
    let bad = good.replace("=0660", "=rw") + "QUORATE_LOUD=yes\nhello\n";
    std::fs::write(&path, bad).expect("written");
    let run = pods.command(0, "run").env("QUORATE_NAME", "Not A Label").output();
    let output = run.expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let file = path.display();
    let parts = [
        format!("{file}:4: --socket-mode is \"rw\""),
        format!("{file}:17: \"QUORATE_LOUD\" is no setting"),
        format!("{file}:18: \"hello\" is no KEY=VALUE"),
        "--name is \"Not A Label\"".to_owned(),
    ];
    for part in &parts {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(said.lines().count(), parts.len(), "{said}");
    assert!(!pods.data(0).exists());
    let lost = Command::new(binary("quorate-sidecar").expect("built"))
        .args(["drain"])
        .env_remove("QUORATE_CONFIG")
        .env_remove("QUORATE_DATA_DIR")
        .output();
    assert_eq!(lost.expect("it starts").status.code(), Some(64));
}

/// Changes one byte of the first record of a member's log; others follow it.
fn damage_log(data: &Path) {
    let names = std::fs::read_dir(data).expect("it is there").map(|entry| entry.expect("read"));
    let log = names.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-"))
    });
    let log = log.min().expect("it has a log");
    let mut bytes = std::fs::read(&log).expect("read");
    bytes[4096 + 24] ^= 1;
    std::fs::write(log, bytes).expect("written");
}

#[test]
fn members_that_cannot_vote_start_and_live_and_are_not_ready() {
    let scratch = Scratch::new("unfit-pods").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        pods.start_group().await;
        // Retired, damaged, and without a majority.
        let member_id = pods.status(0).await.member_id;
        let retire = RetireRequest { member_id, still_a_member: true };
        pods.admin(0, "operator").await.retire(retire).await.expect("retired");
        (0..MEMBERS).for_each(|member| pods.kill(member));
        damage_log(&pods.data(1));
        for (member, role) in [(0, "retired"), (1, "unfit")] {
            pods.start(member).await;
            assert_eq!(pods.status(member).await.role, role);
        }
        pods.start(2).await;
        for member in 0..MEMBERS {
            assert_eq!(pods.probe(member, "/livez"), Some(200));
            assert_eq!(pods.probe(member, "/readyz"), Some(503));
            let (output, took) = pods.drain(member);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
            assert!(said.contains("does not stand for leadership any more"), "{said}");
        }
        assert!(!pods.status(2).await.caught_up);
    });
}

#[test]
fn a_group_is_founded_by_the_command() {
    let scratch = Scratch::new("founded").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        for member in 0..MEMBERS {
            pods.start(member).await;
        }
        let place = |member: usize| format!("{}=127.0.0.1:{}", name(member), pods.ports[member][1]);
        let admin: Vec<String> = (0..MEMBERS).map(place).collect();
        let tls = pods.files("operator");
        let found = |admin: &[String]| {
            let mut command = Command::new(binary("quorate").expect("built"));
            command.args(["members", "bootstrap", "--cluster", pods::CLUSTER, "--admin"]);
            command.arg(admin.join(","));
            command.arg("--tls-cert").arg(&tls.cert).arg("--tls-key").arg(&tls.key);
            command.arg("--tls-ca").arg(&tls.ca);
            let output = command.output().expect("it starts");
            let said =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            (output.status.code(), said)
        };
        let nobody = [admin[0].clone(), "gone=127.0.0.1:1".to_owned()];
        let (code, said) = found(&nobody);
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains("gone=127.0.0.1:1 does not answer"), "{said}");
        let (code, said) = found(&admin);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(" is founded by "), "{said}");
        for member in 0..MEMBERS {
            pods.until(member, "/readyz", 200).await;
        }
        let (code, said) = found(&admin);
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains("is not blank"), "{said}");
    });
}
