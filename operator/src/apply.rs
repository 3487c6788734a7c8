//! Does one step.
//!
//! Invariants: at most one write a step, but for Settle, whose writes disturb nobody; whatever
//! takes something away carries the UID, and where there is one the state, of what it was decided
//! about, so that a decision about the past does nothing; nothing is written unless the Lease
//! outlives the request.

use crate::admin::{Target, address, voters};
use crate::build::Wanted;
use crate::context::{Context, MANAGER, exactly};
use crate::crd::{Birth, Mode};
use crate::observe::Read;
use crate::observed::{Identity, Member, Ordinal};
use crate::step::Step;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, EvictParams, Patch, PatchParams, PostParams};
use quorate_proto::admin::{
    BootstrapRequest, ChangeMembershipRequest, DrainRequest, MemberAddress, RecoverRequest,
    RetireRequest, TransferLeadershipRequest, UndrainRequest, Voter,
};
use serde_json::json;

/// What one pass works with.
pub struct Pass<'a> {
    /// Shared.
    pub context: &'a Context,
    /// The resource.
    pub wanted: &'a Wanted<'a>,
    /// What was read.
    pub read: &'a Read,
}

/// Does the step. Steps that only write the status are the controller's.
///
/// # Errors
/// Why it was not done, or not known to be; the next pass looks again.
pub async fn apply(pass: &Pass<'_>, step: &Step) -> Result<(), String> {
    if !pass.context.hold.outlives_a_request() {
        return Err("the Lease may end before this request does: nothing is written".to_owned());
    }
    match step {
        Step::Rest | Step::Await | Step::Blocked => Ok(()),
        Step::Conceive { .. } | Step::Adopt { .. } | Step::Forsake { .. } | Step::Born => Ok(()),
        Step::Settle => pass.context.settle(pass.wanted).await,
        Step::Template { replicas } => pass.template(*replicas).await,
        Step::Scale { uid, resource_version, replicas } => {
            pass.scale(uid, resource_version, *replicas).await
        }
        Step::Budget(most) => pass.budget(*most).await,
        Step::Bootstrap { seed } => pass.bootstrap(*seed).await,
        Step::Recover { survivor } => pass.recover(*survivor).await,
        Step::Change { .. } => pass.change(step).await,
        Step::Transfer { .. } | Step::Drain(_) | Step::Undrain(_) | Step::Retire { .. } => {
            pass.tell(step).await
        }
        Step::Evict { pod, uid } => pass.evict(*pod, uid).await,
        Step::Delete { pod, uid, resource_version } => {
            pass.delete(*pod, uid, resource_version).await
        }
        Step::Patch { pod, uid, resource_version } => pass.patch(*pod, uid, resource_version).await,
        Step::Route(to) => pass.route(*to).await,
        Step::Pull { node } => pass.pull(node).await,
        Step::Unpull { node, uid } => pass.unpull(node, uid).await,
        Step::Enlarge { claim, uid, resource_version } => {
            pass.enlarge(*claim, uid, resource_version).await
        }
        Step::Discard { claim, uid, resource_version } => {
            pass.discard(*claim, uid, resource_version).await
        }
    }
}

