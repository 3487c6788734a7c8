//! Certificates on the cluster: made anew under load, their authority replaced in its three phases,
//! and the wrong ones refused at every port.

use super::handshake::{Issuer, Pair, handshake};
use super::load::{Load, PLANNED_MAX, ms};
use super::seconds;
use super::space::{NAME, PATIENCE, Space, kill, sidecar_of, standalone, until};
use super::stage::{SYSTEM, Stage};
use k8s_openapi::ByteString;
use quorate_load::boottime_ns;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// So often the members' certificate is made anew.
const ROUNDS: usize = 20;
/// The authority's Secret.
const AUTHORITY: &str = "quorate-ca";
/// The members' Secret.
const MEMBER: &str = "demo-member";
/// Three phases that wait for members and not for a pass at rest, which comes every 30 s; in s.
const REPLACED_MAX: f64 = 60.0;
const ADMIN_PORT: u16 = 7402;
/// A kubelet that is told of nothing looks at a Secret once a minute.
const NUDGE: Duration = Duration::from_secs(1);
/// Peers, administration, attached sidecars.
const PORTS: [u16; 3] = [7401, ADMIN_PORT, 7403];

/// What a Secret has.
async fn secret(stage: &Stage, of: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
    let found = stage.get(&format!("/api/v1/namespaces/{of}/secrets/{name}")).await?;
    let mut found = found.ok_or_else(|| format!("there is no Secret {name} in {of}"))?;
    let data: BTreeMap<String, ByteString> =
        serde_json::from_value(found["data"].take()).map_err(|e| format!("{name}: {e}"))?;
    let text = |bytes: ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
    Ok(data.into_iter().map(|(name, bytes)| (name, text(bytes))).collect())
}

/// What the members are given: their certificate, and whom they trust.
async fn given(space: &Space<'_>) -> Result<(Pair, String), String> {
    let mut data = secret(space.stage, &space.namespace, MEMBER).await?;
    let mut take = |name: &str| data.remove(name).ok_or_else(|| format!("{MEMBER} has no {name}"));
    Ok((Pair { cert: take("tls.crt")?, key: take("tls.key")? }, take("ca.crt")?))
}

/// The group's label in certificates.
async fn label(space: &Space<'_>) -> Result<String, String> {
    let raft = space.raft().await?;
    let uid = raft["metadata"]["uid"].as_str().and_then(|uid| uid.get(..8));
    Ok(format!("{NAME}-{}", uid.ok_or("a resource has a UID")?))
}

async fn addresses(space: &Space<'_>) -> Result<Vec<(String, IpAddr)>, String> {
    let address = |pod: super::space::Pod| {
        let ip = pod.object["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
        ip.map(|ip| (pod.name.clone(), ip)).ok_or_else(|| format!("{} has no address", pod.name))
    };
    space.pods().await?.into_iter().map(address).collect()
}

/// Has the kubelets look at the pods' Secrets: a pod that changed is looked at at once.
pub(super) struct Nudge<'a> {
    space: &'a Space<'a>,
    last: Option<Instant>,
}

impl<'a> Nudge<'a> {
    pub(super) fn new(space: &'a Space<'a>) -> Nudge<'a> {
        Nudge { space, last: None }
    }

    /// Once in a while.
    pub(super) fn again(&mut self) -> Result<(), String> {
        if self.last.is_some_and(|last| last.elapsed() < NUDGE) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let mark = format!("example.com/nudge={}", boottime_ns());
        self.space.kubectl(&["annotate", "--overwrite", "pod", "--all", &mark]).map(drop)
    }
}

