//! The network of a cluster: a namespace with a bridge and the control plane, and a namespace for
//! each node, with a link to the bridge. No way leads out of this machine; the machine itself gets
//! in by a link of its own.

use crate::host::run;
use crate::instance::Instance;
use std::path::Path;

/// The bridge, in the control plane's namespace.
const BRIDGE: &str = "nodes";

/// `ip` with these words.
fn ip(words: &str) -> Result<(), String> {
    run("ip", &words.split(' ').collect::<Vec<_>>()).map(drop)
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

/// Makes all that is not there yet.
///
/// # Errors
/// `ip` failed.
pub fn make(instance: &Instance) -> Result<(), String> {
    let control = instance.group();
    if !exists(&control) {
        make_control(instance)?;
    }
    for node in instance.node_numbers() {
        let namespace = instance.node_namespace(node);
        if !exists(&namespace) {
            make_node(instance, node)?;
        }
        let (pods, address) = (instance.pods_of(node), instance.node_address(node));
        ip(&format!("route replace {pods} via {address}"))?;
        ip(&format!("-n {control} route replace {pods} via {address}"))?;
        for other in instance.node_numbers().filter(|other| *other != node) {
            let (pods, address) = (instance.pods_of(other), instance.node_address(other));
            ip(&format!("-n {namespace} route replace {pods} via {address}"))?;
        }
    }
    Ok(())
}

fn make_control(instance: &Instance) -> Result<(), String> {
    let control = instance.group();
    let (address, own) = (instance.control_address(), instance.host_address());
    ip(&format!("netns add {control}"))?;
    ip(&format!("-n {control} link set lo up"))?;
    ip(&format!("-n {control} link add {BRIDGE} type bridge"))?;
    ip(&format!("-n {control} addr add {address}/24 dev {BRIDGE}"))?;
    ip(&format!("-n {control} link set {BRIDGE} up"))?;
    ip(&format!("link add {control} type veth peer name machine netns {control}"))?;
    ip(&format!("-n {control} link set machine master {BRIDGE} up"))?;
    ip(&format!("addr add {own}/24 dev {control}"))?;
    ip(&format!("link set {control} up"))?;
    forward(&control)
}

fn make_node(instance: &Instance, node: u8) -> Result<(), String> {
    let (control, namespace) = (instance.group(), instance.node_namespace(node));
    let (address, gateway) = (instance.node_address(node), instance.control_address());
    ip(&format!("netns add {namespace}"))?;
    ip(&format!("-n {control} link add node{node} type veth peer name eth0 netns {namespace}"))?;
    ip(&format!("-n {control} link set node{node} master {BRIDGE} up"))?;
    ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
    ip(&format!("-n {namespace} link set eth0 up"))?;
    ip(&format!("-n {namespace} link set lo up"))?;
    ip(&format!("-n {namespace} route add default via {gateway}"))?;
    forward(&namespace)
}

/// Lets a namespace pass packets on.
fn forward(namespace: &str) -> Result<(), String> {
    let net = format!("--net=/run/netns/{namespace}");
    let write = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    run("nsenter", &[&net, "sh", "-c", write]).map(drop)
}

/// Takes a node's link down, or up again: how a node is lost to the others, and comes back.
///
/// # Errors
/// There is no such node, or `ip` failed.
pub fn link(instance: &Instance, node: u8, up: bool) -> Result<(), String> {
    if !instance.node_numbers().contains(&node) {
        return Err(format!("there is no node{node} in {}", instance.name));
    }
    let state = if up { "up" } else { "down" };
    ip(&format!("-n {} link set node{node} {state}", instance.group()))
}

/// Removes all of it that is there.
///
/// # Errors
/// `ip` failed.
pub fn remove(instance: &Instance) -> Result<(), String> {
    let control = instance.group();
    // Its other end is in the namespace that goes next, which would take it along, but later.
    if Path::new("/sys/class/net").join(&control).exists() {
        ip(&format!("link del {control}"))?;
    }
    let nodes = instance.node_numbers().map(|node| instance.node_namespace(node));
    nodes
        .chain([control])
        .filter(|namespace| exists(namespace))
        .try_for_each(|namespace| ip(&format!("netns del {namespace}")))
}
