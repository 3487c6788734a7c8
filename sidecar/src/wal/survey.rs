//! Reading a log: what is there, what it means, and the state that it leaves.
//!
//! Invariants: nothing here writes; no bytes make it panic; a record counts only behind all records
//! before it; after the first that does not count nothing does.

use super::disk::{FileName, Source, narrow, wide};
use super::format::{self, Header, HeaderFound, Mark, MarkFound, Next};
use super::replay::Replay;
use super::table::{
    Content, Decision, End, Expected, Files, Fit, Headers, Marks, Sealed, Situation, Snapshots,
    decide,
};
use super::{OpenError, snapshot};
use crate::planted::{self, Bug};
use quorate_raft::{Index, LogId, MemberId, Snapshot};
use std::collections::BTreeMap;

/// Where the records of a segment end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    /// The segment.
    pub number: u64,
    /// The version of its format.
    pub version: u32,
    /// The file's length.
    pub bytes: u64,
    /// The end.
    pub offset: u64,
    /// The chain there.
    pub chain: u64,
    /// The number of the next mark.
    pub marks: u64,
    /// Whether the last record is a seal.
    pub sealed: bool,
    /// The highest index that an entry of this segment has.
    pub highest: Index,
}

/// What reading found.
#[derive(Debug)]
pub struct Survey {
    /// The row's input.
    pub situation: Situation,
    /// The row's output.
    pub decision: Decision,
    /// The first thing that is wrong, or what was cut, as a sentence; empty: nothing.
    pub detail: String,
    /// The state after all records that count.
    pub replay: Replay,
    /// The newest snapshot, if it reads.
    pub snapshot: Option<Snapshot>,
    /// Where to go on.
    pub tail: Tail,
    /// The segments before it.
    pub sealed: Vec<Tail>,
    /// Segments after it, not begun.
    pub unbegun: Vec<u64>,
    /// All snapshot files.
    pub snapshots: Vec<LogId>,
    /// All spare files.
    pub spares: Vec<u64>,
    /// All files in the making.
    pub drafts: Vec<u64>,
    newest: u32,
}

/// Reads everything, of versions of the format up to `newest`.
///
/// # Errors
/// Only the operating system's; whatever the files hold is an answer.
pub fn survey(
    source: &impl Source,
    member: MemberId,
    expected: Expected,
    newest: u32,
) -> Result<Survey, OpenError> {
    let mut survey = Survey::new(expected, newest);
    let logs = survey.names(source)?;
    survey.segments(source, member, &logs)?;
    survey.newest_snapshot(source, member)?;
    survey.fit();
    survey.decision = decide(&survey.situation);
    Ok(survey)
}

impl Survey {
    fn new(expected: Expected, newest: u32) -> Survey {
        Survey {
            situation: Situation {
                files: Files::None,
                expected,
                headers: Headers::Sound,
                sealed: Sealed::Whole,
                marks: Marks::Sound,
                end: End::Clean,
                content: Content::Sound,
                snapshots: Snapshots::None,
                fit: Fit::Whole,
            },
            decision: Decision::Begin,
            detail: String::new(),
            replay: Replay::default(),
            snapshot: None,
            tail: Tail::default(),
            sealed: Vec::new(),
            unbegun: Vec::new(),
            snapshots: Vec::new(),
            spares: Vec::new(),
            drafts: Vec::new(),
            newest,
        }
    }

    /// Sorts the names; gives the segments and their lengths.
    fn names(&mut self, source: &impl Source) -> Result<BTreeMap<u64, u64>, OpenError> {
        let names = source.list().map_err(|error| OpenError::Log {
            doing: "list the files of",
            file: None,
            error,
        })?;
        let mut logs = BTreeMap::new();
        for name in names {
            match FileName::parse(&name) {
                Some(file @ FileName::Log(number)) => {
                    let size = source.size(file).map_err(|error| reading(file, error))?;
                    logs.insert(number, size);
                }
                Some(FileName::Spare(number)) => self.spares.push(number),
                Some(FileName::Draft(number)) => self.drafts.push(number),
                Some(FileName::Snapshot(last)) => self.snapshots.push(last),
                None => {}
            }
        }
        self.spares.sort_unstable();
        self.drafts.sort_unstable();
        self.snapshots.sort_unstable_by_key(|last| (last.index, last.term));
        Ok(logs)
    }

