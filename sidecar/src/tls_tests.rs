//! Certificates made on the spot: what is refused at the start, what is read again, who may
//! administer.

use super::*;
use crate::dev::certificates::{self, Authority};

fn name(number: u32) -> String {
    format!("member-{number}")
}

fn certificates_for(label: &str, numbers: &[u32]) -> PathBuf {
    let directory =
        std::env::temp_dir().join(format!("quorate-tls-{}-{label}", std::process::id()));
    let names: Vec<String> = numbers.iter().map(|number| name(*number)).collect();
    certificates::make(&directory, "test", &names).unwrap();
    directory
}

/// Awaits a condition: the files are looked at once a second.
fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn certificates_are_read_again_when_they_change() {
    let directory = certificates_for("reload", &[1]);
    let files = certificates::files(&directory, &name(1));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lines);
    let report: Report = Arc::new(move |line| into.lock().unwrap().push(line));
    let tls = Tls::load(files.clone(), &name(1), "test", report).unwrap();
    let said = |part: &str| lines.lock().unwrap().iter().any(|line: &String| line.contains(part));

    std::fs::write(&files.cert, "no certificate").unwrap();
    until("the complaint", || {
        drop(tls.acceptor());
        said("the old ones stay in use")
    });
    assert_eq!(lines.lock().unwrap().len(), 1);
    let authority = Authority::new().unwrap();
    let (cert, key) = authority.issue(&[certificate_name(&name(1), "test")]).unwrap();
    let contents = [(&files.cert, cert), (&files.key, key), (&files.ca, authority.pem())];
    for (path, text) in contents {
        std::fs::write(path, text).unwrap();
    }
    until("the new ones", || {
        drop(tls.connector());
        said("the new ones are in use")
    });
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn certificates_of_no_use_are_named_at_the_start() {
    let directory = certificates_for("load", &[1, 2]);
    let other = certificates_for("load-ca", &[1]);
    let mine = certificates::files(&directory, &name(1));
    let load = |files: &TlsFiles, own: &str, cluster: &str| {
        Tls::load(files.clone(), own, cluster, Arc::new(|_| {})).map(|_| ()).unwrap_err()
    };
    let foreign = TlsFiles { ca: certificates::files(&other, &name(1)).ca, ..mine.clone() };
    let keyless = TlsFiles { key: directory.join("none"), ..mine.clone() };
    let crossed = TlsFiles { key: certificates::files(&directory, &name(2)).key, ..mine.clone() };
    let cases = [
        (load(&mine, "member-2", "test"), "member-2.test.quorate"),
        (load(&mine, "member-1", "prod"), "member-1.prod.quorate"),
        (load(&foreign, "member-1", "test"), "BadSignature"),
        (load(&keyless, "member-1", "test"), "none: "),
        (load(&crossed, "member-1", "test"), "KeyMismatch"),
    ];
    for (error, part) in cases {
        let text = error.to_string();
        assert!(
            text.contains(part) || text.to_lowercase().contains(&part.to_lowercase()),
            "{text}"
        );
    }
    let authority = Authority::new().unwrap();
    let (cert, key) = authority.issue(&["*.test.quorate".to_owned()]).unwrap();
    for (path, text) in [(&mine.cert, cert), (&mine.key, key), (&mine.ca, authority.pem())] {
        std::fs::write(path, text).unwrap();
    }
    let wildcard = load(&mine, "member-1", "test").to_string();
    assert!(wildcard.contains("wildcard"), "{wildcard}");
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::remove_dir_all(other).unwrap();
}

