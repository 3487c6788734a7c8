//! Seeds that once showed something, each with what it was. They are run first.

/// (seed, what it showed)
pub const KEPT: [(u64, &str); 7] = [
    (634, "a session seemed to outlive its client: the operator changed the membership at the end"),
    (1277, "the founding entry was lost before it was durable, and nobody asked for it again"),
    (163, "a segment that waited for room was forgotten for the next one"),
    (232, "a member found its disk full at the start"),
    (1429, "a refused copy of a claim, on a full disk, took back the grant that had been told"),
    (179_595_221_704_802, "a call arrived after its own end: the simulator's fault, no sidecar's"),
    (179_597_307_001_323, "a write that went astray had replaced entries, and these were back"),
];
