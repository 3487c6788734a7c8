//! Seeds that once showed something, each with what it was. They are run first.

/// (seed, what it showed)
pub const KEPT: [(u64, &str); 2] = [
    (634, "a session seemed to outlive its client: the operator changed the membership at the end"),
    (1277, "the founding entry was lost before it was durable, and nobody asked for it again"),
];
