//! In the driver's place when the log is damaged: answers Status, and nothing else. Such a member
//! never votes.

use super::{Inbox, StatusView, Work};
use crate::reason::{Failure, Reason};
use std::sync::Arc;

/// Runs until [`Work::Stop`].
pub async fn run(inbox: &Inbox, view: &StatusView, why: &str) {
    let queue = Arc::clone(&inbox.queue);
    let mut batch = Vec::new();
    loop {
        queue.take(&mut batch).await;
        for work in batch.drain(..) {
            match work {
                Work::Stop => return,
                // Whoever asked may be gone by now.
                Work::Status(sender) => drop(sender.send(view.clone())),
                Work::Bootstrap(_, sender) => drop(sender.send(Err(format!("unfit: {why}")))),
                Work::LearnCluster(_, sender) => {
                    let _ = sender.send(false); // Whoever asked may have given up.
                }
                Work::Call(_, _, _, call) => {
                    let failure = Failure::new(
                        Reason::DiskUnfit,
                        format!("this member's log is damaged and it takes no part: {why}"),
                    );
                    drop(call.items.try_send(Err(failure)));
                }
                // Dropped: the asker hears that nobody answers.
                Work::Event(_) | Work::Completion(_) | Work::Change(..) => {}
            }
        }
    }
}
