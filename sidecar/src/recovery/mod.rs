//! The way back after a majority is lost for ever: one survivor, or a backup, goes on as the only
//! member of a group with a new identity.
//!
//! What it has counts as committed, for the lost ones may have acknowledged it. One entry is added:
//! a configuration of this member alone, and with it the new life of the tokens. Everything else,
//! the end of all sessions and the hold-off of grants, follows from that entry on every member that
//! ever applies it.
//!
//! Invariants: the new life is above every token that the log or the backup knows of, and above
//! what the caller knows; a cluster begins once, whoever joined it since and however often it is
//! asked for; nothing is changed where anything is refused. Must not run on a directory
//! that a member runs on.

pub mod tools;

use crate::backup::Backup;
use crate::life::Life;
use crate::replica::logged;
use crate::wal::{DataDir, Forced, Rewrite, RewriteError};
use quorate_locks::{LifeCommand, Logged, Machine, Outcome, Session, Token};
use quorate_raft::{
    Config, Configuration, Entry, Index, Kind, LogId, MemberId, Node, Restored, Time, Write,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the caller has to say, word for word, before a survivor is forced.
#[must_use]
pub fn confirmation(cluster: u128) -> String {
    format!("the other members of {cluster:032x} are lost")
}

/// Why a life that the caller chose is refused.
pub(crate) fn too_low(life: Life, known: Token) -> String {
    format!(
        "epoch and last_n make {}, which is not above the highest token known here, {known}; \
         nothing was changed",
        life.token()
    )
}

/// Where the tokens of the new life begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The caller chose, and remembers it. Refused if it is not above all that is known here.
    Given(Life),
    /// By the clock, above this token and all that is known here.
    Above(Token),
}

/// The new group.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its identity.
    pub cluster: u128,
    /// Its tokens.
    pub start: Start,
    /// How long a leader holds grants off, in ms; 0: the other members' applications have stopped,
    /// or obey no grant any more. A survivor's own still hold them off.
    pub hold_off_ms: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The entry that began the new life.
    pub entry: LogId,
    /// The only member.
    pub member: MemberId,
    /// Its name.
    pub name: String,
    /// Where its tokens begin.
    pub life: Token,
    /// The highest token of the old group that is known here.
    pub known: Token,
    /// Sessions that ended.
    pub sessions: usize,
    /// How long a leader holds grants off, in ms; 0: not at all, or no longer.
    pub hold_off_ms: u32,
}

/// Forces the member of this directory to go on alone. The same plan again changes nothing, and
/// gives the same.
///
/// # Errors
/// See [`RewriteError`].
pub fn recover(directory: &mut DataDir, plan: Plan) -> Result<Begun, RewriteError> {
    let (member, mut begun) = (directory.member_id(), None);
    let again = directory.cluster_id() == Some(plan.cluster);
    let forced = directory.forced();
    directory.rewrite(plan.cluster, |restored| {
        let survivor = Survivor::replay(member, restored)?;
        if again && let Some(entry) = begun_by(forced, &survivor.machine, plan.start)? {
            begun = Some(survivor.begun(entry));
            return Ok(None);
        }
        let name = survivor.node.configuration().name(member);
        let name = name.ok_or_else(|| {
            format!(
                "{member} is no member of the membership that its log ends with: it was removed, \
                 or never had a part in it; recover another member, or restore a backup"
            )
        })?;
        let (made, rewrite) = survivor.begin(name, plan, survivor.own_ms(forced))?;
        begun = Some(made);
        Ok(Some(rewrite))
    })?;
    Ok(begun.expect("what was rewritten was decided"))
}

/// Fills this new directory with a backup: its member goes on alone, under this name.
///
/// # Errors
/// See [`RewriteError`].
pub fn restore(
    directory: &mut DataDir,
    backup: &Backup,
    name: &str,
    plan: Plan,
) -> Result<Begun, RewriteError> {
    let (member, mut begun) = (directory.member_id(), None);
    directory.rewrite(plan.cluster, |blank| {
        if blank.term.0 > 0 || blank.snapshot.is_some() || !blank.entries.is_empty() {
            return Err("the directory has a log already".to_owned());
        }
        let snapshot = backup.snapshot.clone();
        let term = snapshot.last.term;
        let restored = Restored { term, snapshot: Some(snapshot.clone()), ..Restored::default() };
        let (made, mut rewrite) = Survivor::replay(member, &restored)?.begin(name, plan, 0)?;
        begun = Some(made);
        rewrite.writes.insert(0, Write::Install { snapshot, keep_suffix: false });
        Ok(Some(rewrite))
    })?;
    Ok(begun.expect("what was rewritten was decided"))
}

