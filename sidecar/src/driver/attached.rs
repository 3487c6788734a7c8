//! In the driver's place at an attached sidecar: takes what clients ask and what relays say, one
//! after the other, and chooses which of the links relays.
//!
//! The other link is kept as a spare. The choice moves on when the connection ends, when the relay
//! says goodbye, when it leaves a ping unanswered for an election timeout while somebody here waits
//! or holds something, and when it knows no leader and the spare does.

use super::alarm::Alarm;
use super::calls::Calls;
use super::{Inbox, StatusView, Work};
use crate::attach::link::{Connection, LINKS, LinkEvent, Links};
use crate::attach::{Action, Attached, Bad};
use crate::clock;
use crate::member::Event;
use crate::metrics::Metrics;
use crate::relay::wire::{self, Heard, Welcome};
use crate::relay::{Relayed, Said};
use crate::tls::Report;
use quorate_locks::Attachment;
use quorate_proto::peer::RelayRequest;
use quorate_raft::{MemberId, Time};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A relay is given at least so long to answer a ping.
const SILENCE_MIN_NS: u64 = 500_000_000;
/// Between two pings where nobody waits for anything.
const IDLE_PING_NS: u64 = 5_000_000_000;
/// A spare that knows no leader is kept for at least so long.
const SPARE_MIN_NS: u64 = 5_000_000_000;

/// Why the loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The group is another one now: begin anew.
    OtherGroup,
    /// The group is of a newer version: a sentence.
    Newer(String),
}

/// A connection to a relay.
struct Up {
    connection: Connection,
    welcome: Welcome,
    words: mpsc::Sender<RelayRequest>,
    since: Time,
    heard: Time,
    pinged: Time,
    pings: u64,
    /// What a spare said last: of the leader, and of the membership.
    leads: Option<Relayed>,
    members: Option<Relayed>,
}

/// See the module.
pub struct AttachedDriver {
    own: Attachment,
    attached: Attached,
    inbox: Inbox,
    links: Links,
    up: [Option<Up>; LINKS],
    active: Option<usize>,
    calls: Calls,
    report: Report,
    end: Option<Ended>,
}

impl AttachedDriver {
    /// Puts the parts together. The timeout is the group's, as far as known.
    #[must_use]
    pub fn new(
        (own, election_timeout_ns): (Attachment, u64),
        inbox: Inbox,
        links: Links,
        metrics: Arc<Metrics>,
        report: Report,
    ) -> AttachedDriver {
        AttachedDriver {
            own,
            attached: Attached::new(own, election_timeout_ns),
            inbox,
            links,
            up: [None, None],
            active: None,
            calls: Calls::new(metrics),
            report,
            end: None,
        }
    }

    /// Runs until [`Work::Stop`], or until it makes no sense to go on.
    pub async fn run(mut self) -> Ended {
        let queue = Arc::clone(&self.inbox.queue);
        let mut batch = Vec::new();
        let mut alarm = Alarm::new();
        loop {
            let due = self.due();
            alarm.set(due);
            let mut happened = None;
            tokio::select! {
                biased;
                () = queue.take(&mut batch) => {}
                event = self.links.next() => happened = event,
                () = alarm.ring() => {}
            }
            // What came already counts before the time that runs out.
            happened = happened.or_else(|| self.links.happened());
            let now = clock::now();
            self.forgive_pause(now, due);
            for work in batch.drain(..) {
                self.work(now, work);
            }
            while let Some(event) = happened {
                self.link(now, event);
                happened = self.links.happened();
            }
            self.attached.timer(now);
            self.carry_out(now);
            self.look_at_links(now);
            self.carry_out(now);
            if let Some(end) = self.end.take() {
                return end;
            }
        }
    }

    fn work(&mut self, now: Time, work: Work) {
        match work {
            Work::Event(event) => self.attached.client(now, event),
            Work::Call(id, connection, request, call) => {
                self.calls.begin(now, id, call);
                self.attached.client(now, Event::Call(id, connection, request));
            }
            // Whoever asked may be gone by now.
            Work::Status(sender) => drop(sender.send(self.status())),
            Work::Stop => self.end = Some(Ended::Stopped),
            // Of members alone; dropped, whoever asks hears that nobody answers.
            Work::Completion(_)
            | Work::Leaders(..)
            | Work::Bootstrap(..)
            | Work::Change(..)
            | Work::Retire(..)
            | Work::Backup(_)
            | Work::Compact(_)
            | Work::Lift(..)
            | Work::Recover(..)
            | Work::LearnCluster(..)
            | Work::Attached(..) => {}
        }
        self.carry_out(now);
    }

