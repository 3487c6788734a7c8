//! A few nodes with disks and links that do what a script says.

use crate::disk::persist;
use crate::show;
use quorate_raft::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub struct Member {
    pub node: Node,
    pub disk: Restored,
    unsynced: Vec<(IoSeq, Write)>,
    held: Vec<Envelope>,
    durable: IoSeq,
    pub stalled: bool,
    pub lazy: bool,
}

pub struct World {
    pub now: Time,
    pub members: BTreeMap<u128, Member>,
    wire: Vec<(MemberId, Envelope)>,
    pub cut: BTreeSet<(u128, u128)>,
    pub text: String,
    /// Whether writes and sends are printed.
    pub loud: bool,
    pub settings: Vec<(String, u64)>,
    /// What was applied first at each index, by whomever.
    truths: BTreeMap<Index, LogId>,
}

impl World {
    pub fn new() -> World {
        World {
            now: Time(0),
            members: BTreeMap::new(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            text: String::new(),
            loud: true,
            settings: Vec::new(),
            truths: BTreeMap::new(),
        }
    }

    pub fn start(&mut self, id: u128, disk: Restored) {
        let mut config = Config::new(MemberId(id), 1);
        config.check = true;
        for (name, value) in &self.settings {
            let field = match name.as_str() {
                "window_entries" => &mut config.window_entries,
                "frame_bytes" => &mut config.frame_bytes,
                "uncommitted_entries" => &mut config.uncommitted_entries,
                "uncommitted_bytes" => &mut config.uncommitted_bytes,
                "snapshot_chunk_bytes" => &mut config.snapshot_chunk_bytes,
                "window_bytes" => &mut config.window_bytes,
                "snapshot_bytes_per_second" => &mut config.snapshot_bytes_per_second,
                "tail_bytes" => &mut config.tail_bytes,
                "command_bytes" => &mut config.command_bytes,
                other => panic!("unknown setting {other}"),
            };
            *field = *value;
        }
        let node = Node::new(config, self.now, disk.clone());
        let member = Member {
            node,
            disk,
            unsynced: Vec::new(),
            held: Vec::new(),
            durable: IoSeq(0),
            stalled: false,
            lazy: false,
        };
        self.members.insert(id, member);
    }

    /// The process ends; what was not synced is gone.
    pub fn restart(&mut self, id: u128) {
        let member = self.members.remove(&id).unwrap();
        self.start(id, member.disk);
    }

    /// One batch of inputs.
    pub fn act(&mut self, id: u128, inputs: Vec<Input>) {
        let member = self.members.get_mut(&id).unwrap();
        let mut out = Output::default();
        for input in inputs {
            member.node.step(self.now, input, &mut out);
            if let Some(range) = &out.apply
                && !member.lazy
            {
                let input = Input::Applied(*range.end());
                member.node.step(self.now, input, &mut out);
            }
        }
        member.node.flush(self.now, &mut out);
        self.report(id, &out);
        let member = self.members.get_mut(&id).unwrap();
        member.unsynced.append(&mut out.writes);
        for envelope in out.sends {
            if envelope.after <= member.durable {
                self.wire.push((MemberId(id), envelope));
            } else {
                member.held.push(envelope);
            }
        }
    }

    fn report(&mut self, id: u128, out: &Output) {
        let text = &mut self.text;
        let durable = self.members[&id].durable;
        for event in &out.events {
            writeln!(text, "{id}: {}", show::event(event)).unwrap();
        }
        if self.loud {
            for (seq, write) in &out.writes {
                writeln!(text, "{id} writes #{}: {}", seq.0, show::write(write)).unwrap();
            }
            for envelope in &out.sends {
                let message = show::message(&envelope.message);
                let held = envelope.after > durable;
                let after =
                    if held { format!(" after #{}", envelope.after.0) } else { String::new() };
                writeln!(text, "{id} to {}: {message}{after}", envelope.to).unwrap();
            }
        }
        for (ticket, outcome) in &out.done {
            writeln!(text, "{id} answers ticket {}: {}", ticket.0, show::outcome(outcome)).unwrap();
        }
        if let Some(range) = &out.apply {
            let node = &self.members[&id].node;
            let all =
                (range.start().0..=range.end().0).map(|index| node.entry(Index(index)).unwrap());
            writeln!(text, "{id} applies {}", show::entries(all.clone())).unwrap();
            for entry in all {
                let first = *self.truths.entry(entry.id().index).or_insert(entry.id());
                if first != entry.id() {
                    writeln!(text, "TWO TRUTHS: {first} and {}", entry.id()).unwrap();
                }
            }
        }
    }

    /// Everything up to `upto` reaches the disk.
    pub fn sync(&mut self, id: u128, upto: IoSeq) {
        let member = self.members.get_mut(&id).unwrap();
        let done = member.unsynced.iter().take_while(|(seq, _)| *seq <= upto).count();
        let Some(last) = done.checked_sub(1).map(|last| member.unsynced[last].0) else { return };
        for (_, write) in member.unsynced.drain(..done) {
            persist(&mut member.disk, write);
        }
        member.durable = last;
        let held = std::mem::take(&mut member.held);
        for envelope in held {
            if envelope.after <= last {
                self.wire.push((MemberId(id), envelope));
            } else {
                member.held.push(envelope);
            }
        }
        self.act(id, vec![Input::Durable(last)]);
    }

    /// Delivers or drops everything that is on one link now.
    pub fn carry(&mut self, from: u128, to: u128, drop: bool) {
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wire)
            .into_iter()
            .partition(|(sender, envelope)| sender.0 == from && envelope.to.0 == to);
        self.wire = later;
        for (_, envelope) in now.iter().filter(|_| !self.members.contains_key(&to)) {
            let message = show::message(&envelope.message);
            writeln!(self.text, "{to} would get: {message}").unwrap();
        }
        let inputs = now.into_iter().map(|(sender, e)| Input::Recv(sender, e.message)).collect();
        if !drop && self.members.contains_key(&to) {
            self.act(to, inputs);
        }
    }

    /// Disks and links work until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let ids: Vec<u128> = self.members.keys().copied().collect();
            for id in &ids {
                if !self.members[id].stalled {
                    self.sync(*id, IoSeq(u64::MAX));
                }
            }
            let busy = |m: &Member| !m.stalled && !m.unsynced.is_empty();
            if self.wire.is_empty() && !self.members.values().any(busy) {
                return;
            }
            for (from, envelope) in std::mem::take(&mut self.wire) {
                let to = envelope.to.0;
                if !self.cut.contains(&(from.0, to)) && self.members.contains_key(&to) {
                    self.act(to, vec![Input::Recv(from, envelope.message)]);
                }
            }
        }
        panic!("the world does not settle:\n{}", self.text);
    }

    /// Time passes, and timers fire in order.
    pub fn pass(&mut self, nanos: u64) {
        let end = self.now.after(nanos);
        loop {
            self.settle();
            let next = self.members.iter().map(|(id, m)| (m.node.deadline(), *id)).min();
            match next {
                Some((at, id)) if at <= end => {
                    self.now = self.now.max(at);
                    self.act(id, vec![Input::Timer]);
                }
                _ => break,
            }
        }
        self.now = end;
    }
}
