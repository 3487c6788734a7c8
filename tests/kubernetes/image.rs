//! The images: the product's, with every binary and the libraries that it needs, and those of the
//! tests.

use crate::archive::{Layer, Start};
use crate::{host, node};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Whom the product's processes run as, unless a pod says otherwise.
const USER: &str = "65532";
/// A shell with the usual small programs, in one static binary.
const BUSYBOX: &str = "quorate.test/busybox:1";
/// Where the sidecar finds the program for images that have no libc.
const STATIC: &str = "/usr/lib/quorate/static";
/// Libraries that glibc opens by itself to resolve names, where it does not contain them.
const RESOLVERS: [&str; 3] = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nquorate:x:65532:65532::/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nquorate:x:65532:\n";
const NAMES: &str = "hosts: files dns\n";

/// What the product's image is made of.
#[derive(Clone, Debug)]
pub struct Product {
    /// Its name and tag.
    pub name: String,
    /// Programs for `/usr/bin`; the first is the one that a container starts.
    pub binaries: Vec<PathBuf>,
    /// Programs with their libc inside; they do for `/usr/bin`, too.
    pub statics: Vec<PathBuf>,
}

/// Writes the product's image to `out`; gives its size in bytes.
///
/// # Errors
/// A binary is not what it should be, or a tool of the system is missing.
pub fn product(product: &Product, out: &Path) -> Result<usize, String> {
    if product.name.rsplit('/').next().and_then(|last| last.split_once(':')).is_none() {
        return Err(format!("--name is {:?}; write NAME:TAG", product.name));
    }
    if product.name.ends_with(":latest") {
        return Err("a tag `latest` would make every kubelet pull it".to_owned());
    }
    let scratch = out.with_extension(format!("{}.part", std::process::id()));
    let mut layer = base()?;
    let (mut libraries, mut first) = (BTreeSet::new(), None);
    for binary in &product.binaries {
        let inside = format!("/usr/bin/{}", name_of(binary)?);
        libraries.extend(libraries_of(binary)?);
        layer.file(&inside, 0o755, &stripped(binary, &scratch)?)?;
        first.get_or_insert(inside);
    }
    for binary in &product.statics {
        if !libraries_of(binary)?.is_empty() {
            return Err(format!("{} needs libraries: it is not static", binary.display()));
        }
        let inside = format!("{STATIC}/{}", name_of(binary)?);
        layer.file(&inside, 0o755, &stripped(binary, &scratch)?)?;
        layer.link(&format!("/usr/bin/{}", name_of(binary)?), &inside)?;
    }
    add_libraries(&mut layer, libraries)?;
    let user = format!("{USER}:{USER}");
    let entrypoint = first.into_iter().collect();
    let start = Start { entrypoint, user, ..Start::default() };
    write(out, &layer.image(&product.name, &start))
}

/// What every program expects of a root file system.
fn base() -> Result<Layer, String> {
    let mut layer = Layer::default();
    layer.folder("/tmp", 0o1777)?;
    layer.file("/etc/passwd", 0o644, PASSWD.as_bytes())?;
    layer.file("/etc/group", 0o644, GROUP.as_bytes())?;
    layer.file("/etc/nsswitch.conf", 0o644, NAMES.as_bytes())?;
    Ok(layer)
}

fn name_of(path: &Path) -> Result<&str, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| format!("{} has no name", path.display()))
}

/// A copy without what only a debugger reads; it would be half of the image.
fn stripped(binary: &Path, scratch: &Path) -> Result<Vec<u8>, String> {
    if host::find("strip").is_none() {
        return Err(format!("{}the Debian package binutils, for strip", crate::SKIPPED));
    }
    let (from, to) = (host::text(binary)?, host::text(scratch)?);
    host::run("strip", &["--strip-all", "-o", to, from])?;
    let content = std::fs::read(scratch).map_err(|e| format!("{to}: {e}"))?;
    std::fs::remove_file(scratch).map_err(|e| format!("{to}: {e}"))?;
    Ok(content)
}

/// The libraries that a binary is linked to, the loader included; none for a static one.
fn libraries_of(binary: &Path) -> Result<Vec<PathBuf>, String> {
    let said = match host::run("ldd", &[host::text(binary)?]) {
        Ok(said) => said,
        Err(why) if why.contains("not a dynamic executable") => return Ok(Vec::new()),
        Err(why) => return Err(why),
    };
    if said.contains("statically linked") {
        return Ok(Vec::new());
    }
    if let Some(line) = said.lines().find(|line| line.contains("not found")) {
        return Err(format!("{}: {}", binary.display(), line.trim()));
    }
    Ok(said.lines().filter_map(library_of).collect())
}

