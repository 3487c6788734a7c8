//! What is done to the group, and what is measured of it.

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The leading application is killed -9.
    ChildKilled,
    /// The leading application's wrapper is killed -9.
    WrapperKilled,
    /// The Raft leader is killed -9.
    RaftLeaderKilled,
    /// The leading application's sidecar is killed -9, and is back after half a second.
    SidecarKilled,
    /// The Raft leader is stopped for three seconds.
    RaftLeaderStopped,
    /// The leading application is asked to end.
    Graceful,
}

impl Fault {
    /// In the order of the demo.
    pub const ALL: [Fault; 6] = [
        Fault::ChildKilled,
        Fault::RaftLeaderKilled,
        Fault::WrapperKilled,
        Fault::SidecarKilled,
        Fault::Graceful,
        Fault::RaftLeaderStopped,
    ];

    /// What the table calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::ChildKilled => "leading child killed -9",
            Fault::WrapperKilled => "its wrapper killed -9",
            Fault::RaftLeaderKilled => "Raft leader killed -9",
            Fault::SidecarKilled => "leader's sidecar killed, back",
            Fault::RaftLeaderStopped => "Raft leader stopped for 3 s",
            Fault::Graceful => "leading application ended",
        }
    }

    /// The bars: (what, p50 in ms, max in ms).
    #[must_use]
    pub fn bars(self) -> &'static [(Measure, Option<u64>, Option<u64>)] {
        match self {
            Fault::ChildKilled | Fault::Graceful => &[(Measure::NameGap, Some(50), None)],
            Fault::WrapperKilled => {
                &[(Measure::NameGap, Some(1_200), None), (Measure::ChildGone, None, Some(50))]
            }
            Fault::RaftLeaderKilled => &[(Measure::GroupGap, Some(50), Some(1_500))],
            Fault::SidecarKilled | Fault::RaftLeaderStopped => &[],
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// The longest time without a success of the prober at any surviving member.
    GroupGap,
    /// From the end of the old child to the next grant.
    NameGap,
    /// From the kill of a wrapper to the end of its child.
    ChildGone,
}

impl Measure {
    /// What the table calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::GroupGap => "group gap",
            Measure::NameGap => "name gap",
            Measure::ChildGone => "child gone",
        }
    }
}

/// What one fault came to: ns by measure, and promises that it broke.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was measured.
    pub measured: Vec<(Measure, u64)>,
    /// What was promised and did not hold.
    pub broken: Vec<String>,
}
