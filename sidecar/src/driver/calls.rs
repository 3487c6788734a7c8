//! The open calls of clients, and where their answers go.

use super::{Item, OpenCall, STREAM_ITEMS_MAX};
use crate::agent::{CallId, Told};
use crate::clock;
use crate::metrics::Metrics;
use crate::reason::{Failure, Reason};
use quorate_raft::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Calls {
    open: BTreeMap<CallId, OpenCall>,
    metrics: Arc<Metrics>,
}

impl Calls {
    pub(super) fn new(metrics: Arc<Metrics>) -> Calls {
        Calls { open: BTreeMap::new(), metrics }
    }

    pub(super) fn begin(&mut self, now: Time, id: CallId, call: OpenCall) {
        self.metrics.queued.observe_nanos(now.since(call.arrived));
        self.open.insert(id, call);
    }

    /// Passes an item on. False: its client is gone, or reads too slowly, and is cut.
    #[must_use]
    pub(super) fn tell(&mut self, call: CallId, told: Told) -> bool {
        let Some(open) = self.open.get_mut(&call) else { return true };
        if !std::mem::replace(&mut open.answered, true) {
            self.metrics.whole.observe_nanos(clock::now().since(open.arrived));
        }
        // The last place is for the word that it reads too slowly. Cutting it ends no session.
        let slow = open.items.capacity() <= 1;
        let item: Item = if slow { Err(slow_reader()) } else { Ok(told) };
        let cut = open.items.try_send(item).is_err() || slow;
        if cut {
            self.open.remove(&call);
        }
        !cut
    }

    /// The last word of a call.
    pub(super) fn finish(&mut self, call: CallId, end: Result<Option<Told>, Failure>) {
        let Some(OpenCall { items: sender, arrived, answered }) = self.open.remove(&call) else {
            return;
        };
        if !answered {
            self.metrics.whole.observe_nanos(clock::now().since(arrived));
        }
        // A client that left hears nothing, and needs nothing.
        match end {
            Ok(Some(told)) => drop(sender.try_send(Ok(told))),
            Ok(None) => {}
            Err(failure) => drop(sender.try_send(Err(failure))),
        }
    }
}

fn slow_reader() -> Failure {
    Failure::new(
        Reason::SlowReader,
        format!(
            "{STREAM_ITEMS_MAX} items of this stream wait unread, the limit; open it again, and \
             read: the state comes first"
        ),
    )
}
