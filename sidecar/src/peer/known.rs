//! What this process remembers of its peers: the newest boot that each has shown. Pure.
//!
//! A member's identity file keeps its last boots that it has shown to anybody, each durable before
//! that boot's first word. So a peer that has seen one boot of a member finds it in every later
//! list of that member, unless the disk went back in time or was copied, or the member has shown so
//! many others since that the list is full of them. Then the member may have forgotten a vote, and
//! is refused. More restarts of a rolled-back disk do not help it: the remembered pair never comes
//! back. A disk whose log alone went back is found by the leader, and refused here from then on.
//!
//! To forget a peer is to let its rolled-back disk in. So nobody is forgotten but for room, and
//! then only who is neither a member of the configuration nor connected: what such a one forgot
//! counts for no majority.

use quorate_raft::{Index, MemberId};
use std::collections::BTreeMap;
use std::fmt;

/// Boots that a hello may list.
pub const BOOTS_MAX: usize = 64;
/// Peers remembered.
pub const PEERS_MAX: usize = 4096;

/// One start of a member: a number that rises by one a start, and 64 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot {
    /// From 1.
    pub seq: u64,
    /// Random.
    pub bits: u64,
}

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A newer boot of it was seen: this is a process of before, or a disk of before.
    Older {
        /// The boot shown.
        shown: u64,
        /// The boot remembered.
        known: u64,
    },
    /// It does not know a boot that was seen of it: its disk went back in time, or is a copy.
    Forgot {
        /// The boot that it should know.
        known: u64,
    },
    /// Its list of boots cannot be: too long, not rising, or not ending with its own boot.
    Malformed,
    /// Its log lost entries that it had acknowledged.
    Lost {
        /// The last entry that it holds of the leader's log.
        holds: Index,
        /// The last that it had acknowledged.
        acknowledged: Index,
    },
    /// Too many peers, and all of them are configured or connected.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Older { shown, known } => write!(
                f,
                "its boot {shown} is older than boot {known}, seen before: an old process, or a \
                 disk that went back"
            ),
            Refusal::Forgot { known } => write!(
                f,
                "its disk does not know its boot {known}, seen before: the disk went back in \
                 time or is a copy; remove this member and add a new one with an empty disk"
            ),
            Refusal::Lost { holds, acknowledged } => write!(
                f,
                "its log ends at {}, and it had acknowledged {}: its disk lost what was synced; \
                 remove this member and add a new one with an empty disk",
                holds.0, acknowledged.0
            ),
            Refusal::Malformed => write!(
                f,
                "its list of boots is not 1 to {BOOTS_MAX} rising numbers that end with its own \
                 boot"
            ),
            Refusal::Full => {
                write!(f, "{PEERS_MAX} peers are remembered, the limit, and all are in use")
            }
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Known {
    newest: BTreeMap<MemberId, Since<Boot>>,
    /// Grows beyond the limit only by those in use.
    lost: BTreeMap<MemberId, Since<Refusal>>,
    /// How often anything was remembered.
    count: u64,
}

/// What is remembered, and the count as of the last time.
#[derive(Clone, Copy, Debug)]
struct Since<T> {
    what: T,
    count: u64,
}

/// A peer that may be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// For the first time, or the same process again.
    AsBefore,
    /// A newer process of it than the one heard before.
    Restarted,
}

impl Known {
    /// Judges what a peer shows of itself, and remembers it if it is newer than what was known.
    /// `in_use` says who is configured or connected.
    ///
    /// # Errors
    /// Why the peer is not to be listened to. Then nothing changed.
    pub fn meet(
        &mut self,
        peer: MemberId,
        boot: Boot,
        boots: &[Boot],
        in_use: impl Fn(MemberId) -> bool,
    ) -> Result<Met, Refusal> {
        check_list(boot, boots)?;
        if let Some(lost) = self.lost.get(&peer) {
            return Err(lost.what);
        }
        if let Some(Since { what: known, .. }) = self.newest.get(&peer).copied() {
            if boot.seq < known.seq {
                return Err(Refusal::Older { shown: boot.seq, known: known.seq });
            }
            if !boots.contains(&known) {
                return Err(Refusal::Forgot { known: known.seq });
            }
        } else if !make_room(&mut self.newest, in_use) {
            return Err(Refusal::Full);
        }
        self.count += 1;
        let before = self.newest.insert(peer, Since { what: boot, count: self.count });
        let before = before.map(|before| before.what);
        assert!(before.is_none_or(|before| before <= boot), "a pin never goes back");
        assert!(self.newest.len() <= PEERS_MAX);
        let restarted = before.is_some_and(|before| before < boot);
        Ok(if restarted { Met::Restarted } else { Met::AsBefore })
    }