fn words(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl Pass<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        self.context.api(self.wanted)
    }

    fn pod_name(&self, ordinal: Ordinal) -> String {
        self.read.observed.cluster.pod_name(ordinal)
    }

    fn target(&self, ordinal: Ordinal) -> Result<&Target, String> {
        let target = self.read.targets.get(&ordinal);
        target.ok_or_else(|| format!("{} has no address", self.pod_name(ordinal)))
    }

    /// Writes the whole object: what others put into it goes. Volume claims of a set are for life.
    async fn template(&self, replicas: u32) -> Result<(), String> {
        let sets: Api<StatefulSet> = self.api();
        let mut set = self.wanted.stateful_set(replicas);
        let params = PostParams { field_manager: Some(MANAGER.into()), dry_run: false };
        let now = sets.get_opt(&set.name_any()).await.map_err(words)?;
        let written = match (now, &self.read.observed.set) {
            (None, None) => sets.create(&params, &set).await,
            (Some(now), Some(read)) if now.uid().as_deref() == Some(&read.uid) => {
                set.metadata.resource_version = Some(read.resource_version.clone());
                if let (Some(new), Some(old)) = (set.spec.as_mut(), now.spec) {
                    new.volume_claim_templates = old.volume_claim_templates;
                }
                sets.replace(&set.name_any(), &params, &set).await
            }
            _ => return Err("the StatefulSet changed meanwhile".to_owned()),
        };
        self.context.wrote(&written.map_err(words)?, self.wanted);
        Ok(())
    }

    async fn scale(&self, uid: &str, version: &str, replicas: u32) -> Result<(), String> {
        let sets: Api<StatefulSet> = self.api();
        let patch = json!({
            "metadata": { "uid": uid, "resourceVersion": version },
            "spec": { "replicas": replicas },
        });
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let name = self.wanted.name();
        sets.patch(&name, &params, &Patch::Merge(&patch)).await.map_err(words)?;
        Ok(())
    }

    async fn budget(&self, most: Option<u32>) -> Result<(), String> {
        if let Some(most) = most {
            self.context.apply(self.wanted, &self.wanted.budget(most)).await?;
            return Ok(());
        }
        let budgets: Api<PodDisruptionBudget> = self.api();
        let name = self.wanted.name();
        let Some(now) = budgets.get_opt(&name).await.map_err(words)? else { return Ok(()) };
        let uid = now.uid().unwrap_or_default();
        budgets.delete(&name, &exactly(&uid, None)).await.map_err(words)?;
        Ok(())
    }

    async fn bootstrap(&self, seed: Ordinal) -> Result<(), String> {
        let birth = self.read.observed.cluster.status.birth.as_ref();
        let birth = birth.ok_or("nothing is written down about the foundation")?;
        let (cluster, member) = identities(birth)?;
        let voter = Voter { member_id: member.to_bytes(), name: birth.seed.clone() };
        let request = BootstrapRequest {
            cluster_id: cluster.to_bytes(),
            member_id: member.to_bytes(),
            voters: vec![voter],
            epoch: u32::try_from(birth.epoch).map_err(|_| "the epoch is negative")?,
            last_n: birth.last_n.parse().map_err(|_| "last_n is no number")?,
        };
        let target = self.target(seed)?;
        let call = async |mut client: Client, request| client.bootstrap(request).await;
        self.context.admins.act(target, request, call).await?;
        Ok(())
    }

    async fn recover(&self, survivor: Ordinal) -> Result<(), String> {
        let birth = self.read.observed.cluster.status.birth.as_ref();
        let birth = birth.ok_or("nothing is written down about the recovery")?;
        let recovers = birth.recovers.as_ref().ok_or("nobody is to go on alone")?;
        let lost = Identity::parse(&recovers.cluster_id).ok_or("the lost group's id is none")?;
        let (cluster, member) = identities(birth)?;
        let seconds = u64::try_from(recovers.hold_off_seconds);
        let request = RecoverRequest {
            member_id: member.to_bytes(),
            cluster_id: lost.to_bytes(),
            new_cluster_id: cluster.to_bytes(),
            epoch: u32::try_from(birth.epoch).map_err(|_| "the epoch is negative")?,
            last_n: birth.last_n.parse().map_err(|_| "last_n is no number")?,
            hold_off_ms: seconds.map_err(|_| "the hold-off is negative")? * 1_000,
            old_members_stopped: false,
            confirmation: crate::plan::confirmation(lost),
            above_token: 0,
        };
        self.context.admins.recover(self.target(survivor)?, request).await
    }

    async fn change(&self, step: &Step) -> Result<(), String> {
        let Step::Change { leader, expected, voters: vote, learners } = step else {
            return Ok(());
        };
        let request = ChangeMembershipRequest {
            expected_configuration_index: *expected,
            voters: voters(vote),
            learners: voters(learners),
            abort: false,
            addresses: self.addresses(),
        };
        let call = async |mut client: Client, request| client.change_membership(request).await;
        self.context.admins.act(self.target(*leader)?, request, call).await?;
        Ok(())
    }

    /// Where every member's peers reach it: a new pod is in no DNS for up to half a minute.
    fn addresses(&self) -> Vec<MemberAddress> {
        let read = self.read;
        let members = read.observed.members.iter();
        let at = |(ordinal, member): (&Ordinal, &Member)| {
            Some(address(member.id, read.targets.get(ordinal)?))
        };
        members.filter_map(at).collect()
    }

    async fn tell(&self, step: &Step) -> Result<(), String> {
        let admins = &self.context.admins;
        match step {
            Step::Transfer { leader, to } => {
                let request = TransferLeadershipRequest { member_id: to.to_bytes() };
                let call =
                    async |mut client: Client, request| client.transfer_leadership(request).await;
                admins.act(self.target(*leader)?, request, call).await.map(drop)
            }
            Step::Drain(pod) => {
                let call = async |mut client: Client, request| client.drain(request).await;
                admins.act(self.target(*pod)?, DrainRequest {}, call).await.map(drop)
            }
            Step::Undrain(pod) => {
                let call = async |mut client: Client, request| client.undrain(request).await;
                admins.act(self.target(*pod)?, UndrainRequest {}, call).await.map(drop)
            }
            Step::Retire { pod, member } => {
                // The leader's membership decides, not what a disk of no use believes.
                let request = RetireRequest { member_id: member.to_bytes(), still_a_member: true };
                let call = async |mut client: Client, request| client.retire(request).await;
                admins.act(self.target(*pod)?, request, call).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    async fn evict(&self, pod: Ordinal, uid: &str) -> Result<(), String> {
        let pods: Api<Pod> = self.api();
        let delete_options = Some(exactly(uid, None));
        let params = EvictParams { delete_options, ..EvictParams::default() };
        pods.evict(&self.pod_name(pod), &params).await.map_err(words)?;
        Ok(())
    }

    async fn delete(&self, pod: Ordinal, uid: &str, version: &str) -> Result<(), String> {
        let pods: Api<Pod> = self.api();
        pods.delete(&self.pod_name(pod), &exactly(uid, Some(version))).await.map_err(words)?;
        Ok(())
    }

    async fn patch(&self, pod: Ordinal, uid: &str, version: &str) -> Result<(), String> {
        let pods: Api<Pod> = self.api();
        let list = match self.wanted.cluster.spec.mode {
            Mode::Managed => "initContainers",
            Mode::Standalone => "containers",
        };
        let image = json!({ "name": crate::build::SIDECAR, "image": self.wanted.image });
        let now = pods.get(&self.pod_name(pod)).await.map_err(words)?;
        let container = crate::observe::container(&now).unwrap_or_default();
        let patch = json!({
            "metadata": {
                "uid": uid,
                "resourceVersion": version,
                "annotations": { crate::build::REPLACES: container },
            },
            "spec": { list: [image] },
        });
        let params = PatchParams::default();
        pods.patch(&self.pod_name(pod), &params, &Patch::Strategic(&patch)).await.map_err(words)?;
        Ok(())
    }

    async fn route(&self, to: Option<Ordinal>) -> Result<(), String> {
        let Some(ordinal) = to else {
            let name = self.wanted.leader();
            return self.context.remove::<EndpointSlice>(&name, self.wanted).await;
        };
        let target = self.target(ordinal)?;
        let slice = self.wanted.leader_slice((&target.pod, &target.uid, target.ip));
        if let Some(slice) = slice {
            self.context.apply(self.wanted, &slice).await?;
        }
        Ok(())
    }

    async fn pull(&self, node: &str) -> Result<(), String> {
        let pods: Api<Pod> = self.api();
        let params = PostParams { field_manager: Some(MANAGER.into()), dry_run: false };
        pods.create(&params, &self.wanted.pull(node)).await.map_err(words)?;
        Ok(())
    }

    async fn unpull(&self, node: &str, uid: &str) -> Result<(), String> {
        let pods: Api<Pod> = self.api();
        pods.delete(&self.wanted.pull_name(node), &exactly(uid, None)).await.map_err(words)?;
        Ok(())
    }

    async fn enlarge(&self, claim: Ordinal, uid: &str, version: &str) -> Result<(), String> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let size = &self.read.observed.cluster.spec.storage.size;
        let patch = json!({
            "metadata": { "uid": uid, "resourceVersion": version },
            "spec": { "resources": { "requests": { "storage": size } } },
        });
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let name = self.claim_name(claim);
        claims.patch(&name, &params, &Patch::Merge(&patch)).await.map_err(words)?;
        Ok(())
    }

    fn claim_name(&self, claim: Ordinal) -> String {
        format!("{}-{}", crate::build::VOLUME, self.pod_name(claim))
    }

    async fn discard(&self, claim: Ordinal, uid: &str, version: &str) -> Result<(), String> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let name = self.claim_name(claim);
        claims.delete(&name, &exactly(uid, Some(version))).await.map_err(words)?;
        Ok(())
    }
}

type Client = quorate_proto::admin::members_client::MembersClient<tonic::transport::Channel>;

fn identities(birth: &Birth) -> Result<(Identity, Identity), String> {
    let cluster = Identity::parse(&birth.cluster_id).ok_or("the cluster id is none")?;
    let member = Identity::parse(&birth.member_id).ok_or("the member id is none")?;
    Ok((cluster, member))
}
