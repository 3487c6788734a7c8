//! `quorate-cluster`: a real Kubernetes on this machine, and the images that it runs.

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_cluster::binaries::Binaries;
use quorate_cluster::instance::Instance;
use quorate_cluster::scenarios::demo;
use quorate_cluster::scenarios::{Elsewhere, elsewhere};
use quorate_cluster::up::{Came, Wanted};
use quorate_cluster::{
    SKIPPED, check, control, down, image, lease, network, process, provision, say, scenarios, up,
};
use quorate_load::screen;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// What this machine lacks: not a failure of the program.
const SKIPPED_CODE: u8 = 77;

/// The product's image, unless it is called something else.
const IMAGE_NAME: &str = concat!("quorate.dev/quorate:", env!("CARGO_PKG_VERSION"));

/// What `demo --help` begins with, and ends with.
const DEMO: &str = "\
Shows the main job on a real Kubernetes: it starts one of three nodes on this machine, builds and
imports the image, installs the chart with Helm, applies examples/kubernetes/raftcluster.yaml, and
then, while clients at every pod take and return names without pause:

  kills the leading application, deletes its pod, and kills the sidecar of the Raft leader
  scales from 3 to 5 and back
  deletes a volume with its pod
  cuts a node off for 20 s, the leading application's
  stops the API server for 20 s, and kills the leading application meanwhile

It tells what happens as it happens, ends with a table and the promises, and takes the whole
cluster away, also after Ctrl-C. It needs Linux with root and Go 1.26 or later; the first time it
builds Kubernetes, which takes ten minutes.

With --kubeconfig it does what Helm and kubectl can do on a cluster that is there, on the file's
current context: installs the chart, unless an operator is there, applies the example in a
namespace of its own, scales, deletes pods and a volume, and takes away what it made. There it
judges the leaders alone, and measures no clients.";
const DEMO_END: &str = "\
What the table measures:
  group gap    the longest time in which clients at some pod that was not broken got nothing done
  next leads   from the fault until another application leads: one whose node is cut off is waited
               for as long as its time to live, five seconds, since nobody can see it end
  Ready after  until the RaftCluster is as its spec wants it

The exit code is 0 only if every promise was kept: one leader at a time, tokens only rise, nothing
that was acknowledged is lost.";

/// A real Kubernetes on this machine, without a container engine or an image registry
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A cluster of API server, controllers and nodes, for daily work and tests
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Writes the image archive of the product, without a container engine
    Image(ImageArgs),
    /// The main job, live, on a real Kubernetes that it starts itself
    #[command(long_about = DEMO, after_help = DEMO_END)]
    Demo(DemoArgs),
    /// An application that is led by a Lease; `demo --compare` starts it in pods
    #[command(hide = true)]
    Lease {
        /// Its pod
        #[arg(long, env = "POD_NAME")]
        pod: String,
    },
    /// Serves the claims for volumes of a cluster; `up` starts it
    #[command(hide = true)]
    Provision(Which),
}

#[derive(Subcommand)]
enum ClusterVerb {
    /// Starts a cluster, or what of it does not run
    Up(UpArgs),
    /// Ends a cluster, and removes all that it has
    Down(Which),
    /// Imports image archives into every node; without one, the product's as it is built now
    Load(LoadArgs),
    /// What runs, and which nodes are ready
    Status(Which),
    /// Takes a node's link down: it is lost to all others
    Cut(NodeArgs),
    /// Brings a node's link back
    Mend(NodeArgs),
    /// Builds the binaries of Kubernetes into the user's cache, and nothing else
    Build,
    /// Starts a cluster of its own, tries what the tests need of it, and ends it
    Check {
        /// The folder of clusters
        #[arg(long, default_value = "target/kubernetes")]
        dir: PathBuf,
    },
    /// Runs the scenarios of RaftClusters on a cluster of its own, and ends it; with --kubeconfig,
    /// those that Helm and kubectl can do on another one
    Test(TestArgs),
}

#[derive(Args)]
struct TestArgs {
    /// Only scenarios whose names contain this; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    built: Built,
}

#[derive(Args)]
struct Where {
    /// On this file's current cluster instead of one of its own: by Helm and kubectl alone
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The image to install there, where no operator is; else the chart's own
    #[arg(long, value_name = "REPOSITORY:TAG", requires = "kubeconfig")]
    image_name: Option<String>,
}

impl Where {
    /// `None`: on a cluster of its own.
    fn elsewhere(self) -> Option<Elsewhere> {
        let Where { kubeconfig, image_name: image } = self;
        Some(Elsewhere { kubeconfig: kubeconfig?, image })
    }
}

