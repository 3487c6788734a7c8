//! The bytes themselves: a log of known writes is known bytes. `REWRITE=1` writes the file anew; a
//! change of it is a change of the format, and needs another version number.

use quorate_raft::{Configuration, Entry, IoSeq, Kind, LogId, MemberId, Snapshot, Term, Write};
use quorate_sidecar::wal::{FileName, SimDisk, Source, Wal};
use std::fmt::Write as _;
use std::path::Path;

const ME: MemberId = MemberId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

fn written() -> SimDisk {
    let mut disk = SimDisk::new(1);
    disk.set_segment_bytes(8 * 1024);
    let (mut wal, _) = Wal::open(&mut disk, ME).expect("it works here");
    let entry = |index, kind, payload: &[u8]| Entry::new(LogId::new(2, index), kind, payload);
    let configuration = Configuration::of_voters([(ME, "a".to_owned())]);
    let snapshot = Snapshot { last: LogId::new(2, 9), configuration, data: (*b"state").into() };
    let writes = [
        Write::HardState { term: Term(2), vote: Some(MemberId(3)) },
        Write::Append(vec![entry(1, Kind::Noop, b""), entry(2, Kind::Command, b"hello")]),
        Write::Install { snapshot, keep_suffix: false },
        Write::Append(vec![entry(10, Kind::Command, b"after")]),
    ];
    let numbered = (1..).map(IoSeq).zip(writes);
    for write in numbered {
        wal.submit(&mut vec![write]);
        let disk = wal.disk_mut();
        while let Some(at) = disk.next_completion() {
            disk.completed(at);
        }
    }
    wal.close();
    disk
}

fn dump(disk: &SimDisk) -> String {
    let mut out = String::new();
    for file in disk.list().expect("it works here").iter().filter_map(|name| FileName::parse(name))
    {
        let bytes = disk.read(file).expect("it works here");
        writeln!(out, "{file}: {} bytes, but for zeros:", bytes.len()).expect("it works here");
        for (line, chunk) in bytes.chunks(16).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(out, "{:08x}  {}", line * 16, hex.join(" ")).expect("it works here");
            }
        }
    }
    out
}

#[test]
fn known_writes_are_known_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/wal/version-1.txt");
    let found = dump(&written());
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "the format changed");
}
