//! Kubernetes, etcd, CoreDNS and Helm, built from their Go modules: once for each version of them
//! and of the module, into the user's cache.
//!
//! Invariant: a binary in the cache is whole. It is built under another name and then renamed.

use crate::{SKIPPED, host};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A project with its Go module: what it is built from, and what comes out.
struct Source {
    name: &'static str,
    version: &'static str,
    module: &'static str,
    sums: &'static str,
    /// A program of the module's own, where the project's has more in it than a cluster here needs.
    main: Option<&'static str>,
    /// Each binary, and the package that it is.
    binaries: &'static [(&'static str, &'static str)],
    /// What the linker writes into it: without, Kubernetes says that it is version 0.
    stamp: &'static str,
}

impl Source {
    /// All that it is built from.
    fn text(&self) -> String {
        [self.module, self.sums, self.main.unwrap_or_default()].concat()
    }
}

const SOURCES: [Source; 4] = [
    Source {
        name: "kubernetes",
        version: "1.34.4",
        module: include_str!("binaries/kubernetes/go.mod"),
        sums: include_str!("binaries/kubernetes/go.sum"),
        main: None,
        binaries: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        stamp: "-X k8s.io/component-base/version.gitVersion=v1.34.4 \
                -X k8s.io/component-base/version.gitMajor=1 \
                -X k8s.io/component-base/version.gitMinor=34",
    },
    Source {
        name: "etcd",
        version: "3.6.7",
        module: include_str!("binaries/etcd/go.mod"),
        sums: include_str!("binaries/etcd/go.sum"),
        main: None,
        binaries: &[("etcd", "go.etcd.io/etcd/server/v3")],
        stamp: "",
    },
    Source {
        name: "coredns",
        version: "1.12.4",
        module: include_str!("binaries/coredns/go.mod"),
        sums: include_str!("binaries/coredns/go.sum"),
        // The whole one has every cloud's client in it: it takes a minute more to build.
        main: Some(include_str!("binaries/coredns/main.go")),
        binaries: &[("coredns", "quorate.test/coredns")],
        stamp: "",
    },
    Source {
        name: "helm",
        version: "4.3.1",
        module: include_str!("binaries/helm/go.mod"),
        sums: include_str!("binaries/helm/go.sum"),
        main: None,
        binaries: &[("helm", "helm.sh/helm/v4/cmd/helm")],
        stamp: "",
    },
];

/// Where the binaries are, all of them built.
#[derive(Clone, Debug)]
pub struct Binaries {
    cache: PathBuf,
}

impl Binaries {
    /// Builds what is not in the cache yet, saying so.
    ///
    /// # Errors
    /// There is no Go, or it failed: a sentence.
    pub fn ready() -> Result<Binaries, String> {
        let binaries = Binaries { cache: cache()? };
        for source in &SOURCES {
            binaries.build_missing(source)?;
        }
        Ok(binaries)
    }

    /// The file of the binary of this name.
    ///
    /// # Errors
    /// There is no such binary.
    pub fn path(&self, name: &str) -> Result<PathBuf, String> {
        let has = |source: &&Source| source.binaries.iter().any(|(binary, _)| *binary == name);
        let source = SOURCES.iter().find(has).ok_or_else(|| format!("{name} is not built here"))?;
        Ok(self.folder(source).join(name))
    }

    /// The folders of all binaries, for a PATH.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        SOURCES.iter().map(|source| self.folder(source)).collect()
    }

    fn folder(&self, source: &Source) -> PathBuf {
        self.cache.join(format!("{}-{}", source.name, source.version))
    }

    fn build_missing(&self, source: &Source) -> Result<(), String> {
        let folder = self.folder(source);
        // What all were built from is beside them: a module may change while its version stays.
        let (built_from, now) = (folder.join("source"), source.text());
        let same = std::fs::read_to_string(&built_from).is_ok_and(|before| before == now);
        let absent = |(name, _): &&(&str, &str)| !same || !folder.join(name).is_file();
        let missing: Vec<_> = source.binaries.iter().filter(absent).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let go = host::find("go").ok_or_else(|| format!("{SKIPPED}go, 1.26 or later"))?;
        let work = folder.join(format!(".build-{}", std::process::id()));
        let failed = |e: std::io::Error| format!("{}: {e}", work.display());
        std::fs::create_dir_all(&work).map_err(failed)?;
        std::fs::write(work.join("go.mod"), source.module).map_err(failed)?;
        std::fs::write(work.join("go.sum"), source.sums).map_err(failed)?;
        if let Some(main) = source.main {
            std::fs::write(work.join("main.go"), main).map_err(failed)?;
        }
        let built = missing.into_iter().try_for_each(|(name, package)| {
            let draft = build(&go, &work, source, (name, package))?;
            std::fs::rename(draft, folder.join(name)).map_err(failed)
        });
        std::fs::remove_dir_all(&work).map_err(failed)?;
        built?;
        std::fs::write(&built_from, now).map_err(failed)
    }
}

fn build(go: &Path, work: &Path, source: &Source, of: (&str, &str)) -> Result<PathBuf, String> {
    let ((name, package), begun) = (of, Instant::now());
    eprintln!("building {name} {} from its Go module; it is kept", source.version);
    let draft = work.join(name);
    let mut command = Command::new(go);
    command.args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
    // Nobody debugs these: without what a debugger reads, a build takes a fifth less.
    command.arg("-gcflags=all=-dwarf=false").arg("-ldflags");
    command.arg(format!("-s -w {}", source.stamp)).arg("-o").arg(&draft).arg(package);
    command.current_dir(work).stdin(Stdio::null());
    command.env("CGO_ENABLED", "0").env("GOWORK", "off").env_remove("GOFLAGS");
    let status = command.status().map_err(|e| format!("{}: {e}", go.display()))?;
    if !status.success() {
        return Err(format!("go build {package} failed"));
    }
    let took = begun.elapsed().as_secs();
    eprintln!("  {name}: {} min {} s", took / 60, took % 60);
    Ok(draft)
}

fn cache() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let below_home = || set("HOME").map(|home| home.join(".cache"));
    let cache = set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(below_home);
    let cache = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("quorate").join("kubernetes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_modules() {
        for source in &SOURCES {
            let version = format!(" v{}", source.version);
            let required = source.module.lines().any(|line| line.contains(&version));
            assert!(required, "{} does not ask for {version}", source.name);
            for (name, package) in source.binaries {
                // A program of the module's own imports what is asked for under its name.
                let own = format!("{name} v{}", source.version);
                let asks = if source.main.is_some() { own.as_str() } else { package };
                assert!(source.module.contains(asks), "{} lacks {package}", source.name);
            }
            assert!(source.stamp.is_empty() || source.stamp.contains(source.version));
        }
    }
}
