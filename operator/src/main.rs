//! `quorate-operator`: a `RaftCluster` becomes pods whose sidecars are one Raft group.

use clap::{Args, Parser, Subcommand};
use futures_util::FutureExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use kube::{Client, Config};
use quorate_operator::admin::Admins;
use quorate_operator::authority::{Current, Store};
use quorate_operator::context::{Context, Release};
use quorate_operator::rotation::{self, Rotation};
use quorate_operator::{controller, crd, http, inject, lease, webhook};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the webhook looks for an authority, until there is one.
const AUTHORITY_LOOK: Duration = Duration::from_secs(1);

/// A pass that runs when the operator is asked to end is over within this.
const END_MAX: Duration = lease::REQUEST_MAX;

/// Turns RaftCluster resources into pods whose sidecars are one Raft group.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The operator, in the foreground
    Run(RunArgs),
    Inject(InjectArgs),
    /// Prints the definition of RaftCluster, for `kubectl apply -f -`
    Crd,
    /// Whether an installed operator works; `helm test` runs this
    Check(CheckArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// Where the operator's pods answer probes: a name that stands for all of them
    #[arg(long, value_name = "NAME:PORT")]
    probe: String,

    /// How many pods there are to be
    #[arg(long, value_name = "N")]
    replicas: usize,
}

/// The flags of `run`. Each can come from the environment instead; a flag wins.
#[derive(Args, Clone)]
#[command(after_help = "\
Reaches the API server as kubectl does: by the service account in a pod, else by KUBECONFIG.")]
struct RunArgs {
    /// The sidecar image of RaftClusters that name none
    #[arg(long, env = "QUORATE_OPERATOR_IMAGE", value_name = "IMAGE")]
    image: String,

    /// The namespace of the operator's own Secret and Lease
    #[arg(long, env = "QUORATE_OPERATOR_NAMESPACE", default_value = "quorate-system")]
    namespace: String,

    /// Who this process is, in the Lease; a pod's name, say
    #[arg(long, env = "POD_NAME", default_value = "quorate-operator")]
    identity: String,

    /// Looks after this namespace only; repeat it, or separate with commas. Without it: after all
    #[arg(long, env = "QUORATE_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    watch: Vec<String>,

    /// Where probes and metrics are asked for, over HTTP
    #[arg(long, env = "QUORATE_OPERATOR_LISTEN", default_value = "0.0.0.0:7405")]
    listen: SocketAddr,

    /// Where the API server asks for the sidecar of pods with the label quorate.dev/attach, over
    /// HTTPS. Without it there is no webhook
    #[arg(long, env = "QUORATE_OPERATOR_WEBHOOK_LISTEN", value_name = "IP:PORT")]
    webhook_listen: Option<SocketAddr>,

    /// The names and addresses at which it asks; repeat it, or separate with commas
    #[arg(
        long,
        env = "QUORATE_OPERATOR_WEBHOOK_HOSTS",
        value_delimiter = ',',
        value_name = "HOST",
        requires = "webhook_listen"
    )]
    webhook_host: Vec<String>,

    /// The MutatingWebhookConfiguration, for the operator to write its authority into
    #[arg(
        long,
        env = "QUORATE_OPERATOR_WEBHOOK_NAME",
        default_value = "quorate",
        value_name = "NAME"
    )]
    webhook_name: String,

    /// While the authority changes, nobody trusts the next or drops the former one sooner than this
    /// after the Secrets have changed, for attached pods to have read theirs again: the kubelet's
    /// sync period and its cache, two minutes mostly; at least 30 with a webhook
    #[arg(long, env = "QUORATE_OPERATOR_CA_SETTLE", default_value_t = 300, value_name = "SECONDS")]
    ca_settle: u64,
}

/// The flags of `inject`.
#[derive(Args, Clone)]
#[command(
    about = "Adds the sidecar to pods that are no members, without the webhook",
    after_help = "\
Reads YAML and prints it anew, with a sidecar for each pod, or template of pods, that has the label
quorate.dev/attach: NAME, the name of a RaftCluster in its namespace:
  quorate inject -f deployment.yaml | kubectl apply -f -"
)]
struct InjectArgs {
    /// The file to read, of one or more documents; - is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,

    /// The sidecar's image
    #[arg(
        long,
        env = "QUORATE_OPERATOR_IMAGE",
        value_name = "IMAGE",
        default_value = concat!("quorate.dev/quorate:", env!("CARGO_PKG_VERSION"))
    )]
    image: String,
}

fn say(line: String) {
    eprintln!("quorate-operator: {line}");
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { verb: Verb::Crd }) => print_definition(),
        Ok(Arguments { verb: Verb::Inject(args) }) => injected(&args),
        Ok(Arguments { verb: Verb::Run(args) }) => within(work(args)),
        Ok(Arguments { verb: Verb::Check(args) }) => within(check(args)),
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print(); // A closed pipe needs no help text.
            ExitCode::from(code)
        }
    }
}

