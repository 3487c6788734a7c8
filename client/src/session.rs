//! Sessions, and what they hold.
//!
//! A guard ([`Lock`], [`Election`]) is the right to act under its name until it says otherwise.
//! Whoever acts must also give the token to what it acts on: a process that is paused past its
//! deadline cannot know, the token's reader can.

use crate::client::Client;
use crate::clock::{self, Timer};
use crate::deadline::{Act, Deadline};
use crate::error::{Error, Reason};
use crate::keeper::{Ask, Command, Keeper, Role};
use crate::tether::Tether;
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The pause before a claim that the group could not take is made again.
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// 1 s to 10 min: how long the group waits for a dead holder. Longer rides out more, shorter
    /// fails over sooner.
    pub ttl: Duration,
    /// Free text for people, at most 256 bytes.
    pub label: String,
    /// A process tree will hold a [`Tether`]: the death of this process alone does not end the
    /// session.
    pub tethered: bool,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions { ttl: Duration::from_secs(5), label: String::new(), tethered: false }
    }
}

/// How a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Its public name.
    pub session_id: u64,
    /// Its TTL.
    pub ttl_ms: u64,
    /// It lives until then, in ns of CLOCK_BOOTTIME.
    pub deadline_ns: u64,
    /// The TTL is long enough to ride through a change of Raft leader.
    pub rides_through_failover: bool,
    /// The connection to the sidecar stands.
    pub connected: bool,
    /// Renewals are overdue.
    pub in_jeopardy: bool,
    /// Why it is over; none while it lives.
    pub over: Option<Reason>,
}

/// How a grant stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) token: u64,
    pub(crate) deadline_ns: u64,
    pub(crate) ended: Option<Reason>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    key: [u8; 16],
    commands: mpsc::UnboundedSender<Command>,
    pulse: watch::Receiver<Pulse>,
    next_claim: AtomicU64,
}

/// A session. Cheap to clone. When the last clone and the last guard are dropped, it is closed in
/// the background.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

impl Client {
    /// Opens a session; one task keeps it.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn session(&self, options: SessionOptions) -> Result<Session, Error> {
        let mut key = [0_u8; 16];
        getrandom(&mut key, GetRandomFlags::empty()).map_err(Error::system)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let (keeper, pulse) = Keeper::open(self.clone(), key, &options, receiver).await?;
        tokio::spawn(keeper.run());
        let (client, next_claim) = (self.clone(), AtomicU64::new(1));
        Ok(Session { inner: Arc::new(Inner { client, key, commands, pulse, next_claim }) })
    }
}