/// Waits until every member shows the certificate that is in the Secret, to who trusts `trust`.
async fn all_show(space: &Space<'_>, trust: &str) -> Result<(), String> {
    let host = format!("member.{}.quorate", label(space).await?);
    let ((own, _), mut nudge) = (given(space).await?, Nudge::new(space));
    for (pod, ip) in addresses(space).await? {
        until(&format!("{pod} shows its new certificate"), PATIENCE, async || {
            nudge.again()?;
            let shown = handshake(SocketAddr::new(ip, ADMIN_PORT), &host, trust, Some(&own)).await;
            if shown? == own.der()? { Ok(()) } else { Err("it shows another".to_owned()) }
        })
        .await?;
    }
    Ok(())
}

/// The members' certificate made anew, as on the day that it is due.
async fn renew(space: &Space<'_>, round: usize) -> Result<(), String> {
    let (before, _) = given(space).await?;
    let annotate =
        |of: &str, what: &str| space.kubectl(&["annotate", "--overwrite", of, what]).map(drop);
    annotate(&format!("secret/{MEMBER}"), "quorate.dev/renew-on=2020-01-01")?;
    // A change of the resource brings a pass.
    annotate(&format!("raft/{NAME}"), &format!("example.com/round={round}"))?;
    let trust = until("the certificate is made anew", PATIENCE, async || {
        let (now, trust) = given(space).await?;
        if now.cert == before.cert { Err("it is the former".to_owned()) } else { Ok(trust) }
    })
    .await?;
    all_show(space, &trust).await
}

/// How far a change of the authority is, by what the Secret has.
async fn phase(stage: &Stage) -> Result<&'static str, String> {
    let now = secret(stage, SYSTEM, AUTHORITY).await?;
    Ok(match (now.contains_key("other.crt"), now.contains_key("other.key")) {
        (true, true) => "TrustBoth",
        (true, false) => "Reissue",
        (false, _) => "Settled",
    })
}

async fn until_phase(stage: &Stage, wanted: &str) -> Result<(), String> {
    until(&format!("the phase is {wanted}"), PATIENCE, async || {
        let now = phase(stage).await?;
        if now == wanted { Ok(()) } else { Err(format!("it is {now}")) }
    })
    .await
}

/// In the middle of a phase: it waits for members, whoever starts now speaks with all others, and
/// the next operator goes on with it.
async fn endure(space: &Space<'_>, wanted: &str, pod: &str, load: &Load<'_>) -> Result<(), String> {
    let stage = space.stage;
    until_phase(stage, wanted).await?;
    until("it waits for a member", PATIENCE, async || {
        let said = stage.operator_said();
        if said.contains(&format!("{wanted}: waits for pod demo-")) { Ok(()) } else { Err(said) }
    })
    .await?;
    kill(sidecar_of(&space.pod(pod).await?.uid)?)?;
    space.settled(3).await?;
    load.succeed().await?;
    stage.kill_operator()?;
    if phase(stage).await? != wanted {
        return Err(format!("{wanted} ended, and no kubelet was told of a Secret"));
    }
    Ok(())
}

/// Another authority, by its three phases; gives its certificate.
async fn replace(space: &Space<'_>, load: &Load<'_>, away: [&str; 2]) -> Result<String, String> {
    let stage = space.stage;
    let before = secret(stage, SYSTEM, AUTHORITY).await?;
    let of = format!("secret/{AUTHORITY}");
    stage.kubectl(&["-n", SYSTEM, "annotate", &of, "quorate.dev/rotate=now"])?;
    for (now, next, pod) in [("TrustBoth", "Reissue", away[0]), ("Reissue", "Settled", away[1])] {
        endure(space, now, pod, load).await?;
        let mut nudge = Nudge::new(space);
        until(&format!("{next} follows"), PATIENCE, async || {
            nudge.again()?;
            let now = phase(stage).await?;
            if now == next { Ok(()) } else { Err(format!("it is {now}")) }
        })
        .await?;
    }
    let after = secret(stage, SYSTEM, AUTHORITY).await?;
    if after["tls.crt"] == before["tls.crt"] || after["tls.key"] == before["tls.key"] {
        return Err("it is the former authority".to_owned());
    }
    Ok(after["tls.crt"].clone())
}

