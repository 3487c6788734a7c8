//! Whether what the clients saw could have come from one lock after the other.
//!
//! A complete search for a linearization (Wing and Gong 1993, with the memory of Lowe 2017), name
//! by name: no operation touches two names but the end of a session, and that is looked at for
//! each.
//! Knows nothing of logs, indexes or members: only what clients asked, were told, and when.
//!
//! An operation whose answer never came may have happened at any time after it was asked, or not at
//! all; what it took goes again when its session ends or when the sidecar withdraws it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Steps of one search at most. Legal histories need about one a operation.
const STEPS_MAX: usize = 200_000;

/// One claim: by whom, under which number.
pub type ClaimId = (u128, u64);

/// What an operation came to, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Held under this token from some moment on.
    Granted(ClaimId, u64),
    /// Somebody held the name.
    Busy,
    /// The grant of this token ended.
    Released(u64),
}

#[derive(Clone, Copy, Debug)]
struct Done {
    from: u64,
    to: u64,
    what: What,
}

/// What may have happened, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Perhaps {
    /// A claim took the name, and nobody was told.
    Took,
    /// The grant of this token was released.
    Freed(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    /// Told.
    Token(u64, u128),
    /// A claim that nobody waits for: it may be withdrawn at any time.
    Untold,
}

#[derive(Clone, Debug, Default)]
struct Name {
    /// Asked, and not answered to the end: since when.
    asked: BTreeMap<ClaimId, u64>,
    releasing: BTreeMap<u64, u64>,
    done: Vec<Done>,
    perhaps: Vec<(u64, Perhaps)>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct History {
    names: BTreeMap<String, Name>,
    /// From when on each session may have ended.
    ends: BTreeMap<u128, u64>,
}

impl History {
    /// A claim was made; the same claim made again is not a new one.
    pub fn asked(&mut self, now: u64, name: &str, claim: ClaimId) {
        self.name(name).asked.entry(claim).or_insert(now);
    }

    /// It holds.
    pub fn granted(&mut self, now: u64, name: &str, claim: ClaimId, token: u64) {
        let known = self.name(name);
        if let Some(from) = known.asked.remove(&claim) {
            known.done.push(Done { from, to: now, what: What::Granted(claim, token) });
        }
    }

    /// It does not hold: somebody does.
    pub fn busy(&mut self, now: u64, name: &str, claim: ClaimId) {
        let known = self.name(name);
        if let Some(from) = known.asked.remove(&claim) {
            known.done.push(Done { from, to: now, what: What::Busy });
        }
    }

    /// It is out of the queue, and never held.
    pub fn withdrawn(&mut self, name: &str, claim: ClaimId) {
        self.name(name).asked.remove(&claim);
    }

    /// Nobody waits for its answer any more.
    pub fn left(&mut self, name: &str, claim: ClaimId) {
        let known = self.name(name);
        if let Some(from) = known.asked.remove(&claim) {
            known.perhaps.push((from, Perhaps::Took));
        }
    }

    /// A release was asked for.
    pub fn releasing(&mut self, now: u64, name: &str, token: u64) {
        self.name(name).releasing.entry(token).or_insert(now);
    }

    /// It is done.
    pub fn released(&mut self, now: u64, name: &str, token: u64) {
        let known = self.name(name);
        if let Some(from) = known.releasing.remove(&token) {
            known.done.push(Done { from, to: now, what: What::Released(token) });
        }
    }

    /// A session may end from now on.
    pub fn ends(&mut self, from: u64, session: u128) {
        self.ends.entry(session).or_insert(from);
    }

