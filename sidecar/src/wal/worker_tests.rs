//! Which job is next while a segment waits for room.

use super::*;

fn job(id: u64, kind: JobKind) -> Job {
    Job { id, kind, batch: Batch::default() }
}

#[test]
fn no_segment_overtakes_the_one_that_waits_for_room() {
    let shared = Shared::new(Box::new(|_| {}));
    shared.start(job(2, JobKind::Segment));
    shared.start(job(3, JobKind::Retire));
    let mut held = Some((job(1, JobKind::Segment), Instant::now()));
    let order: Vec<u64> =
        (0..3).filter_map(|_| next_job(&shared, &mut held)).map(|job| job.id).collect();
    assert_eq!(order, [3, 1, 2], "what may make room, the one that waits, the one after it");
}
