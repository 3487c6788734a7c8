//! `cargo xtask codegen`: makes `proto/src/generated` from `proto/proto`, without `protoc`.

use prost::Message as _;
use std::path::Path;

const FILES: [&str; 3] =
    ["quorate/v1/quorate.proto", "quorate/admin/v1/admin.proto", "quorate/peer/v1/peer.proto"];

/// Writes the generated code and the descriptor set into the tree.
pub fn run() -> Result<(), String> {
    generate(Path::new("proto/src/generated"))
}

/// Generates into `into`, which exists.
pub fn generate(into: &Path) -> Result<(), String> {
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
