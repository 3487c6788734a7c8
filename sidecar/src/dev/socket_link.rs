//! `dev.sock`: the place where `quorate` looks for a cluster when nobody names an endpoint. A
//! symbolic link to the first member's socket, in a directory that belongs to this user alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The link; removed when this is dropped, if it is still the same.
pub(super) struct Link {
    path: PathBuf,
    target: PathBuf,
}

impl Link {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            // Left over, it refuses, and is replaced by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the link, unless another cluster is alive behind it. Why it was not made goes to standard
/// error.
pub(super) fn make(target: &Path) -> Option<Link> {
    match make_in(&directory(), target) {
        Ok(link) => Some(link),
        Err(why) => {
            eprintln!("quorate-sidecar dev: dev.sock was not made, name the endpoint: {why}");
            None
        }
    }
}

fn directory() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|directory| directory.is_absolute()) {
        Some(directory) => directory.join("quorate"),
        None => format!("/tmp/quorate-{}", rustix::process::getuid().as_raw()).into(),
    }
}

fn make_in(directory: &Path, target: &Path) -> io::Result<Link> {
    let other = |why: String| Err(io::Error::other(why));
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // Under /tmp anybody could have made it.
    let meta = fs::symlink_metadata(directory)?;
    if !meta.is_dir()
        || meta.uid() != rustix::process::getuid().as_raw()
        || meta.mode() & 0o022 != 0
    {
        return other(format!("{} is not this user's own directory", directory.display()));
    }
    let path = directory.join("dev.sock");
    let link = Link { path: path.clone(), target: target.to_owned() };
    // Left over by a `dev` of this very directory that was killed; what answers is our own member.
    if fs::read_link(&path).is_ok_and(|known| known == target) {
        return Ok(link);
    }
    if UnixStream::connect(&path).is_ok() {
        return other(format!("another cluster is alive behind {}", path.display()));
    }
    match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_symlink() && !meta.file_type().is_socket() => {
            return other(format!("{} is no link of ours; it was left alone", path.display()));
        }
        Ok(_) => fs::remove_file(&path)?,
        Err(_) => {}
    }
    symlink(target, &path)?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_live_cluster_keeps_its_link_and_a_dead_one_loses_it() {
        let base = std::env::temp_dir().join(format!("quorate-link-{}", std::process::id()));
        fs::create_dir_all(&base).unwrap();
        let (directory, target) = (base.join("d"), base.join("a.sock"));
        let listener = UnixListener::bind(&target).unwrap();
        let first = make_in(&directory, &target).unwrap();
        assert_eq!(fs::read_link(first.path()).unwrap(), target);
        let why = make_in(&directory, &base.join("b.sock")).err().unwrap().to_string();
        assert!(why.contains("another cluster is alive"), "{why}");
        // Left over by a killed `dev` of the same directory: what answers behind it is our own.
        std::mem::forget(first);
        let first = make_in(&directory, &target).unwrap();
        drop(listener);
        let second = make_in(&directory, &base.join("b.sock")).unwrap();
        drop(first);
        assert!(second.path().is_symlink(), "the first one's end leaves the second one's link");
        drop(second);
        assert!(!directory.join("dev.sock").is_symlink());
        fs::write(directory.join("dev.sock"), "text").unwrap();
        assert!(make_in(&directory, &target).is_err());
        fs::remove_dir_all(base).unwrap();
    }
}
