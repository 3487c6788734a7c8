//! The explorer: every state that events lead to, until there is no new one. A search that is cut
//! off, or that did not come by all that it must see, has failed.

use crate::print::Seen;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// States that a search must come by, or it has seen nothing: how often it did.
pub type Witnesses = BTreeMap<&'static str, u64>;

/// A state of a model. What must hold is asserted by whatever makes the next one.
pub trait World: Clone {
    /// What leads from one to the next; in words for whoever reads a trace.
    type Event: Clone + fmt::Display;

    fn print(&self) -> u64;
    fn successors(&self, next: &mut Next<Self>);
    fn witness(&self, seen: &mut Witnesses);
}

/// The states that one more event leads to.
pub struct Next<W: World> {
    reached: Vec<(W::Event, W)>,
    broken: Option<(W::Event, String)>,
    pub seen: Witnesses,
}

impl<W: World> Next<W> {
    /// Lets the event happen to a copy. `happen` says whether it is one at all. Gives the same.
    pub fn attempt(
        &mut self,
        world: &W,
        event: W::Event,
        happen: impl FnOnce(&mut W) -> bool,
    ) -> bool {
        if self.broken.is_some() {
            return false;
        }
        let mut world = world.clone();
        match catch_unwind(AssertUnwindSafe(|| happen(&mut world))) {
            Ok(true) => self.reached.push((event, world)),
            Ok(false) => return false,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let text = text.unwrap_or_default().replace('\n', ";");
                self.broken = Some((event, text));
            }
        }
        true
    }

    fn of(world: &W) -> Next<W> {
        let mut next = Next { reached: Vec::new(), broken: None, seen: Witnesses::new() };
        world.successors(&mut next);
        next
    }
}

/// How a search came to no good end.
#[derive(Debug)]
pub enum Failed {
    /// So many states were not all.
    Cut(usize),
    /// After so many states, something did not hold: what, and what led there.
    Broken { states: usize, what: String, trace: Vec<String> },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Cut(states) => write!(f, "cut off after {states} states"),
            Failed::Broken { states, what, trace } => {
                writeln!(f, "{what}; found after {states} states")?;
                let mut lines = trace.iter().zip(1..);
                lines.try_for_each(|(line, number)| writeln!(f, "{number:>4}. {line}"))
            }
        }
    }
}

/// Depth first, which needs no memory but for fingerprints. Gives the number of states.
pub fn explore<W: World>(first: &W, most: usize, seen: &mut Witnesses) -> Result<usize, Failed> {
    let mut prints = Seen::default();
    prints.insert(first.print());
    let mut stack = vec![first.clone()];
    while let Some(world) = stack.pop() {
        world.witness(seen);
        let next = Next::of(&world);
        for (name, count) in next.seen {
            *seen.entry(name).or_default() += count;
        }
        if let Some((event, what)) = next.broken {
            let trace = vec![event.to_string()];
            return Err(Failed::Broken { states: prints.count, what, trace });
        }
        for (_, next) in next.reached {
            if prints.insert(next.print()) {
                stack.push(next);
            }
        }
        if prints.count >= most {
            return Err(Failed::Cut(prints.count));
        }
    }
    Ok(prints.count)
}

/// Breadth first: what breaks comes with the shortest way to it.
pub fn shortest<W: World>(first: &W, most: usize) -> Result<usize, Failed> {
    let mut prints = Seen::default();
    prints.insert(first.print());
    let mut ways: Vec<Option<(usize, W::Event)>> = vec![None];
    let mut queue = VecDeque::from([(0, first.clone())]);
    while let Some((at, world)) = queue.pop_front() {
        let next = Next::of(&world);
        if let Some((event, what)) = next.broken {
            let mut trace = vec![event.to_string()];
            let mut at = at;
            while let Some((before, event)) = &ways[at] {
                trace.push(event.to_string());
                at = *before;
            }
            trace.reverse();
            return Err(Failed::Broken { states: prints.count, what, trace });
        }
        for (event, next) in next.reached {
            if prints.insert(next.print()) {
                ways.push(Some((at, event)));
                queue.push_back((ways.len() - 1, next));
            }
        }
        if prints.count >= most {
            return Err(Failed::Cut(prints.count));
        }
    }
    Ok(prints.count)
}

/// Explores all, and panics with the shortest trace if something does not hold.
pub fn exhaust<W: World>(name: &str, first: &W, most: usize, seen: &mut Witnesses) -> usize {
    match explore(first, most, seen) {
        Ok(states) => {
            eprintln!("{name}: {states} states");
            states
        }
        Err(cut @ Failed::Cut(_)) => panic!("{name}: {cut}"),
        Err(broken) => match shortest(first, most / 8) {
            Err(shortest @ Failed::Broken { .. }) => panic!("{name}: {shortest}"),
            _ => panic!("{name}: {broken}     (where it ends; the way there is too long)"),
        },
    }
}

/// All of them were come by; the first that was not is named.
pub fn require(names: &[&'static str], seen: &Witnesses) {
    for name in names {
        let count = seen.get(name).copied().unwrap_or(0);
        eprintln!("{count:>10} {name}");
        assert!(count > 0, "the search never came by: {name}");
    }
    let came = seen.iter().filter(|(_, count)| **count > 0).map(|(name, _)| *name);
    let unasked: Vec<&str> = came.filter(|name| !names.contains(name)).collect();
    assert!(unasked.is_empty(), "witnesses that nobody asks for: {unasked:?}");
}