    /// Refuses a peer for as long as this process lives: its log ends at the first index, and it
    /// had acknowledged the second one. It is forgotten only for room, and not while it is in use.
    pub fn quarantine(
        &mut self,
        peer: MemberId,
        (holds, acknowledged): (Index, Index),
        in_use: impl Fn(MemberId) -> bool,
    ) {
        assert!(holds < acknowledged, "a log that holds all is no loss");
        if !self.lost.contains_key(&peer) {
            // Not to be refused for room: those in use are few.
            let _ = make_room(&mut self.lost, in_use);
        }
        self.count += 1;
        let what = Refusal::Lost { holds, acknowledged };
        self.lost.insert(peer, Since { what, count: self.count });
    }
}

/// Whether there is room for one more; if need be, one that is not in use is forgotten for it, the
/// one of the longest ago.
fn make_room<T>(map: &mut BTreeMap<MemberId, Since<T>>, in_use: impl Fn(MemberId) -> bool) -> bool {
    if map.len() < PEERS_MAX {
        return true;
    }
    let idle = map.iter().filter(|(peer, _)| !in_use(**peer));
    let oldest = idle.min_by_key(|(_, since)| since.count).map(|(peer, _)| *peer);
    oldest.is_some_and(|peer| map.remove(&peer).is_some())
}

