//! Mutual TLS of the peer and admin ports: TLS 1.3 only, one CA for the whole cluster, names that
//! carry member and cluster.
//!
//! A certificate speaks for a member by the DNS name `MEMBER.CLUSTER.quorate` among its subject
//! alternative names, exactly: a wildcard speaks for nobody. The name `member.CLUSTER.quorate`
//! speaks for every member: where all share one certificate, whoever has it is a member, and which
//! one is what its hello says and its disk proves to those who remember it. The name
//! `client.CLUSTER.quorate` speaks for attached sidecars, and for nobody on another port.
//!
//! The three files are read again when they change; a broken new set leaves the last good one in
//! use, and says so once. Sessions are never resumed: each connection is verified anew, against the
//! CA of that moment.
//!
//! Architecture invariant: the cryptography provider is named in each configuration; there is no
//! process default. No socket is opened here.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The files are looked at this often, at most, and only when a connection is made.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The last part of every name.
const SUFFIX: &str = "quorate";
/// A name that no member can have (a member's begins with a letter or digit): a certificate that
/// speaks for it has a wildcard.
const NOBODY: &str = "_nobody";
/// Said with a certificate of no use, where the reason may be that it has one.
const WILDCARD: &str = " (a wildcard speaks for nobody)";
/// The first part of the name that speaks for every member.
pub const ANY_MEMBER: &str = "member";
/// The first part of the name of attached sidecars.
pub const CLIENT: &str = "client";
/// First parts of names, beside the members' own, that may use the admin port.
const ADMINS: [&str; 2] = ["operator", "admin"];
/// First parts of names that no member may have as its own.
pub const RESERVED_NAMES: [&str; 4] = [ANY_MEMBER, CLIENT, ADMINS[0], ADMINS[1]];

/// Where a member's certificate, its key and the cluster's CA are; PEM each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the member's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA certificates that vouch for members.
    pub ca: PathBuf,
}

/// Why the files cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing that belongs there.
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The files do not fit together, or the certificate is not (or no longer) valid.
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File { path, why } => write!(f, "{}: {why}", path.display()),
            TlsError::Unusable { path, why } => {
                write!(f, "the certificate {} is of no use: {why}", path.display())
            }
        }
    }
}

impl std::error::Error for TlsError {}

/// One line for the log, about files that changed.
pub type Report = Arc<dyn Fn(String) + Send + Sync>;

/// The TLS of one member, or of one client of the admin port. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    /// The first part of the own name.
    own: String,
    cluster: String,
    report: Report,
    state: Mutex<State>,
}

struct State {
    looked: Instant,
    /// Of the files as last tried, whether they were of use or not.
    stamps: [Option<Stamp>; 3],
    pair: Pair,
}

#[derive(Clone)]
struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// What changes with a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(Stamp { inode: meta.ino(), size: meta.size(), modified })
    }
}

impl TlsFiles {
    fn stamps(&self) -> [Option<Stamp>; 3] {
        [&self.cert, &self.key, &self.ca].map(|path| Stamp::of(path))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({}.{})", self.inner.own, self.inner.cluster)
    }
}

/// The DNS name by which a certificate speaks for `member` of the cluster labelled `cluster`.
#[must_use]
pub fn certificate_name(member: &str, cluster: &str) -> String {
    format!("{member}.{cluster}.{SUFFIX}")
}

impl Tls {
    /// Reads the files. `own` is the first part of the name that the certificate must have: the
    /// member's name (or the certificate speaks for every member), or `admin`; `cluster` is the
    /// label of `--cluster`. `report` gets one line each time that changed files are taken up, or
    /// are of no use.
    ///
    /// # Errors
    /// A file is missing or is not PEM, the key is not the certificate's, the certificate is not of
    /// this CA, has expired, or does not carry the own name.
    pub fn load(
        files: TlsFiles,
        own: &str,
        cluster: &str,
        report: Report,
    ) -> Result<Tls, TlsError> {
        // Before the content: a file that changes in between is then read again.
        let stamps = files.stamps();
        let pair = Pair::read(&files, own, cluster)?;
        let state = Mutex::new(State { looked: Instant::now(), stamps, pair });
        let (own, cluster) = (own.to_owned(), cluster.to_owned());
        Ok(Tls { inner: Arc::new(Inner { files, own, cluster, report, state }) })
    }