    fn segments(
        &mut self,
        source: &impl Source,
        member: MemberId,
        logs: &BTreeMap<u64, u64>,
    ) -> Result<(), OpenError> {
        let mut previous: Option<u64> = None;
        for number in logs.keys().copied() {
            if previous.is_some_and(|previous| previous.checked_add(1) != Some(number)) {
                self.missing(number - 1);
            }
            previous = Some(number);
            let file = FileName::Log(number);
            let segment = source.read(file).map_err(|error| reading(file, error))?;
            self.segment(&segment, number, member);
        }
        if self.situation.files == Files::Begun && self.tail.sealed && self.unbegun.is_empty() {
            self.missing(self.tail.number + 1);
        }
        let first_only = self.unbegun.len() <= 2 && self.unbegun.first() == Some(&1);
        if self.situation.files == Files::None && !self.unbegun.is_empty() {
            if first_only {
                self.situation.files = Files::Unbegun;
            } else {
                self.missing(1);
            }
        }
        Ok(())
    }

    fn missing(&mut self, number: u64) {
        self.situation.files = Files::Gap;
        self.note(|| format!("{} is missing", FileName::Log(number)));
    }

    fn segment(&mut self, segment: &[u8], number: u64, member: MemberId) {
        let found = Header::decode(segment, self.newest);
        if found == HeaderFound::Zero && !has_marks(segment) {
            self.unbegun.push(number);
            return;
        }
        if self.situation.files == Files::None {
            self.situation.files = Files::Begun;
        }
        let HeaderFound::Valid(header) = found else {
            let foreign = matches!(found, HeaderFound::Version(_));
            return self.header(foreign, number, || match found {
                HeaderFound::Version(version) => format!("its format is of version {version}"),
                _ => "its header does not read".to_owned(),
            });
        };
        if !self.unbegun.is_empty() {
            return self.header(false, number, || "the segment before it was not begun".to_owned());
        }
        if header.bytes != wide(segment.len()) {
            let length = segment.len();
            return self.header(false, number, || {
                format!("it has {length} bytes and its header says {}", header.bytes)
            });
        }
        if header.member != member || header.number != number {
            return self.header(true, number, || {
                format!("its header says segment {} of member {}", header.number, header.member)
            });
        }
        self.begun(segment, &header);
    }

    fn header(&mut self, foreign: bool, number: u64, why: impl FnOnce() -> String) {
        if self.situation.headers == Headers::Sound {
            self.situation.headers = if foreign { Headers::Foreign } else { Headers::Damaged };
        }
        self.note(|| format!("{}: {}", FileName::Log(number), why()));
    }

    /// A segment with a good header: the last so far.
    fn begun(&mut self, segment: &[u8], header: &Header) {
        let before = std::mem::take(&mut self.tail);
        if before.number == 0 {
            self.replay.begin(header);
        } else {
            let linked = header.previous == before.chain && self.replay.agrees(header);
            if !before.sealed || !linked || self.situation.end != End::Clean {
                self.situation.sealed = Sealed::Broken;
                let why = if before.sealed { "does not lead to" } else { "ends before" };
                let (old, new) = (FileName::Log(before.number), FileName::Log(header.number));
                self.note(|| format!("{old} {why} {new}"));
            }
            self.sealed.push(before);
        }
        self.situation.marks = Marks::Sound;
        self.situation.end = End::Clean;
        let mark = self.marks(segment, header.number);
        self.tail = Tail {
            number: header.number,
            version: header.version,
            bytes: header.bytes,
            offset: format::PAGE_BYTES,
            chain: format::seed(header.number, header.member),
            marks: mark.map_or(0, |mark| mark.count.saturating_add(1)),
            ..Tail::default()
        };
        self.records(segment, mark);
    }

    /// The newest mark that reads.
    fn marks(&mut self, segment: &[u8], number: u64) -> Option<Mark> {
        let mut newest: Option<Mark> = None;
        for offset in format::MARK_OFFSETS {
            match Mark::decode(segment, number, offset) {
                MarkFound::Zero => {}
                MarkFound::Valid(mark) => {
                    if newest.is_none_or(|newest| mark.offset >= newest.offset) {
                        newest = Some(mark);
                    }
                }
                MarkFound::Damaged => {
                    self.situation.marks = Marks::Damaged;
                    self.note(|| format!("{}: a mark does not read", FileName::Log(number)));
                }
            }
        }
        newest
    }

