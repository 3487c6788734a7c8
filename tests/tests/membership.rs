//! The membership of a running group: sidecars join, leave and are exchanged while clients go on.

use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{
    ChangeMembershipRequest, StatusRequest, StatusResponse, TransferLeadershipRequest, Voter,
};
use quorate_proto::v1::session_event::Event;
use quorate_tests::cluster::{Cluster, Scratch};
use quorate_tests::load::{Attached, Caller, Gaps, Prober, boottime_ns};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(20);
/// Of sessions whose end is looked at.
const TTL_MS: u64 = 3_000;
const TTL_NS: u64 = TTL_MS * 1_000_000;
const LOOK: Duration = Duration::from_millis(10);

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(work)
}

struct Group {
    admins: Vec<MembersClient<Channel>>,
    identities: Vec<Voter>,
}

impl Group {
    async fn of(cluster: &Cluster) -> Group {
        let (mut admins, mut identities) = (Vec::new(), Vec::new());
        for member in &cluster.members {
            let endpoint = Endpoint::from_shared(member.admin.clone()).expect("an address");
            let mut admin = MembersClient::new(endpoint.connect().await.expect("it listens"));
            let status =
                admin.status(StatusRequest::default()).await.expect("answered").into_inner();
            identities.push(Voter { member_id: status.member_id, name: member.name.clone() });
            admins.push(admin);
        }
        Group { admins, identities }
    }

    async fn status(&mut self, member: usize) -> StatusResponse {
        let answer = self.admins[member].status(StatusRequest::default()).await;
        answer.expect("answered").into_inner()
    }

    /// The leader's place and what it says, once there is one.
    async fn leader(&mut self) -> (usize, StatusResponse) {
        let end = Instant::now() + PATIENCE;
        loop {
            for member in 0..self.admins.len() {
                let status = self.status(member).await;
                if status.role == "leader" {
                    return (member, status);
                }
            }
            assert!(Instant::now() < end, "nobody leads");
            sleep(LOOK).await;
        }
    }

    fn named(&self, members: &[usize]) -> Vec<Voter> {
        members.iter().map(|member| self.identities[*member].clone()).collect()
    }

    async fn try_change(&mut self, voters: &[usize], learners: &[usize]) -> Result<u64, Status> {
        let (leader, status) = self.leader().await;
        let request = ChangeMembershipRequest {
            expected_configuration_index: status.configuration_index,
            voters: self.named(voters),
            learners: self.named(learners),
            abort: false,
            addresses: Vec::new(),
        };
        let answer = self.admins[leader].change_membership(request).await?;
        Ok(answer.into_inner().configuration_index)
    }

    /// Changes the membership, however often the leader changes on the way.
    async fn change(&mut self, voters: &[usize], learners: &[usize]) {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.try_change(voters, learners).await {
                Ok(_) => break,
                Err(status) if status.message().contains("present membership") => break,
                Err(status) => {
                    assert!(Instant::now() < end, "{voters:?} {learners:?}: {status:?}");
                    sleep(LOOK).await;
                }
            }
        }
        self.await_members(voters, learners).await;
    }

    /// Until all who vote know this membership.
    async fn await_members(&mut self, voters: &[usize], learners: &[usize]) {
        let names = |of: &[Voter]| of.iter().map(|v| v.name.clone()).collect::<BTreeSet<_>>();
        let (votes, listens) = (names(&self.named(voters)), names(&self.named(learners)));
        let end = Instant::now() + PATIENCE;
        for member in voters {
            loop {
                let status = self.status(*member).await;
                let outgoing = status.outgoing.is_empty();
                if names(&status.voters) == votes && names(&status.learners) == listens && outgoing
                {
                    break;
                }
                assert!(Instant::now() < end, "member {member} says {status:?}");
                sleep(LOOK).await;
            }
        }
    }

    async fn lead(&mut self, member: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (leader, _) = self.leader().await;
            if leader == member {
                return;
            }
            let member_id = self.identities[member].member_id.clone();
            let request = TransferLeadershipRequest { member_id };
            // Refused, if another leads by now.
            let _ = self.admins[leader].transfer_leadership(request).await;
            assert!(Instant::now() < end, "{member} does not lead");
        }
    }
}

