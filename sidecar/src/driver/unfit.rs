//! In the driver's place when the log is damaged, or the member retired: answers Status, and next
//! to nothing else. Such a member never votes.

use super::{Inbox, StatusView, Work};
use crate::reason::{Failure, Reason};
use std::sync::Arc;

/// Why a member whose log is damaged does nothing.
#[must_use]
pub fn damaged(why: &str) -> Failure {
    let message = format!("this member's log is damaged and it takes no part: {why}");
    Failure::new(Reason::DiskUnfit, message)
}

/// Why a retired member does nothing.
#[must_use]
pub fn retired() -> Failure {
    let message = "this member is retired: it takes no part in its group any more; ask another";
    Failure::new(Reason::Retired, message)
}

/// Runs until [`Work::Stop`]; whoever wants more than Status is told why not.
pub async fn run(inbox: &Inbox, view: &StatusView, why: &Failure) {
    let queue = Arc::clone(&inbox.queue);
    let mut batch = Vec::new();
    loop {
        queue.take(&mut batch).await;
        for work in batch.drain(..) {
            if matches!(work, Work::Stop) {
                return;
            }
            refuse(work, view, why);
        }
    }
}

/// Whoever asked may be gone by now.
fn refuse(work: Work, view: &StatusView, why: &Failure) {
    let words = || why.message.clone();
    match work {
        Work::Status(sender) => drop(sender.send(view.clone())),
        // Again: it is as asked.
        Work::Retire(asked, sender) if view.retired && asked.member == view.member => {
            drop(sender.send(Ok(())));
        }
        Work::Bootstrap(_, sender) | Work::Retire(_, sender) | Work::Lift(_, sender) => {
            drop(sender.send(Err(words())));
        }
        Work::Backup(sender) => drop(sender.send(Err(words()))),
        Work::Compact(sender) => drop(sender.send(Err(words()))),
        Work::Recover(_, sender) => drop(sender.send(Err(words()))),
        Work::LearnCluster(_, sender) => {
            let _ = sender.send(false); // Whoever asked may have given up.
        }
        Work::Call(_, _, _, call) => drop(call.items.try_send(Err(why.clone()))),
        // Dropped: the asker hears that nobody answers.
        Work::Event(_)
        | Work::Completion(_)
        | Work::Leaders(..)
        | Work::Change(..)
        | Work::Attached(..)
        | Work::Stop => {}
    }
}
