//! The figure of the Raft paper about entries of earlier terms (section 5.4.2), drawn on purpose:
//! by chance it takes more seeds than anybody runs.
//!
//! (a) A new leader's first entry reaches one follower. (b) Both are gone, and another leader's
//! first entry reaches nobody. (c) The first two come back without it, and hand on their old entry,
//! one at a time. (d) Should that count as committed, they die at once, and the other leader comes
//! back: it has a later term, and the rest votes for it.

use crate::simulator::checker::Broken;
use crate::simulator::faults::LATENCY_NS;
use crate::simulator::node::SimNode;
use crate::simulator::world::{Happening, SECOND, World};
use quorate_raft::{Index, RoleName};

const MILLI: u64 = 1_000_000;
/// How long one step may take: elections, mostly.
const STEP_NS: u64 = 8 * SECOND;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A leader of the first term.
    First,
    /// Its entry on two disks.
    Spread,
    /// A leader of the second term.
    Second,
    /// Its entry on its own disk.
    Alone,
    /// One of the first two leads again, and commits.
    Third(Index),
    /// The leader of the second term again.
    Last,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Eight {
    serial: u64,
    step: Step,
    /// Seats of the voters, as they were at the beginning.
    voters: Vec<usize>,
    /// The leader of the first term, and who has its entry.
    pair: [usize; 2],
    /// The leader of the second term.
    other: usize,
}

impl World {
    /// Begins, if there are five voters.
    pub(super) fn draw_figure_eight(&mut self) -> Result<(), Broken> {
        let (Some(leader), Some(known)) = (self.leading(), self.membership()) else {
            return Ok(());
        };
        if known.is_joint() || known.incoming.len() != 5 || self.eight.is_some() {
            return Ok(());
        }
        let sits = |n: &SimNode| known.incoming.contains_key(&n.id);
        let voters: Vec<usize> =
            (0..self.nodes.len()).filter(|at| sits(&self.nodes[*at])).collect();
        if voters.len() != 5 {
            return Ok(());
        }
        self.count("figure 8");
        let serial = self.next_serial();
        let (step, pair, other) = (Step::First, [leader; 2], leader);
        self.eight = Some(Eight { serial, step, voters, pair, other });
        self.crash(leader, false)?;
        self.wait_for(Step::First, STEP_NS);
        Ok(())
    }

    fn wait_for(&mut self, step: Step, nanos: u64) {
        let serial = self.next_serial();
        let Some(eight) = &mut self.eight else { return };
        (eight.step, eight.serial) = (step, serial);
        self.after(nanos, Happening::Eight(serial));
    }

    /// A batch of a member ended, `won`: with an election. Gives whether it dies before anything of
    /// that leaves it.
    pub(super) fn figure_eight(&mut self, node: usize, won: bool) -> Result<bool, Broken> {
        let Some(eight) = self.eight.clone() else { return Ok(false) };
        match eight.step {
            Step::First if won => {
                let rest: Vec<usize> =
                    eight.voters.iter().copied().filter(|seat| *seat != node).collect();
                let second = *self.random.pick(&rest);
                if let Some(eight) = &mut self.eight {
                    eight.pair = [node, second];
                }
                self.separate(&[node, second]);
                self.wait_for(Step::Spread, self.usual_latency[second] + 20 * MILLI);
            }
            Step::Second if won && !eight.pair.contains(&node) => {
                if let Some(eight) = &mut self.eight {
                    eight.other = node;
                }
                self.separate(&[node]);
                self.wait_for(Step::Alone, self.usual_latency[node] + 20 * MILLI);
            }
            Step::Third(_) if eight.pair.contains(&node) => return self.third(node, won, &eight),
            _ => {}
        }
        Ok(false)
    }

    /// The entry of the first term is handed on; a leader that counts it as committed dies.
    fn third(&mut self, node: usize, won: bool, eight: &Eight) -> Result<bool, Broken> {
        let Some(member) = &self.nodes[node].member else { return Ok(false) };
        let raft = member.replica().node();
        let commit = raft.commit();
        if won {
            if let Some(eight) = &mut self.eight {
                eight.step = Step::Third(commit.index);
            }
            return Ok(false);
        }
        let Step::Third(before) = eight.step else { return Ok(false) };
        if raft.role() != RoleName::Leader || commit.index <= before {
            return Ok(false);
        }
        if commit.term == raft.term() {
            self.end_of_eight();
            return Ok(false);
        }
        for seat in eight.pair {
            self.kill(seat, false)?;
            self.lost_before[seat] = self.now + 1;
        }
        self.start_after(eight.other, MILLI);
        self.wait_for(Step::Last, STEP_NS);
        Ok(true)
    }

    /// A step's time is over.
    pub(super) fn next_of_eight(&mut self, serial: u64) -> Result<(), Broken> {
        let Some(eight) = self.eight.clone().filter(|eight| eight.serial == serial) else {
            return Ok(());
        };
        match eight.step {
            Step::Spread => {
                self.kill(eight.pair[0], false)?;
                self.separate(&[eight.pair[1]]);
                self.wait_for(Step::Second, STEP_NS);
            }
            Step::Alone => {
                self.kill(eight.other, false)?;
                for seat in &eight.voters {
                    self.network.uncut(*seat);
                }
                // One entry at a time: then the old one is acknowledged before the new one is sent.
                for seat in eight.pair {
                    self.kill(seat, false)?;
                    self.nodes[seat].one_at_a_time = true;
                    self.start_after(seat, 2 * LATENCY_NS);
                }
                self.wait_for(Step::Third(Index(u64::MAX)), STEP_NS);
            }
            _ => self.end_of_eight(),
        }
        Ok(())
    }

    /// Everybody comes back.
    fn end_of_eight(&mut self) {
        let Some(eight) = self.eight.take() else { return };
        for seat in eight.voters {
            self.network.uncut(seat);
            self.start_after(seat, MILLI);
        }
    }

    /// These hear each other, and nobody else.
    pub(super) fn separate(&mut self, these: &[usize]) {
        let others = (0..self.nodes.len()).filter(|other| !these.contains(other));
        self.network.sever(these, &others.collect::<Vec<_>>());
    }
}
