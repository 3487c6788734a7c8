//! The reading and the printing of a situation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use quorate_operator::crd::{Birth, LeaderService, MemberStatus, Recovers, Recovery, Repair};
use quorate_operator::observed::{
    Budget, Claim, Cluster, Configuration, Follower, Identity, Member, Observed, Ordinal, Pod,
    Pull, Route, Set,
};
use quorate_operator::plan::{confirmation, plan};
use quorate_operator::status::status;
use quorate_operator::step::Step;
use std::collections::BTreeMap;

const GROUP: Identity = Identity(0x6000);
/// The one after a recovery.
const NEXT: Identity = Identity(0x8000);
const NOW_S: i64 = 1_000_000;

/// What is planned and told in a situation.
pub fn run(input: &str) -> String {
    let mut o = Observed { now_s: NOW_S, cluster: nobody(), ..Default::default() };
    for line in input.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        read(&mut o, &words);
    }
    let plan = plan(&o);
    let told = status(&o, &plan);
    let mut text = format!("phase {}\nstep {}\nwhy {}\n", told.phase, step(&plan.step), plan.why);
    if let Some(operation) = &told.operation {
        let targets = operation.targets.join(" ");
        text.push_str(format!("operation {} {targets}", operation.kind).trim_end());
        text.push('\n');
    }
    for one in &told.conditions {
        let usual =
            if one.type_ == "Ready" || one.type_ == "QuorumAvailable" { "True" } else { "False" };
        if one.status != usual {
            let (kind, says) = (&one.type_, &one.status);
            text.push_str(&format!("{kind} {says} {}: {}\n", one.reason, one.message));
        }
    }
    let mut again = o.clone();
    again.cluster.status = told;
    let next = quorate_operator::plan::plan(&again);
    if next == plan {
        assert_eq!(status(&again, &next), again.cluster.status, "a status that changes alone");
    }
    text
}

fn nobody() -> Cluster {
    let mut cluster = Cluster {
        name: "demo".to_owned(),
        namespace: "default".to_owned(),
        uid: "resource".to_owned(),
        generation: 1,
        template_hash: "new".to_owned(),
        image: "new".to_owned(),
        ..Default::default()
    };
    cluster.spec.replicas = 3;
    cluster.spec.max_voters = 5;
    cluster.spec.repair = Repair { unreachable_seconds: 300 };
    cluster.spec.storage.size = "1Gi".to_owned();
    cluster
}

fn id(letter: &str) -> Identity {
    let byte = letter.bytes().next().unwrap();
    Identity(u128::from(byte - b'a') + 1)
}

fn letter(id: Identity) -> char {
    char::from(b'a' + u8::try_from(id.0 - 1).unwrap())
}

fn own(ordinal: Ordinal) -> Identity {
    Identity(u128::from(ordinal) + 1)
}

fn number<T: std::str::FromStr>(word: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    word.parse().unwrap()
}

