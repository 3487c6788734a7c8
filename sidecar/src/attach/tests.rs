//! An attached sidecar against a relay made by hand: entries in order, relays that change, groups
//! that are another one.

use super::*;
use crate::agent::{ConnectionId, Opening, Request};
use crate::frame::{Ask, Heartbeat, HeartbeatAck};
use quorate_locks::{Command, Key};
use quorate_raft::Kind;

const SECOND: u64 = 1_000_000_000;
const OWN: Attachment = Attachment { member: 7, boot: 1 << 40 };

fn welcome(cluster: u128) -> Welcome {
    let (member, name) = (MemberId(1), "app-0".to_owned());
    Welcome { cluster, member, name, election_timeout_ms: 800 }
}

fn entry(term: u64, index: u64, command: &Command) -> Entry {
    Entry::new(LogId::new(term, index), Kind::Command, &command.encode())
}

fn start() -> Entry {
    entry(1, 1, &Command::Start { epoch: 1, last_n: 0 })
}

/// One that a relay of group 5 relays for, and that knows a leader in term 1.
fn linked() -> Attached {
    let mut attached = Attached::new(OWN, 800_000_000);
    attached.linked(Time(0), &welcome(5)).unwrap();
    attached.heard(Time(0), Relayed::Leads(Term(1), Some(MemberId(1)))).unwrap();
    attached.heard(Time(0), Relayed::Entries(vec![start()])).unwrap();
    attached.actions();
    attached
}

fn forwards(attached: &mut Attached) -> Vec<Forward> {
    let actions = attached.actions().into_iter();
    let forward = |action| match action {
        Action::Say(Said::Forward(forward)) => Some(forward),
        _ => None,
    };
    actions.filter_map(forward).collect()
}

use crate::frame::Forward;
use crate::frame::{ForwardReply, Reply};

fn command(forward: &Forward) -> Command {
    let Ask::Command(bytes) = &forward.what else { panic!("{forward:?}") };
    Command::decode(bytes).unwrap()
}

/// Asks for a session; gives what goes to the leader.
fn open(attached: &mut Attached) -> Forward {
    let opening = Opening { ttl_ms: 5_000, label: String::new(), bond: Default::default() };
    let open = Request::Open(Key(3), opening);
    attached.client(Time(SECOND), Event::Call(CallId(1), ConnectionId(1), open));
    forwards(attached).pop().unwrap()
}

fn told(attached: &mut Attached) -> Vec<Told> {
    let actions = attached.actions().into_iter();
    actions
        .filter_map(|it| if let Action::Tell(_, told) = it { Some(told) } else { None })
        .collect()
}

#[test]
fn entries_come_in_order_and_once() {
    let mut attached = linked();
    let gap = entry(1, 3, &Command::Start { epoch: 1, last_n: 0 });
    for wrong in [start(), gap] {
        let refused = attached.heard(Time(1), Relayed::Entries(vec![wrong])).unwrap_err();
        assert!(matches!(&refused, Bad::Relay(why) if why.contains("does not follow")));
    }
    let unknown = Entry::new(LogId::new(1, 2), Kind::Command, &[250, 1, 2]);
    let refused = attached.heard(Time(1), Relayed::Entries(vec![unknown])).unwrap_err();
    assert!(matches!(refused, Bad::Newer(_)), "{refused:?}");
}

#[test]
fn the_next_relay_goes_on_where_the_last_one_ended() {
    let mut attached = linked();
    let asked = open(&mut attached);
    attached.unlinked(Time(2 * SECOND));
    // Not even the resend goes anywhere.
    attached.timer(attached.deadline());
    assert!(forwards(&mut attached).is_empty());
    attached.linked(Time(3 * SECOND), &welcome(5)).unwrap();
    let said = attached.actions();
    assert!(matches!(said[..], [Action::Say(Said::Follow(Index(1)))]), "{said:?}");
    attached.heard(Time(3 * SECOND), Relayed::Leads(Term(1), Some(MemberId(2)))).unwrap();
    let again = forwards(&mut attached);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].ticket, command(&again[0])), (asked.ticket, command(&asked)));
}

