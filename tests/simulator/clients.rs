//! What the clients do in the world, and what is noted of it.

use crate::simulator::checker::Broken;
use crate::simulator::client::{Client, Deed, News};
use crate::simulator::world::{Happening, World};
use quorate_sidecar::agent::CallId;
use quorate_sidecar::driver::Item;
use quorate_sidecar::member::Event;

const MICRO: u64 = 1_000;

impl World {
    pub(super) fn client_told(
        &mut self,
        call: CallId,
        item: &Item,
        last: bool,
    ) -> Result<(), Broken> {
        let owner = Client::owner_of(call);
        let asleep = self.nodes[self.clients[owner].node].asleep_until;
        if asleep > self.now {
            let item = Box::new(item.clone());
            self.at(asleep, Happening::ToClient { call, item, last });
            return Ok(());
        }
        self.trace.line(self.now, format_args!("client {owner} < {call:?} {item:?}"));
        let local = self.nodes[self.clients[owner].node].local(self.now);
        let deeds = self.clients[owner].told(local, call, item, last);
        self.carry_out(owner, deeds)
    }

    /// Wakes a client after so long, unless it wakes sooner.
    pub(super) fn wake_after(&mut self, client: usize, nanos: u64) {
        let at = self.now + nanos;
        if at < self.wakes[client] {
            self.wakes[client] = at;
            self.at(at, Happening::Wake(client));
        }
    }

    pub(super) fn wake(&mut self, client: usize) -> Result<(), Broken> {
        if self.wakes[client] != self.now {
            return Ok(());
        }
        self.wakes[client] = u64::MAX;
        let asleep = self.nodes[self.clients[client].node].asleep_until;
        if asleep > self.now {
            self.wake_after(client, asleep - self.now);
            return Ok(());
        }
        self.go_home(client)?;
        let node = &self.nodes[self.clients[client].node];
        let (up, local) = (node.member.is_some(), node.local(self.now));
        self.connections += 1;
        let news = News { told: self.checker.told(), applied: self.checker.applied() };
        let deeds = self.clients[client].wake(local, up, self.connections, news);
        self.carry_out(client, deeds)
    }

    /// Who sleeps beyond his deadline holds nothing: when he wakes, that is the first that he sees.
    fn overslept(&mut self) {
        for client in &self.clients {
            let n = &self.nodes[client.node];
            if n.asleep_until > self.now
                && let Some((name, token)) = client.believes_after(n.local(self.now))
            {
                self.checker.gave_up(client.number, name, token);
            }
        }
    }

    /// A client whose member left the group is replaced by one beside a member.
    fn go_home(&mut self, client: usize) -> Result<(), Broken> {
        let seat = self.clients[client].node;
        let stays = self.clients[client].is_attached() && !self.healed;
        if self.belongs(seat) || (stays && !self.random.permille(50)) {
            return Ok(());
        }
        let deeds = self.clients[client].die();
        self.carry_out(client, deeds)?;
        self.clients[client].node = self.home();
        Ok(())
    }

    pub(super) fn carry_out(&mut self, client: usize, deeds: Vec<Deed>) -> Result<(), Broken> {
        let (now, key) = (self.now, self.clients[client].key().0);
        for deed in deeds {
            self.trace.line(self.now, format_args!("client {client} > {deed:?}"));
            match deed {
                Deed::Send(event) => {
                    let node = self.clients[client].node;
                    let boot = self.nodes[node].boot;
                    let due = self.now + self.random.between(3, 30) * MICRO;
                    let (due, event) = (self.after_its_call(&event, due), Box::new(event));
                    self.at(due, Happening::FromClient { node, boot, event });
                }
                Deed::Granted(name, session, request, token, floor) => {
                    self.overslept();
                    self.checker.granted(client, &name, (session, request, token), floor)?;
                    self.history.granted(now, &name, (key, request), token);
                }
                Deed::GaveUp(name, token) => self.checker.gave_up(client, &name, token),
                Deed::Released(name, token) => {
                    self.history.released(now, &name, token);
                    self.checker.released(client, token)?;
                }
                Deed::Releasing(name, token) => self.history.releasing(now, &name, token),
                Deed::Asked(name, claim) => self.history.asked(now, &name, claim),
                Deed::Busy(name, claim) => self.history.busy(now, &name, claim),
                Deed::Withdrawn(name, claim) => self.history.withdrawn(&name, claim),
                Deed::Left(name, claim) => self.history.left(&name, claim),
                Deed::Ends(of, deadline) => {
                    let clock = &self.nodes[self.clients[client].node].clock;
                    let deadline = deadline.map_or(now, |deadline| clock.real(deadline));
                    self.history.ends(now.min(deadline), of.0);
                }
                Deed::Names(applied, names) => self.checker.names(applied, &names)?,
                Deed::Acknowledged => self.succeeded(),
                Deed::Wake(nanos) => self.wake_after(client, nanos),
                Deed::Broken(why) => return Err(format!("client {client}: {why}")),
                Deed::Break => {
                    let pause = self.random.between(0, 2_000) * MICRO;
                    self.after(pause, Happening::Break(client));
                }
                Deed::Probed => self.probed[client] = true,
            }
        }
        Ok(())
    }

    /// When something arrives that could do so at `due`: calls overtake each other, and nothing
    /// overtakes its own call, as [`quorate_sidecar::driver::Inbox::client`] has it.
    fn after_its_call(&mut self, event: &Event, due: u64) -> u64 {
        let (Event::Call(call, ..) | Event::HalfClose(call) | Event::Gone(call)) = event else {
            return due;
        };
        let arrives = self.arrives.entry(*call).or_default();
        *arrives = due.max(*arrives);
        *arrives
    }

    fn succeeded(&mut self) {
        self.report.acknowledged += 1;
        let (before, fault) = std::mem::replace(&mut self.success, (self.now, None));
        if let Some(fault) = fault {
            self.report.gaps.entry(fault).or_default().add(self.now - before);
        }
    }
}
