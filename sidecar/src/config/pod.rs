//! The settings that only a member in a pod needs.

use super::{Complaints, check};
use clap::Args;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the image has the program that other containers may run.
pub(super) const TOOL_SOURCE: &str = "/usr/lib/quorate/static/quorate";

/// Flags of `quorate-sidecar run` for a member in a pod.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "In a pod")]
pub struct PodArgs {
    /// A peer that no --peer names is found at NAME.DOMAIN, looked up for each connection
    #[arg(long, env = "QUORATE_PEER_DOMAIN", value_name = "DOMAIN")]
    pub peer_domain: Option<String>,

    /// The port of such peers
    #[arg(long, env = "QUORATE_PEER_PORT", value_name = "PORT", default_value = "7401")]
    pub peer_port: String,

    /// This pod's address, for peers to dial before they ask the DNS; with the port of
    /// --peer-listen
    #[arg(long, env = "QUORATE_POD_IP", value_name = "IP")]
    pub advertise: Option<String>,

    /// This pod's UID: calls of the admin port that mean another one are refused
    #[arg(long, env = "QUORATE_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,

    /// When /readyz says yes: latched, from the first time that this process has caught up until it
    /// ends; quorum, only while a leader is known, too
    #[arg(long, env = "QUORATE_READINESS", value_name = "WHEN", default_value = "latched")]
    pub readiness: String,

    /// Puts the program `quorate` there, for other containers of the pod to run
    #[arg(long, env = "QUORATE_TOOL_DIR", value_name = "DIR")]
    pub tool_dir: Option<PathBuf>,

    /// The program to put there: one that needs no library
    #[arg(
        long,
        env = "QUORATE_TOOL_SOURCE",
        value_name = "FILE",
        default_value = TOOL_SOURCE
    )]
    pub tool_source: PathBuf,
}

/// When `/readyz` says yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// From the first time that this process has caught up until it ends.
    Latched,
    /// While a leader is known, too.
    Quorum,
}

impl FromStr for Readiness {
    type Err = String;

    fn from_str(value: &str) -> Result<Readiness, String> {
        match value {
            "latched" => Ok(Readiness::Latched),
            "quorum" => Ok(Readiness::Quorum),
            _ => Err(format!("--readiness is {value:?}; it is latched or quorum")),
        }
    }
}

/// A program to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The directory to put it in, as `quorate`.
    pub directory: PathBuf,
    /// The file to copy.
    pub source: PathBuf,
}

/// What a pod adds to the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The address that peers may dial.
    pub ip: Option<IpAddr>,
    /// Which pod this is; none: nobody said.
    pub uid: Option<String>,
    /// When `/readyz` says yes.
    pub readiness: Readiness,
    /// What other containers may run.
    pub tool: Option<Tool>,
}

impl Pod {
    /// Checks these settings; the domain of peers and its port belong to their addresses.
    pub(super) fn check(args: &PodArgs, bad: &mut Complaints) -> (Pod, Option<(String, u16)>) {
        let domain = some(args.peer_domain.as_ref());
        let domain = domain.map(|domain| check::domain(domain, &args.peer_port));
        let domain = domain.and_then(|domain| bad.take(domain));
        let ip = some(args.advertise.as_ref()).map(|ip| check::advertise(ip));
        let ip = ip.and_then(|ip| bad.take(ip));
        let uid = some(args.pod_uid.as_ref()).map(|uid| check::pod_uid(uid));
        let uid = uid.and_then(|uid| bad.take(uid));
        let readiness = bad.take(args.readiness.parse()).unwrap_or(Readiness::Latched);
        let source = args.tool_source.clone();
        let wanted = args.tool_dir.clone().filter(|directory| !directory.as_os_str().is_empty());
        let tool = wanted.map(|directory| Tool { directory, source });
        (Pod { ip, uid, readiness, tool }, domain)
    }
}

/// An empty value is none: a variable has no other way to say so.
fn some(value: Option<&String>) -> Option<&String> {
    value.filter(|value| !value.is_empty())
}
