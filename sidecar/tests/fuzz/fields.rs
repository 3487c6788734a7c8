//! Changes inside a message that leave the lengths around them right: bytes turned anywhere mostly
//! break the frame, and what lies deep in it is never reached.

use crate::model::Random;
use crate::mutate::{EXTREMES, mutate, place};

/// A field: its tag as it was, and its content; of one with a length without that length.
struct Field {
    tag: u64,
    content: Vec<u8>,
}

const WITH_LENGTH: u64 = 2;

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// The fields of a message; `None`: it is none.
fn fields(bytes: &[u8]) -> Option<Vec<Field>> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let length = match tag & 7 {
            0 => {
                let before = rest;
                take_varint(&mut rest)?;
                let length = before.len() - rest.len();
                rest = before;
                length
            }
            1 => 8,
            WITH_LENGTH => usize::try_from(take_varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        all.push(Field { tag, content: content.to_vec() });
        rest = after;
    }
    Some(all)
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { tag, content } in fields {
        put_varint(*tag, &mut out);
        if tag & 7 == WITH_LENGTH {
            put_varint(content.len() as u64, &mut out);
        }
        out.extend_from_slice(content);
    }
    out
}

/// Changes one field of a message, or of a message in it, or which fields there are.
pub fn mutate_message(random: &mut Random, message: &mut Vec<u8>, other: &[u8]) {
    let Some(mut fields) = fields(message).filter(|fields| !fields.is_empty()) else {
        return mutate(random, message, other);
    };
    let at = place(random, fields.len());
    match random.below(10) {
        0 => drop(fields.remove(at)),
        1 => {
            let Field { tag, content } = &fields[at];
            let again = Field { tag: *tag, content: content.clone() };
            fields.insert(at, again);
        }
        2 => fields[at].tag ^= 1 << (3 + random.below(4)),
        _ if fields[at].tag & 7 == WITH_LENGTH && random.below(4) > 0 => {
            mutate_message(random, &mut fields[at].content, other);
        }
        _ if fields[at].tag & 7 == 0 => {
            let value = EXTREMES[place(random, EXTREMES.len())].wrapping_sub(random.below(3));
            fields[at].content.clear();
            put_varint(value, &mut fields[at].content);
        }
        _ => mutate(random, &mut fields[at].content, other),
    }
    *message = encode(&fields);
}
