//! A new life of a group that lost its majority, or all: tokens above every earlier one, no
//! session, and no grant until the holders of the earlier life must have stopped.
//!
//! Invariants: a life begins only above every token that this machine knows of; nothing is granted
//! between a Begin with a hold-off and its Lift; a Lift of another life changes nothing.
//!
//! Must not be reached by a client's command: a Begin is the context of the configuration that a
//! recovery forces, a Lift is the leader's own.

use std::sync::Arc;

use crate::bytes::{DecodeError, Reader, Writer};
use crate::codec::VERSION;
use crate::command::{Cause, Command, Event, Outcome, Refusal, SessionId, Token};
use crate::limits::HOLD_OFF_MS_MAX;
use crate::machine::Machine;
use crate::tokens::Tokens;

const BEGIN: u8 = 9;
const LIFT: u8 = 10;

/// A command about the life of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeCommand {
    /// Another life begins: all sessions end, and tokens go on after this one.
    Begin {
        /// 1 to 32,766.
        epoch: u16,
        /// Below 2^48; with the epoch, a token above every one given before.
        last_n: u64,
        /// How long a leader holds grants off, in ms, at most [`HOLD_OFF_MS_MAX`]. 0: the members
        /// of the earlier life are known to have stopped.
        hold_off_ms: u32,
    },
    /// The hold-off is over. Void in another life.
    Lift {
        /// What [`Machine::life`] was when the leader began to wait.
        life: Token,
    },
}

/// What an entry of the log carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Somebody's command, or the Start.
    Command(Command),
    /// About the group's life.
    Life(LifeCommand),
}

impl LifeCommand {
    /// The command as bytes; the first one is the format version.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        match self {
            LifeCommand::Begin { epoch, last_n, hold_off_ms } => {
                out.u8(BEGIN);
                out.u16(*epoch);
                out.u64(*last_n);
                out.u32(*hold_off_ms);
            }
            LifeCommand::Lift { life } => {
                out.u8(LIFT);
                out.u64(life.0);
            }
        }
        out.finish()
    }
}

impl Logged {
    /// The command that these bytes are, all of them.
    ///
    /// # Errors
    /// As [`Command::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Logged, DecodeError> {
        let [VERSION, kind @ (BEGIN | LIFT), fields @ ..] = bytes else {
            return Command::decode(bytes).map(Logged::Command);
        };
        let mut from = Reader::new(fields);
        let command = match *kind {
            BEGIN => LifeCommand::Begin {
                epoch: from.u16()?,
                last_n: from.u64()?,
                hold_off_ms: from.u32()?,
            },
            _ => LifeCommand::Lift { life: Token(from.u64()?) },
        };
        from.finish()?;
        Ok(Logged::Life(command))
    }
}

impl Machine {
    /// Applies what the entry at `index` carries; see [`Machine::apply`].
    ///
    /// # Panics
    /// If `index` is not above [`Machine::last_index`].
    pub fn apply_logged(
        &mut self,
        index: u64,
        logged: &Logged,
        events: &mut Vec<Event>,
    ) -> Outcome {
        let command = match logged {
            Logged::Command(command) => return self.apply(index, command, events),
            Logged::Life(command) => command,
        };
        self.enter(index);
        let result = match command {
            LifeCommand::Begin { epoch, last_n, hold_off_ms } => {
                self.begin_life(*epoch, *last_n, *hold_off_ms, events)
            }
            LifeCommand::Lift { life } => self.lift(*life, events),
        };
        result.unwrap_or_else(Outcome::Refused)
    }

    fn begin_life(
        &mut self,
        epoch: u16,
        last_n: u64,
        hold_off_ms: u32,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        let asked = Tokens::start(epoch, last_n)?;
        if self.tokens.is_none() {
            return Err(Refusal::NotStarted);
        }
        if asked.last() <= self.last_token() {
            return Err(Refusal::Invalid("epoch"));
        }
        if hold_off_ms > HOLD_OFF_MS_MAX {
            return Err(Refusal::Invalid("hold_off_ms"));
        }
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.end_sessions(&all, Cause::Expired, events);
        assert!(self.names.is_empty(), "a name without a session");
        self.tokens = Some(asked);
        self.hold_off_ms = (hold_off_ms > 0).then_some(hold_off_ms);
        Ok(Outcome::Started)
    }

    fn lift(&mut self, life: Token, events: &mut Vec<Event>) -> Result<Outcome, Refusal> {
        if self.hold_off_ms.is_none() || self.life() != life {
            return Err(Refusal::NotStarted);
        }
        self.hold_off_ms = None;
        let names: Vec<Arc<str>> = self.names.keys().map(Arc::clone).collect();
        for name in &names {
            self.grant_next(name, events);
        }
        Ok(Outcome::Started)
    }

    /// The token after which the present life began; 0 before the first.
    #[must_use]
    pub fn life(&self) -> Token {
        self.tokens.map_or(Token(0), |tokens| Tokens { last_n: tokens.start_n, ..tokens }.last())
    }

    /// While nothing is granted: how long a leader has to wait before it lifts that, in ms.
    #[must_use]
    pub fn hold_off_ms(&self) -> Option<u32> {
        self.hold_off_ms
    }
}
