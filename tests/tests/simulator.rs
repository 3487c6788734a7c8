//! One seed decides everything.

use quorate_tests::simulator::world::run_seed;

#[test]
fn equal_seeds_are_equal_runs() {
    let [first, again, other] = [7, 7, 8].map(|seed| run_seed(seed, 125, false));
    for report in [&first, &again, &other] {
        assert_eq!(report.broken, None);
        assert!(report.acknowledged > 50, "{} operations", report.acknowledged);
    }
    assert_eq!((first.trace, first.events), (again.trace, again.events));
    assert_ne!(first.trace, other.trace);
}
