//! `demo --kubernetes --kubeconfig FILE`: the main job on a cluster that is there already, by what
//! anybody may do there: Helm and kubectl, and no hand on its nodes.
//!
//! Invariant: what it made goes at the end, also after a failure or Ctrl-C, and nothing else: a
//! definition, an operator or a namespace that was there before stays as it was.

use super::super::space::{NAME, holds, until};
use super::super::{Options, asked_to_end};
use super::leaders::{Leaders, Term};
use super::measured::Measured;
use crate::binaries::Binaries;
use crate::host::{self, text};
use quorate_load::screen::Screen;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the example is applied.
const SPACE: &str = "quorate-demo";
/// Where the operator is installed.
const SYSTEM: &str = "quorate-system";
const DEFINITION: &str = "raftclusters.quorate.dev";
/// The oldest minor version of Kubernetes 1 that serves what the operator needs.
const MINOR: u64 = 33;
/// Images are pulled and volumes made within this.
const PATIENCE: Duration = Duration::from_secs(300);

const NEXT: &str = "next leads";
const READY: &str = "Ready after";

/// On which cluster, and with which image.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// How to reach it.
    pub kubeconfig: PathBuf,
    /// `REPOSITORY:TAG` that its nodes can pull, or have; the chart's own where it is left out.
    pub image: Option<String>,
}

/// What was not there before.
#[derive(Clone, Copy)]
struct Made {
    definition: bool,
    operator: bool,
}

struct There<'a> {
    options: &'a Options,
    to: &'a Elsewhere,
    screen: Screen,
    kubectl: PathBuf,
    helm: PathBuf,
    leaders: RefCell<Leaders>,
    measured: RefCell<Measured>,
}

/// Shows it there; true if every promise was kept.
///
/// # Errors
/// What that cluster lacks, or what did not come about.
pub async fn run(
    options: &Options,
    (rounds, color): (u32, bool),
    to: &Elsewhere,
) -> Result<bool, String> {
    let screen = Screen::new(color);
    screen.title("Your Kubernetes, three pods, one leader. Helm and kubectl do the rest.");
    let (kubectl, helm) = (program("kubectl")?, program("helm")?);
    let (leaders, measured) = Default::default();
    let there = There { options, to, screen, kubectl, helm, leaders, measured };
    there.fits()?;
    let named = ["get", "crd", DEFINITION, "--ignore-not-found", "-o", "name"];
    let own = "app.kubernetes.io/name=quorate-operator";
    let operators = ["get", "deployments", "-A", "-l", own, "-o", "name"];
    let made = Made {
        definition: there.kubectl(&named)?.is_empty(),
        operator: there.kubectl(&operators)?.is_empty(),
    };
    there.kubectl(&["create", "namespace", SPACE])?;
    let ran = tokio::select! {
        ran = there.show(rounds, made) => ran,
        asked = asked_to_end() => Err(asked),
    };
    if ran.is_err() {
        let told = there.within(&["get", "raft,pods,events", "-o", "wide"]);
        eprintln!("{}", told.unwrap_or_else(|why| why));
    }
    let tidied = there.tidy(made);
    let kept = ran?;
    tidied?;
    Ok(kept)
}

/// The user's own, or one that is built here.
fn program(name: &str) -> Result<PathBuf, String> {
    host::find(name).map_or_else(|| Binaries::ready()?.path(name), Ok)
}

