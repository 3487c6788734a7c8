//! A cluster that is there already, and what anybody may do there: Helm and kubectl, and no hand on
//! its nodes.
//!
//! Invariant: what was made goes at the end, also after a failure or Ctrl-C, and nothing else: a
//! definition, an operator, RaftClusters or a namespace that were there before stay as they were.

use super::leaders::{Leaders, Term};
use super::space::{NAME, Pod, is_whole, until};
use super::stage::{DEFINITION, OPERATOR, RELEASE, SYSTEM};
use super::{Options, asked_to_end};
use crate::binaries::Binaries;
use crate::host::{self, feed, text};
use crate::say;
use quorate_load::screen::Screen;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The oldest minor version of Kubernetes 1 that serves what the operator needs.
const MINOR: u64 = 33;
/// Images are pulled and volumes made within this.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// On which cluster, and with which image.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// How to reach it.
    pub kubeconfig: PathBuf,
    /// `REPOSITORY:TAG` that its nodes can pull, or have; the chart's own where it is left out.
    pub image: Option<String>,
}

/// See the module.
pub(super) struct There {
    /// The top of the project: its chart and its examples.
    source: PathBuf,
    to: Elsewhere,
    space: &'static str,
    /// `None`: nobody watches.
    screen: Option<Screen>,
    kubectl: PathBuf,
    helm: PathBuf,
    /// The namespace of an operator that was there before.
    found: Option<String>,
    /// What is made here and has to go, in the order of its coming.
    made: RefCell<Vec<Made>>,
    pub(super) leaders: RefCell<Leaders>,
}

#[derive(Debug, PartialEq)]
enum Made {
    /// The operator's namespace.
    System,
    Definition,
    Release,
    /// Where the example is applied.
    Space,
}

/// Works there, in a namespace of its own with the operator at hand; gives what `work` gave.
///
/// # Errors
/// What that cluster lacks, what did not come about, or what could not be taken away again.
pub(super) async fn on(
    (options, screen): (&Options, Option<Screen>),
    to: &Elsewhere,
    space: &'static str,
    work: impl AsyncFnOnce(&There) -> Result<bool, String>,
) -> Result<bool, String> {
    let (kubectl, helm) = (program("kubectl")?, program("helm")?);
    let (made, leaders) = Default::default();
    let (source, to) = (options.source.clone(), to.clone());
    let mut there = There { source, to, space, screen, kubectl, helm, found: None, made, leaders };
    there.fits()?;
    there.found = there.operator()?;
    let ran = tokio::select! {
        // First: it takes the signals before anything is made.
        biased;
        asked = asked_to_end() => Err(asked),
        ran = async { there.enter()?; work(&there).await } => ran,
    };
    if ran.is_err() && there.made.borrow().contains(&Made::Space) {
        eprintln!("{}", there.told());
    }
    match (ran, there.tidy()) {
        (ran, Ok(())) => ran,
        (Ok(_), Err(left)) => Err(left),
        (Err(why), Err(left)) => Err(format!("{why}\n{left}")),
    }
}

/// The user's own, or one that is built here.
fn program(name: &str) -> Result<PathBuf, String> {
    host::find(name).map_or_else(|| Binaries::ready()?.path(name), Ok)
}

impl There {
    /// Has the operator at hand, and a namespace.
    fn enter(&self) -> Result<(), String> {
        match &self.found {
            None => self.prepare()?,
            Some(_) if self.to.image.is_some() => {
                return Err("an operator works there already: --image-name would not be used; \
                            leave it out, or uninstall that one"
                    .to_owned());
            }
            Some(_) => self.news("an operator works there already: none is installed"),
        }
        self.kubectl(&["create", "namespace", self.space])?;
        self.made.borrow_mut().push(Made::Space);
        Ok(())
    }

    /// Where an operator is.
    fn operator(&self) -> Result<Option<String>, String> {
        let list = self.json(&["get", "deployments", "-A", "-l", OPERATOR])?;
        Ok(list["items"][0]["metadata"]["namespace"].as_str().map(str::to_owned))
    }