/// Whether the cluster that a plan asks for, to which this member belongs already, has begun: the
/// index of the entry by which it did. None: a crash came before that entry, or it is not applied.
///
/// # Errors
/// It began otherwise, and begins no second time.
pub(crate) fn begun_by(
    forced: Option<Forced>,
    machine: &Machine,
    start: Start,
) -> Result<Option<Index>, String> {
    let other = |how: &str| {
        format!(
            "this member belongs to new_cluster_id already, and {how}: to force it once more give \
             another new_cluster_id; nothing was changed"
        )
    };
    let Some(Forced { index, life, .. }) = forced else {
        return Err(other("was not forced into it"));
    };
    if machine.life() != Token(life) {
        return Ok(None);
    }
    match start {
        Start::Given(asked) if asked.token() != machine.life() => {
            Err(other(&format!("its life began at {}", machine.life())))
        }
        Start::Given(_) | Start::Above(_) => Ok(Some(index)),
    }
}

/// A member as its log leaves it, with all of that log applied.
struct Survivor {
    member: MemberId,
    node: Node,
    machine: Machine,
}

impl Survivor {
    fn replay(member: MemberId, restored: &Restored) -> Result<Survivor, String> {
        let node = Node::new(Config::new(member, 0), Time(0), restored.clone());
        let mut machine = match node.snapshot() {
            Some(snapshot) => Machine::decode(&snapshot.data)
                .map_err(|e| format!("the snapshot at {} cannot be read: {e}", snapshot.last))?,
            None => Machine::new(),
        };
        for index in node.first_index().0..=node.last().index.0 {
            let entry = node.entry(Index(index)).ok_or("the log has a gap")?;
            if let Some(command) = logged(entry)? {
                machine.apply_logged(index, &command, &mut Vec::new());
            }
        }
        if machine.life() == Token(0) {
            return Err("this member has no state of any group: there is nothing to go on with, \
                        and nothing was changed"
                .to_owned());
        }
        Ok(Survivor { member, node, machine })
    }

    /// The present life, which this entry began, as the answer says it.
    fn begun(&self, index: Index) -> Begun {
        let Survivor { member, node, machine } = self;
        // A snapshot since then has the entry's place.
        let term = node.entry(index).map_or(node.last().term, |entry| entry.id().term);
        Begun {
            entry: LogId { term, index },
            member: *member,
            name: node.configuration().name(*member).unwrap_or_default().to_owned(),
            life: machine.life(),
            known: machine.last_token(),
            sessions: machine.session_count(),
            hold_off_ms: machine.hold_off_ms().unwrap_or(0),
        }
    }

    /// How long applications of this member, and of attached sidecars, may still obey grants, in
    /// ms: a TTL of whoever holds or waits. They were heard last before this member was forced, and
    /// nobody but they can know that they have stopped. For those of the other members the caller
    /// answers. `forced`: how the present life began, which may be holding grants off for them
    /// already.
    fn own_ms(&self, forced: Option<Forced>) -> u32 {
        let Survivor { member, node, machine } = self;
        let forced = forced.filter(|forced| Token(forced.life) == machine.life());
        let before = forced.filter(|_| machine.hold_off_ms().is_some());
        let own = machine.sessions().map(|(_, session)| session);
        let answered = |id| id != *member && node.configuration().contains(id);
        let own = own.filter(|session| !answered(MemberId(session.attachment().member)));
        let claims = own.filter(|s| s.grants().next().is_some() || s.waits().next().is_some());
        let ttls = claims.map(Session::ttl_ms);
        ttls.chain(before.map(|forced| forced.own_ms)).max().unwrap_or(0)
    }

    /// The entry that begins the new life, and its writes. `own_ms`: see [`Survivor::own_ms`].
    fn begin(&self, name: &str, plan: Plan, own_ms: u32) -> Result<(Begun, Rewrite), String> {
        let Survivor { member, node, machine } = self;
        let known = machine.last_token();
        let alone = Configuration::of_voters([(*member, name.to_owned())]);
        let life = match plan.start {
            Start::Given(life) if life.token() > known => life,
            Start::Given(life) => return Err(too_low(life, known)),
            Start::Above(above) => Life::after(known.max(above), unix_s())
                .ok_or("no epoch is left above the tokens known")?,
        };
        let Life { epoch, last_n } = life;
        let hold_off_ms = if plan.hold_off_ms == 0 { own_ms } else { plan.hold_off_ms };
        let command = LifeCommand::Begin { epoch, last_n, hold_off_ms };
        let (term, index) = (node.term().next(), node.last().index.next());
        let id = LogId { term, index };
        let tried =
            machine.clone().apply_logged(index.0, &Logged::Life(command.clone()), &mut Vec::new());
        if tried != Outcome::Started {
            return Err(format!("the state machine refuses that life: {tried:?}"));
        }
        let payload = [alone.encode(), command.encode()].concat();
        let entry = Entry::new(id, Kind::Configuration, &payload);
        let writes = vec![Write::HardState { term, vote: None }, Write::Append(vec![entry])];
        let forced = Forced { index, life: life.token().0, own_ms };
        let name = name.to_owned();
        let begun = Begun { entry: id, name, life: life.token(), hold_off_ms, ..self.begun(index) };
        Ok((begun, Rewrite { forced, writes }))
    }
}

/// Now, in seconds since 1970.
#[must_use]
pub fn unix_s() -> u64 {
    // A clock before 1970 reads as 1970: what is known decides then.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
