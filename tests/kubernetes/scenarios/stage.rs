//! The cluster, the operator, and the ways to ask and tell the API server.

use super::Options;
use super::control::AtRest;
use super::operator::{Operator, Start, tail};
use super::space::{PATIENCE, until};
use crate::binaries::Binaries;
use crate::host::{feed, text};
use crate::instance::Instance;
use crate::up::{Wanted, client, up};
use crate::{certificates, process};
use http::Request;
use kube::Client;
use quorate_load::metric_at;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Of the operator itself.
pub(super) const SYSTEM: &str = "quorate-system";
/// Of the chart, for Helm.
pub(super) const RELEASE: &str = "quorate";
/// Of RaftClusters.
pub(super) const DEFINITION: &str = "raftclusters.quorate.dev";
/// Of the operator's Deployment, and of its pods.
pub(super) const OPERATOR: &str = "app.kubernetes.io/name=quorate-operator";
/// Whom the audit log calls the operator.
pub(super) const ACCOUNT: &str = "system:serviceaccount:quorate-system:quorate-operator";

/// See the module.
pub(super) struct Stage {
    pub(super) instance: Instance,
    pub(super) image: String,
    binaries: Binaries,
    client: Client,
    start: RefCell<Start>,
    /// `None`: one in pods has its place.
    operator: RefCell<Option<Operator>>,
    /// The top of the project: its chart and its examples.
    pub(super) source: PathBuf,
    /// The namespace of the scenario that runs.
    space: RefCell<Option<String>>,
    /// The group that nobody touches.
    pub(super) at_rest: Cell<Option<Result<AtRest, String>>>,
    /// Short links to the sockets of sidecars.
    pub(super) links: PathBuf,
}

impl Stage {
    /// A cluster, and the operator as a program of this machine.
    pub(super) async fn new(options: &Options, wanted: &Wanted) -> Result<Stage, String> {
        let stage = Stage::bare(options, wanted).await?;
        let kubectl = Kubectl::new(&stage.instance, &stage.binaries)?;
        define(&kubectl, options).await?;
        account(&kubectl, &stage.instance)?;
        stage.operator.replace(Some(Operator::start(&stage.start.borrow())?));
        stage.works("works").await?;
        Ok(stage)
    }

    /// A cluster that never knew Quorate.
    pub(super) async fn bare(options: &Options, wanted: &Wanted) -> Result<Stage, String> {
        let came = up(wanted).await?;
        let (instance, binaries) = (came.instance, came.binaries);
        let client = client(&instance, "admin").await?;
        let links = std::env::temp_dir().join(format!("quorate-{}", instance.name));
        std::fs::create_dir_all(&links).map_err(|e| format!("{}: {e}", links.display()))?;
        let start = Start {
            program: options.operator.clone(),
            kubeconfig: instance.kubeconfig("operator"),
            image: options.image_name.clone(),
            log: instance.dir.join("log").join("operator.log"),
            identity: "first".to_owned(),
        };
        Ok(Stage {
            instance,
            image: options.image_name.clone(),
            binaries,
            client,
            start: RefCell::new(start),
            operator: RefCell::new(None),
            source: options.source.clone(),
            space: RefCell::new(None),
            at_rest: Cell::new(None),
            links,
        })
    }

    /// Waits until the operator's log has these words in its last lines.
    async fn works(&self, words: &str) -> Result<(), String> {
        until("the operator works", Duration::from_secs(60), async || {
            let said = tail(&self.start.borrow().log, 3);
            if said.contains(words) { Ok(()) } else { Err(said) }
        })
        .await
    }