    /// For accepting one connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.pair().server)
    }

    /// For dialling once; connect with [`Tls::server_name`].
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.pair().client)
    }

    /// The name that a dialled member must prove; none if `member` cannot be part of a DNS name.
    #[must_use]
    pub fn server_name(&self, member: &str) -> Option<ServerName<'static>> {
        ServerName::try_from(certificate_name(member, &self.inner.cluster)).ok()
    }

    /// Whether this verified certificate speaks for `member`. No member has a reserved name, in
    /// whatever case: in the DNS there is none.
    #[must_use]
    pub fn speaks_for(&self, certificate: &CertificateDer<'_>, member: &str) -> bool {
        if RESERVED_NAMES.iter().any(|name| name.eq_ignore_ascii_case(member)) {
            return false;
        }
        let names = [member, ANY_MEMBER].map(|name| certificate_name(name, &self.inner.cluster));
        names.iter().any(|name| speaks_for(certificate, name))
    }

    /// Whether this verified certificate may use the admin port: the operator's, an admin's, or
    /// that of one of `members`. One that speaks for every member may not: in a pod, whoever gets
    /// hold of it shall not change the membership as well.
    #[must_use]
    pub fn may_administer<'a>(
        &self,
        certificate: &CertificateDer<'_>,
        members: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        let mut names = ADMINS.into_iter().chain(members);
        names.any(|name| speaks_for(certificate, &certificate_name(name, &self.inner.cluster)))
    }

    /// Whether this verified certificate is one of attached sidecars.
    #[must_use]
    pub fn is_client(&self, certificate: &CertificateDer<'_>) -> bool {
        speaks_for(certificate, &self.client_name())
    }

    /// The name that the certificate of an attached sidecar needs.
    #[must_use]
    pub fn client_name(&self) -> String {
        certificate_name(CLIENT, &self.inner.cluster)
    }

    /// The name that a certificate needs in order to speak for `member`, for messages.
    #[must_use]
    pub fn name_of(&self, member: &str) -> String {
        certificate_name(member, &self.inner.cluster)
    }

    /// The present configurations; looks at the files when that is due.
    fn pair(&self) -> Pair {
        let inner = &*self.inner;
        // Nothing in there panics half-way.
        let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let stamps = inner.files.stamps();
            if stamps != state.stamps {
                state.stamps = stamps;
                match Pair::read(&inner.files, &inner.own, &inner.cluster) {
                    Ok(pair) => {
                        state.pair = pair;
                        (inner.report)("TLS files changed: the new ones are in use".to_owned());
                    }
                    Err(why) => (inner.report)(format!(
                        "TLS files changed and are of no use, the old ones stay in use: {why}"
                    )),
                }
            }
        }
        state.pair.clone()
    }
}

fn speaks_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    let has = |name: &str| {
        ServerName::try_from(name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    let Some((_, rest)) = name.split_once('.') else { return false };
    has(name) && !has(&format!("{NOBODY}.{rest}"))
}

/// What the three files hold.
struct Read {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: RootCertStore,
}

impl Read {
    fn files(files: &TlsFiles) -> Result<Read, TlsError> {
        let chain = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|e| file_error(&files.key, format!("no private key in PEM: {e}")))?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(&files.ca)? {
            roots.add(ca).map_err(|e| file_error(&files.ca, format!("no CA certificate: {e}")))?;
        }
        Ok(Read { chain, key, roots })
    }
}

fn file_error(path: &Path, why: String) -> TlsError {
    TlsError::File { path: path.to_owned(), why }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|e| file_error(path, format!("cannot be read: {e}")))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|e| file_error(path, format!("is not PEM: {e}")))?;
    if all.is_empty() {
        return Err(file_error(path, "holds no certificate in PEM".to_owned()));
    }
    Ok(all)
}

/// Of a dialled member: that its certificate speaks for it by its own name, or for every member.
#[derive(Debug)]
struct MemberVerifier {
    chain: Arc<WebPkiServerVerifier>,
    any: String,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let asked = name.to_str();
        let by =
            [&*asked, self.any.as_str()].into_iter().find(|name| speaks_for(certificate, name));
        // Neither: as the name that was asked for, which says what is wrong.
        let by = by.unwrap_or(&asked);
        let name = ServerName::try_from(by).map_err(|why| Error::General(why.to_string()))?;
        let verified =
            self.chain.verify_server_cert(certificate, intermediates, &name, ocsp, now)?;
        match speaks_for(certificate, by) {
            true => Ok(verified),
            // It was let through by a wildcard.
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl Pair {
    fn read(files: &TlsFiles, own: &str, cluster: &str) -> Result<Pair, TlsError> {
        let Read { chain, key, roots } = Read::files(files)?;
        let unusable = |why: String| TlsError::Unusable { path: files.cert.clone(), why };
        let (roots, provider) = (Arc::new(roots), provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|e| file_error(&files.ca, e.to_string()))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|e| file_error(&files.ca, e.to_string()))?;
        let any = certificate_name(ANY_MEMBER, cluster);
        let servers = Arc::new(MemberVerifier { chain: servers, any });

        // What peers will find wrong with it is better said here.
        let (first, rest) = chain.split_first().expect("a chain that was read is not empty");
        let own = certificate_name(own, cluster);
        let name = ServerName::try_from(own.as_str())
            .map_err(|_| unusable(format!("{own:?} cannot be a DNS name")))?;
        servers
            .verify_server_cert(first, rest, &name, &[], UnixTime::now())
            .map_err(|e| unusable(format!("peers will refuse it as {own}: {e}{WILDCARD}")))?;
        // A member's would do for the check above.
        if own == certificate_name(CLIENT, cluster) && !speaks_for(first, &own) {
            return Err(unusable(format!("members let attached sidecars in as {own} alone")));
        }
        clients
            .verify_client_cert(first, rest, UnixTime::now())
            .map_err(|e| unusable(format!("peers will refuse it as a client's: {e}")))?;

        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| unusable(e.to_string()))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| unusable(e.to_string()))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| unusable(e.to_string()))?
            // Stricter than the usual one, which takes wildcards; and one more name is right.
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(chain, key)
            .map_err(|e| unusable(e.to_string()))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Pair { server: Arc::new(server), client: Arc::new(client) })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
