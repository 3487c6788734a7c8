//! One seat of the simulated world: a real `Member` on a simulated disk, with a clock of its own.
//!
//! A seat whose disk is lost gets a blank one, and with it another identity: who sat there before
//! never comes back.

use crate::simulator::random::Random;
use quorate_raft::{Config, Configuration, Entry, Index, MemberId, Node, Restored, Term, Time};
use quorate_sidecar::agent::Timing;
use quorate_sidecar::member::{Event, Member};
use quorate_sidecar::replica::Replica;
use quorate_sidecar::wal::{SimDisk, Verdict, Wal};

/// The group's election timeout here, in ns.
pub const ELECTION_TIMEOUT_NS: u64 = 800_000_000;
/// Small, so that snapshots and their installs are common.
const SNAPSHOT_ENTRIES: u64 = 150;
/// Small for the same reason: a follower further behind gets the snapshot.
const TAIL_BYTES: u64 = 2_048;

/// Small too: segments are begun, sealed and used again all the time.
const SEGMENT_BYTES: u64 = 24 * 1024;

/// A clock that runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it showed at `since`.
    offset: u64,
    since: u64,
    /// Parts per million that it runs fast; up to ± 15,000.
    fast_ppm: i64,
}

impl Clock {
    /// A clock from chance: any offset, a rate within 1.5 % of real time.
    pub fn new(random: &mut Random) -> Clock {
        let offset = random.between(1, 1_000_000_000_000);
        Clock { offset, since: 0, fast_ppm: Clock::rate(random) }
    }

    fn rate(random: &mut Random) -> i64 {
        i64::try_from(random.between(0, 30_000)).expect("small") - 15_000
    }

    /// Runs on from what it shows, at another rate.
    pub fn change_rate(&mut self, now: u64, random: &mut Random) {
        (self.offset, self.since) = (self.local(now).0, now);
        self.fast_ppm = Clock::rate(random);
    }

    /// What it shows at real time `now`, which is not before its last change.
    #[must_use]
    pub fn local(&self, now: u64) -> Time {
        let passed = i128::from(now.saturating_sub(self.since));
        let scaled = passed * (1_000_000 + i128::from(self.fast_ppm)) / 1_000_000;
        Time(self.offset + u64::try_from(scaled).expect("time is positive"))
    }

    /// The first real time at which it shows `local` or later.
    #[must_use]
    pub fn real(&self, local: Time) -> u64 {
        let passed = i128::from(local.0.saturating_sub(self.offset));
        let real = passed * 1_000_000 / (1_000_000 + i128::from(self.fast_ppm));
        let mut real = u64::try_from(real).unwrap_or(u64::MAX / 2) + self.since;
        while self.local(real) < local {
            real += 1;
        }
        real
    }
}

/// How a start ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// It runs.
    Runs,
    /// The log was found damaged: it never votes again. With the reason.
    Unfit(String),
    /// There was no room to begin to write: it is to start again later.
    Full,
}

/// What a log gives back: how far it goes, and the promise of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The recorded term.
    pub term: u64,
    /// The vote in it.
    pub vote: Option<MemberId>,
    /// The last entry.
    pub last: Index,
}

impl Log {
    fn restored(disk: &SimDisk, id: MemberId) -> Option<Restored> {
        let mut disk = disk.clone();
        disk.set_capacity(0);
        let (_, recovered) = Wal::open(disk, id).ok()?;
        let fit = !matches!(recovered.verdict, Verdict::Unfit { .. });
        fit.then_some(recovered.restored)
    }

    /// The term of an entry on a disk; none if there is none, or a snapshot covers it.
    #[must_use]
    pub fn term_at(disk: &SimDisk, id: MemberId, index: Index) -> Option<Term> {
        let restored = Log::restored(disk, id)?;
        let mut ids = restored.entries.iter().map(Entry::id);
        ids.find(|id| id.index == index).map(|id| id.term)
    }

    /// Of a disk; none if it is damaged, and known to be.
    #[must_use]
    pub fn of(disk: &SimDisk, id: MemberId) -> Option<Log> {
        let restored = Log::restored(disk, id)?;
        let snapshot = restored.snapshot.as_ref().map_or(Index(0), |s| s.last.index);
        let last = restored.entries.last().map_or(snapshot, |entry| entry.id().index);
        Some(Log { term: restored.term.0, vote: restored.vote, last })
    }
}

/// What is wrong with a seat's disk, as only the world knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rot {
    /// Nothing.
    #[default]
    None,
    /// A bit was changed at rest; what the log gave back before.
    Flipped(Log),
    /// A write was reported as done, and went nowhere or to another place.
    Astray,
}

/// See the module.
pub struct SimNode {
    /// The identity of who sits here now.
    pub id: MemberId,
    /// What is wrong with the disk.
    pub rot: Rot,
    /// At its next start it sends one entry at a time.
    pub one_at_a_time: bool,
    /// Its power fails as soon as its disk has told of one more durable write.
    pub power_fails_once_durable: bool,
    /// The power of the machine failed since the last start.
    pub power_failed: bool,
    /// The last entry that it had durable when it last ran.
    pub durable: Index,
    /// The newest configuration that it had, with its index, and the one before.
    pub known: (Index, Configuration, Configuration),
    /// The member as it was when it stopped, to look at.
    pub stopped: Option<Member<SimDisk>>,
    /// Its clock; its clients' too.
    pub clock: Clock,
    /// Starts so far.
    pub boot: u64,
    /// Running.
    pub member: Option<Member<SimDisk>>,
    /// Its disk while it does not run.
    pub disk: Option<SimDisk>,
    /// What waits for its next run.
    pub inbox: Vec<Event>,
    /// A run is scheduled.
    pub scheduled: bool,
    /// Stopped until then.
    pub paused_until: u64,
    /// Its clients too.
    pub asleep_until: u64,
    /// The alarm that counts; older ones are void.
    pub alarm: u64,
    /// Applied entries that were checked.
    pub checked: u64,
    random: Random,
}

