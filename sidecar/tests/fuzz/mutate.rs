//! Inputs that are nearly right, and the time and memory that trying them may take.

use crate::model::Random;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of an input, at most.
const INPUT_MAX: usize = 64 * 1024;
/// Address space that a whole loop may take on top: a length or a count that is believed before
/// its bytes are there asks for gigabytes.
const MEMORY_MAX: u64 = 512 * 1024 * 1024;
/// Numbers at the edges of what fields hold.
pub const EXTREMES: [u64; 10] = [
    0,
    1,
    0x7f,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Seconds that each loop runs: `QUORATE_FUZZ_SECONDS`, or 1.
pub fn duration() -> Duration {
    let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// Files of a corpus, by name.
pub struct Corpus {
    pub files: Vec<(String, Vec<u8>)>,
}

pub fn corpus_path(decoder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(decoder)
}

impl Corpus {
    /// Reads it; with `REWRITE=1` writes it anew first.
    pub fn load(decoder: &str, make: impl FnOnce() -> Vec<(String, Vec<u8>)>) -> Corpus {
        let path = corpus_path(decoder);
        if std::env::var_os("REWRITE").is_some() {
            drop(std::fs::remove_dir_all(&path));
            std::fs::create_dir_all(&path).expect("it works here");
            for (name, bytes) in make() {
                std::fs::write(path.join(name), bytes).expect("it works here");
            }
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&path).expect("the corpus is part of the repository") {
            let entry = entry.expect("it works here");
            let name = entry.file_name().into_string().expect("a plain name");
            files.push((name, std::fs::read(entry.path()).expect("it works here")));
        }
        files.sort();
        assert!(!files.is_empty() && files.len() <= 20, "{decoder}: {} files", files.len());
        Corpus { files }
    }

    pub fn any(&self, random: &mut Random) -> &[u8] {
        &self.files[place(random, self.files.len())].1
    }
}

pub fn place(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("below a usize")
}

/// Changes an input in one to four ways.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = place(random, input.len() + 1);
        let most = 1 << random.below(8);
        let length = 1 + place(random, most);
        let end = input.len().min(at + length);
        match random.below(10) {
            0 | 1 if at < end => input[at] ^= 1 << random.below(8),
            2 if at < end => input[at] = random.bits().to_le_bytes()[0],
            3 => input.truncate(at),
            4 => drop(input.drain(at..end)),
            5 => {
                let noise: Vec<u8> = (0..length).map(|_| random.bits().to_le_bytes()[0]).collect();
                input.splice(at..at, noise);
            }
            6 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            7 => {
                let from = place(random, other.len() + 1);
                let piece = &other[from..other.len().min(from + length)];
                input.splice(at..end, piece.iter().copied());
            }
            _ => extreme(random, input, at),
        }
    }
    input.truncate(INPUT_MAX);
}

/// Writes a number from the edges over what is there, in one of the ways that formats use.
fn extreme(random: &mut Random, input: &mut [u8], at: usize) {
    let number = EXTREMES[place(random, EXTREMES.len())].wrapping_add(random.below(3));
    let bytes = match random.below(6) {
        0 => number.to_le_bytes()[..1].to_vec(),
        1 => number.to_le_bytes()[..2].to_vec(),
        2 => number.to_le_bytes()[..4].to_vec(),
        3 => number.to_le_bytes().to_vec(),
        // A varint, as long as they get.
        4 => vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        _ => vec![0xff, 0xff, 0xff, 0xff, 0x0f],
    };
    let end = input.len().min(at + bytes.len());
    input[at..end].copy_from_slice(&bytes[..end - at]);
}

/// Makes inputs, each from its own number alone, and tries them until the time is over. `check`
/// gives whether the input was taken.
pub fn run(
    decoder: &str,
    make: impl Fn(&mut Random) -> Vec<u8>,
    mut check: impl FnMut(&[u8]) -> bool,
) {
    let (start, time) = (Instant::now(), duration());
    let before = memory_peak();
    let (mut tried, mut taken) = (0, 0);
    while start.elapsed() < time {
        let input = make(&mut Random(tried));
        match catch_unwind(AssertUnwindSafe(|| check(&input))) {
            Ok(whether) => taken += u64::from(whether),
            Err(_) => panic!("{decoder}, input {tried}: {}", hex(&input)),
        }
        tried += 1;
        if tried % 64 == 0 {
            let grown = memory_peak().saturating_sub(before);
            assert!(grown < MEMORY_MAX, "{decoder}, before input {tried}: {grown} bytes more");
        }
    }
    eprintln!("{tried:9} inputs tried, {taken:9} taken: {decoder}");
    assert!(taken > 0 && taken < tried, "{decoder}: {taken} of {tried} taken");
}

fn hex(input: &[u8]) -> String {
    let shown = &input[..input.len().min(1024)];
    let mut text = format!("{} bytes ", input.len());
    for byte in shown {
        write!(text, "{byte:02x}").expect("it works here");
    }
    text
}

/// The most address space that the process ever had, in bytes.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it works here");
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).expect("it is there");
    let number = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    number.expect("a number of kilobytes") * 1024
}