    fn name(&mut self, name: &str) -> &mut Name {
        if !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), Name::default());
        }
        self.names.get_mut(name).expect("just there")
    }

    /// Operations with an answer.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.names.values().map(|name| u64::try_from(name.done.len()).unwrap_or(0)).sum()
    }

    /// Searches for an order, name by name.
    ///
    /// # Errors
    /// There is none, or the search took too long: a sentence.
    pub fn check(mut self) -> Result<(), String> {
        let ends = std::mem::take(&mut self.ends);
        for (name, mut known) in self.names {
            let asked = std::mem::take(&mut known.asked).into_values();
            known.perhaps.extend(asked.map(|from| (from, Perhaps::Took)));
            let releasing = std::mem::take(&mut known.releasing).into_iter();
            known.perhaps.extend(releasing.map(|(token, from)| (from, Perhaps::Freed(token))));
            known.done.sort_by_key(|done| (done.from, done.to));
            known.perhaps.sort_by_key(|(from, _)| *from);
            Search::new(&known, &ends).run().map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }
}

/// A state of the search: what is in the order already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// All before this are in it.
    first: usize,
    /// Of those from there on.
    beyond: BTreeSet<usize>,
    holder: Holder,
    /// The newest token: the next is greater.
    newest: u64,
    /// How many of the claims that nobody waits for took the name. One is as good as another, so
    /// the oldest goes first.
    took: usize,
}

impl State {
    fn length(&self) -> usize {
        self.first + self.beyond.len()
    }

    fn with(&self, at: usize, holder: Holder) -> State {
        let mut state = State { holder, ..self.clone() };
        if let Holder::Token(token, _) = holder {
            state.newest = token;
        }
        state.beyond.insert(at);
        while state.beyond.remove(&state.first) {
            state.first += 1;
        }
        state
    }
}

struct Search<'a> {
    done: &'a [Done],
    perhaps: &'a [(u64, Perhaps)],
    ends: &'a BTreeMap<u128, u64>,
    seen: HashSet<State>,
}

