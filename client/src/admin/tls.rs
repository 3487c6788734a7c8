//! Mutual TLS towards an admin port: TLS 1.3, one CA for the whole cluster, and the member has to
//! prove the name that it was called by.

use crate::cli::AdminArgs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
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
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| why.to_string())?
            .with_root_certificates(roots)
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
        let name = format!("{member}.{}.quorate", self.cluster);
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
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
