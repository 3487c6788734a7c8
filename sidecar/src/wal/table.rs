//! The decision of recovery, as a table: what was found, and what it means.
//!
//! Invariant: every situation matches exactly one row (a test goes through all of them). Order of
//! rows therefore means nothing. `docs/wal-format.md` prints the same table.

/// The segment files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// None at all.
    None,
    /// Only segment 1, and it was never begun.
    Unbegun,
    /// Consecutive, at least one begun; the next one is there if the last one is sealed.
    Begun,
    /// One is missing between others, or after a sealed one.
    Gap,
}

/// Whether the identity says that a log was once begun here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It does not.
    No,
    /// It does.
    Yes,
}

/// The headers of all segments, the worst of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Each fits its file, this member and the segment before it.
    Sound,
    /// One does not read, or is gone though its segment was written on; or a file's length is
    /// wrong.
    Damaged,
    /// One is of another member, number or version.
    Foreign,
}

/// The segments before the last one that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Each runs to its seal, and the next one's header continues it.
    Whole,
    /// One does not: and all of it was durable before the next was begun.
    Broken,
}

/// The marks of the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Each reads, or was never written.
    Sound,
    /// One does not read.
    Damaged,
}

/// Where the records of the last segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At or after the newest mark, with zeros behind.
    Clean,
    /// At or after the newest mark, with something behind that is no record.
    Torn,
    /// Before the newest mark.
    BeforeMark,
}

/// What the records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Each is known and possible.
    Sound,
    /// One is of an unknown kind, does not decode, or leaves a gap.
    Unknown,
}

/// The newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshots {
    /// No file, and none needed.
    None,
    /// It reads, and is at least as new as the log says.
    Sound,
    /// It does not read.
    Damaged,
    /// The log names a newer one than there is.
    Missing,
}

/// Snapshot and log together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// No entry is missing between them.
    Whole,
    /// The log starts after the entry that follows the snapshot.
    Gap,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// See [`Files`].
    pub files: Files,
    /// See [`Expected`].
    pub expected: Expected,
    /// See [`Headers`].
    pub headers: Headers,
    /// See [`Sealed`].
    pub sealed: Sealed,
    /// See [`Marks`].
    pub marks: Marks,
    /// See [`End`].
    pub end: End,
    /// See [`Content`].
    pub content: Content,
    /// See [`Snapshots`].
    pub snapshots: Snapshots,
    /// See [`Fit`].
    pub fit: Fit,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Begin a log.
    Begin,
    /// Go on where it ends.
    Continue,
    /// Go on where it ends, over what is behind.
    Cut,
    /// Touch nothing, never vote: why.
    Unfit(&'static str),
}

/// A row: what each column may be (empty: anything), and the decision.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    files: &'static [Files],
    expected: &'static [Expected],
    headers: &'static [Headers],
    sealed: &'static [Sealed],
    /// Marks and end together: a torn end is only proven harmless by sound marks.
    tail: &'static [(Marks, End)],
    content: &'static [Content],
    snapshots: &'static [Snapshots],
    fit: &'static [Fit],
    /// What to do.
    pub decision: Decision,
}

const BLANK: &[Files] = &[Files::None, Files::Unbegun];
const CLEAN: &[(Marks, End)] = &[(Marks::Sound, End::Clean), (Marks::Damaged, End::Clean)];
const TORN: &[(Marks, End)] = &[(Marks::Sound, End::Torn)];
const KEPT: &[(Marks, End)] =
    &[(Marks::Sound, End::Clean), (Marks::Damaged, End::Clean), (Marks::Sound, End::Torn)];
const READABLE: &[Snapshots] = &[Snapshots::None, Snapshots::Sound];

const ANY: Row = Row {
    files: &[],
    expected: &[],
    headers: &[],
    sealed: &[],
    tail: &[],
    content: &[],
    snapshots: &[],
    fit: &[],
    decision: Decision::Begin,
};
const BEGUN: Row = Row { files: &[Files::Begun], ..ANY };
const SOUND: Row = Row { headers: &[Headers::Sound], sealed: &[Sealed::Whole], ..BEGUN };
const READ: Row = Row { tail: KEPT, content: &[Content::Sound], ..SOUND };
const FITTING: Row = Row { snapshots: READABLE, fit: &[Fit::Whole], ..READ };

/// The table.
pub const ROWS: &[Row] = &[
    Row { files: &[Files::Gap], decision: Decision::Unfit("a segment is missing"), ..ANY },
    Row {
        files: BLANK,
        expected: &[Expected::Yes],
        decision: Decision::Unfit("the identity has a log, and the log is gone"),
        ..ANY
    },
    Row {
        files: BLANK,
        expected: &[Expected::No],
        snapshots: &[Snapshots::None],
        decision: Decision::Begin,
        ..ANY
    },
    Row {
        files: BLANK,
        expected: &[Expected::No],
        snapshots: &[Snapshots::Sound, Snapshots::Damaged, Snapshots::Missing],
        decision: Decision::Unfit("there is a snapshot, and the log is gone"),
        ..ANY
    },
    Row {
        headers: &[Headers::Damaged],
        decision: Decision::Unfit("a segment's header is damaged"),
        ..BEGUN
    },
    Row {
        headers: &[Headers::Foreign],
        decision: Decision::Unfit("a segment does not belong here"),
        ..BEGUN
    },
    Row {
        headers: &[Headers::Sound],
        sealed: &[Sealed::Broken],
        decision: Decision::Unfit("a segment before the last is damaged"),
        ..BEGUN
    },
    Row {
        tail: &[(Marks::Sound, End::BeforeMark), (Marks::Damaged, End::BeforeMark)],
        decision: Decision::Unfit("the log is damaged where it was synced"),
        ..SOUND
    },
    Row {
        tail: &[(Marks::Damaged, End::Torn)],
        decision: Decision::Unfit(
            "the log's end is damaged, and so is the mark that would judge it",
        ),
        ..SOUND
    },
    Row {
        tail: KEPT,
        content: &[Content::Unknown],
        decision: Decision::Unfit("a record makes no sense to this version"),
        ..SOUND
    },
    Row {
        snapshots: &[Snapshots::Damaged],
        decision: Decision::Unfit("the newest snapshot is damaged"),
        ..READ
    },
    Row {
        snapshots: &[Snapshots::Missing],
        decision: Decision::Unfit("the newest snapshot is missing"),
        ..READ
    },
    Row {
        snapshots: READABLE,
        fit: &[Fit::Gap],
        decision: Decision::Unfit("entries are missing before the log's first"),
        ..READ
    },
    Row { tail: CLEAN, decision: Decision::Continue, ..FITTING },
    Row { tail: TORN, decision: Decision::Cut, ..FITTING },
];

impl Row {
    /// Whether the situation is this row's.
    #[must_use]
    pub fn matches(&self, s: &Situation) -> bool {
        allows(self.files, s.files)
            && allows(self.expected, s.expected)
            && allows(self.headers, s.headers)
            && allows(self.sealed, s.sealed)
            && allows(self.tail, (s.marks, s.end))
            && allows(self.content, s.content)
            && allows(self.snapshots, s.snapshots)
            && allows(self.fit, s.fit)
    }
}

fn allows<T: PartialEq>(column: &[T], found: T) -> bool {
    column.is_empty() || column.contains(&found)
}

/// The decision for a situation.
#[must_use]
pub fn decide(situation: &Situation) -> Decision {
    let row = ROWS.iter().find(|row| row.matches(situation));
    row.expect("every situation matches a row: tested over all of them").decision
}
