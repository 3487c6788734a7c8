//! The settings of an attached sidecar: one that is no member, beside an application in another
//! pod.

use super::{Complaints, Level, SOCKET, Tool, check, file};
use crate::attach::link::Members;
use crate::tls::{CLIENT, TlsFiles};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The longest name of a pod.
const NAME_BYTES_MAX: usize = 253;

/// The flags of `quorate-sidecar attach`. Each can come from the environment instead; a flag wins.
#[derive(Args, Clone, Debug)]
#[command(
    about = "A sidecar without a log, for an application that is no part of the group",
    after_help = "\
It serves the same local API on the same socket, and keeps two connections to members of the group,
on their --client-listen port. Every setting can stand in the environment, or in the file of
--config, as KEY=VALUE lines. A flag wins over the environment, the environment over the file.

  quorate-sidecar attach --service demo-client.default.svc:7403 --cluster LABEL \\
      --tls-cert client.pem --tls-key client.key --tls-ca ca.pem

Its certificate carries the DNS name client.CLUSTER.quorate. In a pod, the label
quorate.dev/attach: NAME adds it, or `quorate-operator inject`."
)]
pub struct AttachArgs {
    /// Settings from this file, where neither a flag nor the environment has them
    #[arg(long, env = file::VARIABLE, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Its name, for people: the pod's, say
    #[arg(long, env = "QUORATE_NAME", value_name = "NAME", default_value = "attached")]
    pub name: String,

    /// The one name behind which all members are found, and their clients' port
    #[arg(long, env = "QUORATE_SERVICE", value_name = "HOST:PORT")]
    pub service: Option<String>,

    /// A member and where its clients' port is; repeat it, or separate with commas
    #[arg(
        long = "member",
        env = "QUORATE_MEMBERS",
        value_name = "NAME=HOST:PORT",
        value_delimiter = ','
    )]
    pub members: Vec<String>,

    /// The Unix socket of the local API
    #[arg(long, env = "QUORATE_SOCKET", value_name = "PATH", default_value = SOCKET)]
    pub socket: String,

    /// Who may connect to the socket: 0666 everybody in the pod, 0660 this user and group
    #[arg(long, env = "QUORATE_SOCKET_MODE", value_name = "MODE", default_value = "0666")]
    pub socket_mode: String,

    /// Serves the local API on loopback TCP too, on this port (0: any free one)
    #[arg(long, env = "QUORATE_API_PORT", value_name = "PORT")]
    pub api_port: Option<String>,

    /// Where probes and metrics are asked for, over HTTP
    #[arg(
        long,
        env = "QUORATE_PROBE_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7404"
    )]
    pub probe_listen: String,

    /// The cluster's label in certificates; a DNS label
    #[arg(long, env = "QUORATE_CLUSTER", value_name = "NAME", default_value = "quorate")]
    pub cluster: String,

    /// Its certificate chain, PEM; read again when it changes
    #[arg(long, env = "QUORATE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, env = "QUORATE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// The CA that vouches for members, PEM
    #[arg(long, env = "QUORATE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// What goes to standard error: error, warn, info or debug
    #[arg(long, env = "QUORATE_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,

    /// Puts the program `quorate` there, for other containers of the pod to run
    #[arg(long, env = "QUORATE_TOOL_DIR", value_name = "DIR")]
    pub tool_dir: Option<PathBuf>,

    /// The program to put there: one that needs no library
    #[arg(
        long,
        env = "QUORATE_TOOL_SOURCE",
        value_name = "FILE",
        default_value = super::pod::TOOL_SOURCE
    )]
    pub tool_source: PathBuf,
}

/// The settings of an attached sidecar, all of them good.
#[derive(Clone, Debug)]
pub struct AttachConfig {
    /// Its name, for people.
    pub name: String,
    /// Where members are.
    pub members: Members,
    /// The local API's socket.
    pub socket: PathBuf,
    /// Its permissions.
    pub socket_mode: u32,
    /// The local API's loopback address, if wanted; port 0: any.
    pub api_listen: Option<SocketAddr>,
    /// Probes and metrics; port 0: any.
    pub probe_listen: SocketAddr,
    /// The label of the cluster.
    pub cluster: String,
    /// Its certificate.
    pub tls: TlsFiles,
    /// How much is said.
    pub log: Level,
    /// What other containers may run.
    pub tool: Option<Tool>,
}

impl AttachConfig {
    /// Checks all settings.
    ///
    /// # Errors
    /// One sentence for every bad value, in the order of the flags.
    pub fn check(args: AttachArgs) -> Result<AttachConfig, Vec<String>> {
        let mut bad = Complaints::default();
        let name = bad.take(pod_name(&args.name));
        let named = check::members(&args.members, &mut bad);
        let members = bad.take(members(args.service.as_ref(), named));
        let socket = bad.take(check::socket(&args.socket));
        let socket_mode = bad.take(check::mode(&args.socket_mode));
        let api_listen = bad.take(args.api_port.as_deref().map(check::api_port).transpose());
        let probe_listen = bad.take(check::listen("--probe-listen", &args.probe_listen, 7404));
        let cluster = bad.take(super::dns_label("--cluster", &args.cluster, "quorate"));
        let files = [&args.tls_cert, &args.tls_key, &args.tls_ca].map(Option::as_ref);
        let tls = bad.take(check::tls_files(files).and_then(|tls| {
            tls.ok_or_else(|| {
                format!(
                    "--tls-cert, --tls-key and --tls-ca are missing: members take attached \
                     sidecars with the certificate of {CLIENT}.CLUSTER.quorate alone"
                )
            })
        }));
        check::ports_differ(&[probe_listen, api_listen.flatten()], &mut bad);
        let log = bad.take(args.log.parse());
        if !bad.0.is_empty() {
            return Err(bad.0);
        }
        let checked = "a value without a complaint is there";
        let directory = args.tool_dir.filter(|directory| !directory.as_os_str().is_empty());
        let source = args.tool_source;
        Ok(AttachConfig {
            name: name.expect(checked),
            members: members.expect(checked),
            socket: socket.expect(checked),
            socket_mode: socket_mode.expect(checked),
            api_listen: api_listen.expect(checked),
            probe_listen: probe_listen.expect(checked),
            cluster: cluster.expect(checked),
            tls: tls.expect(checked),
            log: log.expect(checked),
            tool: directory.map(|directory| Tool { directory, source }),
        })
    }
}

fn pod_name(value: &str) -> Result<String, String> {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if value.is_empty() || value.len() > NAME_BYTES_MAX || !value.bytes().all(good) {
        return Err(format!(
            "--name is {value:?}; it is 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and .: app-1, say"
        ));
    }
    Ok(value.to_owned())
}

fn members(
    service: Option<&String>,
    named: std::collections::BTreeMap<String, String>,
) -> Result<Members, String> {
    match (service.filter(|service| !service.is_empty()), named.is_empty()) {
        (Some(service), true) if check::host_and_port(service) => {
            Ok(Members::Service(service.clone()))
        }
        (Some(service), true) => Err(format!(
            "--service is {service:?}; it is HOST:PORT: demo-client.default.svc:7403, say"
        )),
        (None, false) => Ok(Members::Named(named)),
        (None, true) => {
            Err("where are the members? Write --service demo-client.default.svc:7403, \
                             say, or a --member for each"
                .to_owned())
        }
        (Some(_), false) => Err("--service and --member are both given; keep one".to_owned()),
    }
}
