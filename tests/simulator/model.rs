//! The lock service as a sequential program, written from its description and not from its code.
//!
//! Plain vectors and loops: slow, and hard to get wrong. The checker replays the committed log
//! through it and compares what clients were told, and what the members hold, with what it says.

use quorate_locks::{Command, NameKind};

/// A claim that holds or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose.
    pub session: u64,
    /// Its request id.
    pub request: u64,
}

/// A name in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: NameKind,
    /// Who holds it, under which token.
    pub holder: Option<(Place, u64)>,
    /// Who waits, in order.
    pub queue: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Session {
    id: u64,
    key: u128,
    ttl_ms: u32,
    generation: u64,
    member: u128,
    boot: u64,
    floor: u64,
    /// What became of each request id.
    requests: Vec<(u64, Fate)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Claimed(String),
    Refused,
    Released,
    Cancelled,
}

/// One grant that the log made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The index of the entry that made it.
    pub index: u64,
    /// The name.
    pub name: String,
    /// Whose.
    pub place: Place,
    /// Its token.
    pub token: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Model {
    epoch: u64,
    last_n: u64,
    started: bool,
    sessions: Vec<Session>,
    /// Names in use, sorted.
    pub names: Vec<Name>,
    /// Grants since the last [`Model::take_granted`].
    granted: Vec<Granted>,
    /// Tokens that ended since the start, by release or with their session.
    ended: std::collections::BTreeSet<u64>,
}

impl Model {
    /// Applies the command at `index`.
    pub fn apply(&mut self, index: u64, command: &Command) {
        if let Command::Start { epoch, last_n } = command {
            if !self.started {
                (self.started, self.epoch, self.last_n) = (true, u64::from(*epoch), *last_n);
            }
            return;
        }
        match command {
            Command::Start { .. } => {}
            Command::Open { key, ttl_ms, attachment, .. } => {
                if self.sessions.iter().all(|s| s.key != key.0) {
                    self.sessions.push(Session {
                        id: index,
                        key: key.0,
                        ttl_ms: *ttl_ms,
                        generation: 1,
                        member: attachment.member,
                        boot: attachment.boot,
                        floor: 1,
                        requests: Vec::new(),
                    });
                }
            }
            Command::Resume { key, replaces, attachment } => {
                if let Some(session) = self.sessions.iter_mut().find(|s| s.key == key.0)
                    && session.generation == replaces.0
                {
                    session.generation += 1;
                    (session.member, session.boot) = (attachment.member, attachment.boot);
                }
            }
            Command::Close { session, generation } => {
                self.end(index, &[(session.0, generation.0)]);
            }
            Command::Expire { sessions } => {
                let ended: Vec<_> = sessions.iter().map(|(s, g)| (s.0, g.0)).collect();
                self.end(index, &ended);
            }
            Command::Claim(claim) => self.claim(index, claim),
            Command::Release { session, generation, request, name, token } => {
                if self.live(session.0, generation.0) {
                    let request = request.map(|(id, lowest)| (id.0, lowest.0));
                    self.release(index, session.0, request, (name, token.0));
                }
            }
            Command::Cancel { session, generation, request } => {
                if self.live(session.0, generation.0) {
                    self.cancel(session.0, request.0);
                }
            }
        }
    }

    fn live(&self, id: u64, generation: u64) -> bool {
        self.sessions.iter().any(|s| s.id == id && s.generation == generation)
    }

    fn session(&mut self, id: u64) -> &mut Session {
        self.sessions.iter_mut().find(|s| s.id == id).expect("looked up before")
    }