    /// Whether no operator was there before.
    pub(super) fn has_own_operator(&self) -> bool {
        self.found.is_none()
    }

    /// Installs the operator where none was, and remembers what that makes.
    fn prepare(&self) -> Result<(), String> {
        let absent = |kind: &str, name: &str| {
            let found = self.kubectl(&["get", kind, name, "--ignore-not-found", "-o", "name"]);
            found.map(|found| found.is_empty())
        };
        let (definition, system) = (absent("crd", DEFINITION)?, absent("namespace", SYSTEM)?);
        if !definition && !self.kubectl(&["get", "raft", "-A", "-o", "name"])?.is_empty() {
            return Err("there are RaftClusters, and no operator looks after them: one that is \
                        installed for a while would change them; install yours first"
                .to_owned());
        }
        match self.helm(&["status", RELEASE, "-n", SYSTEM]) {
            Ok(_) => {
                return Err(format!(
                    "a Helm release {RELEASE} is in {SYSTEM}, without its operator"
                ));
            }
            Err(why) if why.contains("release: not found") => {}
            // It may be there, and is not ours to take away.
            Err(why) => return Err(why),
        }
        let made = [(system, Made::System), (definition, Made::Definition), (true, Made::Release)];
        let new = made.into_iter().filter_map(|(new, made)| new.then_some(made));
        self.made.borrow_mut().extend(new);
        self.install()
    }

    /// What people who watch are to know, and others who read a log.
    fn news(&self, what: &str) {
        match &self.screen {
            Some(screen) => screen.news(what),
            None => say(what),
        }
    }