/// What a run needs of the product, as it was just built.
#[derive(Args)]
struct Built {
    /// The folder of clusters
    #[arg(long, default_value = "target/kubernetes")]
    dir: PathBuf,
    /// The product's image
    #[arg(long, hide = true, default_value = "target/quorate-image.tar")]
    image: PathBuf,
    /// The operator, as a program of this machine
    #[arg(long, hide = true, default_value = "target/release/quorate-operator")]
    operator: PathBuf,
    /// The top of the project
    #[arg(long, hide = true, default_value = ".")]
    source: PathBuf,
}

impl Built {
    fn options(self, only: Vec<String>) -> scenarios::Options {
        let Built { dir: base, image, operator, source } = self;
        let image_name = IMAGE_NAME.to_owned();
        scenarios::Options { base, image, image_name, operator, source, only }
    }
}

#[derive(Args)]
struct DemoArgs {
    /// On a real Kubernetes; without this, on processes of this machine
    #[arg(long, required = true)]
    kubernetes: bool,
    /// How often each thing happens
    #[arg(long, value_name = "N", default_value = "2")]
    rounds: std::num::NonZeroU32,
    /// Instead, the same application under a Lease of the API server and under Quorate
    #[arg(long, conflicts_with = "kubeconfig")]
    compare: bool,
    #[command(flatten)]
    place: Where,
    /// Plain lines, also on a terminal
    #[arg(long)]
    no_color: bool,
    #[command(flatten)]
    built: Built,
}

#[derive(Args)]
struct Which {
    /// The cluster's name; several can run at a time
    #[arg(long, default_value = "dev")]
    instance: String,
    /// The folder of clusters
    #[arg(long, default_value = "target/kubernetes")]
    dir: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs: one object
    Json,
}

#[derive(Args)]
struct UpArgs {
    #[command(flatten)]
    which: Which,
    /// How many nodes, 1 to 20; 3 if it is new
    #[arg(long)]
    nodes: Option<u8>,
    /// An image archive for every node; may be repeated
    #[arg(long = "image", value_name = "ARCHIVE")]
    images: Vec<PathBuf>,
}

#[derive(Args)]
struct LoadArgs {
    #[command(flatten)]
    which: Which,
    /// As `cargo xtask image` or `docker save` write them
    #[arg(value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
}

#[derive(Args)]
struct NodeArgs {
    #[command(flatten)]
    which: Which,
    /// Its number, from 1
    node: u8,
}

#[derive(Args)]
struct ImageArgs {
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "target/quorate-image.tar")]
    out: PathBuf,
    /// Its name and tag
    #[arg(long, default_value = IMAGE_NAME)]
    name: String,
    /// A program of the image; the first is what a container starts
    #[arg(long = "binary", value_name = "FILE", hide = true)]
    binaries: Vec<PathBuf>,
    /// A program without a libc, for images that have none
    #[arg(long = "static", value_name = "FILE", hide = true)]
    statics: Vec<PathBuf>,
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|e| e.to_string())
}

