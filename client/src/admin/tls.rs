//! Mutual TLS towards an admin port: TLS 1.3, one CA for the whole cluster, and the member has to
//! prove the name that it was called by, or that it speaks for every member of the cluster.

use crate::cli::AdminArgs;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// See the module.
pub struct Tls {
    connector: TlsConnector,
    cluster: String,
}

impl Tls {
    /// From the three files; without any of them there is none.
    pub fn of(args: &AdminArgs) -> Result<Option<Tls>, String> {
        let (cert, key, ca) = match (&args.tls_cert, &args.tls_key, &args.tls_ca) {
            (None, None, None) => return Ok(None),
            (Some(cert), Some(key), Some(ca)) => (cert, key, ca),
            _ => {
                return Err("TLS needs all three of --tls-cert, --tls-key and --tls-ca".to_owned());
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|why| named(ca, &why))?;
        }
        let key_der = PrivateKeyDer::from_pem_file(key).map_err(|why| named(key, &why))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let chain = chain.build().map_err(|why| named(ca, &why))?;
        let any = full_name("member", &args.cluster).map_err(|why| why.to_string())?;
        let verifier = Arc::new(MemberVerifier { chain, any });
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| why.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(certificates(cert)?, key_der)
            .map_err(|why| named(cert, &why))?;
        let mut config = config;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Some(Tls { connector, cluster: args.cluster.clone() }))
    }

    /// Has the other end prove that it is `member`.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        member: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = full_name(member, &self.cluster).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

/// The name in a member's certificate.
fn full_name(member: &str, cluster: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(format!("{member}.{cluster}.quorate"))
}

/// Takes the name that was asked for, and the one that speaks for every member.
#[derive(Debug)]
struct MemberVerifier {
    chain: Arc<WebPkiServerVerifier>,
    any: ServerName<'static>,
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
        let verify =
            |name| self.chain.verify_server_cert(certificate, intermediates, name, ocsp, now);
        // The first error is about the name that the user knows.
        verify(name).or_else(|why| verify(&self.any).map_err(|_| why))
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|why| named(path, &why))?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(|why| named(path, &why))?;
    if all.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(all)
}

fn named(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}
