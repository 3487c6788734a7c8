//! A voter that is asked twice in one term, and loses its power in between: drawn on purpose, as
//! by chance it takes hundreds of seeds.
//!
//! Two halves need the same voter. It votes for the one, loses its power before its slow disk has
//! that, and comes back to the other half, which has not heard of the term yet.

use crate::simulator::checker::Broken;
use crate::simulator::node::SimNode;
use crate::simulator::world::{Happening, SECOND, World};

const MILLI: u64 = 1_000_000;
/// How long a step may take: an election.
const STEP_NS: u64 = 6 * SECOND;
/// Of the voter's disk.
const SLOW_NS: u64 = 60 * MILLI;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Twice {
    serial: u64,
    voter: usize,
    /// The half that is voted for first.
    far: Vec<usize>,
    /// The half with the leader.
    near: Vec<usize>,
    leader: usize,
    /// It voted, and is to die.
    voted: bool,
    /// It is back.
    back: bool,
}

impl World {
    /// Begins, if the number of voters is odd.
    pub(super) fn draw_a_vote_twice(&mut self) -> Result<(), Broken> {
        let (Some(leader), Some(known)) = (self.leading(), self.membership()) else {
            return Ok(());
        };
        let count = known.incoming.len();
        let sits = |n: &SimNode| known.incoming.contains_key(&n.id);
        let mut rest: Vec<usize> =
            (0..self.nodes.len()).filter(|at| *at != leader && sits(&self.nodes[*at])).collect();
        let whole = rest.len() + 1 == count && sits(&self.nodes[leader]);
        if known.is_joint() || count < 3 || count % 2 == 0 || !whole || self.twice.is_some() {
            return Ok(());
        }
        self.count("vote asked for twice");
        let voter = rest.swap_remove(self.random.index(rest.len()));
        let far = rest.split_off(rest.len() - (count - 1) / 2);
        let mut near = rest;
        near.push(leader);
        self.network.sever(&far, &near);
        self.network.sever(&[voter], &near);
        self.usual_latency[voter] = SLOW_NS;
        self.usual_disk(voter);
        let serial = self.next_serial();
        let (voted, back) = (false, false);
        self.twice = Some(Twice { serial, voter, far, near, leader, voted, back });
        self.after(STEP_NS, Happening::Twice(serial));
        Ok(())
    }

    /// A vote leaves for this seat.
    pub(super) fn voted(&mut self, voter: usize, to: usize) {
        let serial = self.next_serial();
        let Some(twice) = &mut self.twice else { return };
        if twice.voted || twice.voter != voter || !twice.far.contains(&to) {
            return;
        }
        (twice.serial, twice.voted) = (serial, true);
        let soon = self.random.between(0, 10 * MILLI);
        self.after(soon, Happening::Twice(serial));
    }

    /// A step's time is over.
    pub(super) fn next_of_twice(&mut self, serial: u64) -> Result<(), Broken> {
        let Some(twice) = self.twice.clone().filter(|twice| twice.serial == serial) else {
            return Ok(());
        };
        if !twice.voted || twice.back {
            self.twice = None;
            for seat in twice.far.into_iter().chain(twice.near).chain([twice.voter]) {
                self.network.uncut(seat);
            }
            self.usual_latency[twice.voter] = self.profile.latency_ns;
            self.usual_disk(twice.voter);
            return Ok(());
        }
        self.kill(twice.voter, true)?;
        self.network.sever(&[twice.voter], &twice.far);
        self.network.join(&[twice.voter], &twice.near);
        self.start_after(twice.voter, MILLI);
        // Its old leader goes, or it would only come back to that.
        self.kill(twice.leader, false)?;
        let down = self.random.between(MILLI, 200 * MILLI);
        self.start_after(twice.leader, down);
        let next = self.next_serial();
        if let Some(twice) = &mut self.twice {
            (twice.serial, twice.back) = (next, true);
        }
        self.after(STEP_NS, Happening::Twice(next));
        Ok(())
    }
}
