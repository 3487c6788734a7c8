//! The searches find the bugs that are planted, each with the shortest way to what it breaks.

use crate::change::{self, Change};
use crate::crash::{self, Crash};
use crate::search::{Failed, shortest};
use crate::{alone, number};
use quorate_raft::Term;
use quorate_raft::planted::{Bug, plant};

/// What to search.
#[derive(Clone, Copy, Debug)]
enum Search {
    /// A crash and a command.
    Crash,
    /// The same with messages out of order and again, and a write that ends late.
    Again,
    /// No crash, no command, five terms.
    Alone,
    /// No crash, a command and two reads.
    Reads,
    /// No crash, two commands and a read.
    Clients,
    /// Four servers, a change to these, and so many terms.
    Change(&'static [u8], u64),
    /// The same in three terms, and whoever stands has restarted.
    Restarts(&'static [u8]),
}

/// Which search finds which bug.
const FOUND: &[(Bug, Search)] = &[
    (Bug::VoteBeforeDurable, Search::Crash),
    (Bug::EntriesBeforeSync, Search::Crash),
    (Bug::OwnEntryBeforeFlush, Search::Crash),
    (Bug::OldWriteCounts, Search::Again),
    (Bug::OldTermByCounting, Search::Alone),
    (Bug::AcknowledgesMore, Search::Clients),
    (Bug::StaleAcknowledgement, Search::Crash),
    (Bug::AppendAlwaysTruncates, Search::Again),
    (Bug::CommitByIndex, Search::Alone),
    (Bug::PreviousByIndex, Search::Alone),
    (Bug::VoteByLength, Search::Change(&[1, 2, 3, 4], 4)),
    (Bug::VoteForgotten, Search::Crash),
    (Bug::PreVoteFreesVote, Search::Crash),
    (Bug::QuorumInOrder, Search::Crash),
    (Bug::QuorumOfUnion, Search::Change(&[1], 3)),
    (Bug::HalfAlone, Search::Change(&[1], 3)),
    (Bug::BeginLoose, Search::Change(&[1], 3)),
    (Bug::AbortLoose, Search::Change(&[2, 3, 4], 4)),
    (Bug::LeaveLoose, Search::Change(&[2, 3, 4], 4)),
    (Bug::RestartForgetsConfiguration, Search::Restarts(&[1])),
    (Bug::TruncationKeepsConfiguration, Search::Change(&[1], 3)),
    (Bug::ReadBeforeNoOp, Search::Reads),
    (Bug::ReadJoinsOlderRound, Search::Reads),
    (Bug::ReadByLease, Search::Reads),
];

/// Bugs that no search of these can find: why.
const BEYOND: &[(Bug, &str)] = &[
    (Bug::PreVoteTermIgnored, "nothing false happens, nobody is elected"),
    (Bug::VoteByOwnConfiguration, "nothing false happens, nobody is elected"),
    (Bug::NoStickiness, "stickiness never stands in the way here"),
    (Bug::StalledDiskLeads, "no time passes"),
    (Bug::QuorumOfTheLive, "no time passes"),
    (Bug::SilentHalfKept, "no time passes"),
    (Bug::TransferForEver, "no time passes, and nothing is transferred"),
    (Bug::ForgetfulCounts, "no disk goes back to what it was"),
    (Bug::DrainedNeverStands, "nobody is drained"),
    (Bug::StuckIsSentAll, "nothing false happens, it costs traffic"),
    (Bug::BehindByOne, "no snapshots"),
    (Bug::InstallKeepsConfiguration, "no snapshots"),
    (Bug::SnapshotOfLaterConfiguration, "no snapshots"),
    (Bug::InstallDropsSuffix, "no snapshots"),
];

fn change(first: &'static [u8], terms: u64, restarts: bool) -> change::Bound {
    change::Bound { first, second: &[], terms: Term(terms), restarts }
}

fn find(search: Search) -> Result<usize, Failed> {
    let most = number("STATES", 3_000_000);
    let crash = crash::Bound {
        terms: Term(3),
        crashes: 1,
        disks: 0,
        commands: 1,
        reads: 0,
        late: 0,
        again: false,
        blank_votes: false,
    };
    let calm = crash::Bound { crashes: 0, ..crash };
    let bound = match search {
        Search::Crash => crash,
        Search::Again => crash::Bound { late: 1, again: true, ..crash },
        Search::Alone => crash::Bound { terms: Term(5), commands: 0, ..calm },
        Search::Reads => crash::Bound { reads: 2, ..calm },
        Search::Clients => crash::Bound { commands: 2, reads: 1, ..calm },
        Search::Change(first, terms) => {
            return shortest(&Change::new(change(first, terms, false)), most);
        }
        Search::Restarts(first) => {
            return shortest(&Change::new(change(first, 3, true)), most);
        }
    };
    shortest(&Crash::new(bound), most)
}

/// `ONLY=name` tries one bug.
#[test]
fn planted_bugs_are_found() {
    let _alone = alone();
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut missed = Vec::new();
    for (bug, search) in FOUND.iter().filter(|(bug, _)| only.is_empty() || bug.name() == only) {
        plant(Some(*bug));
        match find(*search) {
            Err(failed @ Failed::Broken { .. }) => {
                eprintln!("{}, in {search:?}: {failed}", bug.name());
            }
            other => missed.push(format!("{}, in {search:?}: {other:?}", bug.name())),
        }
    }
    plant(None);
    drop(std::panic::take_hook());
    for (bug, why) in BEYOND {
        eprintln!("{}: out of reach: {why}", bug.name());
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert_eq!(FOUND.len() + BEYOND.len(), Bug::ALL.len(), "each bug is in one of the tables");
}
