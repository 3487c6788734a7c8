//! Random commands that mostly make sense for the machine they are meant for.

use quorate_locks::{
    Attachment, Claim, Command, Generation, Key, Machine, Mode, NameKind, RequestId, SessionId,
    Token,
};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// A place in a list of this length.
    pub fn at(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub struct Generator {
    random: Random,
    index: u64,
    keys: u64,
    names: u64,
    /// How often a request acknowledges the ones before it.
    ack_percent: u64,
    /// How often a field is drawn without a look at the machine.
    wild_percent: u64,
    /// How often sessions end.
    death_percent: u64,
    last_n: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        let mut random = Random::new(seed);
        Generator {
            keys: 2 + random.below(8),
            names: 1 + random.below(6),
            ack_percent: [0, 5, 50][random.at(3)],
            wild_percent: 3 + random.below(20),
            death_percent: [0, 30, 100][random.at(3)],
            // One run in eight has few tokens left.
            last_n: if random.percent(12) { (1 << 48) - 1 - random.below(400) } else { 7 },
            index: 0,
            random,
        }
    }

    /// The next entry of the log.
    pub fn entry(&mut self, machine: &Machine) -> (u64, Command) {
        self.index += 1 + u64::from(self.random.percent(5)) * self.random.below(50);
        if machine.last_token() == Token(0) && self.random.percent(60) {
            return (self.index, Command::Start { epoch: 9, last_n: self.last_n });
        }
        (self.index, self.command(machine))
    }

    fn command(&mut self, machine: &Machine) -> Command {
        match self.random.below(100) {
            0 => Command::Start {
                epoch: u16::try_from(self.random.below(10)).unwrap(),
                last_n: if self.wild() { self.random.below(1 << 50) } else { self.last_n },
            },
            1..=9 => Command::Open {
                key: self.key(),
                ttl_ms: if self.wild() { 999 } else { 5000 + u32::from(self.wild()) },
                attachment: self.attachment(),
                label: "label".repeat(usize::from(self.wild()) * 60),
            },
            10..=16 => self.resume(machine),
            17..=19 if self.death() => {
                let (session, generation) = self.owner(machine);
                Command::Close { session, generation }
            }
            20..=23 if self.death() => {
                let count = self.random.below(4);
                Command::Expire { sessions: (0..count).map(|_| self.owner(machine)).collect() }
            }
            17..=61 => Command::Claim(self.claim(machine)),
            62..=86 => self.release(machine),
            _ => {
                let (session, generation) = self.owner(machine);
                let request = self.request(machine, session);
                Command::Cancel { session, generation, request }
            }
        }
    }

    fn resume(&mut self, machine: &Machine) -> Command {
        let key = self.key();
        let present = machine.session_by_key(key).map_or(1, |(_, it)| it.generation().0);
        let replaces = if self.random.percent(70) { present } else { self.near(present) };
        Command::Resume { key, replaces: Generation(replaces), attachment: self.attachment() }
    }

    fn claim(&mut self, machine: &Machine) -> Claim {
        let (session, generation) = self.owner(machine);
        let request = self.request(machine, session);
        let lowest_unacked = self.acknowledged(request);
        let election = self.random.percent(30);
        let wild = self.wild() && self.random.percent(30);
        Claim {
            session,
            generation,
            request,
            lowest_unacked,
            name: if wild { "n".repeat(300) } else { self.name() },
            kind: if election { NameKind::Election } else { NameKind::Lock },
            mode: if wild && self.random.percent(50) { Mode::Shared } else { Mode::Exclusive },
            permits: 1 + u32::from(wild),
            priority: -i32::from(wild),
            value: vec![b'v'; if election || wild { 5 } else { 0 }],
            queue: self.random.percent(75),
        }
    }

    fn release(&mut self, machine: &Machine) -> Command {
        let (mut session, mut generation) = self.owner(machine);
        let name = self.name();
        let mut token = Token((9 << 48) + self.random.below(self.index));
        if let Some(holder) = machine.name(&name).and_then(|view| view.holder)
            && !self.wild()
        {
            token = holder.token;
            if self.random.percent(85) {
                session = holder.session;
                generation = machine.session(session).unwrap().generation();
            }
        }
        let request = self.random.percent(80).then(|| {
            let request = self.request(machine, session);
            (request, self.acknowledged(request))
        });
        Command::Release { session, generation, request, name, token }
    }

    fn death(&mut self) -> bool {
        let percent = self.death_percent;
        self.random.percent(percent)
    }

    fn wild(&mut self) -> bool {
        let percent = self.wild_percent;
        self.random.percent(percent)
    }

    fn key(&mut self) -> Key {
        Key(u128::from(self.random.below(self.keys)))
    }

    fn name(&mut self) -> String {
        format!("name/{}", self.random.below(self.names))
    }

    fn attachment(&mut self) -> Attachment {
        Attachment { member: u128::from(self.random.below(2)), boot: self.random.below(2) }
    }

    fn owner(&mut self, machine: &Machine) -> (SessionId, Generation) {
        let open = machine.session_count();
        if open == 0 || self.wild() && self.random.percent(20) {
            return (SessionId(self.random.below(self.index + 1)), Generation(1));
        }
        let (id, session) = machine.sessions().nth(self.random.at(open)).unwrap();
        let present = session.generation().0;
        (id, Generation(if self.wild() { self.near(present) } else { present }))
    }

    fn near(&mut self, value: u64) -> u64 {
        (value + 1).saturating_sub(self.random.below(4))
    }

    /// Mostly the next one; sometimes one of the last, one skipped, or none at all.
    fn request(&mut self, machine: &Machine, session: SessionId) -> RequestId {
        let next = machine.session(session).map_or(1, |session| session.next_request().0);
        RequestId(match self.random.below(20) {
            0 if self.wild() => [0, u64::MAX][self.random.at(2)],
            1 | 2 => next + self.random.below(3),
            3..=8 => next.saturating_sub(1 + self.random.below(12)).max(1),
            _ => next,
        })
    }

    fn acknowledged(&mut self, request: RequestId) -> RequestId {
        if self.random.percent(self.ack_percent) {
            RequestId(request.0.saturating_sub(self.random.below(6)))
        } else {
            RequestId(u64::from(self.wild()))
        }
    }
}