/// The list holds the own boot, so "in the list or the own boot" is one question.
fn check_list(boot: Boot, boots: &[Boot]) -> Result<(), Refusal> {
    let rising = boots.windows(2).all(|pair| pair[0].seq < pair[1].seq);
    let length = (1..=BOOTS_MAX).contains(&boots.len());
    if !length || !rising || boots.last() != Some(&boot) || boot.seq == 0 {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: MemberId = MemberId(7);

    fn boot(seq: u64, bits: u64) -> Boot {
        Boot { seq, bits }
    }

    fn meet(known: &mut Known, peer: MemberId, own: Boot, boots: &[Boot]) -> Result<Met, Refusal> {
        known.meet(peer, own, boots, |_| false)
    }

    #[test]
    fn a_restart_is_welcome_and_an_older_process_is_not() {
        let mut known = Known::default();
        let (first, second) = (boot(1, 11), boot(2, 12));
        assert_eq!(meet(&mut known, PEER, first, &[first]), Ok(Met::AsBefore));
        let again = meet(&mut known, PEER, first, &[first]);
        assert_eq!(again, Ok(Met::AsBefore), "the same boot dials again");
        assert_eq!(meet(&mut known, PEER, second, &[first, second]), Ok(Met::Restarted));
        let refused = meet(&mut known, PEER, first, &[first]);
        assert_eq!(refused, Err(Refusal::Older { shown: 1, known: 2 }));
    }

    #[test]
    fn a_rolled_back_disk_stays_out_however_often_it_restarts() {
        let mut known = Known::default();
        let seen = [boot(1, 11), boot(2, 12), boot(3, 13)];
        assert_eq!(meet(&mut known, PEER, seen[2], &seen), Ok(Met::AsBefore));
        let mut boots = vec![boot(1, 11)];
        for seq in 2..40 {
            boots.push(boot(seq, 100 + seq));
            let own = boots[boots.len() - 1];
            let refused = meet(&mut known, PEER, own, &boots);
            if seq < 3 {
                assert_eq!(refused, Err(Refusal::Older { shown: seq, known: 3 }));
            } else {
                assert_eq!(refused, Err(Refusal::Forgot { known: 3 }));
            }
        }
    }

    #[test]
    fn a_log_that_lost_entries_stays_out_through_restarts() {
        let mut known = Known::default();
        let (first, second) = (boot(1, 11), boot(2, 12));
        assert_eq!(meet(&mut known, PEER, first, &[first]), Ok(Met::AsBefore));
        known.quarantine(PEER, (Index(3), Index(5)), |_| false);
        let lost = Refusal::Lost { holds: Index(3), acknowledged: Index(5) };
        assert_eq!(meet(&mut known, PEER, first, &[first]), Err(lost));
        assert_eq!(meet(&mut known, PEER, second, &[first, second]), Err(lost));
        assert!(lost.to_string().starts_with("its log ends at 3, and it had acknowledged 5"));
    }

    #[test]
    fn of_two_copies_of_a_disk_only_the_first_is_heard() {
        let mut known = Known::default();
        let old = boot(4, 14);
        assert_eq!(meet(&mut known, PEER, boot(5, 1), &[old, boot(5, 1)]), Ok(Met::AsBefore));
        let refused = meet(&mut known, PEER, boot(5, 2), &[old, boot(5, 2)]);
        assert_eq!(refused, Err(Refusal::Forgot { known: 5 }));
    }

    #[test]
    fn a_list_that_cannot_be_is_refused() {
        let mut known = Known::default();
        let own = boot(3, 13);
        let long: Vec<Boot> = (1..=65).map(|seq| boot(seq, seq)).collect();
        let lists: [&[Boot]; 5] =
            [&[], &[own, own], &[boot(1, 1)], &[own, boot(4, 1)], &[boot(3, 12)]];
        for list in lists {
            assert_eq!(meet(&mut known, PEER, own, list), Err(Refusal::Malformed), "{list:?}");
        }
        assert_eq!(meet(&mut known, PEER, long[64], &long), Err(Refusal::Malformed));
        assert_eq!(meet(&mut known, PEER, boot(0, 1), &[boot(0, 1)]), Err(Refusal::Malformed));
    }

    fn stranger(number: usize) -> MemberId {
        MemberId(1_000 + u128::try_from(number).unwrap())
    }

    /// Full of strangers, met in the order of their numbers.
    fn full(in_use: impl Fn(MemberId) -> bool + Copy) -> Known {
        let (mut known, first) = (Known::default(), boot(1, 11));
        for number in 0..PEERS_MAX {
            assert_eq!(known.meet(stranger(number), first, &[first], in_use), Ok(Met::AsBefore));
        }
        known
    }

    #[test]
    fn for_room_the_one_of_the_longest_ago_is_forgotten() {
        let (first, other) = (boot(1, 11), boot(1, 12));
        let mut known = full(|_| false);
        assert_eq!(meet(&mut known, stranger(0), first, &[first]), Ok(Met::AsBefore));
        for peer in [PEER, MemberId(8)] {
            assert_eq!(meet(&mut known, peer, first, &[first]), Ok(Met::AsBefore));
        }
        // Those forgotten may be another's disk now; who was met again, and all others, may not.
        let forgot = Err(Refusal::Forgot { known: 1 });
        for (number, judged) in [(0, forgot), (3, forgot), (1, Ok(Met::AsBefore))] {
            assert_eq!(meet(&mut known, stranger(number), other, &[other]), judged, "{number}");
        }
        assert_eq!(known.newest.len(), PEERS_MAX);
    }

    #[test]
    fn who_is_in_use_is_never_forgotten() {
        let (first, other) = (boot(1, 11), boot(1, 12));
        let all_but_one = |peer| peer != stranger(77);
        let mut known = full(all_but_one);
        assert_eq!(known.meet(PEER, first, &[first], all_but_one), Ok(Met::AsBefore));
        let forgotten = known.meet(stranger(77), first, &[first], all_but_one);
        assert_eq!(forgotten, Err(Refusal::Full), "its place is taken, and nobody leaves one");
        let rolled = known.meet(stranger(0), other, &[other], all_but_one);
        assert_eq!(rolled, Err(Refusal::Forgot { known: 1 }));
        let second = boot(2, 12);
        let again = known.meet(stranger(0), second, &[first, second], all_but_one);
        assert_eq!(again, Ok(Met::Restarted), "a limit for those who are new only");
    }

    #[test]
    fn a_quarantine_is_forgotten_only_for_room_and_never_of_a_member() {
        let (mut known, first) = (Known::default(), boot(1, 11));
        let lost = (Index(3), Index(5));
        let members = |peer| peer == PEER;
        known.quarantine(PEER, lost, members);
        for number in 0..2 * PEERS_MAX {
            known.quarantine(stranger(number), lost, members);
        }
        assert_eq!(known.lost.len(), PEERS_MAX);
        let refusal = Err(Refusal::Lost { holds: Index(3), acknowledged: Index(5) });
        assert_eq!(known.meet(PEER, first, &[first], members), refusal);
        let newest = stranger(2 * PEERS_MAX - 1);
        assert_eq!(known.meet(newest, first, &[first], members), refusal);
        assert_eq!(known.meet(stranger(0), first, &[first], members), Ok(Met::AsBefore));
        // Not even then is one let in.
        known.quarantine(MemberId(8), lost, |_| true);
        assert_eq!(known.meet(MemberId(8), first, &[first], members), refusal);
    }
}