fn read(o: &mut Observed, words: &[&str]) {
    match words {
        ["healthy", pods] => healthy(o, number(pods)),
        ["replicas", count] => o.cluster.spec.replicas = number(count),
        ["maxVoters", count] => o.cluster.spec.max_voters = number(count),
        ["paused"] => o.cluster.spec.paused = true,
        ["adoptExisting"] => o.cluster.spec.adopt_existing = true,
        ["template", "invalid"] => o.cluster.spec.template = Some(invalid()),
        ["template", "changed"] => o.cluster.template_hash = "newer".to_owned(),
        ["image", "changed"] => o.cluster.image = "newer".to_owned(),
        ["missing", what] => o.stale = vec![(*what).to_owned()],
        ["set", "none"] => o.set = None,
        ["set", replicas, rest @ ..] => set(o, number(replicas), rest),
        ["rival", name] => o.rivals = vec![(*name).to_owned()],
        ["budget", "none"] => o.budget = None,
        ["budget", most, rest @ ..] => {
            let observed = !rest.contains(&"unobserved");
            o.budget = Some(Budget { max_unavailable: number(most), observed });
        }
        ["birth", "none"] => o.cluster.status.birth = None,
        ["birth", "recovers"] => recovers(o, false),
        ["birth", "recovered"] => recovers(o, true),
        ["birth", rest @ ..] => birth(o, rest.contains(&"confirmed")),
        ["recovery", survivor, rest @ ..] => recovery(o, survivor, rest),
        ["log", ordinal, term, last] => {
            let member = o.members.get_mut(&number(ordinal)).unwrap();
            (member.last_term, member.last) = (number(term), number(last));
        }
        ["led", "since", "the", "edit"] => {
            o.cluster.status.led_generation = Some(o.cluster.generation);
        }
        ["nobody", "leads"] => nobody_leads(o, 60),
        ["nobody", "leads", "for", seconds] => nobody_leads(o, number(seconds)),
        ["index", index] => change(o, |known| known.index = number(index)),
        ["voters", rest @ ..] => change(o, |known| known.voters = named(rest)),
        ["outgoing", rest @ ..] => change(o, |known| known.outgoing = named(rest)),
        ["learners", rest @ ..] => change(o, |known| known.learners = named(rest)),
        ["lost", member, seconds] => {
            let member = id(member).to_string();
            let told = o.cluster.status.members.iter_mut().find(|told| told.member_id == member);
            told.unwrap().lost_since = Some(NOW_S - number::<i64>(seconds));
        }
        ["claim", ordinal, what] => claim(o, number(ordinal), what),
        ["pod", ordinal, rest @ ..] => pod(o, number(ordinal), rest),
        ["leaderService", rest @ ..] => leader_service(o, rest),
        ["pull", node, what] => pull(o, node, what),
        ["leader", ordinal] => lead(o, number(ordinal)),
        ["uncommitted"] => o.members.values_mut().for_each(|member| member.commit = 10),
        ["follower", member, what] => follower(o, id(member), what),
        other => panic!("no such line: {other:?}"),
    }
}

fn set(o: &mut Observed, replicas: u32, rest: &[&str]) {
    let (current, deleting) = (!rest.contains(&"old"), rest.contains(&"deleting"));
    let (uid, resource_version) = ("set".to_owned(), "7".to_owned());
    o.set = Some(Set { uid, resource_version, replicas, current, deleting });
}

fn birth(o: &mut Observed, confirmed: bool) {
    o.cluster.status.birth = Some(Birth {
        seed: "demo-0".to_owned(),
        member_id: own(0).to_string(),
        cluster_id: GROUP.to_string(),
        epoch: 1,
        last_n: "0".to_owned(),
        confirmed,
        recovers: None,
    });
}

/// For so many seconds, as the status tells.
fn nobody_leads(o: &mut Observed, seconds: i64) {
    o.members.values_mut().for_each(|member| (member.leads, member.leader) = (false, None));
    o.cluster.status.conditions = status(o, &plan(o)).conditions;
    let since = Time(Timestamp::from_second(NOW_S - seconds).unwrap());
    let told = o.cluster.status.conditions.iter_mut();
    told.filter(|one| one.status != "True")
        .for_each(|one| one.last_transition_time = since.clone());
}

/// The group is another one, in which the member of pod 0 goes on alone, or is to.
fn recovers(o: &mut Observed, confirmed: bool) {
    let recovers = Recovers { cluster_id: GROUP.to_string(), hold_off_seconds: 60 };
    let birth = o.cluster.status.birth.as_mut().unwrap();
    (birth.recovers, birth.confirmed) = (Some(recovers), confirmed);
    birth.cluster_id = NEXT.to_string();
}

/// The resource asks for one to go on alone; `unsaid`: without the words; `demo-N`: pod N
/// is known to have stopped.
fn recovery(o: &mut Observed, survivor: &str, words: &[&str]) {
    let confirm = if words.contains(&"unsaid") { "yes".to_owned() } else { confirmation(GROUP) };
    let named = words.iter().filter(|word| word.starts_with("demo-"));
    o.cluster.spec.recovery = Some(Recovery {
        survivor: survivor.to_owned(),
        confirm,
        accept_running: named.map(|&word| word.to_owned()).collect(),
        hold_off_seconds: 60,
    });
}

fn healthy(o: &mut Observed, pods: u32) {
    o.cluster.spec.replicas = i32::try_from(pods).unwrap();
    set(o, pods, &[]);
    birth(o, true);
    o.budget = (pods > 1).then_some(Budget { max_unavailable: 1, observed: true });
    let voters = u32::try_from(o.cluster.voters()).unwrap();
    let name = |ordinal: u32| (own(ordinal), format!("demo-{ordinal}"));
    let known = Configuration {
        index: 9,
        voters: (0..voters).map(name).collect(),
        learners: (voters..pods).map(name).collect(),
        ..Default::default()
    };
    for ordinal in 0..pods {
        pod(o, ordinal, &[]);
        member(o, ordinal, own(ordinal)).configuration = known.clone();
    }
    lead(o, 0);
    change(o, |_| {});
}