impl Session {
    /// How it is, now and later.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Pulse> {
        self.inner.pulse.clone()
    }

    /// Whether it is not over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.inner.pulse.borrow().over.is_none()
    }

    /// Waits for the lock, as long as the session lives. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// A refusal that waiting does not cure, or the end of the session.
    pub async fn lock(&self, name: &str) -> Result<Lock, Error> {
        Ok(Lock { grant: self.claim(name, Role::Lock, false).await? })
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`Error::NotAcquired`] with the holder: a normal answer. Else a refusal, or the end of the
    /// session.
    pub async fn try_lock(&self, name: &str) -> Result<Lock, Error> {
        Ok(Lock { grant: self.claim(name, Role::Lock, true).await? })
    }

    /// Stands for election until elected, as long as the session lives. The value, at most 4 KiB,
    /// is told to observers. Dropping the future withdraws.
    ///
    /// # Errors
    /// A refusal that waiting does not cure, or the end of the session.
    pub async fn campaign(&self, name: &str, value: &[u8]) -> Result<Election, Error> {
        Ok(Election { grant: self.claim(name, Role::Election(value.to_vec()), false).await? })
    }

    /// Leads if nobody does.
    ///
    /// # Errors
    /// [`Error::NotAcquired`] with the leader: a normal answer. Else a refusal, or the end of the
    /// session.
    pub async fn try_campaign(&self, name: &str, value: &[u8]) -> Result<Election, Error> {
        Ok(Election { grant: self.claim(name, Role::Election(value.to_vec()), true).await? })
    }

    /// Binds a second connection to this session, for a process tree to inherit.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn tether(&self) -> Result<Tether, Error> {
        self.inner.client.tether(self.inner.key).await
    }

    /// Ends the session and all that it holds. Returns when that is done, or when the session's
    /// deadline has passed.
    ///
    /// # Errors
    /// None today: after the deadline the session is over as well.
    pub async fn close(&self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        match self.inner.commands.send(Command::Close { done }) {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    async fn claim(&self, name: &str, role: Role, try_only: bool) -> Result<Grant, Error> {
        loop {
            match self.claim_once(name, role.clone(), try_only).await {
                Err(error) if error.is_transient() && !try_only => {
                    tokio::time::sleep(CLAIM_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn claim_once(&self, name: &str, role: Role, try_only: bool) -> Result<Grant, Error> {
        let claim = self.inner.next_claim.fetch_add(1, Ordering::Relaxed);
        let (standing, receiver) = watch::channel(Standing::default());
        let (answer, answered) = oneshot::channel();
        let ask = Ask { claim, name: name.to_owned(), role, try_only, answer, standing };
        let over = || Error::SessionOver(self.over());
        self.inner.commands.send(Command::Claim(ask)).map_err(|_| over())?;
        // From here on a drop releases.
        let session = self.clone();
        let grant = Grant { claim, name: name.to_owned(), session, standing: receiver };
        answered.await.map_err(|_| over())??;
        Ok(grant)
    }

    fn over(&self) -> Reason {
        self.inner.pulse.borrow().over.clone().unwrap_or(Reason::SessionClosed)
    }
}

/// Why a guard holds no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its deadline is near, and no renewal came. What is left of it is for stopping.
    Deadline,
    /// The group ended it.
    Ended(Reason),
}

#[derive(Debug)]
struct Grant {
    claim: u64,
    name: String,
    session: Session,
    standing: watch::Receiver<Standing>,
}

impl Grant {
    fn watchdog(&self) -> Result<Watchdog, Error> {
        let ttl_ms = self.session.inner.pulse.borrow().ttl_ms;
        let timer = Timer::new().map_err(Error::system)?;
        let standing = self.standing.clone();
        let deadline = Deadline::new(ttl_ms, standing.borrow().deadline_ns);
        Ok(Watchdog { deadline, timer, standing })
    }

    async fn lost(&self) -> Loss {
        // Without a timer nobody could say when to stop: stop.
        let Ok(mut watchdog) = self.watchdog() else { return Loss::Deadline };
        match watchdog.next().await {
            Order::Kill(Some(reason)) => Loss::Ended(reason),
            Order::Stop | Order::Kill(None) => Loss::Deadline,
        }
    }

    async fn release(self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let release = Command::Release { claim: self.claim, done: Some(done) };
        match self.session.inner.commands.send(release) {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        // The keeper is gone: so is the session.
        let release = Command::Release { claim: self.claim, done: None };
        let _ = self.session.inner.commands.send(release);
    }
}

/// What the holder must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop working under the grant; a few moments are left. Said once.
    Stop,
    /// Be gone now. With the reason, if the group ended the grant before its deadline.
    Kill(Option<Reason>),
}

/// Says when a holder must stop, from its own clock alone: it never waits for the sidecar.
#[derive(Debug)]
pub struct Watchdog {
    deadline: Deadline,
    timer: Timer,
    standing: watch::Receiver<Standing>,
}

impl Watchdog {
    /// The grant is held until then at least, in ns of CLOCK_BOOTTIME.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        self.deadline.deadline_ns()
    }

    /// The next order. May be dropped and called again.
    pub async fn next(&mut self) -> Order {
        let mut keeper_is_there = true;
        loop {
            let (renewed_ns, ended) = {
                let standing = self.standing.borrow_and_update();
                (standing.deadline_ns, standing.ended.clone())
            };
            if ended.is_some() {
                return Order::Kill(ended);
            }
            self.deadline.renewed(renewed_ns);
            let until = match self.deadline.decide(clock::now_ns()) {
                Act::Stop => return Order::Stop,
                Act::Kill => return Order::Kill(None),
                Act::Wait(until) => until,
            };
            tokio::select! {
                changed = self.standing.changed(), if keeper_is_there => {
                    keeper_is_there = changed.is_ok();
                }
                fired = self.timer.wait_until(until) => {
                    if fired.is_err() {
                        return Order::Kill(None);
                    }
                }
            }
        }
    }
}

macro_rules! guard {
    ($name:ident, $doc:literal, $release:ident, $release_doc:literal) => {
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $name {
            grant: Grant,
        }

        impl $name {
            /// What is held.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.grant.name
            }

            /// The fencing token: positive, and above every token given before. Give it to whatever
            /// you write to.
            #[must_use]
            pub fn token(&self) -> u64 {
                self.grant.standing.borrow().token
            }

            /// Held until then, in ns of CLOCK_BOOTTIME; renewals move it.
            #[must_use]
            pub fn deadline_ns(&self) -> u64 {
                self.grant.standing.borrow().deadline_ns
            }

            /// Waits for the loss. It comes at the stop point, max(100 ms, 5 % of the TTL) before
            /// the deadline, so that there is time to stop; stop then, and drop the guard.
            pub async fn lost(&self) -> Loss {
                self.grant.lost().await
            }

            /// The orders to stop and to kill, for whoever runs another process under this guard.
            ///
            /// # Errors
            /// No descriptor is left for a timer.
            pub fn watchdog(&self) -> Result<Watchdog, Error> {
                self.grant.watchdog()
            }

            #[doc = $release_doc]
            /// Returns when the group has done it, or when the deadline has passed.
            ///
            /// # Errors
            /// None today: after the deadline nothing is held as well.
            pub async fn $release(self) -> Result<(), Error> {
                self.grant.release().await
            }
        }
    };
}

guard!(
    Lock,
    "A lock that is held. Dropping it releases it in the background.",
    release,
    "Releases."
);
guard!(
    Election,
    "A leadership that is held. Dropping it resigns in the background.",
    resign,
    "Resigns."
);