async fn progress(gaps: &Gaps) {
    let now = boottime_ns();
    let goes_on = async {
        while !gaps.succeeded_after(now) {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, goes_on).await.expect("clients go on");
}

#[test]
fn members_join_leave_and_are_exchanged_under_load() {
    let scratch = Scratch::new("membership").expect("scratch");
    let arguments = ["--members", "5", "--voters", "3"];
    let cluster = Cluster::start(scratch.path(), &arguments).expect("the group starts");
    block_on(async {
        let mut group = Group::of(&cluster).await;
        let (stop, stopped) = watch::channel(false);
        // At the one member that stays all the time.
        let (prober, gaps) = Prober::new(cluster.members[0].endpoint.clone(), "probe".to_owned());
        let probing = tokio::spawn(prober.run(stopped));
        progress(&gaps).await;
        type Step = (&'static [usize], &'static [usize]);
        let steps: [Step; 9] = [
            (&[0, 1, 2], &[3, 4]),   // learners first
            (&[0, 1, 2, 3, 4], &[]), // 3 to 5, one joint change
            (&[0, 1, 2], &[3, 4]),   // two voters demoted
            (&[0, 3, 4], &[1, 2]),   // two exchanged at once
            (&[0, 3, 4], &[]),       // listeners leave
            (&[0, 3, 4], &[1]),      // and come back, with the same logs
            (&[0, 1, 4], &[]),       // one exchanged, removed for good
            (&[0], &[]),             // 3 to 1
            (&[0], &[1, 2, 3, 4]),
        ];
        for (voters, learners) in steps {
            group.change(voters, learners).await;
            progress(&gaps).await;
        }
        group.change(&[0, 1, 2, 3, 4], &[]).await;
        // The leader itself goes.
        group.lead(4).await;
        group.change(&[0, 1, 2, 3], &[]).await;
        progress(&gaps).await;
        let (leader, _) = group.leader().await;
        assert_ne!(leader, 4);
        stop.send(true).expect("the prober runs");
        let (history, broken) = probing.await.expect("the prober ends");
        assert!(broken.is_empty(), "{broken:?}");
        history.check_tokens().expect("tokens rise");
        assert!(gaps.count() > 100, "{} operations", gaps.count());
    });
}

#[test]
fn changes_that_cannot_be_are_refused_with_their_reason() {
    let scratch = Scratch::new("refused-changes").expect("scratch");
    let arguments = ["--members", "4", "--voters", "3"];
    let cluster = Cluster::start(scratch.path(), &arguments).expect("the group starts");
    block_on(async {
        let mut group = Group::of(&cluster).await;
        let refused = |answer: Result<u64, Status>, words: &str| {
            let status = answer.expect_err(words);
            assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
            assert!(status.message().contains(words), "{status:?}");
        };
        refused(group.try_change(&[0, 1, 2, 3], &[]).await, "no learner yet");
        refused(group.try_change(&[0, 1, 2], &[]).await, "present membership");
        refused(group.try_change(&[0, 1, 2], &[2]).await, "both vote and listen");
        let (leader, status) = group.leader().await;
        let mut request = ChangeMembershipRequest {
            expected_configuration_index: status.configuration_index + 7,
            voters: group.named(&[0, 1]),
            learners: Vec::new(),
            abort: false,
            addresses: Vec::new(),
        };
        let answer = group.admins[leader].change_membership(request.clone()).await;
        refused(answer.map(|_| 0), "expected_configuration_index");
        let other = (leader + 1) % 3;
        let answer = group.admins[other].change_membership(request.clone()).await;
        refused(answer.map(|_| 0), "does not lead");
        request.abort = true;
        request.expected_configuration_index = status.configuration_index;
        let answer = group.admins[leader].change_membership(request.clone()).await;
        assert_eq!(answer.expect_err("refused").code(), Code::InvalidArgument);
        request.voters.clear();
        let answer = group.admins[leader].change_membership(request).await;
        refused(answer.map(|_| 0), "nothing to abort");
    });
}

async fn caller(cluster: &Cluster, member: usize, key: u8) -> Caller {
    let endpoint = cluster.members[member].endpoint.clone();
    Caller::connect(endpoint, vec![key; 16]).await.expect("it listens")
}

/// A client of one member, with a session and a lock.
struct Holder {
    caller: Caller,
    attached: Attached,
    name: &'static str,
    token: u64,
}

impl Holder {
    async fn at(cluster: &Cluster, member: usize, name: &'static str, key: u8) -> Holder {
        let mut caller = caller(cluster, member, key).await;
        let attached = caller.open(TTL_MS, name).await.expect("opened");
        let request = caller.request();
        let token = caller.acquire(name, request, 5_000).await.expect("answered").expect("free");
        Holder { caller, attached, name, token }
    }

    /// What the session hears next, in time.
    async fn event(&mut self) -> Event {
        let event = timeout(PATIENCE, self.attached.events.message()).await.expect("in time");
        event.expect("the stream lives").expect("it goes on").event.expect("a known event")
    }

    /// Until its deadline is this far ahead.
    async fn renewed_beyond(&mut self, boottime: u64) {
        loop {
            match self.event().await {
                Event::Renewed(renewed) if renewed.deadline_boottime_ns > boottime => return,
                Event::Renewed(_) | Event::Jeopardy(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Until the session ends here: whether it was warned, the last deadline renewed (0: none),
    /// and when it was told of the end.
    async fn told_of_its_end(&mut self) -> (bool, u64, u64) {
        let (mut warned, mut deadline) = (false, 0);
        loop {
            match self.event().await {
                Event::Renewed(renewed) => deadline = renewed.deadline_boottime_ns,
                Event::Jeopardy(_) => warned = true,
                Event::Expired(_) => return (warned, deadline, boottime_ns()),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_application_beside_a_learner_takes_locks_and_keeps_its_session() {
    let scratch = Scratch::new("learner").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &["--members", "4"]).expect("the group starts");
    block_on(async {
        let mut group = Group::of(&cluster).await;
        group.lead(0).await;
        // Beside a voter, which is then a learner; and one that comes when it is.
        let mut before = Holder::at(&cluster, 3, "before", 6).await;
        group.change(&[0, 1, 2], &[3]).await;
        let mut holder = Holder::at(&cluster, 3, "x", 7).await;
        // Through two lives of the sessions, and a change of the leader.
        group.lead(1).await;
        let later = boottime_ns() + 2 * TTL_NS;
        holder.renewed_beyond(later).await;
        before.renewed_beyond(later).await;
        for one in [&mut before, &mut holder] {
            let held = one.caller.holder(one.name).await.expect("answered").expect("held");
            assert_eq!(held.token, one.token);
        }
        // A voter's client waits, and is granted at the release that came through the learner.
        let mut other = caller(&cluster, 0, 8).await;
        let _attached = other.open(TTL_MS, "other").await.expect("opened");
        let (claim, release) = (other.request(), holder.caller.request());
        let (next, released) = tokio::join!(
            other.acquire("x", claim, 10_000),
            holder.caller.release("x", holder.token, release)
        );
        released.expect("released");
        assert!(next.expect("answered").expect("granted") > holder.token);
        assert!(group.status(3).await.caught_up);
    });
}

#[test]
fn a_removed_member_tells_its_clients_before_their_names_are_others() {
    let scratch = Scratch::new("removed").expect("scratch");
    let cluster = Cluster::start(scratch.path(), &["--members", "4"]).expect("the group starts");
    block_on(async {
        let mut group = Group::of(&cluster).await;
        group.lead(0).await;
        let opened = boottime_ns();
        let mut holder = Holder::at(&cluster, 3, "x", 7).await;
        group.change(&[0, 1, 2], &[]).await;
        let mut next = caller(&cluster, 1, 8).await;
        let _attached = next.open(TTL_MS, "next").await.expect("opened");
        let request = next.request();
        let (told, granted) =
            tokio::join!(holder.told_of_its_end(), next.acquire("x", request, 7_000));
        let (warned, deadline, ended) = told;
        // The deadline that it was promised at the least, whatever is renewed after that.
        let deadline = deadline.max(opened + TTL_NS / 100 * 95);
        assert!(warned && ended >= deadline, "told at {ended}, promised {deadline}");
        assert!(granted.expect("answered").expect("granted") > holder.token);
        // Nothing new begins there, and that is said for certain.
        let mut late = caller(&cluster, 3, 9).await;
        let refused = late.open(TTL_MS, "late").await.expect_err("nobody forwards it");
        assert_eq!((refused.reason.as_str(), refused.unknown), ("NO_QUORUM", false));
    });
}