    fn claim(&mut self, index: u64, claim: &quorate_locks::Claim) {
        let (id, request) = (claim.session.0, claim.request.0);
        if !self.live(id, claim.generation.0) {
            return;
        }
        let place = Place { session: id, request };
        let lowest = claim.lowest_unacked.0;
        let known = self.session(id).requests.iter().any(|(of, _)| *of == request);
        let stands = self.names.iter().any(|n| n.stands(place));
        if known || stands {
            return self.forget(id, lowest);
        }
        if request < self.session(id).floor {
            return;
        }
        let busy = self.names.iter().find(|n| n.name == claim.name);
        if let Some(busy) = busy {
            let again = busy.places().any(|p| p.session == id);
            if busy.kind != claim.kind || again {
                return;
            }
        }
        self.forget(id, lowest);
        let taken = self.names.iter().any(|n| n.name == claim.name);
        let fate =
            if taken && !claim.queue { Fate::Refused } else { Fate::Claimed(claim.name.clone()) };
        self.session(id).requests.push((request, fate));
        if taken && !claim.queue {
            return;
        }
        if !taken {
            let name = claim.name.clone();
            self.names.push(Name { name, kind: claim.kind, holder: None, queue: Vec::new() });
            self.names.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let name = self.names.iter_mut().find(|n| n.name == claim.name).expect("just there");
        name.queue.push(place);
        self.settle(index);
    }

    /// Outcomes below are forgotten, but not those of claims that stand.
    fn forget(&mut self, id: u64, lowest: u64) {
        let names = &self.names;
        let session = self.sessions.iter_mut().find(|s| s.id == id).expect("live");
        session.floor = session.floor.max(lowest);
        let floor = session.floor;
        session.requests.retain(|(request, _)| {
            *request >= floor
                || names.iter().any(|n| n.stands(Place { session: id, request: *request }))
        });
    }

    fn release(
        &mut self,
        index: u64,
        id: u64,
        request: Option<(u64, u64)>,
        (name, token): (&str, u64),
    ) {
        if let Some((request, lowest)) = request {
            let known = self.session(id).requests.iter().any(|(of, _)| *of == request);
            if known {
                return self.forget(id, lowest);
            }
            if request < self.session(id).floor {
                return;
            }
        }
        let held = self.names.iter_mut().find(|n| n.name == name).is_some_and(|name| {
            let holds = name.holder.is_some_and(|(p, t)| p.session == id && t == token);
            if holds {
                name.holder = None;
            }
            holds
        });
        if let Some((request, lowest)) = request
            && held
        {
            self.session(id).requests.push((request, Fate::Released));
            self.forget(id, lowest);
        }
        if held {
            self.ended.insert(token);
            self.settle(index);
        }
    }

    fn cancel(&mut self, id: u64, request: u64) {
        let place = Place { session: id, request };
        if self.names.iter().any(|n| n.holder.is_some_and(|(p, _)| p == place)) {
            return;
        }
        let mut waited = false;
        for name in &mut self.names {
            let before = name.queue.len();
            name.queue.retain(|p| *p != place);
            waited |= name.queue.len() < before;
        }
        let session = self.session(id);
        if waited {
            session.requests.retain(|(of, _)| *of != request);
            session.requests.push((request, Fate::Cancelled));
        } else if request >= session.floor && session.requests.iter().all(|(of, _)| *of != request)
        {
            session.requests.push((request, Fate::Cancelled));
        }
        self.names.retain(Name::in_use);
    }

    fn end(&mut self, index: u64, sessions: &[(u64, u64)]) {
        let gone: Vec<u64> =
            sessions.iter().filter(|(id, g)| self.live(*id, *g)).map(|(id, _)| *id).collect();
        for name in &mut self.names {
            name.queue.retain(|p| !gone.contains(&p.session));
            if let Some((place, token)) = name.holder
                && gone.contains(&place.session)
            {
                name.holder = None;
                self.ended.insert(token);
            }
        }
        self.sessions.retain(|s| !gone.contains(&s.id));
        self.settle(index);
    }

    /// Grants what is free, in the order of names.
    fn settle(&mut self, index: u64) {
        for name in &mut self.names {
            if name.holder.is_none() && !name.queue.is_empty() {
                let place = name.queue.remove(0);
                self.last_n = (self.last_n + 1).max(index);
                let token = self.epoch << 48 | self.last_n;
                name.holder = Some((place, token));
                let name = name.name.clone();
                self.granted.push(Granted { index, name, place, token });
            }
        }
        self.names.retain(Name::in_use);
    }

    /// The grants made since the last call.
    pub fn take_granted(&mut self) -> Vec<Granted> {
        std::mem::take(&mut self.granted)
    }

    /// Whether a token's grant has ended.
    #[must_use]
    pub fn has_ended(&self, token: u64) -> bool {
        self.ended.contains(&token)
    }

    /// Sessions as (id, generation, ttl_ms), sorted.
    #[must_use]
    pub fn sessions(&self) -> Vec<(u64, u64, u32)> {
        let mut all: Vec<_> =
            self.sessions.iter().map(|s| (s.id, s.generation, s.ttl_ms)).collect();
        all.sort_unstable();
        all
    }
}

impl Name {
    fn stands(&self, place: Place) -> bool {
        self.places().any(|p| p == place)
    }

    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.holder.iter().map(|(p, _)| *p).chain(self.queue.iter().copied())
    }

    fn in_use(&self) -> bool {
        self.holder.is_some() || !self.queue.is_empty()
    }
}