    fn records(&mut self, segment: &[u8], mark: Option<Mark>) {
        let number = self.tail.number;
        let mut proven = mark.is_none();
        loop {
            let at = narrow(self.tail.offset);
            if let Some(mark) = mark.filter(|mark| mark.offset == self.tail.offset) {
                proven = mark.chain == self.tail.chain;
            }
            if self.tail.sealed {
                break;
            }
            match format::next_record(segment, at, self.tail.chain) {
                Next::Record { kind, body, end, chain } => {
                    self.tail.offset = wide(end);
                    self.tail.chain = chain;
                    self.record(kind, body, at);
                }
                Next::End => break,
                Next::Broken(why) => {
                    self.situation.end = End::Torn;
                    self.note(|| format!("{}, byte {at}: {why}", FileName::Log(number)));
                    break;
                }
            }
        }
        if !self.tail.sealed && self.tail.offset + format::SEAL_BYTES > self.tail.bytes {
            self.situation.content = Content::Unknown;
            self.note(|| format!("{}: no room is left to seal it", FileName::Log(number)));
        }
        if !proven && !planted::is(Bug::RotTakenForTornTail) {
            self.situation.end = End::BeforeMark;
            let (end, synced) = (self.tail.offset, mark.map_or(0, |mark| mark.offset));
            self.note(|| format!("{}: synced up to byte {synced}", FileName::Log(number)));
            self.note_also(|| format!("records count up to byte {end}, synced were {synced}"));
        }
    }

    fn record(&mut self, kind: u8, body: &[u8], at: usize) {
        let number = self.tail.number;
        if kind == format::SEAL {
            let next = number.checked_add(1);
            self.tail.sealed = next.is_some() && format::number_record(body) == next;
            if self.tail.sealed {
                return;
            }
        }
        match self.replay.record(kind, body, number) {
            Ok(index) => self.tail.highest = self.tail.highest.max(index),
            Err(why) => {
                self.situation.content = Content::Unknown;
                self.note(|| format!("{}, byte {at}: {why}", FileName::Log(number)));
            }
        }
    }

    fn newest_snapshot(&mut self, source: &impl Source, member: MemberId) -> Result<(), OpenError> {
        let needed = self.replay.snapshot;
        let Some(last) = self.snapshots.last().copied() else {
            if needed != LogId::ZERO {
                self.situation.snapshots = Snapshots::Missing;
                self.note(|| format!("{} is missing", FileName::Snapshot(needed)));
            }
            return Ok(());
        };
        let file = FileName::Snapshot(last);
        let bytes = source.read(file).map_err(|error| reading(file, error))?;
        match snapshot::decode(&bytes, member, last) {
            Ok(_) if last.index < needed.index => {
                self.situation.snapshots = Snapshots::Missing;
                self.note(|| format!("{} is missing", FileName::Snapshot(needed)));
            }
            Ok(snapshot) => {
                self.situation.snapshots = Snapshots::Sound;
                self.snapshot = Some(snapshot);
            }
            Err(why) => {
                self.situation.snapshots = Snapshots::Damaged;
                self.note(|| format!("{file}: {why}"));
            }
        }
        Ok(())
    }

    fn fit(&mut self) {
        let covered = self.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.last.index);
        if self.replay.base > covered {
            self.situation.fit = Fit::Gap;
            let first = self.replay.base.next().0;
            let covered = covered.0;
            self.note(|| {
                format!("the log starts at index {first}, the snapshot ends at {covered}")
            });
        }
        // One that the log does not name yet replaces it; one that it names is part of it.
        let named = self.snapshot.as_ref().map(|snapshot| snapshot.last);
        if let Some(last) = named.filter(|last| last.index <= self.replay.snapshot.index)
            && !self.replay.holds(last)
        {
            self.situation.content = Content::Unknown;
            self.note(|| format!("the log names a snapshot at {last} and has no such entry"));
        }
    }

    /// Keeps the first: what follows from it would hide it.
    fn note(&mut self, sentence: impl FnOnce() -> String) {
        if self.detail.is_empty() {
            self.detail = sentence();
        }
    }

    fn note_also(&mut self, sentence: impl FnOnce() -> String) {
        self.detail.push_str("; ");
        self.detail.push_str(&sentence());
    }
}

fn has_marks(segment: &[u8]) -> bool {
    let marks = segment.get(narrow(format::SECTOR_BYTES)..narrow(format::PAGE_BYTES));
    marks.is_none_or(|marks| marks.iter().any(|byte| *byte != 0))
}

fn reading(file: FileName, error: std::io::Error) -> OpenError {
    OpenError::Log { doing: "read", file: Some(file), error }
}
