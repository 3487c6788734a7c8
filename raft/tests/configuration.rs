//! The encoding of a configuration: with its index in a snapshot, without in an entry.

use quorate_raft::{Configuration, Index, Malformed, MemberId};

fn example(index: u64) -> Configuration {
    let set = |ids: &[u128]| ids.iter().map(|id| (MemberId(*id), format!("m{id}"))).collect();
    let (incoming, outgoing, learners) = (set(&[1, 2, u128::MAX]), set(&[2, 3]), set(&[4]));
    Configuration { incoming, outgoing, learners, index: Index(index) }
}

#[test]
fn what_was_encoded_decodes_and_gives_what_follows() {
    for configuration in [example(0), example(7), example(u64::MAX), Configuration::default()] {
        let mut bytes = configuration.encode();
        bytes.extend_from_slice(b"context");
        assert_eq!(Configuration::decode(&bytes), Ok((configuration, &b"context"[..])));
    }
}

/// Entries and snapshots of before there was an index stay readable, byte for byte.
#[test]
fn without_an_index_the_encoding_is_the_three_sets_alone() {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&5_u128.to_le_bytes());
    bytes.extend_from_slice(&[1, b'm', 0, 0]);
    let configuration = Configuration::of_voters([(MemberId(5), "m".to_owned())]);
    assert_eq!(configuration.encode(), bytes);
    assert_eq!(Configuration::decode(&bytes), Ok((configuration, &[][..])));
}

#[test]
fn every_cut_is_found() {
    let bytes = example(7).encode();
    for length in 0..bytes.len() {
        assert_eq!(Configuration::decode(&bytes[..length]), Err(Malformed::Short), "{length}");
    }
    assert_eq!(Configuration::decode(&[0x80, 0, 0]), Err(Malformed::Field("members")));
}
