//! Image archives as `docker save` writes them and `ctr images import` and `docker load` read
//! them, made without an engine: one layer, one configuration, one manifest.
//!
//! Invariant: equal content gives an equal archive, byte for byte. All times are 0, all owners
//! root, and the order is the one in which things were added.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::path::Path;

/// A block of a tar file.
const BLOCK: usize = 512;
/// The longest name that the plain format holds.
const NAME_MAX: usize = 100;

/// A tar file in memory.
#[derive(Debug, Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// A header of the format that all readers know.
    fn header(&mut self, name: &str, mode: u32, kind: u8, link: &str, size: usize) {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"00000000000");
        // The sum counts its own field as spaces.
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.header(name, mode, b'0', "", content.len());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    /// Two empty blocks end it.
    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// How a container of the image starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The program, and its first arguments.
    pub entrypoint: Vec<String>,
    /// What follows, unless the pod says otherwise.
    pub arguments: Vec<String>,
    /// `UID:GID`; empty for root.
    pub user: String,
}

/// The one layer of an image.
#[derive(Debug, Default)]
pub struct Layer {
    tar: Tar,
    names: Vec<String>,
}

impl Layer {
    /// A folder, with those above it.
    ///
    /// # Errors
    /// The name is too long.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<(), String> {
        let name = format!("{}/", self.enter(path)?);
        if self.is_new(&name) {
            self.tar.header(&name, mode, b'5', "", 0);
        }
        Ok(())
    }

    /// A file of this content.
    ///
    /// # Errors
    /// The name is too long.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), String> {
        let name = self.enter(path)?;
        if self.is_new(&name) {
            self.tar.file(&name, mode, content);
        }
        Ok(())
    }

    /// A copy of a file of this machine.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn copy(&mut self, path: &str, mode: u32, from: &Path) -> Result<(), String> {
        let content = std::fs::read(from).map_err(|e| format!("{}: {e}", from.display()))?;
        self.file(path, mode, &content)
    }

    /// A symbolic link to `target`.
    ///
    /// # Errors
    /// A name is too long.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), String> {
        let name = self.enter(path)?;
        if target.len() > NAME_MAX {
            return Err(format!("{target} is too long for an archive"));
        }
        if self.is_new(&name) {
            self.tar.header(&name, 0o777, b'2', target, 0);
        }
        Ok(())
    }

    /// Makes the folders above `path`; gives its name in the archive.
    fn enter(&mut self, path: &str) -> Result<String, String> {
        let name = path.trim_matches('/').to_owned();
        if name.len() >= NAME_MAX {
            return Err(format!("{path} is too long for an archive"));
        }
        for (at, _) in name.match_indices('/') {
            let above = format!("{}/", &name[..at]);
            if self.is_new(&above) {
                self.tar.header(&above, 0o755, b'5', "", 0);
            }
        }
        Ok(name)
    }

    fn is_new(&mut self, name: &str) -> bool {
        let new = !self.names.iter().any(|has| has == name);
        self.names.extend(new.then(|| name.to_owned()));
        new
    }

    /// The whole archive, of an image of this name and tag.
    #[must_use]
    pub fn image(self, name: &str, start: &Start) -> Vec<u8> {
        let layer = self.tar.finish();
        let id = hex(&layer);
        let config = config(start, &id).to_string().into_bytes();
        let (config_name, layer_name) =
            (format!("{}.json", hex(&config)), format!("{id}/layer.tar"));
        let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}])
            .to_string();
        let mut archive = Tar::default();
        archive.file(&config_name, 0o644, &config);
        archive.file(&layer_name, 0o644, &layer);
        archive.file("manifest.json", 0o644, manifest.as_bytes());
        archive.finish()
    }
}

fn config(start: &Start, layer: &str) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": start.user,
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "Entrypoint": start.entrypoint,
            "Cmd": start.arguments,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn small() -> Vec<u8> {
        let mut layer = Layer::default();
        layer.folder("/tmp", 0o1777).expect("the name is short");
        layer.file("/usr/bin/a", 0o755, b"content").expect("the name is short");
        layer.link("/bin", "usr/bin").expect("the name is short");
        layer.image("quorate.test/a:1", &Start::default())
    }

    /// What `tar` makes of it.
    fn tar(archive: &[u8], words: &[&str]) -> String {
        let mut tar = Command::new("tar");
        tar.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tar.spawn().expect("there is tar");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        stdin.write_all(archive).expect("tar reads");
        drop(stdin);
        let output = child.wait_with_output().expect("tar ends");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("names are text")
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        assert_eq!(small(), small());
    }

    #[test]
    fn tar_reads_the_archive_and_its_layer() {
        let names = tar(&small(), &["-t"]);
        let names: Vec<&str> = names.lines().collect();
        assert_eq!(names.len(), 3);
        assert_eq!(names[2], "manifest.json");
        let manifest = tar(&small(), &["-xO", "manifest.json"]);
        assert!(manifest.contains("quorate.test/a:1") && manifest.contains(names[0]));
        let layer = tar(&small(), &["-xO", names[1]]);
        let listed = tar(layer.as_bytes(), &["-tv"]);
        for part in ["drwxrwxrwt", " tmp/", "-rwxr-xr-x", " usr/bin/a", "bin -> usr/bin"] {
            assert!(listed.contains(part), "{part} is not in\n{listed}");
        }
    }
}
