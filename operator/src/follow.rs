//! Who holds the elections that Services lead to: asked for often, so that a pass comes at once
//! when that changes.
//!
//! Must not: decide, or ask the API server anything. What is seen here only wakes.

use crate::admin::{Admins, Target};
use crate::crd::RaftCluster;
use crate::observe::Read;
use crate::observed::Identity;
use kube::runtime::reflector::ObjectRef;
use quorate_proto::admin::StatusRequest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How often a leader is asked.
const LOOK: Duration = Duration::from_millis(250);

/// What is looked at for one resource.
#[derive(Clone)]
struct Watched {
    leader: Target,
    election: String,
    holder: Option<Identity>,
}

/// Wakes one of the loops over resources.
pub type Wake = mpsc::UnboundedSender<ObjectRef<RaftCluster>>;

type Watches = HashMap<ObjectRef<RaftCluster>, Watched>;

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Follow {
    watches: Arc<Mutex<Watches>>,
}

impl Follow {
    fn lock(&self) -> MutexGuard<'_, Watches> {
        // Nothing panics while it is held.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a pass saw: from now on a change of it wakes.
    pub fn saw(&self, resource: ObjectRef<RaftCluster>, read: &Read) {
        let o = &read.observed;
        let wanted = o.cluster.spec.leader_service.as_ref();
        let watched = wanted.zip(o.leader()).and_then(|(wanted, (ordinal, leader))| {
            let election = wanted.election.clone();
            let holder = leader.holders.get(&election).copied();
            Some(Watched { leader: read.targets.get(&ordinal)?.clone(), election, holder })
        });
        match watched {
            Some(watched) => self.lock().insert(resource, watched),
            None => self.lock().remove(&resource),
        };
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, resource: &ObjectRef<RaftCluster>) {
        self.lock().remove(resource);
    }

    /// Looks until nobody listens any more. What changed, or does not answer, wakes once; the pass
    /// that follows says what is to be looked at next.
    pub async fn run(self, admins: Admins, wake: Vec<Wake>) {
        while wake.iter().all(|one| !one.is_closed()) {
            sleep(LOOK).await;
            let watches: Vec<_> = self.lock().clone().into_iter().collect();
            let asked = watches.into_iter().map(async |(resource, watched)| {
                let elections = vec![watched.election.clone()];
                let question = StatusRequest { elections, ..StatusRequest::default() };
                let answer = admins.status(&watched.leader, question).await;
                let same = answer.is_ok_and(|leader| {
                    leader.leads && leader.holders.get(&watched.election) == watched.holder.as_ref()
                });
                (!same).then_some(resource)
            });
            for resource in futures_util::future::join_all(asked).await.into_iter().flatten() {
                self.forget(&resource);
                // Whoever does not know it lets it be; whoever ended needs no sign.
                wake.iter().for_each(|one| drop(one.send(resource.clone())));
            }
        }
    }
}
