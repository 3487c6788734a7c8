//! One handshake with a sidecar's port, and certificates to try it with.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Who refuses says so within this.
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// A certificate and its key, PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Pair {
    /// The certificate itself.
    pub(super) fn der(&self) -> Result<CertificateDer<'static>, String> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).map_err(|e| e.to_string())
    }
}

/// Signs what a test wants.
pub(super) struct Issuer {
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl Issuer {
    fn of(key: KeyPair) -> Issuer {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "quorate operator CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Issuer { issuer: rcgen::Issuer::new(params, key) }
    }

    /// With the operator's name and another key.
    pub(super) fn new() -> Result<Issuer, String> {
        KeyPair::generate().map(Issuer::of).map_err(|e| e.to_string())
    }

    /// With the operator's own key, PEM.
    pub(super) fn load(key: &str) -> Result<Issuer, String> {
        KeyPair::from_pem(key).map(Issuer::of).map_err(|e| e.to_string())
    }

    /// A certificate for a DNS name, good or expired.
    pub(super) fn issue(&self, name: &str, expired: bool) -> Result<Pair, String> {
        let failed = |e: rcgen::Error| e.to_string();
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if expired { 2021 } else { 2100 }, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        Ok(Pair { cert, key: key.serialize_pem() })
    }
}

fn connector(trust: &str, own: Option<&Pair>) -> Result<TlsConnector, String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(trust.as_bytes()) {
        roots.add(one.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| failed(&e))?
        .with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|e| failed(&e))?;
            config.with_client_auth_cert(vec![own.der()?], key).map_err(|e| failed(&e))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects, and gives the certificate that was shown, once the other side took `own`: a refusal
/// comes after the handshake, in place of the first bytes. Peers say nothing before a hello, so
/// that silence is consent.
pub(super) async fn handshake(
    address: SocketAddr,
    host: &str,
    trust: &str,
    own: Option<&Pair>,
) -> Result<CertificateDer<'static>, String> {
    let host = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let stream = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
    let connector = connector(trust, own)?;
    let mut stream = connector.connect(host, stream).await.map_err(|e| e.to_string())?;
    let heard = tokio::time::timeout(REFUSED_MAX, stream.read_u8()).await;
    if let Ok(Err(refused)) = heard {
        return Err(format!("{address} closed the connection: {refused}"));
    }
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    Ok(shown.ok_or("a server shows a certificate")?.into_owned())
}
