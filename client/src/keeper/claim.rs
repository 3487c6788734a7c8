//! One claim of a session: what it asked for, and how far it is.

use super::events::{Events, Input};
use crate::clock;
use crate::error::{Error, Reason};
use crate::link::Link;
use crate::session::Standing;
use quorate_proto::v1::elections_client::ElectionsClient;
use quorate_proto::v1::locks_client::LocksClient;
use quorate_proto::v1::{self, ClaimEvent, HoldRequest, ParticipateRequest};
use tokio::sync::{oneshot, watch};

/// A lock, or an election with the value that observers are told.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Lock,
    Election(Vec<u8>),
}

/// A claim as the application makes it.
pub(crate) struct Ask {
    /// The keeper's own handle; never on the wire.
    pub(crate) claim: u64,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Do not queue.
    pub(crate) try_only: bool,
    pub(crate) answer: oneshot::Sender<Result<(), Error>>,
    pub(crate) standing: watch::Sender<Standing>,
}

pub(super) type Done = oneshot::Sender<Result<(), Error>>;

/// How far a claim is.
pub(super) enum Stage {
    /// Not granted yet.
    Waiting(Done),
    /// Granted, with this token.
    Held(u64),
    /// To be released; the last word is awaited.
    Releasing(Vec<Done>),
}

/// What an event means for its claim.
pub(super) enum Turn {
    /// It goes on.
    On,
    /// It is over: released, lost, or out of the queue.
    Over,
    /// It was refused.
    Refused(Error),
    /// The connection is of no use any more.
    Broken,
    /// Its session is over.
    SessionOver(Reason),
}

/// One claim.
pub(super) struct Claim {
    pub(super) request_id: u64,
    /// The sidecar answered it: from then on its outcome need not be kept for us.
    pub(super) answered: bool,
    name: String,
    role: Role,
    try_only: bool,
    pub(super) stage: Stage,
    standing: watch::Sender<Standing>,
    /// Dropped to release; with the connection cut first, to disconnect.
    input: Option<oneshot::Sender<()>>,
}

impl Claim {
    pub(super) fn new(ask: Ask, request_id: u64) -> Claim {
        let Ask { claim: _, name, role, try_only, answer, standing } = ask;
        let stage = Stage::Waiting(answer);
        Claim { request_id, answered: false, name, role, try_only, stage, standing, input: None }
    }

    /// Asks for the name on this link: the first time, or again with the same id. The session must
    /// be attached.
    pub(super) fn ask(
        &mut self,
        link: &Link,
        key: [u8; 16],
        lowest_unacked: u64,
    ) -> Events<ClaimEvent> {
        assert!(lowest_unacked <= self.request_id, "a claim's own outcome is still wanted");
        let claim = Some(v1::Claim {
            key: key.to_vec(),
            ttl_ms: 0,
            boottime_ns: clock::now_ns(),
            stops_at_break: false,
            label: String::new(),
            name: self.name.clone(),
            request_id: self.request_id,
            lowest_unacked,
            r#try: self.try_only,
            tethered: false,
        });
        let channel = link.channel.clone();
        let (open, events) = match &self.role {
            Role::Lock => {
                let (open, input) = Input::new(HoldRequest { claim });
                let call = async move { LocksClient::new(channel).hold(input).await };
                (open, Events::asking(call))
            }
            Role::Election(value) => {
                let first = ParticipateRequest { claim, value: value.clone() };
                let (open, input) = Input::new(first);
                let call = async move { ElectionsClient::new(channel).participate(input).await };
                (open, Events::asking(call))
            }
        };
        // A release that a broken connection may have swallowed is said again: claim, and
        // half-close at once.
        self.input = (!matches!(self.stage, Stage::Releasing(_))).then_some(open);
        events
    }

    /// The application wants no more of it: half-close.
    pub(super) fn release(&mut self, done: Option<Done>) {
        self.input = None;
        match &mut self.stage {
            Stage::Releasing(waiting) => waiting.extend(done),
            Stage::Waiting(_) | Stage::Held(_) => {
                self.stage = Stage::Releasing(done.into_iter().collect());
            }
        }
    }

    /// The last word for whoever waits.
    pub(super) fn end(self, reason: &Reason, error: Error) {
        match self.stage {
            // Nobody listens any more: fine.
            Stage::Waiting(answer) => drop(answer.send(Err(error))),
            Stage::Held(_) => {
                self.standing.send_modify(|standing| standing.ended = Some(reason.clone()));
            }
            // Whatever ended it, it is not held.
            Stage::Releasing(waiting) => {
                for done in waiting {
                    drop(done.send(Ok(())));
                }
            }
        }
    }

    pub(super) fn renewed(&self, deadline_ns: u64) {
        self.standing.send_if_modified(|standing| {
            let later = deadline_ns > standing.deadline_ns;
            standing.deadline_ns = standing.deadline_ns.max(deadline_ns);
            later
        });
    }

    /// The name is ours. False: not the grant that we know, so that what we know is lost.
    pub(super) fn granted(&mut self, granted: &v1::Granted) -> bool {
        self.answered = true;
        match &self.stage {
            Stage::Held(token) if *token != granted.token => return false,
            Stage::Held(_) => self.renewed(granted.deadline_boottime_ns),
            Stage::Waiting(_) => {
                self.standing.send_modify(|standing| {
                    standing.token = granted.token;
                    standing.deadline_ns = granted.deadline_boottime_ns;
                });
                let held = Stage::Held(granted.token);
                if let Stage::Waiting(answer) = std::mem::replace(&mut self.stage, held) {
                    // Its claimant left: the guard's drop releases.
                    drop(answer.send(Ok(())));
                }
            }
            Stage::Releasing(_) => {}
        }
        true
    }
}