impl<'a> Search<'a> {
    fn new(name: &'a Name, ends: &'a BTreeMap<u128, u64>) -> Search<'a> {
        Search { done: &name.done, perhaps: &name.perhaps, ends, seen: HashSet::new() }
    }

    fn run(mut self) -> Result<(), String> {
        let first =
            State { first: 0, beyond: BTreeSet::new(), holder: Holder::Nobody, newest: 0, took: 0 };
        let (mut open, mut furthest) = (vec![first.clone()], first);
        while let Some(state) = open.pop() {
            if state.first == self.done.len() {
                return Ok(());
            }
            if state.length() > furthest.length() {
                furthest.clone_from(&state);
            }
            if self.seen.len() > STEPS_MAX {
                return Err(format!("no order was found in {STEPS_MAX} steps"));
            }
            if self.seen.insert(state.clone()) {
                self.next(&state, &mut open);
            }
        }
        let (ready, _) = self.ready(&furthest);
        let ready: Vec<&Done> = ready.into_iter().map(|at| &self.done[at]).collect();
        let (length, holder) = (furthest.length(), furthest.holder);
        Err(format!("after {length} operations, with {holder:?}, none can be next of {ready:?}"))
    }

    /// Those that may come next, as far as time says: whoever comes next began before the first of
    /// the others ended. With that moment.
    fn ready(&self, state: &State) -> (Vec<usize>, u64) {
        let rest = (state.first..self.done.len()).filter(|at| !state.beyond.contains(at));
        let mut until = u64::MAX;
        let mut ready = Vec::new();
        for at in rest {
            if self.done[at].from > until {
                break;
            }
            until = until.min(self.done[at].to);
            ready.push(at);
        }
        ready.retain(|at| self.done[*at].from <= until);
        (ready, until)
    }

    /// All that may come next; the likeliest last, so that it is tried first.
    ///
    /// What nobody was told of happens as late as it can: a name becomes free when the next grant
    /// needs it free, and is taken when a refusal needs it taken. Earlier would forbid more and
    /// permit nothing, as what may happen by some moment may happen later too.
    fn next(&self, state: &State, open: &mut Vec<State>) {
        let (mut ready, until) = self.ready(state);
        let busy = ready.iter().find(|at| self.done[**at].what == What::Busy).copied();
        if let (Some(at), Holder::Token(..) | Holder::Untold) = (busy, state.holder) {
            // It changes nothing and is possible now: no order is lost if it comes first.
            open.push(state.with(at, state.holder));
            return;
        }
        ready.sort_by_key(|at| std::cmp::Reverse(self.done[*at].to));
        for at in ready {
            match (self.done[at].what, state.holder) {
                (What::Granted((session, _), token), holder) => {
                    let free = holder == Holder::Nobody || self.freed(holder, until);
                    if free && token > state.newest {
                        open.push(state.with(at, Holder::Token(token, session)));
                    }
                }
                (What::Released(of), Holder::Token(token, _)) if of == token => {
                    open.push(state.with(at, Holder::Nobody));
                }
                (What::Busy, Holder::Nobody) if self.untold(state.took, until) => {
                    let took = State { took: state.took + 1, ..state.clone() };
                    open.push(took.with(at, Holder::Untold));
                }
                _ => {}
            }
        }
    }

    /// Whether the name may have become free by then, and nobody was told.
    fn freed(&self, holder: Holder, until: u64) -> bool {
        let Holder::Token(token, session) = holder else { return true };
        let freed = |(from, perhaps): &(u64, Perhaps)| {
            *from <= until && matches!(perhaps, Perhaps::Freed(of) if *of == token)
        };
        let ended = self.ends.get(&session).is_some_and(|from| *from <= until);
        ended || self.perhaps.iter().any(freed)
    }

    /// Whether one more claim than these may have taken the name by then, and nobody was told.
    fn untold(&self, took: usize, until: u64) -> bool {
        let mut claims = self.perhaps.iter().filter(|(_, what)| *what == Perhaps::Took);
        claims.nth(took).is_some_and(|(from, _)| *from <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::random::Random;

    /// One a line: `A asks 1`, `A holds 5`, `A busy`, `A leaves`, `A frees 5`, `A freed 5`,
    /// `A ends`; time is the number of the line. The claim of `A` is always the same.
    fn verdict(script: &str) -> Result<(), String> {
        let mut history = History::default();
        for (line, now) in script.lines().map(str::trim).filter(|l| !l.is_empty()).zip(1..) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let session = u128::from(words[0].as_bytes()[0]);
            let number = || words[2].parse::<u64>().unwrap();
            let claim = (session, 1);
            match words[1] {
                "asks" => history.asked(now, "x", claim),
                "holds" => history.granted(now, "x", claim, number()),
                "busy" => history.busy(now, "x", claim),
                "leaves" => history.left("x", claim),
                "frees" => history.releasing(now, "x", number()),
                "freed" => history.released(now, "x", number()),
                "ends" => history.ends(now, session),
                other => panic!("{other}"),
            }
        }
        history.check()
    }

    #[test]
    fn what_one_lock_can_do() {
        let good = [
            "A asks\nA holds 1\nA frees 1\nA freed 1\nB asks\nB holds 2",
            "A asks\nB asks\nB holds 1\nB frees 1\nA holds 2\nB freed 1",
            "A asks\nA holds 1\nB asks\nB busy",
            "A asks\nA holds 1\nA ends\nB asks\nB holds 2",
            "A asks\nA leaves\nB asks\nB busy\nC asks\nC holds 3",
            "A asks\nA holds 1\nA frees 1\nB asks\nB holds 2",
            "A asks\nB asks\nA holds 1\nB busy\nA frees 1\nA freed 1",
        ];
        for script in good {
            assert_eq!(verdict(script), Ok(()), "{script}");
        }
    }

    #[test]
    fn what_no_lock_can_do() {
        let bad = [
            // Two hold it.
            "A asks\nA holds 1\nB asks\nB holds 2",
            // Busy, and it was free all the time.
            "A asks\nA busy",
            "A asks\nA holds 1\nA frees 1\nA freed 1\nB asks\nB busy",
            // Released by one who does not hold it.
            "A asks\nA holds 1\nA ends\nB asks\nB holds 2\nA frees 1\nA freed 1\nC asks\nC busy",
            // Held before its session could end.
            "A asks\nA holds 1\nB asks\nB holds 2\nA ends",
            // Freed before anybody asked for it.
            "A asks\nA holds 1\nB asks\nB holds 2\nA frees 1\nA freed 1",
            // Taken by a claim that was made later.
            "B asks\nB busy\nA asks\nA leaves",
        ];
        for script in bad {
            assert!(verdict(script).is_err(), "{script}");
        }
    }

    /// Who holds the name after an operation; none if that cannot have come to this.
    fn after(holder: Holder, newest: &mut u64, what: What) -> Option<Holder> {
        match (what, holder) {
            (What::Granted((session, _), token), Holder::Nobody) if token > *newest => {
                *newest = token;
                Some(Holder::Token(token, session))
            }
            (What::Busy, Holder::Token(..) | Holder::Untold) => Some(holder),
            (What::Released(of), Holder::Token(token, _)) if of == token => Some(Holder::Nobody),
            _ => None,
        }
    }

    /// What may have happened unseen, each at any time from its moment on, or never.
    #[derive(Clone, Copy)]
    struct Unseen {
        from: u64,
        perhaps: Perhaps,
    }

    /// Every order and every time, tried one after the other.
    fn brute(left: &[Done], unseen: &[Unseen], holder: Holder, newest: u64) -> bool {
        if left.is_empty() {
            return true;
        }
        let until = left.iter().map(|done| done.to).min().expect("there is one");
        for (at, one) in unseen.iter().enumerate().filter(|(_, one)| one.from <= until) {
            let next = match (one.perhaps, holder) {
                (Perhaps::Took, Holder::Nobody) => Holder::Untold,
                (Perhaps::Freed(of), Holder::Token(token, _)) if of == token => Holder::Nobody,
                _ => continue,
            };
            let mut rest = unseen.to_vec();
            rest.remove(at);
            if brute(left, &rest, next, newest) {
                return true;
            }
        }
        if holder == Holder::Untold && brute(left, unseen, Holder::Nobody, newest) {
            return true;
        }
        (0..left.len()).filter(|at| left[*at].from <= until).any(|at| {
            let mut newest = newest;
            let Some(next) = after(holder, &mut newest, left[at].what) else { return false };
            let mut rest = left.to_vec();
            rest.remove(at);
            brute(&rest, unseen, next, newest)
        })
    }

    #[test]
    fn small_histories_are_judged_as_by_trying_all_orders() {
        let mut random = Random::new(1);
        let mut legal = 0;
        for round in 0..20_000 {
            let mut done: Vec<Done> = (0..random.between(1, 6))
                .map(|at| {
                    let from = random.between(0, 12);
                    let token = random.between(1, 3);
                    let what = match random.between(0, 4) {
                        0 => What::Busy,
                        1 | 2 => What::Granted((u128::from(at), 1), token),
                        _ => What::Released(token),
                    };
                    Done { from, to: from + random.between(0, 8), what }
                })
                .collect();
            done.sort_by_key(|done| (done.from, done.to));
            let mut unseen: Vec<Unseen> = (0..random.between(0, 3))
                .map(|_| {
                    let took = random.permille(500);
                    let freed = Perhaps::Freed(random.between(1, 3));
                    let perhaps = if took { Perhaps::Took } else { freed };
                    Unseen { from: random.between(0, 12), perhaps }
                })
                .collect();
            unseen.sort_by_key(|one| one.from);
            let expected = brute(&done, &unseen, Holder::Nobody, 0);
            let perhaps = unseen.iter().map(|one| (one.from, one.perhaps)).collect();
            let name = Name { done, perhaps, ..Name::default() };
            let found = Search::new(&name, &BTreeMap::new()).run();
            assert_eq!(found.is_ok(), expected, "round {round}: {:?}", name.done);
            legal += u32::from(expected);
        }
        assert!(legal > 1_000 && legal < 19_000, "both kinds: {legal} legal");
    }
}
