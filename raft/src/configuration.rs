//! Who votes, who listens: the membership as of one log index.

use crate::types::{Index, Malformed, MemberId};
use std::collections::BTreeMap;

/// The membership. In effect from the moment that its entry is appended.
///
/// `outgoing` is empty but for a joint configuration; an empty half agrees with everything, so
/// simple and joint configurations share one quorum rule. In a joint one `learners` are those to
/// be: a voter of `outgoing` among them still votes, until it is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// The voters; with `outgoing` not empty, the voters to be.
    pub incoming: BTreeMap<MemberId, String>,
    /// The voters that were.
    pub outgoing: BTreeMap<MemberId, String>,
    /// Who receives the log and does not vote.
    pub learners: BTreeMap<MemberId, String>,
    /// Where its entry is in the log. 0: not there yet, or not known.
    pub index: Index,
}

/// Before an encoding that holds an index. No count is as large.
const INDEXED: u8 = 0x81;

impl Configuration {
    /// Members at most, over all three sets.
    pub const MEMBERS_MAX: usize = 64;
    /// Bytes of a name at most.
    pub const NAME_BYTES_MAX: usize = 255;

    /// A configuration of voters alone.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = (MemberId, String)>) -> Configuration {
        Configuration { incoming: voters.into_iter().collect(), ..Configuration::default() }
    }

    /// Whether nobody is in it: a blank member's.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.is_empty() && self.learners.is_empty()
    }

    /// Whether a group can be led under it: somebody votes, and nobody is both a voter to be and a
    /// learner to be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let both = self.learners.keys().any(|id| self.incoming.contains_key(id));
        !self.incoming.is_empty() && !both
    }

    /// Whether both halves are in force.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this member votes, in either half.
    #[must_use]
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.incoming.contains_key(&id) || self.outgoing.contains_key(&id)
    }

    /// Whether this member is in it at all.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.is_voter(id) || self.learners.contains_key(&id)
    }

    /// Everybody, each once, in order.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &str)> {
        let mut all: BTreeMap<MemberId, &str> = BTreeMap::new();
        for half in [&self.learners, &self.outgoing, &self.incoming] {
            all.extend(half.iter().map(|(id, name)| (*id, name.as_str())));
        }
        all.into_iter()
    }

    /// The name of a member.
    #[must_use]
    pub fn name(&self, id: MemberId) -> Option<&str> {
        [&self.incoming, &self.outgoing, &self.learners]
            .into_iter()
            .find_map(|half| half.get(&id))
            .map(String::as_str)
    }

    /// Whether it stays within the limits, so that it can be encoded.
    #[must_use]
    pub fn fits(&self) -> bool {
        let halves = [&self.incoming, &self.outgoing, &self.learners];
        let names = halves.iter().flat_map(|half| half.values());
        halves.iter().map(|half| half.len()).sum::<usize>() <= Self::MEMBERS_MAX
            && names.map(String::len).max().unwrap_or(0) <= Self::NAME_BYTES_MAX
    }

    /// The joint configuration on the way from this one to `target`.
    #[must_use]
    pub(crate) fn joined(&self, target: &Configuration) -> Configuration {
        assert!(!self.is_joint() && !target.is_joint(), "one change at a time");
        Configuration { outgoing: self.incoming.clone(), index: Index(0), ..target.clone() }
    }

    /// What follows a joint configuration when the change is carried through.
    #[must_use]
    pub(crate) fn completed(&self) -> Configuration {
        let (incoming, learners) = (self.incoming.clone(), self.learners.clone());
        Configuration { incoming, learners, ..Configuration::default() }
    }

    /// What follows a joint configuration when the change is given up: the voters that were. All
    /// others listen on, for those that were to vote were learners before.
    #[must_use]
    pub(crate) fn given_up(&self) -> Configuration {
        let mut learners = self.learners.clone();
        learners.extend(self.incoming.clone());
        learners.retain(|id, _| !self.outgoing.contains_key(id));
        Configuration { incoming: self.outgoing.clone(), learners, ..Configuration::default() }
    }

    /// `0x81` and the index (8 bytes, little endian) where the index is known; then three sets,
    /// each: count (1 byte), then id (16), name length (1), name.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.index != Index(0) {
            bytes.push(INDEXED);
            bytes.extend_from_slice(&self.index.0.to_le_bytes());
        }
        for half in [&self.incoming, &self.outgoing, &self.learners] {
            assert!(
                half.len() <= Self::MEMBERS_MAX,
                "a configuration is checked before it is made"
            );
            bytes.push(u8::try_from(half.len()).unwrap_or(u8::MAX));
            for (id, name) in half {
                assert!(name.len() <= Self::NAME_BYTES_MAX);
                bytes.extend_from_slice(&id.0.to_le_bytes());
                bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(name.as_bytes());
            }
        }
        bytes
    }

    /// Takes an encoding from the front of `bytes`, and gives what follows it.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<(Configuration, &[u8]), Malformed> {
        let mut rest = bytes;
        let mut index = Index(0);
        if let Some((&INDEXED, after)) = rest.split_first() {
            let (word, after) = after.split_first_chunk::<8>().ok_or(Malformed::Short)?;
            index = Index(u64::from_le_bytes(*word));
            rest = after;
        }
        let mut halves: [BTreeMap<MemberId, String>; 3] = Default::default();
        for half in &mut halves {
            let (count, after) = rest.split_first().ok_or(Malformed::Short)?;
            rest = after;
            if usize::from(*count) > Self::MEMBERS_MAX {
                return Err(Malformed::Field("members"));
            }
            for _ in 0..*count {
                let (id, after) = rest.split_first_chunk::<16>().ok_or(Malformed::Short)?;
                let (length, after) = after.split_first().ok_or(Malformed::Short)?;
                let (name, after) =
                    after.split_at_checked(usize::from(*length)).ok_or(Malformed::Short)?;
                let name = std::str::from_utf8(name).map_err(|_| Malformed::Field("name"))?;
                half.insert(MemberId(u128::from_le_bytes(*id)), name.to_owned());
                rest = after;
            }
        }
        let [incoming, outgoing, learners] = halves;
        Ok((Configuration { incoming, outgoing, learners, index }, rest))
    }
}
