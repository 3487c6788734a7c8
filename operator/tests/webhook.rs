//! The webhook as the API server sees it: over TLS, by the operator's authority, with reviews.

use k8s_openapi::ByteString;
use quorate_operator::authority::{Current, Trust};
use quorate_operator::certificates::Authority;
use quorate_operator::{inject, webhook};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const IMAGE: &str = "quorate.dev/quorate:1";
const HOST: &str = "quorate-webhook.quorate-system.svc";

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": { "uid": "u-1", "kind": { "group": "", "version": "v1", "kind": "Pod" },
                     "operation": "CREATE", "object": pod },
    })
}

fn pod(label: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "one", "labels": { label: "demo" } },
        "spec": { "containers": [{ "name": "one", "image": "one:1", "unknown": 7 }] },
    })
}

async fn connect(address: SocketAddr, authority: &str, host: &str) -> std::io::Result<Vec<u8>> {
    ask(address, (authority, host), "/inject", &review(&pod(inject::ATTACH))).await
}

/// The whole answer.
async fn ask(
    address: SocketAddr,
    (authority, host): (&str, &str),
    path: &str,
    question: &Value,
) -> std::io::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
    roots.add(root).expect("a CA certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let body = question.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let (_, body) = text.split_once("\r\n\r\n").expect("it has a body");
    serde_json::from_str(body).expect("it is JSON")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(work)
}

#[test]
fn it_proves_who_it_is_and_adds_the_sidecar() {
    block_on(async {
        let trust = Trust::settled(Authority::new().expect("a CA"));
        let (former, authority) = (trust.bundle(), Current::new(trust));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let hosts = vec![HOST.to_owned(), "127.0.0.1".to_owned()];
        let (by, image) = (authority.clone(), IMAGE.to_owned());
        let current = authority;
        tokio::spawn(webhook::serve(listener, by, hosts, image, |line| eprintln!("{line}")));
        for host in [HOST, "127.0.0.1"] {
            let answer = body(&connect(address, &former, host).await.expect("answered"));
            assert_eq!(answer["response"]["uid"], "u-1");
            assert_eq!(answer["response"]["allowed"], true);
            let mut wanted = pod(inject::ATTACH);
            assert_eq!(inject::pod(&mut wanted, "", IMAGE), Ok(true));
            let patch: ByteString =
                serde_json::from_value(answer["response"]["patch"].clone()).expect("it is base64");
            let patch: Value = serde_json::from_slice(&patch.0).expect("it is JSON");
            assert_eq!(patch[0]["value"], wanted["metadata"]["annotations"]);
            assert_eq!((&patch[1]["op"], &patch[1]["path"]), (&json!("replace"), &json!("/spec")));
            assert_eq!(patch[1]["value"], wanted["spec"]);
        }
        let other = Authority::new().expect("another CA");
        assert!(connect(address, &other.cert, HOST).await.is_err(), "of another authority");
        assert!(connect(address, &former, "elsewhere.svc").await.is_err(), "another host");
        let trust = (former.as_str(), HOST);
        let answer = ask(address, trust, "/inject", &json!({})).await.expect("answered");
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
        let answer = ask(address, trust, "/", &json!({})).await.expect("answered");
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
        // The very next one sees another authority's certificate, however long nobody came.
        let next = Trust::settled(Authority::new().expect("the next CA"));
        let bundle = next.bundle();
        assert!(current.set(next));
        assert!(connect(address, &bundle, HOST).await.is_ok(), "of the next authority");
        assert!(connect(address, &former, HOST).await.is_err(), "of the former one");
    });
}

#[test]
fn pods_that_want_none_pass_and_bad_ones_hear_why() {
    let ask = |pod: &Value| {
        let question = review(pod).to_string();
        webhook::review(question.as_bytes(), IMAGE).expect("a review")["response"].clone()
    };
    let passes = ask(&pod("other"));
    assert_eq!(passes, json!({ "uid": "u-1", "allowed": true }));
    let mut bad = pod(inject::ATTACH);
    bad["spec"]["containers"][0]["name"] = json!("quorate");
    let refused = ask(&bad);
    assert_eq!(refused["allowed"], false);
    let why = refused["status"]["message"].as_str().expect("a sentence");
    assert!(why.contains("the name quorate is the sidecar's"), "{why}");
    let mut done = pod(inject::ATTACH);
    inject::pod(&mut done, "", IMAGE).expect("it was good");
    assert_eq!(ask(&done), json!({ "uid": "u-1", "allowed": true }), "once is enough");
    assert!(webhook::review(b"no", IMAGE).is_err());
    let mut other = review(&bad);
    other["request"]["kind"]["kind"] = json!("Service");
    assert!(webhook::review(other.to_string().as_bytes(), IMAGE).is_err());
}
