//! Scripts that show what a rule is for: with the rule left out, the same events make two truths.
//! Only in builds with the feature `planted`; a binary of its own, because a planted bug is in the
//! whole process.
#![cfg(feature = "planted")]

#[cfg(test)]
#[path = "../disk/mod.rs"]
mod disk;
#[cfg(test)]
#[path = "../golden/show.rs"]
mod show;
#[cfg(test)]
#[path = "../golden/words.rs"]
mod words;
#[cfg(test)]
#[path = "../golden/world.rs"]
mod world;

#[cfg(test)]
use quorate_raft::planted::{Bug, plant};

#[cfg(test)]
const LOOSE: [(Bug, &str); 4] = [
    (Bug::AbortLoose, include_str!("../../testdata/node/loose-abort-would-make-two-truths")),
    (Bug::LeaveLoose, include_str!("../../testdata/node/loose-leave-would-make-two-truths")),
    (
        Bug::OldTermByCounting,
        include_str!(
            "../../testdata/node/previous-term-commitment-figure-8-abcd-the-entry-is-replaced"
        ),
    ),
    (
        Bug::PreviousByIndex,
        include_str!("../../testdata/node/six-follower-logs-against-a-new-leader"),
    ),
];

#[test]
fn loose_rules_make_two_truths() {
    for (bug, script) in LOOSE {
        let (input, _) = script.split_once("\n\n").unwrap();
        let two_truths = |bug| {
            plant(bug);
            let text = words::run(input);
            (text.contains("TWO TRUTHS"), text)
        };
        let (strict, text) = two_truths(None);
        assert!(!strict, "the rule itself makes two truths:\n{text}");
        let (loose, text) = two_truths(Some(bug));
        assert!(loose, "{bug:?} makes no two truths:\n{text}");
    }
    plant(None);
}