    fn run(&self, program: &Path, words: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.to.kubeconfig);
        // Ctrl-C is for this process: what began ends, and then what was made is taken away.
        command.process_group(0);
        feed(command, words, input)
    }

    /// `kubectl` with these words; gives what it printed.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        self.run(&self.kubectl, words, "")
    }

    /// `helm` with these words; gives what it printed.
    pub(super) fn helm(&self, words: &[&str]) -> Result<String, String> {
        self.run(&self.helm, words, "")
    }

    /// `kubectl` in the namespace.
    pub(super) fn within(&self, words: &[&str]) -> Result<String, String> {
        self.kubectl(&[&["-n", self.space], words].concat())
    }

    /// `kubectl apply` of an object in the namespace, as a user writes it.
    pub(super) fn apply(&self, object: &Value) -> Result<String, String> {
        let words = ["-n", self.space, "apply", "--validate=strict", "-f", "-"];
        self.run(&self.kubectl, &words, &object.to_string())
    }

    /// An object, as `kubectl` gives it.
    pub(super) fn json(&self, words: &[&str]) -> Result<Value, String> {
        let said = self.kubectl(&[words, &["-o", "json"]].concat())?;
        serde_json::from_str(&said).map_err(|e| format!("kubectl {}: {e}", words.join(" ")))
    }

    /// Applies or replaces the example, as it stands.
    pub(super) fn example(&self, verb: &str) -> Result<String, String> {
        let file = self.source.join("examples/kubernetes/raftcluster.yaml");
        self.within(&[verb, "-f", text(&file)?])
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

    /// Installs the chart, and waits for the operator.
    pub(super) fn install(&self) -> Result<(), String> {
        let chart = self.source.join("charts/quorate");
        let mut words = vec!["install", RELEASE, text(&chart)?, "-n", SYSTEM];
        words.extend(["--create-namespace", "--wait", "--timeout", "5m"]);
        let set;
        if let Some(image) = &self.to.image {
            let (repository, tag) = image
                .rsplit_once(':')
                .ok_or_else(|| format!("--image-name is {image:?}; write REPOSITORY:TAG"))?;
            set = format!("image.repository={repository},image.tag={tag}");
            words.extend(["--set", &set]);
        }
        self.helm(&words)?;
        self.news("helm install quorate charts/quorate: the operator is ready");
        Ok(())
    }

    /// Takes the chart away again.
    pub(super) fn uninstall(&self) -> Result<(), String> {
        self.helm(&["uninstall", RELEASE, "-n", SYSTEM, "--ignore-not-found", "--wait"]).map(drop)
    }

    /// Takes away what was made, the last first, as far as it goes.
    fn tidy(&self) -> Result<(), String> {
        let gone = |made: &Made| match made {
            Made::Space => self.delete("namespace", self.space),
            Made::Release => self.uninstall(),
            Made::Definition => self.delete("crd", DEFINITION),
            Made::System => self.delete("namespace", SYSTEM),
        };
        let made = self.made.borrow();
        if made.is_empty() {
            return Ok(());
        }
        let left: Vec<String> = made
            .iter()
            .rev()
            .filter_map(|made| Some(format!("{made:?} is left there: {}", gone(made).err()?)))
            .collect();
        if !left.is_empty() {
            return Err(left.join("\n"));
        }
        self.news("all that was made is gone again");
        Ok(())
    }

    fn delete(&self, kind: &str, name: &str) -> Result<(), String> {
        self.kubectl(&["delete", kind, name, "--ignore-not-found", "--timeout=180s"]).map(drop)
    }

    /// What is there, for who looks for the cause of a failure.
    pub(super) fn told(&self) -> String {
        let there = self.within(&["get", "raft,pods,pvc,events", "-o", "wide"]);
        let system = self.found.as_deref().unwrap_or(SYSTEM);
        let words = ["-n", system, "logs", "-l", OPERATOR, "--prefix", "--tail", "40"];
        [there, self.kubectl(&words)].map(|told| told.unwrap_or_else(|why| why)).join("\n")
    }

    /// Reads what applications printed, and tells of leaders that are new.
    fn look(&self) -> Result<(), String> {
        for Pod { name, .. } in self.pods()? {
            // One that does not run yet, or ends, has nothing to tell.
            let words = ["logs", &name, "-c", "app", "--timestamps", "--tail=30"];
            let said = self.within(&words).unwrap_or_default();
            for Term { token, pod, .. } in self.leaders.borrow_mut().hear(&said, &name) {
                if let Some(screen) = &self.screen {
                    screen.good(&format!("the application in {pod} leads with token {token}"));
                }
            }
        }
        Ok(())
    }

    /// The members' pods, by name.
    pub(super) fn pods(&self) -> Result<Vec<Pod>, String> {
        let own = format!("quorate.dev/cluster={NAME},quorate.dev/component=member");
        let mut list = self.json(&["-n", self.space, "get", "pods", "-l", &own])?;
        let list: Vec<Value> =
            serde_json::from_value(list["items"].take()).map_err(|e| format!("pods: {e}"))?;
        let mut pods: Vec<Pod> = list.into_iter().map(Pod::new).collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(pods)
    }

    /// The resource.
    pub(super) fn raft(&self) -> Result<Value, String> {
        self.json(&["-n", self.space, "get", "raft", NAME])
    }

    /// Waits until the RaftCluster is as its spec wants it.
    pub(super) async fn ready(&self, replicas: usize) -> Result<(), String> {
        until("the RaftCluster is Ready", PATIENCE, async || {
            self.look()?;
            let raft = self.raft()?;
            is_whole(&raft, &self.pods()?, replicas)?;
            let told = &raft["status"]["readyReplicas"];
            if *told == json!(replicas) { Ok(()) } else { Err(format!("{told} are told as ready")) }
        })
        .await
    }

    /// Waits until an application leads under a token above this one: of one that goes on, more
    /// is heard.
    pub(super) async fn led(&self, above: u64) -> Result<Term, String> {
        let mut heard: Option<Term> = None;
        until("an application leads", PATIENCE, async || {
            self.look()?;
            let now = self.leaders.borrow().last().filter(|term| term.token > above).cloned();
            let now = now.ok_or_else(|| format!("none under a token above {above}"))?;
            let before = heard.replace(now.clone());
            let more = before.is_some_and(|was| was.token == now.token && was.last < now.last);
            if more { Ok(now) } else { Err(format!("no more is heard of {now:?}")) }
        })
        .await
    }
}