    /// `kubectl` with these words; gives what it printed.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        Kubectl::new(&self.instance, &self.binaries)?.run(words, "")
    }

    /// `helm` with these words; what it remembers is the cluster's own.
    pub(super) fn helm(&self, words: &[&str]) -> Result<String, String> {
        let home = self.instance.dir.join("helm");
        let mut command = Command::new(self.binaries.path("helm")?);
        command.arg("--kubeconfig").arg(self.instance.kubeconfig("admin")).args(words);
        for part in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{part}_HOME"), home.join(part));
        }
        let output = command.stdin(Stdio::null()).output().map_err(|e| format!("helm: {e}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let (words, why) = (words.join(" "), String::from_utf8_lossy(&output.stderr));
        Err(format!("helm {words}: {}\n{said}", why.trim()))
    }

    /// `kubectl apply` of an object by this user.
    pub(super) fn apply_as(
        &self,
        user: &str,
        object: &Value,
        flags: &[&str],
    ) -> Result<String, String> {
        let kubectl = Kubectl::new(&self.instance, &self.binaries)?;
        let words = ["apply", "--as", user, "-f", "-"];
        kubectl.run(&[&words, flags].concat(), &object.to_string())
    }

    /// `kubectl apply` of an object, as a user writes it.
    pub(super) fn apply(&self, object: &Value) -> Result<String, String> {
        let kubectl = Kubectl::new(&self.instance, &self.binaries)?;
        kubectl.run(&["apply", "--validate=strict", "-f", "-"], &object.to_string())
    }

    /// Posts an object to a path of the API.
    pub(super) fn post(&self, path: &str, object: &Value) -> Result<String, String> {
        let kubectl = Kubectl::new(&self.instance, &self.binaries)?;
        kubectl.run(&["create", "--raw", path, "-f", "-"], &object.to_string())
    }

    /// A part of what an object would be like once it was applied, webhooks included.
    pub(super) fn would_be(&self, object: &Value, path: &str) -> Result<String, String> {
        let kubectl = Kubectl::new(&self.instance, &self.binaries)?;
        let path = format!("jsonpath={path}");
        let words = ["apply", "--dry-run=server", "-o", &path, "-f", "-"];
        kubectl.run(&words, &object.to_string())
    }

    /// What is at a path of the API; `None`: nothing.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>, String> {
        self.tend()?;
        let request = Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
        let asked = self.client.request::<Value>(request);
        let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
        match answer.map_err(|_| "the API server does not answer".to_owned())? {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What runs pods starts a container again that ended; here nobody else would.
    fn tend(&self) -> Result<(), String> {
        let mut operator = self.operator.borrow_mut();
        if operator.as_mut().is_some_and(|operator| !operator.runs()) {
            *operator = Some(Operator::start(&self.start.borrow())?);
        }
        Ok(())
    }

    /// Ends the operator at once, and starts it again.
    pub(super) fn kill_operator(&self) -> Result<(), String> {
        let mut operator = self.operator.borrow_mut();
        operator.take().as_mut().map(Operator::kill);
        *operator = Some(Operator::start(&self.start.borrow())?);
        Ok(())
    }

    /// Stops the operator's process where it stands, or lets it go on.
    pub(super) fn freeze_operator(&self, stop: bool) -> Result<(), String> {
        let how = if stop { Signal::STOP } else { Signal::CONT };
        self.operator.borrow().as_ref().ok_or("the operator does not run")?.signal(how)
    }

    /// Starts the operator anew, on another way to the API server; `None`: on its own.
    pub(super) async fn through(&self, server: Option<&str>) -> Result<(), String> {
        self.end_operator().await?;
        let own = self.instance.kubeconfig("operator");
        let mut start = self.start.borrow_mut();
        start.kubeconfig = match server {
            None => own,
            Some(server) => {
                let other = own.with_file_name("other-way.kubeconfig");
                let config = json!({
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "other", "cluster": {"server": server}}],
                    "users": [{"name": "nobody", "user": {}}],
                    "contexts": [{
                        "name": "other", "context": {"cluster": "other", "user": "nobody"},
                    }],
                    "current-context": "other",
                });
                std::fs::write(&other, config.to_string())
                    .map_err(|e| format!("{}: {e}", other.display()))?;
                other
            }
        };
        self.operator.replace(Some(Operator::start(&start)?));
        Ok(())
    }

    /// Starts another operator beside the first.
    pub(super) fn second_operator(&self) -> Result<Operator, String> {
        let start = self.start.borrow().clone();
        let log = start.log.with_file_name("operator-2.log");
        Operator::start(&Start { identity: "second".to_owned(), log, ..start })
    }

    /// Asks the first operator to end, and puts another into its place.
    pub(super) async fn hand_over(&self, to: Operator) -> Result<(), String> {
        self.end_operator().await?;
        // Whoever starts it anew has to be the one that has the Lease.
        self.start.replace(to.start.clone());
        self.operator.replace(Some(to));
        Ok(())
    }

    async fn end_operator(&self) -> Result<(), String> {
        let operator = self.operator.take();
        match operator {
            Some(mut operator) => operator.terminate().await,
            None => Ok(()),
        }
    }

    /// A number that the operator of this machine tells.
    pub(super) fn operator_metric(&self, name: &str) -> Result<f64, String> {
        let operator = self.operator.borrow();
        let operator = operator.as_ref().ok_or("the operator is no program of this machine")?;
        metric_at(&operator.probe.to_string(), name)
    }

    /// Whether the operator is a program of this machine.
    pub(super) fn has_operator(&self) -> bool {
        self.operator.borrow().is_some()
    }

    /// Ends the operator of this machine, and takes away all that was made for it: what is left is
    /// a cluster that never knew Quorate.
    pub(super) async fn vacate(&self) -> Result<(), String> {
        self.end_operator().await?;
        let made = [
            ["clusterrolebinding", "quorate-operator"],
            ["namespace", SYSTEM],
            ["crd", DEFINITION],
        ];
        for [kind, name] in made {
            self.kubectl(&["delete", kind, name, "--wait=false", "--ignore-not-found"])?;
        }
        until("nothing of the operator is left", Duration::from_secs(120), async || {
            for [kind, name] in made {
                if !self.kubectl(&["get", kind, name, "--ignore-not-found"])?.is_empty() {
                    return Err(format!("{kind} {name} is there"));
                }
            }
            Ok(())
        })
        .await
    }

    /// Stops the API server's process where it stands, or lets it go on.
    pub(super) fn freeze(&self, stop: bool) -> Result<(), String> {
        let how = if stop { Signal::STOP } else { Signal::CONT };
        let found = process::signal(&self.instance, "apiserver", how)?;
        if found { Ok(()) } else { Err("the API server does not run".to_owned()) }
    }

    /// Kills the API server.
    pub(super) async fn kill_server(&self) -> Result<(), String> {
        if !process::signal(&self.instance, "apiserver", Signal::KILL)? {
            return Err("the API server does not run".to_owned());
        }
        until("the API server ends", PATIENCE, async || {
            let left = process::running(&self.instance, "apiserver");
            left.map_or(Ok(()), |pid| Err(format!("{pid:?}")))
        })
        .await
    }

    /// Starts it again, and with it all that would look for it again after up to a minute only.
    pub(super) async fn start_server(&self) -> Result<(), String> {
        let base = self.instance.dir.parent().ok_or("a cluster has a folder")?.to_owned();
        let name = self.instance.name.clone();
        let kubelets = self.instance.node_numbers().map(|node| format!("kubelet-node{node}"));
        let waits = ["controller-manager", "scheduler"].map(str::to_owned).into_iter();
        for one in &waits.chain(kubelets).collect::<Vec<_>>() {
            if !process::signal(&self.instance, one, Signal::KILL)? {
                return Err(format!("the {one} ended before"));
            }
            until("it ends", PATIENCE, async || {
                let left = process::running(&self.instance, one);
                left.map_or(Ok(()), |pid| Err(format!("{one} is {pid:?}")))
            })
            .await?;
        }
        up(&Wanted { base, name, nodes: None, images: Vec::new() }).await.map(drop)
    }

    /// Makes a namespace for the scenario that begins.
    pub(super) fn enter(&self, name: &str) -> Result<(), String> {
        self.kubectl(&["create", "namespace", name])?;
        self.space.replace(Some(name.to_owned()));
        Ok(())
    }

    /// This namespace outlives the scenario.
    pub(super) fn keep(&self, name: &str) {
        self.space.borrow_mut().take_if(|space| space == name);
    }

    /// Removes the scenario's namespace; that goes on while the next one runs.
    pub(super) fn clear(&self) {
        if let Some(name) = self.space.take() {
            // What does not go now goes with the cluster.
            let _ = self.kubectl(&["delete", "namespace", &name, "--wait=false"]);
        }
    }

    /// The last lines of the operator.
    pub(super) fn operator_said(&self) -> String {
        if let Some(operator) = self.operator.borrow().as_ref() {
            return tail(&operator.start.log, 40);
        }
        let words = ["-n", SYSTEM, "logs", "-l", OPERATOR, "--prefix", "--tail", "40"];
        let said = self.kubectl(&words);
        said.unwrap_or_else(|why| why)
    }

    /// What everybody said, for who looks for the cause of a failure.
    pub(super) async fn told(&self) -> String {
        let mut told = format!("--- operator\n{}\n", self.operator_said());
        let space = self.space.borrow().clone();
        let Some(space) = space else { return told };
        let mut ask = |words: &[&str]| {
            let said = self.kubectl(&[&["-n", &space], words].concat());
            let said = said.unwrap_or_else(|why| why);
            told.push_str(&format!("--- kubectl {}\n{said}\n", words.join(" ")));
            said
        };
        ask(&["get", "raft,pods,pvc,pdb", "-o", "wide"]);
        ask(&["get", "events", "--sort-by=.metadata.creationTimestamp"]);
        ask(&["get", "raft", "-o", "jsonpath={.items[*].status}"]);
        for pod in ask(&["get", "pods", "-o", "name"]).lines() {
            ask(&["logs", pod, "-c", "quorate", "--tail", "30"]);
        }
        told
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.links); // Links alone; the system tidies its folder.
    }
}

struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn new(instance: &Instance, binaries: &Binaries) -> Result<Kubectl, String> {
        let (program, kubeconfig) = (binaries.path("kubectl")?, instance.kubeconfig("admin"));
        Ok(Kubectl { program, kubeconfig })
    }

    fn run(&self, words: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--request-timeout=20s");
        feed(command, words, input)
    }
}

/// The definition of the resource, as the operator prints it.
async fn define(kubectl: &Kubectl, options: &Options) -> Result<(), String> {
    let printed = Command::new(&options.operator).arg("crd").output();
    let printed = printed.map_err(|e| format!("{}: {e}", options.operator.display()))?;
    let definition = String::from_utf8_lossy(&printed.stdout);
    kubectl.run(&["apply", "--server-side", "-f", "-"], &definition)?;
    let name = format!("crd/{DEFINITION}");
    until("the definition is established", Duration::from_secs(30), async || {
        // One that has no condition at all yet is an error of kubectl's.
        kubectl.run(&["wait", "--for=condition=Established", &name], "").map(drop)
    })
    .await
}

/// The operator's account, and how it reaches the API server.
fn account(kubectl: &Kubectl, instance: &Instance) -> Result<(), String> {
    let name = "quorate-operator";
    let subject = format!("--serviceaccount={SYSTEM}:{name}");
    kubectl.run(&["create", "namespace", SYSTEM], "")?;
    kubectl.run(&["-n", SYSTEM, "create", "serviceaccount", name], "")?;
    let bind = ["create", "clusterrolebinding", name, "--clusterrole=cluster-admin", &subject];
    kubectl.run(&bind, "")?;
    let token = kubectl.run(&["-n", SYSTEM, "create", "token", name, "--duration=24h"], "")?;
    let ca = certificates::file(instance, "ca.crt");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "own",
            "cluster": {"server": instance.server(), "certificate-authority": text(&ca)?},
        }],
        "users": [{"name": name, "user": {"token": token.trim()}}],
        "contexts": [{"name": "own", "context": {"cluster": "own", "user": name}}],
        "current-context": "own",
    });
    crate::host::write(&instance.kubeconfig("operator"), &config.to_string())
}
