//! While the grant is held: the command runs, or the terminal waits.

use super::child::{Event, Keeper as ChildKeeper, Start, Status};
use super::notice::Notices;
use super::signals::Signals;
use crate::paint;
use quorate_client::{Election, Error, Lock, Order, Watchdog};
use rustix::process::Signal;
use std::io;

/// A lock or a leadership.
#[derive(Debug)]
pub enum Guard {
    Lock(Lock),
    Election(Election),
}

impl Guard {
    pub fn token(&self) -> u64 {
        match self {
            Guard::Lock(lock) => lock.token(),
            Guard::Election(election) => election.token(),
        }
    }

    pub fn watchdog(&self) -> Result<Watchdog, Error> {
        match self {
            Guard::Lock(lock) => lock.watchdog(),
            Guard::Election(election) => election.watchdog(),
        }
    }

    pub async fn release(self) -> Result<(), Error> {
        match self {
            Guard::Lock(lock) => lock.release().await,
            Guard::Election(election) => election.resign().await,
        }
    }
}

/// How holding ended.
#[derive(Debug)]
pub struct End {
    /// Of the command; none if it never ran.
    pub status: Option<Status>,
    /// The grant was lost first, and why.
    pub lost: Option<String>,
    /// The first of our own signals.
    pub signal: Option<Signal>,
    /// The command could not be started.
    pub failed: Option<io::Error>,
}

/// What the loop below has seen so far.
struct Progress {
    end: End,
    /// Sent to the group, and sent again if it was sent before there was one.
    last: Option<Signal>,
    killed: bool,
}

impl Progress {
    fn new() -> Progress {
        let end = End { status: None, lost: None, signal: None, failed: None };
        Progress { end, last: None, killed: false }
    }

    fn obey(&mut self, order: &Order, child: &ChildKeeper) {
        // Words come after deeds.
        self.killed = matches!(order, Order::Kill(_));
        self.send(if self.killed { Signal::KILL } else { Signal::TERM }, child);
        if self.end.lost.is_none() {
            let why = why(order);
            paint::say(&format!("{why}; stopping the command"));
            self.end.lost = Some(why);
        }
    }

    fn send(&mut self, signal: Signal, child: &ChildKeeper) {
        self.last = Some(signal);
        child.signal(signal);
        if signal == Signal::TERM {
            // A stopped one could not hear it before it is killed.
            child.signal(Signal::CONT);
        }
    }
}

fn why(order: &Order) -> String {
    match order {
        Order::Kill(Some(reason)) => format!("the grant is lost ({reason})"),
        _ => "no renewal came, and the deadline is near".to_owned(),
    }
}

/// Runs the command until it has ended, with all its group. Never waits for the sidecar.
pub async fn command(
    mut watchdog: Watchdog,
    child: &mut ChildKeeper,
    start: Start,
    signals: &mut Signals,
    notices: &mut Notices,
) -> End {
    let mut progress = Progress::new();
    tokio::select! {
        biased;
        // What comes before the start was waiting: the deadline may have passed in it.
        order = watchdog.next() => {
            progress.obey(&order, child);
            return progress.end;
        }
        () = std::future::ready(()) => child.start(start),
    }
    loop {
        tokio::select! {
            biased;
            order = watchdog.next(), if !progress.killed => progress.obey(&order, child),
            event = child.next() => match event {
                Event::Started => {
                    if let Some(signal) = progress.last {
                        child.signal(signal);
                    }
                }
                Event::Suspended => {
                    child.signal(Signal::CONT);
                    paint::say("the command holds the grant, so Ctrl-Z does not stop it");
                }
                Event::Ended(status) => {
                    progress.end.status = Some(status);
                    return progress.end;
                }
                Event::Failed(error) => {
                    progress.end.failed = Some(error);
                    return progress.end;
                }
            },
            signal = signals.next() => {
                progress.end.signal.get_or_insert(signal);
                progress.send(signal, child);
            }
            () = notices.watch() => {}
        }
    }
}

/// Holds until a signal or the loss.
pub async fn nothing(mut watchdog: Watchdog, signals: &mut Signals, notices: &mut Notices) -> End {
    let mut progress = Progress::new();
    tokio::select! {
        biased;
        order = watchdog.next() => {
            let why = why(&order);
            paint::say(&format!("{why}; holding no more"));
            progress.end.lost = Some(why);
        }
        signal = signals.next() => progress.end.signal = Some(signal),
        () = notices.watch() => {}
    }
    progress.end
}
