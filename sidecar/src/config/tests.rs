//! What is refused, and with which sentence.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SidecarArgs,
}

fn check(flags: &[&str]) -> Result<Config, Vec<String>> {
    let line = Line::try_parse_from([&["run"], flags].concat()).unwrap();
    Config::check(line.args)
}

#[test]
fn the_defaults_need_only_a_name_and_a_directory() {
    let config = check(&["--name", "a", "--data-dir", "/d"]).unwrap();
    assert_eq!(config.socket, PathBuf::from(SOCKET));
    assert_eq!(config.peer_listen.to_string(), "127.0.0.1:7401");
    assert_eq!(config.election_timeout, Duration::from_millis(800));
    assert_eq!((config.tls, config.api_listen), (None, None));
    assert_eq!(config.socket_mode, 0o666);
}

#[test]
fn every_bad_value_is_reported_at_once() {
    let long = "s".repeat(108);
    let flags = [
        "--name=Not A Label",
        "--socket",
        &long,
        "--socket-mode=9",
        "--api-port=70000",
        "--peer-listen=localhost:1",
        "--admin-listen=0.0.0.0:7402",
        "--probe-listen=x",
        "--peer=a,b=,c=h:0,d=h:1,d=h:2,-x=h:1",
        "--cluster=",
        "--election-timeout=99ms",
        "--log=loud",
        "--flush-delay-us=1000001",
        "--peer-domain=a..b",
        "--advertise=10.0.0.1:7401",
        "--pod-uid=a b",
        "--readiness=never",
    ];
    let complaints = check(&flags).unwrap_err();
    let parts = [
        "--name is \"Not A Label\"",
        "--data-dir is missing",
        "--socket has 108 bytes, 107",
        "--socket-mode is \"9\"",
        "--api-port is \"70000\"",
        "--peer-listen is \"localhost:1\"",
        "--probe-listen is \"x\"",
        "--peer is \"a\"",
        "--peer is \"b=\"",
        "--peer is \"c=h:0\"",
        "--peer names d twice: h:1 and h:2",
        "--peer NAME is \"-x\"",
        "--peer-domain is \"a..b\"",
        "--advertise is \"10.0.0.1:7401\"",
        "--pod-uid is \"a b\"",
        "--readiness is \"never\"",
        "--cluster is missing",
        "--admin-listen is 0.0.0.0:7402, which is not loopback",
        "--election-timeout is \"99ms\"; it is 100ms to 10s",
        "--log is \"loud\"",
        "QUORATE_FLUSH_DELAY_US is \"1000001\"",
    ];
    assert_eq!(complaints.len(), parts.len(), "{complaints:#?}");
    for (complaint, part) in complaints.iter().zip(parts) {
        assert!(complaint.starts_with(part), "{complaint:?} for {part:?}");
    }
}

#[test]
fn tls_is_all_or_nothing_and_frees_the_addresses() {
    let base = ["--name=a", "--data-dir=/d", "--peer-listen=0.0.0.0:7401"];
    let one = check(&[&base[..], &["--tls-cert=c", "--tls-ca=a"]].concat()).unwrap_err();
    assert_eq!(one, ["TLS needs all three files; missing: --tls-key"]);
    let all = [&base[..], &["--tls-cert=c", "--tls-key=k", "--tls-ca=a"]].concat();
    assert_eq!(check(&all).unwrap().tls.unwrap().key, PathBuf::from("k"));
}

#[test]
fn peers_and_ports() {
    let base = ["--name=a", "--data-dir=/d", "--api-port=0"];
    let peers = "--peer=a=h.example:1,b=[::1]:2";
    let config = check(&[&base[..], &[peers, "--peer=c=10.0.0.3:3"]].concat()).unwrap();
    assert_eq!(config.addresses.named["b"], "[::1]:2");
    assert_eq!(config.addresses.named.len(), 3);
    assert_eq!(config.api_listen.unwrap().to_string(), "127.0.0.1:0");
    let same = check(&["--name=a", "--data-dir=/d", "--api-port=7401"]).unwrap_err();
    assert!(same[0].starts_with("127.0.0.1:7401 is given to two"), "{same:?}");
}

#[test]
fn a_pod_finds_its_peers_in_a_domain() {
    let base = ["--name=app-0", "--data-dir=/d", "--probe-listen=0.0.0.0:7404"];
    let pod = [
        "--peer-domain=app-peers.default.svc",
        "--peer=app-9=h:1",
        "--advertise=10.0.0.7",
        "--pod-uid=0a1b",
        "--readiness=quorum",
        "--tool-dir=/t",
    ];
    let config = check(&[&base[..], &pod].concat()).unwrap();
    assert_eq!(config.addresses.of("app-1").unwrap(), "app-1.app-peers.default.svc:7401");
    assert_eq!(config.addresses.of("app-9").unwrap(), "h:1");
    assert_eq!(config.pod.ip.unwrap().to_string(), "10.0.0.7");
    assert_eq!(config.pod.uid.as_deref(), Some("0a1b"));
    assert_eq!(config.pod.readiness, Readiness::Quorum);
    let source = PathBuf::from("/usr/lib/quorate/static/quorate");
    assert_eq!(config.pod.tool, Some(Tool { directory: PathBuf::from("/t"), source }));
    let bare = check(&[&base[..], &["--pod-uid=", "--advertise="]].concat()).unwrap();
    assert_eq!((bare.addresses.of("app-1"), bare.pod.uid, bare.pod.ip), (None, None, None));
    let port = check(&[&base[..], &["--peer-domain=d", "--peer-port=0"]].concat()).unwrap_err();
    assert!(port[0].starts_with("--peer-port is \"0\""), "{port:?}");
}

#[test]
fn names_of_others_and_long_directories_are_refused() {
    for name in ["member", "client", "operator", "admin"] {
        let refused = check(&["--data-dir=/d", "--name", name]).unwrap_err();
        assert!(refused[0].contains("stands for somebody else"), "{refused:?}");
        let peer = format!("--peer={name}=h:1");
        let refused = check(&["--data-dir=/d", "--name=a", &peer]).unwrap_err();
        assert!(refused[0].contains("stands for somebody else"), "{refused:?}");
    }
    let fits = format!("/{}", "d".repeat(107 - "/control.sock".len() - 1));
    assert!(check(&["--name=a", "--data-dir", &fits]).is_ok());
    let long = check(&["--name=a", "--data-dir", &format!("{fits}d")]).unwrap_err();
    assert!(long[0].contains("control.sock, would have 108; 107 is the most"), "{long:?}");
}
