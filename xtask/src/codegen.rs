//! `cargo xtask codegen`: makes `proto/src/generated` from `proto/proto`, without `protoc`.

use crate::outcome::Outcome;
use crate::{cargo, show};
use prost::Message as _;
use std::collections::BTreeMap;
use std::path::Path;

const FILES: [&str; 3] =
    ["quorate/v1/quorate.proto", "quorate/admin/v1/admin.proto", "quorate/peer/v1/peer.proto"];
const GENERATED: &str = "proto/src/generated";
const USAGE: &str = "\
Makes proto/src/generated from the contracts in proto/proto. It needs no protoc.

  cargo xtask codegen           writes the files
  cargo xtask codegen --check   writes nothing; fails if the committed files are not these";

/// The verb.
pub fn run(args: &[&str]) -> Result<(), String> {
    match args {
        [] => generate(Path::new(GENERATED)),
        ["--check"] => {
            let outcome = check();
            show::say(&outcome.words);
            if outcome.tally.failed > 0 { Err("the code is stale".to_owned()) } else { Ok(()) }
        }
        ["--help" | "-h"] => {
            show::say(USAGE);
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

/// The level: the committed code is what the contracts give.
pub fn level(_: &[&str]) -> Outcome {
    check()
}

fn check() -> Outcome {
    Outcome::of(compare().and_then(|(files, faults)| {
        if faults.is_empty() {
            return Ok(format!("{files} generated files are fresh"));
        }
        Err(format!("{}\nrun: cargo xtask codegen", faults.join("\n")))
    }))
}

fn compare() -> Result<(usize, Vec<String>), String> {
    let fresh = cargo::target_dir()?.join("codegen-check");
    // What an earlier check left is of no use; most times there is nothing.
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    generate(&fresh)?;
    let (now, committed) = (read_all(&fresh)?, read_all(Path::new(GENERATED))?);
    let mut faults = Vec::new();
    for (name, bytes) in &now {
        match committed.get(name) {
            None => faults.push(format!("{GENERATED}/{name} is missing")),
            Some(old) if old != bytes => faults.push(format!("{GENERATED}/{name} is stale")),
            Some(_) => {}
        }
    }
    let extra = committed.keys().filter(|name| !now.contains_key(*name));
    faults.extend(extra.map(|name| format!("{GENERATED}/{name} comes from no contract")));
    Ok((now.len(), faults))
}

fn read_all(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = std::fs::read(entry.path()).map_err(failed)?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(files)
}

/// Generates into `into`, which exists.
fn generate(into: &Path) -> Result<(), String> {
    let set = protox::compile(FILES, ["proto/proto"]).map_err(|e| format!("{e:?}"))?;
    std::fs::write(into.join("descriptor_set.bin"), set.encode_to_vec())
        .map_err(|e| format!("{}: {e}", into.display()))?;
    tonic_prost_build::configure()
        .bytes(".quorate.peer.v1.Append.entries")
        .build_transport(false)
        .out_dir(into)
        .compile_fds(set)
        .map_err(|e| e.to_string())
}