impl SimNode {
    /// A blank member that does not run.
    #[must_use]
    pub fn new(id: MemberId, disk: SimDisk, random: &mut Random) -> SimNode {
        SimNode {
            id,
            rot: Rot::None,
            one_at_a_time: false,
            power_fails_once_durable: false,
            power_failed: false,
            durable: Index(0),
            known: Default::default(),
            stopped: None,
            clock: Clock::new(random),
            boot: 0,
            member: None,
            disk: Some(disk),
            inbox: Vec::new(),
            scheduled: false,
            paused_until: 0,
            asleep_until: 0,
            alarm: 0,
            checked: 0,
            random: random.split(),
        }
    }

    /// Starts it from its disk.
    ///
    /// # Errors
    /// The log cannot be opened at all, or its snapshot not be read: no fault here makes it so.
    pub fn start(&mut self, now: u64) -> Result<Started, String> {
        let mut disk = self.disk.take().expect("only a stopped member is started");
        disk.set_segment_bytes(SEGMENT_BYTES);
        let before = disk.clone();
        let (wal, recovered) = match Wal::open(disk, self.id) {
            Ok(opened) => opened,
            Err(error) if error.is_full() => {
                self.disk = Some(before);
                return Ok(Started::Full);
            }
            Err(error) => return Err(error.to_string()),
        };
        if let Verdict::Unfit { reason } = &recovered.verdict {
            self.disk = Some(wal.into_disk());
            return Ok(Started::Unfit(reason.to_string()));
        }
        self.boot += 1;
        let mut config = Config::new(self.id, self.random.bits());
        config.election_timeout_ns = ELECTION_TIMEOUT_NS;
        config.heartbeat_ns = ELECTION_TIMEOUT_NS / 5;
        config.tail_bytes = TAIL_BYTES;
        // Small windows, often: then an old entry can be acknowledged without the newest.
        config.window_entries = *self.random.pick(&[1, 2, 256, 256]);
        if std::mem::take(&mut self.one_at_a_time) {
            config.window_entries = 1;
        }
        config.check = true;
        let node = Node::new(config, self.clock.local(now), recovered.restored);
        let mut replica = Replica::new(node, wal)?;
        replica.set_snapshot_policy(u64::MAX, SNAPSHOT_ENTRIES);
        self.checked = replica.node().applied().0;
        let boot_bits = self.random.bits();
        self.member = Some(Member::new(replica, boot_bits, Timing::new(ELECTION_TIMEOUT_NS)));
        self.stopped = None;
        self.power_failed = false;
        self.inbox.clear();
        self.scheduled = false;
        self.paused_until = 0;
        Ok(Started::Runs)
    }

    /// Stops it as kill -9, or as a power cut: what was not synced may be lost, in part or whole.
    pub fn crash(&mut self, power: bool) {
        let Some(mut member) = self.member.take() else { return };
        self.durable = member.replica().node().durable();
        let mut disk = member.replica_mut().disk_mut().clone();
        disk.set_expects_log(self.durable > Index(0));
        disk.crash(self.random.bits(), power);
        self.disk = Some(disk);
        self.stopped = Some(member);
        self.power_failed = power;
        self.power_fails_once_durable = false;
        self.inbox.clear();
        self.alarm += 1;
    }

    /// Somebody else sits here from now on, with a blank disk.
    pub fn replace(&mut self, id: MemberId) {
        assert!(self.member.is_none(), "only a stopped member loses its disk");
        self.id = id;
        self.disk = Some(SimDisk::new(self.random.bits()));
        self.rot = Rot::None;
        self.durable = Index(0);
        self.known = Default::default();
        self.stopped = None;
        self.checked = 0;
        self.alarm += 1;
    }

    /// Looks which configuration it has now.
    pub fn observe(&mut self) {
        let Some(member) = &self.member else { return };
        let node = member.replica().node();
        if node.configuration_index() != self.known.0 || self.known.1.is_empty() {
            let newest = node.configuration().clone();
            let before = std::mem::replace(&mut self.known.1, newest);
            (self.known.0, self.known.2) = (node.configuration_index(), before);
        }
    }

    /// Whether its disk has this entry, in its log or covered by a snapshot.
    #[must_use]
    pub fn has_durable(&self, index: Index, term: u64) -> bool {
        let Some(node) = self.last().map(|member| member.replica().node()) else { return false };
        let held = match node.entry(index) {
            Some(entry) => entry.id().term.0 == term,
            None => node.first_index() > index,
        };
        held && node.durable() >= index
    }

    /// Who sits here, running or as it stopped.
    #[must_use]
    pub fn last(&self) -> Option<&Member<SimDisk>> {
        self.member.as_ref().or(self.stopped.as_ref())
    }

    /// What its own clock shows.
    #[must_use]
    pub fn local(&self, now: u64) -> Time {
        self.clock.local(now)
    }
}