/// The path in a line of `ldd`: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn library_of(line: &str) -> Option<PathBuf> {
    let path = line.rsplit(" => ").next()?.trim().split(" (").next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// Each library at the path that it was linked by, and those beside it that resolve names.
fn add_libraries(layer: &mut Layer, libraries: BTreeSet<PathBuf>) -> Result<(), String> {
    let is_libc = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "libc.so.6");
    let beside = libraries.iter().find(is_libc).and_then(|libc| libc.parent());
    let beside = beside.map(Path::to_path_buf);
    let resolvers = beside.iter().flat_map(|dir| RESOLVERS.map(|name| dir.join(name)));
    let resolvers: Vec<PathBuf> = resolvers.filter(|path| path.exists()).collect();
    for library in libraries.iter().chain(&resolvers) {
        layer.copy(host::text(library)?, 0o755, library)?;
    }
    Ok(())
}

/// Makes the images of the tests below `dir`, unless they are there: a busybox, and the process
/// that holds a pod's namespaces.
///
/// # Errors
/// There is no static busybox on this machine.
pub fn test_images(dir: &Path) -> Result<[PathBuf; 2], String> {
    let [pause, busybox] = ["pause.tar", "busybox.tar"].map(|name| dir.join(name));
    if pause.exists() && busybox.exists() {
        return Ok([pause, busybox]);
    }
    let binary = host::find("busybox").ok_or("busybox is not on this machine")?;
    if !libraries_of(&binary)?.is_empty() {
        let binary = binary.display();
        return Err(format!("{}busybox-static; {binary} needs libraries", crate::SKIPPED));
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    // It waits for its end, which a container's runtime brings.
    let start = Start {
        entrypoint: words(&["/bin/sleep"]),
        arguments: words(&["2147483647"]),
        user: String::new(),
    };
    write(&pause, &busybox_layer(&binary, &["sleep".to_owned()])?.image(node::PAUSE, &start))?;
    let list = host::run(host::text(&binary)?, &["--list"])?;
    let all: Vec<String> = list.lines().map(str::to_owned).collect();
    let start = Start { entrypoint: words(&["/bin/sh"]), ..Start::default() };
    write(&busybox, &busybox_layer(&binary, &all)?.image(BUSYBOX, &start))?;
    Ok([pause, busybox])
}

fn busybox_layer(binary: &Path, programs: &[String]) -> Result<Layer, String> {
    let mut layer = base()?;
    layer.copy("/bin/busybox", 0o755, binary)?;
    for program in programs.iter().filter(|program| *program != "busybox") {
        layer.link(&format!("/bin/{program}"), "busybox")?;
    }
    Ok(layer)
}

/// Under another name first, so that nobody imports half an archive.
fn write(out: &Path, archive: &[u8]) -> Result<usize, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", out.display());
    let draft = out.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&draft, archive).map_err(failed)?;
    std::fs::rename(&draft, out).map_err(failed)?;
    Ok(archive.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_ldd() {
        let path = |line| library_of(line).map(|path| path.display().to_string());
        let line = "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)";
        assert_eq!(path(line).as_deref(), Some("/lib/x86_64-linux-gnu/libc.so.6"));
        assert_eq!(path("\t/lib64/ld.so.2 (0x7f)").as_deref(), Some("/lib64/ld.so.2"));
        assert_eq!(path("\tlinux-vdso.so.1 (0x7f)"), None);
    }

    #[test]
    fn this_test_itself_needs_a_libc() {
        let own = std::env::current_exe().expect("it has a path");
        let libraries = libraries_of(&own).expect("there is ldd");
        assert!(libraries.iter().any(|path| path.ends_with("libc.so.6")), "{libraries:?}");
    }

    #[test]
    fn a_tag_is_asked_for_and_latest_refused() {
        let refused = |name: &str| {
            let wanted = Product { name: name.to_owned(), binaries: vec![], statics: vec![] };
            product(&wanted, Path::new("/nowhere/a.tar")).unwrap_err()
        };
        assert!(refused("quorate").contains("NAME:TAG"));
        assert!(refused("localhost:5000/quorate").contains("NAME:TAG"));
        assert!(refused("quorate:latest").contains("latest"));
    }
}