#[test]
fn the_admin_port_is_for_operators_admins_and_members() {
    let directory = certificates_for("admin", &[1]);
    let files = certificates::files(&directory, &name(1));
    let tls = Tls::load(files, &name(1), "test", Arc::new(|_| {})).unwrap();
    let authority = Authority::new().unwrap();
    let may = |dns: &str| {
        let (cert, _) = authority.issue(&[dns.to_owned()]).unwrap();
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        tls.may_administer(&der, ["member-1", "member-2"])
    };
    for dns in ["operator.test.quorate", "admin.test.quorate", "member-2.test.quorate"] {
        assert!(may(dns), "{dns}");
    }
    for dns in [
        "member.test.quorate",
        "member-3.test.quorate",
        "admin.other.quorate",
        "*.test.quorate",
        "admin.test",
    ] {
        assert!(!may(dns), "{dns}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// One certificate for a whole cluster, in a directory of its own, issued by `authority`.
fn shared(label: &str, authority: &Authority, dns: &str) -> TlsFiles {
    let directory =
        std::env::temp_dir().join(format!("quorate-tls-{}-{label}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let files = certificates::files(&directory, "shared");
    let (cert, key) = authority.issue(&[dns.to_owned()]).unwrap();
    for (path, text) in [(&files.cert, cert), (&files.key, key), (&files.ca, authority.pem())] {
        std::fs::write(path, text).unwrap();
    }
    files
}

#[test]
fn one_certificate_can_speak_for_every_member_of_its_cluster() {
    let authority = Authority::new().unwrap();
    let files = shared("shared", &authority, "member.test.quorate");
    let load = |own: &str, cluster: &str| Tls::load(files.clone(), own, cluster, Arc::new(|_| {}));
    let tls = load("app-0", "test").unwrap();
    let speaks = |dns: &str| {
        let (cert, _) = authority.issue(&[dns.to_owned()]).unwrap();
        tls.speaks_for(&CertificateDer::from_pem_slice(cert.as_bytes()).unwrap(), "app-1")
    };
    assert!(speaks("member.test.quorate") && speaks("app-1.test.quorate"));
    let others = ["member.other.quorate", "*.test.quorate", "app-2.test.quorate", "member.test"];
    for dns in others {
        assert!(!speaks(dns), "{dns}");
    }
    let other = load("app-0", "other").unwrap_err().to_string();
    assert!(other.contains("app-0.other.quorate"), "{other}");
    std::fs::remove_dir_all(files.cert.parent().unwrap()).unwrap();
}

/// Whether a member with the certificate of `files` that is dialled as `app-1` is believed.
fn believed(dialler: &Tls, files: &TlsFiles) -> Result<(), String> {
    let Read { chain, key, .. } = Read::files(files).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let name = dialler.server_name("app-1").unwrap();
        let (dialled, _) =
            tokio::join!(dialler.connector().connect(name, near), acceptor.accept(far));
        dialled.map(|_| ()).map_err(|why| why.to_string())
    })
}

#[test]
fn a_dialled_member_proves_its_name_and_a_wildcard_proves_none() {
    let authority = Authority::new().unwrap();
    let own = shared("dialler", &authority, "member.test.quorate");
    let dialler = Tls::load(own.clone(), "app-0", "test", Arc::new(|_| {})).unwrap();
    let (foreign, mut seen) = (Authority::new().unwrap(), Vec::new());
    let cases = [
        (&authority, "member.test.quorate", true),
        (&authority, "app-1.test.quorate", true),
        (&authority, "app-2.test.quorate", false),
        (&authority, "member.other.quorate", false),
        (&authority, "*.test.quorate", false),
        (&authority, "operator.test.quorate", false),
        (&foreign, "member.test.quorate", false),
        (&foreign, "app-1.test.quorate", false),
    ];
    for (number, (authority, dns, good)) in cases.into_iter().enumerate() {
        let files = shared(&format!("dialled-{number}"), authority, dns);
        let answer = believed(&dialler, &files);
        assert_eq!(answer.is_ok(), good, "{dns}: {answer:?}");
        seen.push(files);
    }
    for files in seen.iter().chain([&own]) {
        std::fs::remove_dir_all(files.cert.parent().unwrap()).unwrap();
    }
}
