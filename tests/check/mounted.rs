//! A file system of a check's own, in a file: it can be filled, frozen and copied.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop-mounted ext4. Dropping it unmounts it.
pub struct Mounted {
    image: PathBuf,
    at: PathBuf,
    options: String,
}

/// Says that a machine without root cannot show the property.
pub fn need_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err("skipped: needs root, to mount a file system of its own".to_owned())
}

/// Runs a system's tool.
pub fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| format!("{program}: {e}; it is in the packages e2fsprogs and mount"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {words}", arguments.join(" ")))
}

/// A path as an argument.
pub fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

impl Mounted {
    /// Makes one of this size below `scratch`, and mounts it with these options.
    pub fn new(scratch: &Path, name: &str, bytes: u64, options: &str) -> Result<Mounted, String> {
        let (image, at) = (scratch.join(format!("{name}.img")), scratch.join(name));
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(bytes).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
        command("mkfs.ext4", &["-q", "-F", text(&image)?])?;
        let mounted = Mounted { image, at, options: options.to_owned() };
        mounted.mount()?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The file that it is in.
    pub fn image(&self) -> &Path {
        &self.image
    }

    fn mount(&self) -> Result<(), String> {
        let options = format!("loop,{}", self.options);
        command("mount", &["-o", &options, text(&self.image)?, text(&self.at)?])
    }

    /// Puts the copy in the image's place.
    pub fn replace(&self, copy: &Path) -> Result<(), String> {
        command("umount", &[text(&self.at)?])?;
        std::fs::rename(copy, &self.image).map_err(|e| e.to_string())?;
        self.mount()
    }

    /// Every write and flush waits from here on.
    pub fn freeze(&self) -> Result<(), String> {
        command("fsfreeze", &["--freeze", text(&self.at)?])
    }

    /// Writes go on.
    pub fn thaw(&self) -> Result<(), String> {
        command("fsfreeze", &["--unfreeze", text(&self.at)?])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(at) = text(&self.at) {
            // It may be frozen if the check failed, and nobody could be killed then.
            let _ = self.thaw();
            // Lazily: whoever still has a file open there is being killed.
            let _ = command("umount", &["-l", at]);
        }
    }
}
