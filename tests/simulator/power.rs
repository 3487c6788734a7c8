//! Members stop and start.

use crate::simulator::checker::Broken;
use crate::simulator::node::{Rot, Started};
use crate::simulator::world::{CLIENTS, Happening, SEATS, SECOND, World};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
/// How soon a member starts again that found no room to begin to write.
const FULL_AGAIN_NS: u64 = SECOND / 10;

impl World {
    /// Half of the time what a member sent, and nobody received yet, is lost.
    pub(super) fn break_connections(&mut self, node: usize) {
        if self.random.permille(500) {
            self.lost_before[node] = self.now + 1;
        }
    }

    /// Stops a member at once; it starts again some time later.
    pub(super) fn crash(&mut self, node: usize, power: bool) -> Result<(), Broken> {
        let longest = *self.random.pick(&[200, 4_000]);
        let down = self.random.between(20, longest) * MILLI;
        self.after(down, Happening::Start(node));
        self.kill(node, power)
    }

    pub(super) fn kill(&mut self, node: usize, power: bool) -> Result<(), Broken> {
        if self.nodes[node].member.is_none() {
            return Ok(());
        }
        self.nodes[node].crash(power);
        self.asked.retain(|_, (asked, _)| *asked != node);
        self.break_connections(node);
        for at in (0..SEATS).filter(|at| *at != node) {
            if self.random.permille(800) {
                let delay = self.random.between(500, 3_000) * MICRO;
                self.after(delay, Happening::Lost { at, peer: node });
            }
        }
        for client in (0..CLIENTS).filter(|c| self.clients[*c].node == node).collect::<Vec<_>>() {
            let deeds = self.clients[client].disconnect(true);
            self.carry_out(client, deeds)?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].member.is_some() {
            return Ok(());
        }
        self.trace.line(self.now, format_args!("{node} starts"));
        if self.nodes[node].rot != Rot::None {
            return self.start_rotten(node);
        }
        self.begin_to_run(node)
    }

    /// Starts a member whose log is whole, as far as anybody knows.
    pub(super) fn begin_to_run(&mut self, node: usize) -> Result<(), Broken> {
        match self.nodes[node].start(self.now)? {
            Started::Unfit(why) => {
                return Err(format!("member {} found its log unfit: {why}", self.nodes[node].id));
            }
            Started::Full => {
                self.count("start held up by a full disk");
                self.after(FULL_AGAIN_NS, Happening::Start(node));
            }
            Started::Runs => self.started(node),
        }
        Ok(())
    }

    pub(super) fn started(&mut self, node: usize) {
        self.nodes[node].observe();
        self.usual_disk(node);
        self.arm(node);
    }
}