fn injected(args: &InjectArgs) -> ExitCode {
    let text = match args.filename.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(&args.filename),
    };
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", args.filename.display());
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            say(named(&why));
            return ExitCode::from(66);
        }
    };
    match inject::documents(&text, &args.image) {
        Ok(made) if std::io::stdout().write_all(made.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(74),
        Err(why) => {
            say(named(&why));
            ExitCode::from(65)
        }
    }
}

fn print_definition() -> ExitCode {
    let text = serde_yaml::to_string(&crd::definition());
    let written = text
        .map_err(std::io::Error::other)
        .and_then(|text| std::io::stdout().write_all(text.as_bytes()));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(74) }
}

fn within(task: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format!("no runtime: {error}"));
            return ExitCode::from(71);
        }
    };
    match runtime.block_on(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(why);
            ExitCode::from(69)
        }
    }
}

/// A client that repeats nothing by itself: an eviction that a budget refuses is refused.
async fn client() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|error| {
        format!("no API server is known: {error}; run it in a pod, or set KUBECONFIG")
    })?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.write_timeout = Some(lease::REQUEST_MAX);
    Client::try_from(config).map_err(|error| error.to_string())
}

async fn check(args: CheckArgs) -> Result<(), String> {
    let found =
        quorate_operator::check::check(&client().await?, &args.probe, args.replicas).await?;
    say(found);
    Ok(())
}

async fn work(args: RunArgs) -> Result<(), String> {
    let client = client().await?;
    let health = http::Health::default();
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    tokio::spawn(http::serve(listener, health.clone()));
    serve_webhook(&client, &args, &health).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), &args.namespace);
    let mut ended = Box::pin(asked_to_end());
    say(format!("waiting for the Lease {}/quorate-operator", args.namespace));
    health.set_up();
    let acquired = lease::acquire(leases.clone(), args.identity.clone(), say);
    let (hold, kept) = tokio::select! {
        held = acquired => held,
        () = &mut ended => return Ok(()),
    };
    let store = Store::new(&client, &args.namespace);
    let authority = Current::new(store.open().await?);
    let issuer = authority.clone();
    let admins = Admins::new(move |label| {
        let trust = issuer.get();
        let issued = trust.signer.issue("operator", label).map_err(|error| error.to_string())?;
        Ok((issued, trust.bundle()))
    });
    let release = Release { image: args.image.clone(), namespace: args.namespace.clone() };
    let context = Arc::new(Context::new(client, admins, release, authority, hold));
    let rotation = Rotation {
        context: Arc::clone(&context),
        store,
        namespaces: args.watch.clone(),
        webhook: args.webhook_listen.map(|_| args.webhook_name.clone()),
        settle: Duration::from_secs(args.ca_settle),
    };
    tokio::spawn(rotation.run(say));
    say("works".to_owned());
    health.leads();
    let ended = ended.shared();
    let works = controller::run(context, health, &args.watch, say, ended.clone());
    let asked_long_ago = ended.then(|()| tokio::time::sleep(END_MAX));
    tokio::select! {
        () = works => {}
        // A controller that is asked in its first moments, before it knows any resource, waits on.
        () = asked_long_ago => {}
        _ = kept => return Err("the Lease is lost: somebody else may work now".to_owned()),
    }
    lease::release(leases, &args.identity).await;
    Ok(())
}

async fn asked_to_end() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut term), Ok(mut int)) = signals else { return };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Serves the webhook, if it is wanted, from when there is an authority: whether this process has
/// the Lease or waits for it.
async fn serve_webhook(
    client: &Client,
    args: &RunArgs,
    health: &http::Health,
) -> Result<(), String> {
    let Some(address) = args.webhook_listen else { return Ok(()) };
    if args.webhook_host.is_empty() {
        return Err("--webhook-listen needs a --webhook-host: the name at which the API server \
                    asks, quorate-webhook.quorate-system.svc, say"
            .to_owned());
    }
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("--webhook-listen {address}: {error}"))?;
    health.webhook_wanted();
    let (client, health, args) = (client.clone(), health.clone(), args.clone());
    tokio::spawn(async move {
        let store = Store::new(&client, &args.namespace);
        let authority = loop {
            match store.look().await {
                Ok(Some((_, trust))) => break Current::new(trust),
                Ok(None) => {}
                Err(why) => say(format!("webhook: {why}")),
            }
            tokio::time::sleep(AUTHORITY_LOOK).await;
        };
        health.webhook_serves();
        tokio::spawn(rotation::follow(store, authority.clone(), say));
        let served = webhook::serve(listener, authority, args.webhook_host, args.image, say);
        if let Err(why) = served.await {
            say(format!("webhook: {why}"));
        }
    });
    Ok(())
}