    fn carry_out(&mut self, now: Time) {
        loop {
            let actions = self.attached.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Say(said) => self.say(now, &said),
                    Action::Tell(call, told) => {
                        if !self.calls.tell(call, told) {
                            self.attached.client(now, Event::Gone(call));
                        }
                    }
                    Action::Finish(call, end) => self.calls.finish(call, end),
                }
            }
        }
    }

    /// To the relay. One that takes nothing any more is left.
    fn say(&mut self, now: Time, said: &Said) {
        let Some(link) = self.active else { return };
        let Some(up) = &self.up[link] else { return };
        let said = wire::said(said);
        if said.is_some_and(|said| up.words.try_send(said).is_err()) {
            self.leave(now, link, "takes nothing any more");
        }
    }

    fn link(&mut self, now: Time, event: LinkEvent) {
        match event {
            LinkEvent::Up(connection, welcome, words) => {
                let (cluster, _, leader, ..) = self.attached.group();
                if leader.is_some() && cluster.is_some_and(|own| own != welcome.cluster) {
                    // Left over from another life of the group.
                    (self.report)(format!("{} is left: it is of another group", welcome.name));
                    self.links.cut(connection);
                    return;
                }
                let (since, heard, pinged, pings) = (now, now, now, 0);
                let (leads, members) = (None, None);
                let up =
                    Up { connection, welcome, words, since, heard, pinged, pings, leads, members };
                self.up[connection.link] = Some(up);
                if self.active.is_none() {
                    self.activate(now, connection.link);
                }
            }
            LinkEvent::Heard(connection, heard) => self.heard(now, connection, heard),
            LinkEvent::Down(connection) => {
                if self.is_current(connection) {
                    self.down(now, connection.link);
                }
            }
        }
        self.carry_out(now);
    }

    fn is_current(&self, connection: Connection) -> bool {
        self.up[connection.link].as_ref().is_some_and(|up| up.connection == connection)
    }

    fn heard(&mut self, now: Time, connection: Connection, heard: Heard) {
        let link = connection.link;
        let active = self.active == Some(link);
        let Some(up) = self.up[link].as_mut().filter(|up| up.connection == connection) else {
            return;
        };
        up.heard = now;
        let outcome = match heard {
            Heard::Relayed(Relayed::Goodbye) => return self.leave(now, link, "said goodbye"),
            Heard::Welcome(_) => Err(Bad::Relay("a second welcome".to_owned())),
            Heard::Relayed(relayed) if active => self.attached.heard(now, relayed),
            Heard::Part(part) if active => self.attached.part(now, &part),
            Heard::Relayed(relayed @ Relayed::Leads(..)) => {
                up.leads = Some(relayed);
                Ok(())
            }
            Heard::Relayed(relayed @ Relayed::Members(_)) => {
                up.members = Some(relayed);
                Ok(())
            }
            Heard::Relayed(_) | Heard::Part(_) => Ok(()),
        };
        self.judge(now, link, outcome);
    }

    fn judge(&mut self, now: Time, link: usize, outcome: Result<(), Bad>) {
        match outcome {
            Ok(()) => {}
            Err(Bad::Relay(why)) => self.leave(now, link, &why),
            Err(Bad::OtherGroup) => self.end = Some(Ended::OtherGroup),
            Err(Bad::Newer(why)) => self.end = Some(Ended::Newer(why)),
        }
    }

    /// This link relays from now on.
    fn activate(&mut self, now: Time, link: usize) {
        let Some(up) = self.up[link].as_mut() else { return };
        let told = [up.members.take(), up.leads.take()];
        let outcome = self.attached.linked(now, &up.welcome);
        (self.report)(format!("{} relays", up.welcome.name));
        self.active = Some(link);
        self.judge(now, link, outcome);
        self.carry_out(now);
        for relayed in told.into_iter().flatten() {
            let outcome = self.attached.heard(now, relayed);
            self.judge(now, link, outcome);
        }
    }

    /// Ends a connection of ours.
    fn leave(&mut self, now: Time, link: usize, why: &str) {
        let Some(up) = &self.up[link] else { return };
        (self.report)(format!("{} is left: it {why}", up.welcome.name));
        self.links.cut(up.connection);
        self.down(now, link);
    }

    fn down(&mut self, now: Time, link: usize) {
        self.up[link] = None;
        if self.active == Some(link) {
            self.active = None;
            self.attached.unlinked(now);
            if let Some(spare) = (0..LINKS).find(|spare| self.up[*spare].is_some()) {
                self.activate(now, spare);
            }
        }
    }

    fn silence_ns(&self) -> u64 {
        self.attached.election_timeout_ns().max(SILENCE_MIN_NS)
    }

    /// How often this link is asked whether it is there.
    fn interval_ns(&self, link: usize) -> u64 {
        let watched = self.active == Some(link) && self.attached.is_busy();
        if watched { self.attached.election_timeout_ns() / 2 } else { IDLE_PING_NS }
    }

    /// When a ping, or its answer, is due.
    fn ping_due(&self, link: usize) -> Time {
        match &self.up[link] {
            None => Time::NEVER,
            Some(up) if up.heard < up.pinged => up.pinged.after(self.silence_ns()),
            Some(up) => up.pinged.after(self.interval_ns(link)),
        }
    }

    fn due(&self) -> Time {
        let links = (0..LINKS).map(|link| self.ping_due(link)).min().unwrap_or(Time::NEVER);
        self.attached.deadline().min(links).min(self.lost_due().0)
    }

    /// This process itself did not run: nobody else was late.
    fn forgive_pause(&mut self, now: Time, due: Time) {
        if now.since(due) > SILENCE_MIN_NS {
            let waited_for = |up: &&mut Up| up.heard < up.pinged;
            for up in self.up.iter_mut().flatten().filter(waited_for) {
                up.pinged = up.pinged.max(now);
            }
        }
    }

    fn look_at_links(&mut self, now: Time) {
        for link in 0..LINKS {
            if self.ping_due(link) > now {
                continue;
            }
            let Some(up) = self.up[link].as_mut() else { continue };
            if up.heard < up.pinged {
                self.leave(now, link, "does not answer");
                continue;
            }
            up.pings += 1;
            // Later than what was heard, even within one tick of the clock.
            up.pinged = Time(now.0.max(up.heard.0 + 1));
            let ping = wire::said(&Said::Ping(up.pings));
            if ping.is_some_and(|ping| up.words.try_send(ping).is_err()) {
                self.leave(now, link, "takes nothing any more");
            }
        }
        if let (due, Some(link)) = self.lost_due()
            && due <= now
        {
            self.leave(now, link, "knows no leader");
        }
    }

    /// When which link is left if the relay knows no leader until then: the relay, if the spare
    /// knows one; else the spare, after a while. Both may be on the wrong side of a cut, and the
    /// spare's link goes on to a member that may know better.
    fn lost_due(&self) -> (Time, Option<usize>) {
        let (lost_at, mut spares) = (self.attached.lost_at(), 0..LINKS);
        let spare = spares.find(|link| Some(*link) != self.active && self.up[*link].is_some());
        let leads = spare.and_then(|link| self.up[link].as_ref()).map(|up| (up.since, &up.leads));
        match leads {
            Some((_, Some(Relayed::Leads(_, Some(_))))) => (lost_at, self.active),
            Some((since, Some(Relayed::Leads(_, None)))) => {
                (lost_at.max(since.after(SPARE_MIN_NS)), spare)
            }
            _ => (Time::NEVER, None),
        }
    }

    fn status(&self) -> StatusView {
        let (cluster, configuration, leader, term, applied) = self.attached.group();
        let (machine, agent) = (self.attached.machine(), self.attached.agent());
        StatusView {
            attached: true,
            cluster,
            term,
            leader,
            commit: applied,
            applied,
            last: applied,
            configuration: configuration.clone(),
            draining: self.attached.is_draining(),
            sessions: machine.session_count(),
            local_sessions: agent.session_count(),
            names: machine.name_count(),
            hold_off_ms: machine.hold_off_ms(),
            last_token: machine.last_token(),
            life: machine.life(),
            calls: agent.call_count(),
            ..StatusView::bare(MemberId(self.own.member))
        }
    }
}
