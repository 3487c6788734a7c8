//! A throwaway CA and the certificates of a cluster on one machine. For `dev` and tests, nowhere
//! else: the keys lie beside each other in a directory, and nothing ever expires or is revoked.

use crate::tls::{TlsFiles, certificate_name};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The CA's certificate within the directory.
const CA: &str = "ca.pem";

/// One CA, which exists only while it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn failed(why: &rcgen::Error) -> io::Error {
    io::Error::other(format!("a certificate could not be made: {why}"))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

impl Authority {
    /// A new CA.
    ///
    /// # Errors
    /// The cryptography's.
    pub fn new() -> io::Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("quorate dev CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(|e| failed(&e))?;
        Ok(Authority { issuer })
    }

    /// The CA's certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key in PEM, for exactly these DNS names.
    ///
    /// # Errors
    /// A name is no DNS name.
    pub fn issue(&self, names: &[String]) -> io::Result<(String, String)> {
        let mut params = CertificateParams::new(names).map_err(|e| failed(&e))?;
        params.distinguished_name = named(names.first().map_or("nobody", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        let cert = params.signed_by(&key, &self.issuer).map_err(|e| failed(&e))?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}

/// Where the files of `name` are in `directory`.
#[must_use]
pub fn files(directory: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        cert: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
        ca: directory.join(CA),
    }
}

/// Every file that [`make`] makes.
pub fn all_files(directory: &Path, names: &[String]) -> Vec<PathBuf> {
    let mut all = vec![directory.join(CA)];
    for name in names {
        let TlsFiles { cert, key, .. } = files(directory, name);
        all.extend([cert, key]);
    }
    all
}

/// Makes a CA and certificates for `names` of `cluster`, unless all the files are there already.
///
/// # Errors
/// A file cannot be written.
pub fn make(directory: &Path, cluster: &str, names: &[String]) -> io::Result<()> {
    if all_files(directory, names).iter().all(|path| path.exists()) {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    let authority = Authority::new()?;
    for name in names {
        let (cert, key) = authority.issue(&[certificate_name(name, cluster)])?;
        let files = files(directory, name);
        write(&files.cert, &cert)?;
        write(&files.key, &key)?;
    }
    // Last: the others are of no use without it.
    write(&directory.join(CA), &authority.pem())
}

/// Replaces a file at once, readable by its owner only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(fresh, path)
}
