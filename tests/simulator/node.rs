//! One simulated member: a real `Member` on a simulated disk, with a clock of its own.

use crate::simulator::random::Random;
use quorate_raft::{Config, MemberId, Node, Time};
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

/// A clock that runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset: u64,
    /// Parts per million that it runs fast; up to ± 15,000.
    fast_ppm: i64,
}

impl Clock {
    /// A clock from chance: any offset, a rate within 1.5 % of real time.
    pub fn new(random: &mut Random) -> Clock {
        let offset = random.between(1, 1_000_000_000_000);
        let rate = i64::try_from(random.between(0, 30_000)).expect("small");
        Clock { offset, fast_ppm: rate - 15_000 }
    }

    /// What it shows at real time `now`.
    #[must_use]
    pub fn local(&self, now: u64) -> Time {
        let scaled = i128::from(now) * (1_000_000 + i128::from(self.fast_ppm)) / 1_000_000;
        Time(self.offset + u64::try_from(scaled).expect("time is positive"))
    }

    /// The first real time at which it shows `local` or later.
    #[must_use]
    pub fn real(&self, local: Time) -> u64 {
        let since = i128::from(local.0.saturating_sub(self.offset));
        let real = since * 1_000_000 / (1_000_000 + i128::from(self.fast_ppm));
        let mut real = u64::try_from(real).unwrap_or(u64::MAX / 2);
        while self.local(real) < local {
            real += 1;
        }
        real
    }
}

/// See the module.
pub struct SimNode {
    /// Its identity.
    pub id: MemberId,
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
            clock: Clock::new(random),
            boot: 0,
            member: None,
            disk: Some(disk),
            inbox: Vec::new(),
            scheduled: false,
            paused_until: 0,
            alarm: 0,
            checked: 0,
            random: random.split(),
        }
    }

    /// Starts it from its disk.
    ///
    /// # Errors
    /// The log was found damaged: no fault of these makes it so.
    pub fn start(&mut self, now: u64) -> Result<(), String> {
        let disk = self.disk.take().expect("only a stopped member is started");
        let (wal, recovered) = Wal::open(disk, self.id).map_err(|e| e.to_string())?;
        if let Verdict::Unfit { reason } = &recovered.verdict {
            return Err(format!("member {} found its log unfit: {reason}", self.id));
        }
        self.boot += 1;
        let mut config = Config::new(self.id, self.random.bits());
        config.election_timeout_ns = ELECTION_TIMEOUT_NS;
        config.heartbeat_ns = ELECTION_TIMEOUT_NS / 5;
        config.tail_bytes = TAIL_BYTES;
        // Small windows, often: then an old entry can be acknowledged without the newest.
        config.window_entries = *self.random.pick(&[1, 2, 256, 256]);
        config.check = true;
        let node = Node::new(config, self.clock.local(now), recovered.restored);
        let mut replica = Replica::new(node, wal)?;
        replica.set_snapshot_policy(u64::MAX, SNAPSHOT_ENTRIES);
        self.checked = replica.node().applied().0;
        let boot_bits = self.random.bits();
        self.member = Some(Member::new(replica, boot_bits, Timing::new(ELECTION_TIMEOUT_NS)));
        self.inbox.clear();
        self.scheduled = false;
        self.paused_until = 0;
        Ok(())
    }

    /// Stops it as kill -9, or as a power cut: what was not synced may be lost, in part or whole.
    pub fn crash(&mut self, power: bool) {
        let Some(mut member) = self.member.take() else { return };
        let disk = member.replica_mut().disk_mut();
        let mut disk = disk.clone();
        disk.crash(self.random.bits(), power);
        self.disk = Some(disk);
        self.inbox.clear();
        self.alarm += 1;
    }

    /// What its own clock shows.
    #[must_use]
    pub fn local(&self, now: u64) -> Time {
        self.clock.local(now)
    }
}