fn named(words: &[&str]) -> BTreeMap<Identity, String> {
    let one = |word: &&str| (id(word), format!("demo-{}", &word[1..]));
    words.iter().map(one).collect()
}

/// Everybody who is in the group tells the same, and so does the status.
fn change(o: &mut Observed, how: impl Fn(&mut Configuration)) {
    let mut known = o.configuration().cloned().unwrap_or_default();
    how(&mut known);
    let told = |(id, name): (&Identity, &String), role: &str| MemberStatus {
        name: name.clone(),
        member_id: id.to_string(),
        role: role.to_owned(),
        ..Default::default()
    };
    let voters = known.voters.iter().map(|one| told(one, "Voter"));
    let learners = known.learners.iter().map(|one| told(one, "Learner"));
    o.cluster.status.members = voters.chain(learners).collect();
    o.cluster.status.configuration_index = i64::try_from(known.index).ok();
    for member in o.members.values_mut().filter(|member| member.cluster.is_some()) {
        member.configuration = known.clone();
        let add = |(id, _)| {
            let near = Follower { matched: 500, silent_ms: 10, quarantined: false };
            member.followers.entry(id).or_insert(near);
        };
        if member.leads {
            known.members().for_each(add);
        }
    }
}

fn lead(o: &mut Observed, ordinal: Ordinal) {
    for (at, member) in &mut o.members {
        (member.leads, member.leader) = (*at == ordinal, Some(own(ordinal)));
        member.followers.clear();
    }
    change(o, |_| {});
}

fn follower(o: &mut Observed, id: Identity, what: &str) {
    let leader = o.members.values_mut().find(|member| member.leads).unwrap();
    let of = leader.followers.entry(id).or_default();
    match what {
        "silent" => of.silent_ms = 60_000,
        "behind" => of.matched = 10,
        "quarantined" => of.quarantined = true,
        other => panic!("no such follower: {other}"),
    }
}

fn claim(o: &mut Observed, ordinal: Ordinal, what: &str) {
    let (uid, resource_version) = (format!("claim-{ordinal}"), "3".to_owned());
    let made_for = if what == "foreign" { "another" } else { "resource" }.to_owned();
    let claim = Claim {
        uid,
        resource_version,
        deleting: what == "deleting",
        made_for,
        small: what == "small",
    };
    match what {
        "none" => o.claims.remove(&ordinal),
        _ => o.claims.insert(ordinal, claim),
    };
}

/// The resource wants a Service for the holder of the election `app`; `held N`: by the member in
/// pod N; `to N`: the Service leads there now; `ports`: on other ports than wanted.
fn leader_service(o: &mut Observed, words: &[&str]) {
    let election = "app".to_owned();
    o.cluster.spec.leader_service =
        Some(LeaderService { election: election.clone(), ports: Vec::new() });
    let after = |word: &str| {
        let at = words.iter().position(|other| *other == word)?;
        words.get(at + 1).map(|word| number::<Ordinal>(word))
    };
    let pod = after("to").map(|ordinal| format!("pod-{ordinal}")).unwrap_or_default();
    o.route = Some(Route { pod, current: !words.contains(&"ports") });
    if let Some(holder) = after("held") {
        for member in o.members.values_mut() {
            member.holders.insert(election.clone(), own(holder));
        }
    }
}

/// Something fetches the wanted image onto a node, or another one.
fn pull(o: &mut Observed, node: &str, what: &str) {
    let image = if what == "other" { "other" } else { &o.cluster.image };
    let pull = Pull {
        uid: format!("pull-{node}"),
        deleting: what == "deleting",
        image: image.to_owned(),
        done: what == "done",
        failed: if what == "failed" { "ErrImagePull not found" } else { "" }.to_owned(),
    };
    o.pulls.insert(node.to_owned(), pull);
}

