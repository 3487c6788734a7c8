//! Disks that lie: bits that change at rest, writes that go astray. And disks without room.
//!
//! A member that finds its log damaged never votes again: here somebody new takes its seat at once.
//! One that does not find it must have lost nothing of what it said.

use crate::simulator::checker::Broken;
use crate::simulator::node::{Log, Rot};
use crate::simulator::world::{Happening, World};
use quorate_sidecar::wal::{FileName, Source as _};

const MILLI: u64 = 1_000_000;

impl World {
    /// Stops a member and changes one bit of its files.
    pub(super) fn flip_a_bit(&mut self, seat: usize) -> Result<(), Broken> {
        self.crash(seat, false)?;
        let n = &mut self.nodes[seat];
        let Some(disk) = n.disk.as_mut().filter(|_| n.rot == Rot::None) else { return Ok(()) };
        let Some(before) = Log::of(disk, n.id) else { return Err("a whole log is unfit".into()) };
        let names = disk.list().map_err(|e| e.to_string())?;
        let mut files: Vec<FileName> = names.iter().filter_map(|n| FileName::parse(n)).collect();
        files.retain(|f| matches!(f, FileName::Log(_) | FileName::Snapshot(_)));
        if files.is_empty() {
            return Ok(());
        }
        let file = *self.random.pick(&files);
        let bytes = disk.read(file).map_err(|e| e.to_string())?;
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        if used.is_empty() {
            return Ok(());
        }
        let at = *self.random.pick(&used);
        let bit = 1 << self.random.between(0, 7);
        let place = u64::try_from(at).map_err(|e| e.to_string())?;
        disk.overwrite(file, place, &[bytes[at] ^ bit]).map_err(|e| e.to_string())?;
        self.trace.line(self.now, format_args!("{seat} has a bit flipped in {file} at {at}"));
        self.nodes[seat].rot = Rot::Flipped(before);
        Ok(())
    }

    /// The next write of this member is reported as done, and goes nowhere or to another place.
    pub(super) fn lead_astray(&mut self, seat: usize) {
        let elsewhere = self.random.permille(350);
        let n = &mut self.nodes[seat];
        let Some(member) = n.member.as_mut().filter(|_| n.rot == Rot::None) else { return };
        member.replica_mut().disk_mut().lead_astray(elsewhere);
        n.rot = Rot::Astray;
        // What shows that such a write is not there is its mark, and a power cut may lose that.
        n.power_fails_once_durable = self.random.permille(700);
        let nanos = self.random.between(1, 3_000) * MILLI;
        self.after(nanos, Happening::Kill { seat, power: false });
        self.start_after(seat, nanos + MILLI);
    }

    /// So little room that segments and snapshots do not fit; after a while there is enough again.
    pub(super) fn fill_disk(&mut self, seat: usize) {
        let Some(member) = &mut self.nodes[seat].member else { return };
        let disk = member.replica_mut().disk_mut();
        disk.set_capacity(disk.used().max(1));
        let nanos = self.random.between(2_000, 15_000) * MILLI;
        self.after(nanos, Happening::Room(seat));
        if self.random.permille(300) {
            // Often it also starts while there is none.
            let (soon, power) = (self.random.between(0, 2_000) * MILLI, self.random.permille(500));
            self.after(soon, Happening::Kill { seat, power });
            self.start_after(seat, soon + MILLI);
        }
    }

    /// There is room again.
    pub(super) fn make_room(&mut self, seat: usize) {
        let n = &mut self.nodes[seat];
        if let Some(disk) = n.disk.as_mut() {
            disk.set_capacity(0);
        }
        if let Some(member) = &mut n.member {
            member.replica_mut().disk_mut().set_capacity(0);
        }
    }

    /// Starts a member whose disk was damaged: it finds that, or it lost nothing that it said.
    /// (What was written last before a power cut may look like a torn end; and a write that went
    /// astray right before the end leaves nothing to find. Who remembers more must refuse such a
    /// member; here it is replaced.)
    pub(super) fn start_rotten(&mut self, seat: usize) -> Result<(), Broken> {
        let n = &mut self.nodes[seat];
        let found = n.disk.as_ref().and_then(|disk| Log::of(disk, n.id));
        let Some(found) = found else {
            self.count("damage found at the start");
            self.replace(seat);
            return Ok(());
        };
        let node = n.last().map(|member| member.replica().node());
        // A lost write may have replaced entries of another leader's, which are there again then:
        // a log that goes as far, and is not what was said.
        let had = node.and_then(|node| node.entry(n.durable)).map(|entry| entry.id().term);
        let has = n.disk.as_ref().and_then(|disk| Log::term_at(disk, n.id, n.durable));
        let same = had.zip(has).is_none_or(|(had, has)| had == has);
        let whole = match n.rot {
            Rot::None => true,
            Rot::Flipped(before) => {
                let said = found.last >= n.durable && (same || !n.power_failed);
                (found.term, found.vote) == (before.term, before.vote) && said
            }
            Rot::Astray => node.is_none_or(|node| {
                let vote = (node.term().0, node.vote()) == (found.term, found.vote);
                vote && found.last >= n.durable && same
            }),
        };
        match (whole, n.rot) {
            (true, _) => {
                n.rot = Rot::None;
                self.count("damage that changed nothing");
            }
            (false, Rot::Flipped(before)) if !n.power_failed => {
                return Err(format!("a flipped bit made {before:?} into {found:?}, unseen"));
            }
            (false, _) => {
                self.count("damage that only others can see");
                self.replace(seat);
                return Ok(());
            }
        }
        self.begin_to_run(seat)
    }
}