#[test]
fn it_answers_from_its_own_apply_with_deadlines_of_its_own() {
    let mut attached = linked();
    let asked = open(&mut attached);
    let id = LogId::new(1, 2);
    let reply = ForwardReply { ticket: asked.ticket, reply: Reply::Appended(id) };
    attached.heard(Time(2 * SECOND), Relayed::Reply(reply)).unwrap();
    assert!(told(&mut attached).is_empty(), "appended is not applied");
    let opened = entry(1, 2, &command(&asked));
    attached.heard(Time(2 * SECOND), Relayed::Entries(vec![opened])).unwrap();
    let answers = told(&mut attached);
    let [Told::Opened(view)] = answers[..] else { panic!("{answers:?}") };
    // From when the request left.
    assert_eq!(view.deadline, Time(SECOND).after(5 * SECOND * 95 / 100));
    attached.timer(Time(3 * SECOND));
    let beat = attached.actions().into_iter().find_map(|action| match action {
        Action::Say(Said::Heartbeat(beat)) => Some(beat),
        _ => None,
    });
    let Heartbeat { seq, term, sessions, .. } = beat.expect("it is time for one");
    // The leader has applied one entry more.
    let ack = HeartbeatAck { seq, term, applied: Index(3), sessions };
    attached.heard(Time(4 * SECOND), Relayed::Ack(ack)).unwrap();
    assert!(told(&mut attached).is_empty(), "not before it is applied here");
    let noop = Entry::new(LogId::new(1, 3), Kind::Noop, &[]);
    attached.heard(Time(4 * SECOND), Relayed::Entries(vec![noop])).unwrap();
    assert_eq!(told(&mut attached), [Told::Renewed(Time(3 * SECOND).after(5 * SECOND * 95 / 100))]);
}

#[test]
fn a_state_is_taken_whole_and_never_backwards() {
    let mut machine = Machine::new();
    for index in 1..=4 {
        let open = Command::Open {
            key: Key(index.into()),
            ttl_ms: 5_000,
            attachment: OWN,
            label: String::new(),
        };
        let first = Command::Start { epoch: 1, last_n: 0 };
        machine.apply(index, if index == 1 { &first } else { &open }, &mut Vec::new());
    }
    let bytes = machine.encode();
    let total = bytes.len() as u64;
    let part = |index, offset: u64, chunk: &[u8]| {
        let (last, chunk) = (LogId::new(1, index), chunk.to_vec().into());
        Part { last, offset, total, chunk }
    };
    let (front, rest) = bytes.split_at(9);
    let mut attached = linked();
    attached.part(Time(1), &part(4, 0, front)).unwrap();
    assert!(attached.part(Time(1), &part(5, 9, rest)).is_err(), "of another state");
    attached.part(Time(1), &part(4, 0, front)).unwrap();
    attached.part(Time(1), &part(4, 9, rest)).unwrap();
    assert_eq!(attached.machine().session_count(), 3);
    assert_eq!(attached.group().4, Index(4));
    let older = attached.heard(Time(1), Relayed::State(LogId::new(1, 4), bytes.into()));
    assert!(matches!(older, Err(Bad::Relay(_))), "{older:?}");
}

#[test]
fn another_group_is_never_taken_for_this_one() {
    let mut attached = linked();
    attached.unlinked(Time(1));
    assert_eq!(attached.linked(Time(2), &welcome(6)), Err(Bad::OtherGroup));
}

#[test]
fn a_relay_that_is_behind_knows_no_leader() {
    let mut attached = linked();
    attached.heard(Time(1), Relayed::Leads(Term(4), Some(MemberId(1)))).unwrap();
    assert_eq!(attached.lost_at(), Time::NEVER);
    attached.unlinked(Time(2));
    attached.linked(Time(3), &welcome(5)).unwrap();
    attached.heard(Time(3), Relayed::Leads(Term(3), Some(MemberId(2)))).unwrap();
    assert_eq!(attached.group().2, None);
    assert_eq!(attached.lost_at(), Time(3).after(1_600_000_000));
    attached.heard(Time(4), Relayed::Leads(Term(4), Some(MemberId(1)))).unwrap();
    assert_eq!(attached.group().2, Some(MemberId(1)));
}
