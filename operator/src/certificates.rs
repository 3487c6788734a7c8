//! A certificate authority of the operator, and what it issues: a certificate for the members of
//! each group, one for its attached sidecars, one for the operator itself towards each of them, and
//! the webhook's.
//!
//! Invariants: the authority's key is in the operator's namespace and nowhere else; a member's
//! certificate speaks for one group alone, by a label that no other group ever has; what the
//! operator shows of itself is made when it is needed, and anew at half of its life.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// How long a member's certificate is good, in days; it is made anew at half of it.
const LEAF_DAYS: i64 = 90;
/// How long the authority is.
const AUTHORITY_DAYS: i64 = 3_650;
/// It is replaced so long before its end.
const AUTHORITY_RESERVE_DAYS: i64 = 365;
/// Clocks differ: what is made today is good since yesterday.
const SKEW_DAYS: i64 = 1;

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// The day from which on it is to be made anew, `YYYY-MM-DD`.
    pub renew_on: String,
}

/// The authority.
pub struct Authority {
    /// Its certificate, PEM.
    pub cert: String,
    /// Its key, PEM.
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// Whether a day (`YYYY-MM-DD`) has come; one that cannot be read has.
#[must_use]
pub fn is_due(day: &str) -> bool {
    day.parse::<Date>().map_or(true, |day| day <= today())
}

/// The day from which on an authority that is made today is to be replaced, `YYYY-MM-DD`.
#[must_use]
pub fn authority_renew_on() -> String {
    today().saturating_add((AUTHORITY_DAYS - AUTHORITY_RESERVE_DAYS).days()).to_string()
}

fn valid(params: &mut CertificateParams, days: i64) {
    let time = |date: Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = time(today().saturating_sub(SKEW_DAYS.days()));
    params.not_after = time(today().saturating_add(days.days()));
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("quorate operator CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, AUTHORITY_DAYS);
    params
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The cryptography's.
    pub fn new() -> Result<Authority, rcgen::Error> {
        let key = KeyPair::generate()?;
        let cert = authority_params().self_signed(&key)?.pem();
        Authority::load(cert, key.serialize_pem())
    }

    /// One that was made before.
    ///
    /// # Errors
    /// The key is none.
    pub fn load(cert: String, key: String) -> Result<Authority, rcgen::Error> {
        // Only the name and the key count when it signs.
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&key)?);
        Ok(Authority { cert, key, issuer })
    }

    /// A certificate for this part of a group: `member`, `client`, or `operator`.
    ///
    /// # Errors
    /// The name is no DNS name.
    pub fn issue(&self, part: &str, label: &str) -> Result<Issued, rcgen::Error> {
        self.issue_for(&[format!("{part}.{label}.quorate")])
    }

    /// A certificate for these DNS names and addresses.
    ///
    /// # Errors
    /// One of them is none.
    pub fn issue_for(&self, names: &[String]) -> Result<Issued, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(names.first().map_or("nobody", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        valid(&mut params, LEAF_DAYS);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        let renew_on = today().saturating_add((LEAF_DAYS / 2).days()).to_string();
        Ok(Issued { cert, key: key.serialize_pem(), renew_on })
    }
}
