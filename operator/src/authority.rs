//! The operator's authority as it is now, and the Secret that it is kept in.
//!
//! While one authority takes another's place the Secret has both: `tls.crt` and `tls.key` sign, and
//! `other.crt` is trusted beside it. With `other.key` the other one is to sign next, without it is
//! the one that signed before. So the phase of a change is what is in the Secret, and nowhere else;
//! that the former one still has to be dropped by somebody is in the Secret's annotation.
//!
//! Invariants: whoever signs is trusted; a phase changes by one write, which fails if anybody else
//! wrote meanwhile; a key that does not sign any more is not kept.

use crate::build::hash;
use crate::certificates::{self, Authority, is_due};
use futures_util::stream::{self, Stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// The Secret of the authority, in the operator's namespace.
pub const SECRET: &str = "quorate-ca";
/// On it: whatever its value, the authority is to be replaced.
pub const ROTATE: &str = "quorate.dev/rotate";
/// On it: the day from which on it is replaced without being asked for.
const RENEW_ON: &str = "quorate.dev/renew-on";
/// On it, for people: the phase of a change.
const PHASE: &str = "quorate.dev/phase";

/// How far a change of the authority is.
pub enum Phase {
    /// None is under way.
    Settled,
    /// The next one is trusted and does not sign.
    TrustBoth(Arc<Authority>),
    /// The next one signs; this certificate, PEM, is the former's.
    Reissue(String),
    /// The former one is trusted no more, and not everybody was told.
    DropOld,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Settled => "Settled",
            Phase::TrustBoth(_) => "TrustBoth",
            Phase::Reissue(_) => "Reissue",
            Phase::DropOld => "DropOld",
        })
    }
}

/// Who signs, and who is trusted.
pub struct Trust {
    /// Signs.
    pub signer: Arc<Authority>,
    /// Who is trusted beside it.
    pub phase: Phase,
}

impl Trust {
    /// Of an authority that nothing is about to replace.
    #[must_use]
    pub fn settled(signer: Authority) -> Trust {
        Trust { signer: Arc::new(signer), phase: Phase::Settled }
    }

    /// The certificates of all that are trusted, PEM, the signer's first.
    #[must_use]
    pub fn bundle(&self) -> String {
        let (own, end) =
            (&self.signer.cert, if self.signer.cert.ends_with('\n') { "" } else { "\n" });
        match &self.phase {
            Phase::Settled | Phase::DropOld => own.clone(),
            Phase::TrustBoth(next) => format!("{own}{end}{}", next.cert),
            Phase::Reissue(former) => format!("{own}{end}{former}"),
        }
    }

    /// Changes whenever what is signed or trusted does.
    #[must_use]
    pub fn mark(&self) -> String {
        hash(&self.bundle())
    }

    /// What the next phase is like; `None`: there is none without a reason to begin.
    ///
    /// # Errors
    /// The cryptography's.
    pub fn next(&self, begin: bool) -> Result<Option<Trust>, rcgen::Error> {
        let (signer, phase) = match &self.phase {
            Phase::Settled if !begin => return Ok(None),
            Phase::Settled => (&self.signer, Phase::TrustBoth(Arc::new(Authority::new()?))),
            Phase::TrustBoth(next) => (next, Phase::Reissue(self.signer.cert.clone())),
            Phase::Reissue(_) => (&self.signer, Phase::DropOld),
            Phase::DropOld => (&self.signer, Phase::Settled),
        };
        Ok(Some(Trust { signer: Arc::clone(signer), phase }))
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = vec![("tls.crt", &self.signer.cert), ("tls.key", &self.signer.key)];
        match &self.phase {
            Phase::Settled | Phase::DropOld => {}
            Phase::TrustBoth(next) => {
                data.extend([("other.crt", &next.cert), ("other.key", &next.key)]);
            }
            Phase::Reissue(former) => data.push(("other.crt", former)),
        }
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        data.into_iter().map(|(name, text)| (name.to_owned(), bytes(text))).collect()
    }