impl There<'_> {
    fn run(&self, program: &Path, words: &[&str]) -> Result<String, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", program.display());
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.to.kubeconfig).args(words).stdin(Stdio::null());
        let output = command.output().map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}: {}", program.display(), words.join(" "), why.trim()))
    }

    fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        self.run(&self.kubectl, words)
    }

    fn within(&self, words: &[&str]) -> Result<String, String> {
        self.kubectl(&[&["-n", SPACE], words].concat())
    }

    fn json(&self, words: &[&str]) -> Result<Value, String> {
        let said = self.kubectl(&[words, &["-o", "json"]].concat())?;
        serde_json::from_str(&said).map_err(|e| format!("kubectl {}: {e}", words.join(" ")))
    }

    /// Whether that cluster can do it at all.
    fn fits(&self) -> Result<(), String> {
        let version = self.json(&["version"])?;
        let minor = version["serverVersion"]["minor"].as_str().unwrap_or_default();
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        if digits.parse::<u64>().unwrap_or(0) < MINOR {
            return Err(format!("the cluster has Kubernetes 1.{minor}; 1.{MINOR} is the oldest"));
        }
        let classes = self.json(&["get", "storageclass"])?;
        let default = "storageclass.kubernetes.io/is-default-class";
        let mut all = classes["items"].as_array().into_iter().flatten();
        if !all.any(|class| class["metadata"]["annotations"][default] == "true") {
            return Err("no storage class is the default: annotate one with \
                        storageclass.kubernetes.io/is-default-class=true"
                .to_owned());
        }
        Ok(())
    }

    fn install(&self) -> Result<(), String> {
        let chart = self.options.source.join("charts/quorate");
        let mut words = vec!["install", "quorate", text(&chart)?, "-n", SYSTEM];
        words.extend(["--create-namespace", "--wait", "--timeout", "5m"]);
        let set = match &self.to.image {
            None => String::new(),
            Some(image) => {
                let (repository, tag) = image
                    .rsplit_once(':')
                    .ok_or_else(|| format!("--image-name is {image:?}; write REPOSITORY:TAG"))?;
                format!("image.repository={repository},image.tag={tag}")
            }
        };
        if !set.is_empty() {
            words.extend(["--set", &set]);
        }
        self.run(&self.helm, &words)?;
        self.screen.news("helm install quorate charts/quorate: the operator is ready");
        Ok(())
    }

    fn tidy(&self, made: Made) -> Result<(), String> {
        self.kubectl(&["delete", "namespace", SPACE])?;
        if made.operator {
            self.run(&self.helm, &["uninstall", "quorate", "-n", SYSTEM, "--ignore-not-found"])?;
        }
        if made.operator && made.definition {
            self.kubectl(&["delete", "crd", DEFINITION, "--ignore-not-found"])?;
            self.kubectl(&["delete", "namespace", SYSTEM, "--ignore-not-found"])?;
        }
        self.screen.news("all that was made is gone again");
        Ok(())
    }

    /// Reads what applications printed, and tells of leaders that are new.
    fn look(&self) -> Result<(), String> {
        for pod in self.pods()? {
            // One that does not run yet, or ends, has nothing to tell.
            let words = ["logs", &pod, "-c", "app", "--timestamps", "--tail=30"];
            let said = self.within(&words).unwrap_or_default();
            for Term { token, pod, .. } in self.leaders.borrow_mut().hear(&said, &pod) {
                self.screen.good(&format!("the application in {pod} leads with token {token}"));
            }
        }
        Ok(())
    }

    fn pods(&self) -> Result<Vec<String>, String> {
        let own = format!("quorate.dev/cluster={NAME},quorate.dev/component=member");
        let pods = self.within(&["get", "pods", "-l", &own, "-o", "name"])?;
        Ok(pods.lines().filter_map(|pod| pod.strip_prefix("pod/")).map(str::to_owned).collect())
    }

    /// Waits until the RaftCluster is as its spec wants it.
    async fn ready(&self, replicas: u64) -> Result<(), String> {
        until("the RaftCluster is Ready", PATIENCE, async || {
            self.look()?;
            let raft = self.json(&["-n", SPACE, "get", "raft", NAME])?;
            let status = &raft["status"];
            let seen = status["observedGeneration"] == raft["metadata"]["generation"];
            let there = status["readyReplicas"] == json!(replicas);
            let pods = u64::try_from(self.pods()?.len()) == Ok(replicas);
            match seen && there && pods && holds(&raft, "Ready") {
                true => Ok(()),
                false => Err(status["conditions"].to_string()),
            }
        })
        .await
    }

    async fn led(&self, above: u64) -> Result<Term, String> {
        until("an application leads", PATIENCE, async || {
            self.look()?;
            let last = self.leaders.borrow().last().filter(|term| term.token > above).cloned();
            last.ok_or_else(|| format!("none under a token above {above}"))
        })
        .await
    }

    /// Does something, and measures until all is well again.
    async fn step(&self, what: &'static str, replicas: u64, words: &[&str]) -> Result<(), String> {
        self.screen.fault(what);
        let begun = Instant::now();
        self.within(words)?;
        self.ready(replicas).await?;
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.measured.borrow_mut().add(what, READY, took);
        Ok(())
    }

    async fn show(&self, rounds: u32, made: Made) -> Result<bool, String> {
        match made.operator {
            true => self.install()?,
            false => self.screen.news("an operator works there already: none is installed"),
        }
        let example = self.options.source.join("examples/kubernetes/raftcluster.yaml");
        self.within(&["apply", "-f", text(&example)?])?;
        self.screen.news("kubectl apply -f examples/kubernetes/raftcluster.yaml");
        self.ready(3).await?;
        self.led(0).await?;
        for _ in 0..rounds {
            self.round().await?;
        }
        self.screen.table(&self.measured.borrow().rows());
        Ok(self.leaders.borrow().tell(&self.screen))
    }

    async fn round(&self) -> Result<(), String> {
        self.step("scaled from 3 to 5", 5, &["scale", "raft/demo", "--replicas=5"]).await?;
        self.step("scaled from 5 to 3", 3, &["scale", "raft/demo", "--replicas=3"]).await?;
        let what = "leading pod deleted";
        let before = self.led(0).await?;
        let words = ["delete", "pod", &before.pod, "--grace-period=1", "--wait=false"];
        self.step(what, 3, &words).await?;
        let after = self.led(before.token).await?;
        // Of the former, what was printed after it was looked at last, too.
        let last = self.leaders.borrow().last_of(before.token);
        self.measured.borrow_mut().add(what, NEXT, after.first.saturating_sub(last));
        let claim = format!("quorate-log-{}", after.pod);
        self.within(&["delete", "pvc", &claim, "--wait=false"])?;
        let words = ["delete", "pod", &after.pod, "--wait=false"];
        self.step("leading pod and volume deleted", 3, &words).await?;
        self.led(after.token).await?;
        let own = format!("quorate.dev/cluster={NAME}");
        let words = ["delete", "pods", "-l", &own, "--wait=false"];
        self.step("all pods deleted at once", 3, &words).await
    }
}