fn run(verb: Verb) -> Result<ExitCode, String> {
    match verb {
        Verb::Cluster(verb) => return run_cluster(verb),
        Verb::Demo(args) => {
            let color = screen::color_wanted() && !args.no_color;
            let options = args.built.options(Vec::new());
            let (rounds, compare) = (args.rounds.get(), args.compare);
            let kept = match args.place.elsewhere() {
                Some(to) => {
                    runtime()?.block_on(demo::elsewhere::run(&options, (rounds, color), &to))?
                }
                None => {
                    let wish = demo::Wish { rounds, color, compare };
                    runtime()?.block_on(demo::run(&options, wish))?
                }
            };
            return Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Lease { pod } => runtime()?.block_on(lease::elect(&pod))?,
        Verb::Provision(which) => {
            let instance = open(&which)?;
            runtime()?.block_on(provision::run(instance))?;
        }
        Verb::Image(args) => {
            let product =
                image::Product { name: args.name, binaries: args.binaries, statics: args.statics };
            let size = image::product(&product, &args.out)?;
            let tenths = size / 100_000;
            let (out, name) = (args.out.display(), product.name);
            say(&format!("{out}: {name}, {}.{} MB", tenths / 10, tenths % 10));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_cluster(verb: ClusterVerb) -> Result<ExitCode, String> {
    match verb {
        ClusterVerb::Up(args) => start(args)?,
        ClusterVerb::Down(which) => {
            let ended = down::down(&which.dir, &which.instance)?;
            let (name, dir) = (&which.instance, which.dir.display());
            let words = if ended { "is down" } else { "does not run" };
            say(&format!("{name} {words} (in {dir})"));
        }
        ClusterVerb::Load(args) => {
            let instance = open(&args.which)?;
            if args.archives.is_empty() {
                return Err("there is no archive to load".to_owned());
            }
            for archive in &args.archives {
                up::load(&instance, archive)?;
                say(&format!("{} is on {} nodes", archive.display(), instance.nodes));
            }
        }
        ClusterVerb::Status(which) => return status(&which),
        ClusterVerb::Cut(args) => network::link(&open(&args.which)?, args.node, false)?,
        ClusterVerb::Mend(args) => network::link(&open(&args.which)?, args.node, true)?,
        ClusterVerb::Check { dir } => runtime()?.block_on(check::check(&dir))?,
        ClusterVerb::Test(args) => return test(args),
        ClusterVerb::Build => {
            let binaries = Binaries::ready()?;
            binaries.folders().iter().for_each(|folder| say(&folder.display().to_string()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn test(args: TestArgs) -> Result<ExitCode, String> {
    let options = args.built.options(args.only);
    let passed = match args.place.elsewhere() {
        Some(to) => runtime()?.block_on(elsewhere::run(&options, &to))?,
        None => runtime()?.block_on(scenarios::run(&options))?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(which: &Which) -> Result<Instance, String> {
    let (name, dir) = (&which.instance, which.dir.display());
    let found = Instance::open(&which.dir, name)?;
    found.ok_or_else(|| format!("there is no cluster {name} in {dir}; start one: cluster up"))
}

fn start(args: UpArgs) -> Result<(), String> {
    let wanted = Wanted {
        base: args.which.dir,
        name: args.which.instance,
        nodes: args.nodes,
        images: args.images,
    };
    let came = runtime()?.block_on(up::up(&wanted))?;
    if args.which.output == Output::Json {
        say(&told(&came)?.to_string());
        return Ok(());
    }
    let Came { instance, binaries, ran } = &came;
    let (name, nodes) = (&instance.name, instance.nodes);
    let words = if *ran { "runs already" } else { "is up" };
    say(&format!("{name} {words}: {nodes} nodes, {}; to use it:", instance.server()));
    say(&format!("export KUBECONFIG={}", instance.kubeconfig("admin").display()));
    let folders: Vec<String> =
        binaries.folders().iter().map(|folder| folder.display().to_string()).collect();
    say(&format!("export PATH={}:$PATH", folders.join(":")));
    Ok(())
}

/// What a program wants to know of a cluster.
fn told(came: &Came) -> Result<serde_json::Value, String> {
    let Came { instance, binaries, ran } = came;
    let node = |node: u8| {
        json!({
            "name": format!("node{node}"),
            "address": instance.node_address(node),
            "namespace": instance.node_namespace(node),
            "containerd": instance.containerd(node),
            "dir": instance.node_dir(node),
        })
    };
    Ok(json!({
        "instance": instance.name,
        "dir": instance.dir,
        "ran": ran,
        "server": instance.server(),
        "kubeconfig": instance.kubeconfig("admin"),
        "namespace": instance.group(),
        "kubectl": binaries.path("kubectl")?,
        "helm": binaries.path("helm")?,
        "logs": instance.dir.join("log"),
        "audit_log": control::audit_log(instance),
        "nodes": instance.node_numbers().map(node).collect::<Vec<_>>(),
    }))
}

/// Exit code 0 only if all of it runs and every node is ready.
fn status(which: &Which) -> Result<ExitCode, String> {
    let instance = open(which)?;
    let parts: Vec<(String, Option<i32>)> = up::components(&instance)
        .into_iter()
        .map(|name| {
            let pid = process::running(&instance, &name);
            (name, pid)
        })
        .collect();
    let ready = runtime()?.block_on(async {
        let client = up::client(&instance, "admin").await?;
        let asked = up::ready_nodes(&client);
        let patience = std::time::Duration::from_secs(3);
        tokio::time::timeout(patience, asked).await.map_err(|_| "no answer in 3 s".to_owned())?
    });
    let healthy = parts.iter().all(|(_, pid)| pid.is_some())
        && ready.as_ref().is_ok_and(|ready| ready.len() == usize::from(instance.nodes));
    if which.output == Output::Json {
        let pids: serde_json::Map<_, _> =
            parts.into_iter().map(|(name, pid)| (name, json!(pid))).collect();
        let ready = ready.unwrap_or_default();
        say(&json!({"healthy": healthy, "processes": pids, "ready": ready}).to_string());
    } else {
        for (name, pid) in parts {
            let pid = pid.map_or_else(|| "does not run".to_owned(), |pid| pid.to_string());
            say(&format!("{name:<20}{pid}"));
        }
        let nodes = ready.map_or_else(|why| format!("unknown: {why}"), |ready| ready.join(" "));
        say(&format!("{:<20}{nodes}", "ready nodes"));
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("quorate-cluster: {why}");
            let skipped = why.contains(SKIPPED);
            if skipped { ExitCode::from(SKIPPED_CODE) } else { ExitCode::FAILURE }
        }
    }
}