    /// What a Secret says.
    ///
    /// # Errors
    /// It has no key, or no certificate, in words.
    pub fn read(secret: &Secret) -> Result<Trust, String> {
        let data = secret.data.clone().unwrap_or_default();
        let text = |key: &str| data.get(key).and_then(|it| String::from_utf8(it.0.clone()).ok());
        let must = |key: &str| {
            text(key).ok_or_else(|| format!("it has no {key}; delete it to begin anew"))
        };
        let load = |cert, key| Authority::load(cert, key).map_err(|error| error.to_string());
        let signer = Arc::new(load(must("tls.crt")?, must("tls.key")?)?);
        let phase = match (text("other.crt"), text("other.key")) {
            (None, _) if secret.annotations().get(PHASE).is_some_and(|it| it == "DropOld") => {
                Phase::DropOld
            }
            (None, _) => Phase::Settled,
            (Some(cert), Some(key)) => Phase::TrustBoth(Arc::new(load(cert, key)?)),
            (Some(former), None) => Phase::Reissue(former),
        };
        Ok(Trust { signer, phase })
    }

    /// As this Secret is to be.
    fn write(&self, secret: &Secret) -> Secret {
        let mut secret = secret.clone();
        (secret.data, secret.string_data) = (Some(self.data()), None);
        let annotations = secret.annotations_mut();
        match &self.phase {
            Phase::Settled => {
                annotations.remove(PHASE);
                annotations.insert(RENEW_ON.to_owned(), certificates::authority_renew_on());
            }
            phase => drop(annotations.insert(PHASE.to_owned(), phase.to_string())),
        }
        // Asked for again while one changes, it changes once more.
        if let Phase::TrustBoth(_) = &self.phase {
            annotations.remove(ROTATE);
        }
        secret
    }
}

/// Whether a Secret asks for another authority.
#[must_use]
pub fn is_asked(secret: &Secret) -> bool {
    let told = secret.annotations();
    told.contains_key(ROTATE) || told.get(RENEW_ON).is_some_and(|day| is_due(day))
}

/// The authority, for all parts of the process: each sees a change at once. Cheap to clone.
#[derive(Clone)]
pub struct Current {
    now: watch::Sender<Arc<Trust>>,
}

impl Current {
    /// This one.
    #[must_use]
    pub fn new(trust: Trust) -> Current {
        Current { now: watch::Sender::new(Arc::new(trust)) }
    }

    /// The present one.
    #[must_use]
    pub fn get(&self) -> Arc<Trust> {
        Arc::clone(&self.now.borrow())
    }

    /// Puts another into its place; true: it was another.
    pub fn set(&self, trust: Trust) -> bool {
        self.now.send_if_modified(|now| {
            let other = now.mark() != trust.mark();
            *now = Arc::new(trust);
            other
        })
    }

    /// An item for each change from now on; several in a row can be one.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        stream::unfold(self.now.subscribe(), async |mut now| {
            // An error: nobody can change it any more.
            now.changed().await.ok()?;
            Some(((), now))
        })
    }
}

/// The Secret, as the API server has it.
#[derive(Clone)]
pub struct Store {
    secrets: Api<Secret>,
    namespace: String,
}

impl Store {
    /// In the operator's namespace.
    #[must_use]
    pub fn new(client: &Client, namespace: &str) -> Store {
        let secrets = Api::namespaced(client.clone(), namespace);
        Store { secrets, namespace: namespace.to_owned() }
    }

    fn failed(&self, why: impl fmt::Display) -> String {
        format!("the Secret {}/{SECRET}: {why}", self.namespace)
    }

    /// The Secret and what it says, if there is one.
    ///
    /// # Errors
    /// The API server's, or what is wrong with it, in words.
    pub async fn look(&self) -> Result<Option<(Secret, Trust)>, String> {
        let found = self.secrets.get_opt(SECRET).await.map_err(|why| self.failed(why))?;
        let Some(secret) = found else { return Ok(None) };
        let trust = Trust::read(&secret).map_err(|why| self.failed(why))?;
        Ok(Some((secret, trust)))
    }

    /// The authority of this operator; made once.
    ///
    /// # Errors
    /// The API server's, or the cryptography's, in words.
    pub async fn open(&self) -> Result<Trust, String> {
        if let Some((_, known)) = self.look().await? {
            return Ok(known);
        }
        let trust = Trust::settled(Authority::new().map_err(|why| self.failed(why))?);
        self.create(&trust).await?;
        Ok(trust)
    }

