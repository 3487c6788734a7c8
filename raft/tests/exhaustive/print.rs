//! Fingerprints of states, and the set of those seen.

use std::hash::Hasher;

/// 64 bits of everything that was hashed.
#[derive(Default)]
pub struct Print(u64);

impl Hasher for Print {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        let z = (self.0.rotate_left(23) ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }
}

pub fn print(what: impl FnOnce(&mut Print)) -> u64 {
    let mut print = Print::default();
    what(&mut print);
    print.finish()
}

/// The fingerprints seen: open addressing; 0 is free.
#[derive(Default)]
pub struct Seen {
    slots: Vec<u64>,
    pub count: usize,
}

impl Seen {
    /// Gives whether it is new.
    pub fn insert(&mut self, print: u64) -> bool {
        let print = print.max(1);
        if self.count * 4 >= self.slots.len() * 3 {
            let larger = Seen { slots: vec![0; self.slots.len().max(512) * 2], count: 0 };
            let old = std::mem::replace(self, larger);
            for slot in old.slots.into_iter().filter(|slot| *slot != 0) {
                self.insert(slot);
            }
        }
        let at = self.place(print);
        if self.slots[at] == print {
            return false;
        }
        self.slots[at] = print;
        self.count += 1;
        true
    }

    pub fn contains(&self, print: u64) -> bool {
        let print = print.max(1);
        self.count > 0 && self.slots[self.place(print)] == print
    }

    /// Where it is, or would be.
    fn place(&self, print: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(print >> 8).expect("64 bits") & mask;
        while self.slots[at] != 0 && self.slots[at] != print {
            at = (at + 1) & mask;
        }
        at
    }
}