/// Nobody gets in with one of these, at any port of any member. Gives how many were tried.
async fn refuses(
    space: &Space<'_>,
    wrong: &[(&str, Option<&Pair>)],
    trust: &str,
) -> Result<usize, String> {
    let host = format!("member.{}.quorate", label(space).await?);
    let mut tried = 0;
    for (pod, ip) in addresses(space).await? {
        for port in PORTS {
            for (what, pair) in wrong {
                let address = SocketAddr::new(ip, port);
                if handshake(address, &host, trust, *pair).await.is_ok() {
                    return Err(format!("port {port} of {pod} took {what}"));
                }
                tried += 1;
            }
        }
    }
    Ok(tried)
}

/// None of the wrong certificates lets anybody in. Gives how many were tried.
async fn wrong_ones(space: &Space<'_>, former: &Pair, trust: &str) -> Result<usize, String> {
    let name = format!("member.{}.quorate", label(space).await?);
    let key = secret(space.stage, SYSTEM, AUTHORITY).await?["tls.key"].clone();
    let expired = Issuer::load(&key)?.issue(&name, true)?;
    let foreign = Issuer::new()?.issue(&name, false)?;
    let wrong = [
        ("no certificate", None),
        ("a foreign one", Some(&foreign)),
        ("an expired one", Some(&expired)),
        ("one of the former authority", Some(former)),
    ];
    // What proves that a refusal is about the certificate.
    let (own, _) = given(space).await?;
    for (_, ip) in addresses(space).await? {
        for port in PORTS {
            handshake(SocketAddr::new(ip, port), &name, trust, Some(&own)).await?;
        }
    }
    let (mut refused, mut nudge) = (0, Nudge::new(space));
    until("the former authority is trusted nowhere", PATIENCE, async || {
        nudge.again()?;
        refused = refuses(space, &wrong, trust).await?;
        Ok(())
    })
    .await?;
    Ok(refused)
}

/// See the module.
pub(super) async fn all(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "certificates", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let (from, begun, leader) = (boottime_ns(), Instant::now(), space.some_leader().await?);
    for round in 0..ROUNDS {
        renew(&space, round).await?;
    }
    let renewed = seconds(begun);

    load.succeed().await?;
    load.none_failed(from, &[])?;
    let gap = load.gap(from, &[]);
    let leads = space.some_leader().await?;
    if gap > PLANNED_MAX || leads != leader {
        return Err(format!("{leader} led, {leads} leads; a gap of {}", ms(gap)));
    }

    let (from, begun) = (boottime_ns(), Instant::now());
    let (former, _) = given(&space).await?;
    let others: Vec<String> = {
        let pods = space.pods().await?.into_iter().map(|pod| pod.name);
        pods.filter(|name| *name != leader).collect()
    };
    let [one, other] = &others[..] else { return Err(format!("three pods: {others:?}")) };
    let away = [one.as_str(), other.as_str()];
    let trust = replace(&space, &load, away).await?;
    until("members are to trust the next authority alone", PATIENCE, async || {
        let (_, now) = given(&space).await?;
        if now == trust { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await?;
    all_show(&space, &trust).await?;
    let replaced = seconds(begun);
    if replaced > REPLACED_MAX {
        return Err(format!("another authority took {replaced:.1} s: phases wait for nothing"));
    }
    load.succeed().await?;
    load.none_failed(from, &away)?;

    let refused = wrong_ones(&space, &former, &trust).await?;
    // A process that starts now speaks with those that never stopped.
    space.kubectl(&["delete", "pod", "demo-2"])?;
    space.settled(3).await?;
    load.succeed().await?;
    let checked = load.finish().await?;
    Ok(format!(
        "{ROUNDS} times anew {renewed:.1} s, another authority {replaced:.1} s, gap {}, {leader} \
         leads on; {refused} wrong ones refused; {checked} acknowledged, 0 lost",
        ms(gap)
    ))
}