fn member(o: &mut Observed, ordinal: Ordinal, id: Identity) -> &mut Member {
    let member = Member {
        id,
        cluster: Some(GROUP),
        caught_up: true,
        term: 2,
        last: 500,
        last_term: 2,
        commit: 500,
        version: "0.1.0".to_owned(),
        ..Default::default()
    };
    o.members.insert(ordinal, member);
    o.members.get_mut(&ordinal).unwrap()
}

/// A pod is there, ready and current; `silent` and `notRunning` take its member's answer away,
/// `blank X` puts an empty disk into it.
fn pod(o: &mut Observed, ordinal: Ordinal, words: &[&str]) {
    if words.contains(&"none") {
        o.pods.remove(&ordinal);
        o.members.remove(&ordinal);
        return;
    }
    let has = |word: &str| words.contains(&word);
    let text = |old: bool| if old { "old" } else { "new" }.to_owned();
    let running = if has("notRunning") { String::new() } else { text(has("oldImage")) };
    let made = Pod {
        uid: format!("pod-{ordinal}"),
        resource_version: "5".to_owned(),
        deleting: has("deleting"),
        ready: !has("unready") && !has("notRunning"),
        template_hash: text(has("oldTemplate")),
        image: text(has("oldImage")),
        running_image: running,
        restarting: has("restarting"),
        node: format!("node{ordinal}"),
    };
    o.pods.insert(ordinal, made);
    if !o.claims.contains_key(&ordinal) {
        claim(o, ordinal, "bound");
    }
    if has("silent") || has("notRunning") {
        o.members.remove(&ordinal);
        return;
    }
    if let Some(at) = words.iter().position(|word| *word == "blank") {
        let blank = member(o, ordinal, id(words[at + 1]));
        (blank.cluster, blank.term, blank.last) = (None, 0, 0);
    }
    if has("founded") {
        member(o, ordinal, own(ordinal));
        let named = BTreeMap::from([(own(ordinal), format!("demo-{ordinal}"))]);
        let there = o.members.get_mut(&ordinal).unwrap();
        there.configuration = Configuration { index: 1, voters: named, ..Default::default() };
    }
    let Some(there) = o.members.get_mut(&ordinal) else { return };
    there.draining = has("draining");
    there.retired = has("retired");
    if has("unfit") {
        there.unfit = "its log is damaged".to_owned();
    }
    if has("elsewhere") {
        there.cluster = Some(Identity(0x7000));
    }
    if has("alone") {
        let voters = BTreeMap::from([(there.id, format!("demo-{ordinal}"))]);
        there.configuration = Configuration { index: 501, voters, ..Default::default() };
        (there.cluster, there.leads) = (Some(NEXT), true);
        (there.last, there.commit, there.leader) = (501, 501, Some(there.id));
    }
}

fn invalid() -> k8s_openapi::api::core::v1::PodTemplateSpec {
    use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, VolumeMount};
    let mount_path = "/run/quorate/mine".to_owned();
    let mount = VolumeMount { name: "mine".to_owned(), mount_path, ..Default::default() };
    let app = Container {
        name: "app".to_owned(),
        volume_mounts: Some(vec![mount]),
        ..Default::default()
    };
    let spec = Some(PodSpec { containers: vec![app], ..Default::default() });
    PodTemplateSpec { spec, ..Default::default() }
}

fn letters(members: &BTreeMap<Identity, String>) -> String {
    let one = |(id, name): (&Identity, &String)| {
        format!("{}{}", letter(*id), name.strip_prefix("demo-").unwrap())
    };
    members.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn step(step: &Step) -> String {
    match step {
        Step::Change { leader, expected, voters, learners } => format!(
            "Change at {leader} from {expected}: voters {}; learners {}",
            letters(voters),
            letters(learners)
        ),
        Step::Conceive { seed, member } => format!("Conceive {} in {seed}", letter(*member)),
        Step::Adopt { seed, member, .. } => format!("Adopt by {} in {seed}", letter(*member)),
        Step::Transfer { leader, to } => format!("Transfer from {leader} to {}", letter(*to)),
        Step::Route(to) => format!("Route to {to:?}"),
        Step::Retire { pod, member } => format!("Retire {} in {pod}", letter(*member)),
        Step::Forsake { survivor, member, hold_off, .. } => {
            format!("Forsake all but {} in {survivor}, {hold_off} s", letter(*member))
        }
        other => format!("{other:?}"),
    }
}