    /// Makes the Secret.
    ///
    /// # Errors
    /// The API server's, in words.
    pub async fn create(&self, trust: &Trust) -> Result<(), String> {
        let mut empty = Secret { type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
        empty.metadata.name = Some(SECRET.to_owned());
        let made = self.secrets.create(&PostParams::default(), &trust.write(&empty)).await;
        made.map(drop).map_err(|why| self.failed(why))
    }

    /// Records a phase, if the Secret is still as it was read.
    ///
    /// # Errors
    /// The API server's, in words.
    pub async fn record(&self, read: &Secret, trust: &Trust) -> Result<(), String> {
        let secret = trust.write(read);
        let written = self.secrets.replace(SECRET, &PostParams::default(), &secret).await;
        written.map(drop).map_err(|why| self.failed(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _};

    fn trust() -> Trust {
        Trust::settled(Authority::new().expect("a CA"))
    }

    fn next(of: &Trust) -> Trust {
        of.next(true).expect("signed").expect("there is one")
    }

    #[test]
    fn whoever_signs_or_signed_is_trusted_in_every_phase() {
        let first = trust();
        assert!(first.next(false).expect("signed").is_none(), "not without a reason");
        let both = next(&first);
        assert_eq!(both.signer.cert, first.signer.cert, "nobody trusts the next one yet");
        let reissue = next(&both);
        assert!(both.bundle().contains(&reissue.signer.cert), "trusted before it signs");
        assert!(reissue.bundle().contains(&first.signer.cert), "trusted while others show it");
        let last = next(&reissue);
        assert_eq!(last.bundle(), reissue.signer.cert);
        assert_eq!(next(&last).mark(), last.mark(), "only who was told is left to see");
        let marks = [&first, &both, &reissue, &last].map(Trust::mark);
        assert!((1..4).all(|at| !marks[..at].contains(&marks[at])), "{marks:?}");
    }

    #[test]
    fn another_one_is_told_and_the_same_is_not() {
        let first = trust();
        let secret = first.write(&Secret::default());
        let (other, current) = (next(&first), Current::new(first));
        let mut changes = std::pin::pin!(current.changes());
        assert!(!current.set(Trust::read(&secret).expect("it is whole")));
        assert_eq!(changes.next().now_or_never(), None);
        assert!(current.set(other));
        assert_eq!(changes.next().now_or_never(), Some(Some(())));
        assert_eq!(changes.next().now_or_never(), None, "it was told once");
    }

    #[test]
    fn a_phase_is_what_the_secret_has() {
        let mut secret = Secret::default();
        secret.annotations_mut().insert(ROTATE.to_owned(), "now".to_owned());
        assert!(is_asked(&secret));
        let mut trust = trust();
        for phase in ["Settled", "TrustBoth", "Reissue", "DropOld", "Settled"] {
            assert_eq!(trust.phase.to_string(), phase);
            secret = trust.write(&secret);
            if phase == "TrustBoth" {
                assert!(!is_asked(&secret), "what was asked for is done");
                secret.annotations_mut().insert(ROTATE.to_owned(), "again".to_owned());
            }
            assert!(phase == "TrustBoth" || is_asked(&secret), "{phase}: it is not forgotten");
            let told = secret.annotations().get(PHASE).map(String::as_str);
            assert_eq!(told, Some(phase).filter(|phase| *phase != "Settled"));
            let read = Trust::read(&secret).expect("it is whole");
            assert_eq!((read.mark(), read.phase.to_string()), (trust.mark(), phase.to_owned()));
            trust = next(&read);
        }
    }

    #[test]
    fn the_former_key_is_gone_once_another_signs() {
        let first = trust();
        let reissue = next(&next(&first)).write(&Secret::default());
        let kept = format!("{:?}", reissue.data.expect("it has some"));
        assert!(
            !kept.contains(&format!("{:?}", ByteString(first.signer.key.clone().into_bytes())))
        );
    }

    #[test]
    fn it_is_asked_for_by_its_day_or_not_at_all() {
        let mut secret = trust().write(&Secret::default());
        assert!(!is_asked(&secret));
        secret.annotations_mut().insert(RENEW_ON.to_owned(), "2020-01-01".to_owned());
        assert!(is_asked(&secret));
        secret.annotations_mut().remove(RENEW_ON);
        assert!(!is_asked(&secret));
    }

    #[test]
    fn a_secret_without_a_key_says_what_to_do() {
        let mut secret = trust().write(&Secret::default());
        secret.data.get_or_insert_default().remove("tls.key");
        let why = Trust::read(&secret).err().expect("it is of no use");
        assert!(why.contains("no tls.key; delete it"), "{why}");
    }
}
