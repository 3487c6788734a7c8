//! `quorate.admin.v1.Maintenance`: backups, and the way back after a majority is lost.

use crate::admin::{identity, stopping};
use crate::backup::Backup;
use crate::driver::{Inbox, Recover, Recovered, Work};
use crate::life::Life;
use crate::recovery::{Plan, Start, confirmation};
use quorate_locks::{Token, limits};
use quorate_proto::admin::maintenance_server::Maintenance as Service;
use quorate_proto::admin::{
    CompactRequest, CompactResponse, ConfirmStoppedRequest, ConfirmStoppedResponse, RecoverRequest,
    RecoverResponse, SnapshotRequest, SnapshotResponse,
};
use quorate_raft::MemberId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Bytes of one answer.
const CHUNK_BYTES: usize = 64 * 1024;
/// Answers that wait for a reader.
const CHUNKS_MAX: usize = 4;
/// A reader that takes no answer for so long is cut: its file is not whole, and it sees that.
const STALL_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug)]
pub struct Maintenance {
    inbox: Inbox,
    /// One backup at a time: each is a copy of the whole state in memory.
    one: Arc<Semaphore>,
}

impl Maintenance {
    /// A maintenance service in front of this inbox.
    #[must_use]
    pub fn new(inbox: Inbox) -> Maintenance {
        Maintenance { inbox, one: Arc::new(Semaphore::new(1)) }
    }
}

/// Sends the file in pieces, as fast as they are read.
async fn stream(
    bytes: Vec<u8>,
    sender: mpsc::Sender<Result<SnapshotResponse, Status>>,
    _one: OwnedSemaphorePermit,
) {
    let total_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let answer = SnapshotResponse { chunk: chunk.to_vec(), total_bytes };
        match timeout(STALL_MAX, sender.send(Ok(answer))).await {
            Ok(Ok(())) => {}
            // The reader left, or stands in the way of the next one.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn plan(asked: &RecoverRequest) -> Result<Recover, Status> {
    let member = MemberId(identity("member_id", &asked.member_id)?);
    let cluster = identity("cluster_id", &asked.cluster_id)?;
    let new = identity("new_cluster_id", &asked.new_cluster_id)?;
    if new == cluster {
        return Err(Status::invalid_argument("new_cluster_id is the present cluster_id"));
    }
    let words = confirmation(cluster);
    if asked.confirmation != words {
        return Err(Status::invalid_argument(format!(
            "confirmation is {:?}; if it is so, it must be {words:?}",
            asked.confirmation
        )));
    }
    let start = start(asked)?;
    let hold_off_ms = hold_off_ms(asked)?;
    let plan = Plan { cluster: new, start, hold_off_ms };
    Ok(Recover { member, cluster, plan })
}

fn start(asked: &RecoverRequest) -> Result<Start, Status> {
    let above = Token(asked.above_token);
    if asked.epoch == 0 && asked.last_n == 0 {
        if above.epoch() > u64::from(limits::EPOCH_MAX) {
            return Err(Status::invalid_argument(format!("above_token is {above}, and no token")));
        }
        return Ok(Start::Above(above));
    }
    let life = life(asked.epoch, asked.last_n)?;
    if life.token() <= above {
        return Err(Status::invalid_argument(format!(
            "epoch and last_n make {}, which is not above above_token, {above}",
            life.token()
        )));
    }
    Ok(Start::Given(life))
}

/// A life of the tokens, as an operator gives it.
pub(crate) fn life(epoch: u32, last_n: u64) -> Result<Life, Status> {
    let known = u16::try_from(epoch).ok();
    let known = known.filter(|epoch| (1..=limits::EPOCH_MAX).contains(epoch));
    let (Some(known), true) = (known, last_n < limits::TOKEN_N_END) else {
        return Err(Status::invalid_argument(format!(
            "epoch and last_n are {epoch} and {last_n}; they are 1 to {}, and below 2^48",
            limits::EPOCH_MAX
        )));
    };
    Ok(Life { epoch: known, last_n })
}

fn hold_off_ms(asked: &RecoverRequest) -> Result<u32, Status> {
    let ms = u32::try_from(asked.hold_off_ms).unwrap_or(u32::MAX);
    match (ms, asked.old_members_stopped) {
        (0, true) => Ok(0),
        (0, false) => Err(Status::invalid_argument(
            "hold_off_ms is 0, and old_members_stopped is not said: give the longest TTL of any \
             session of the old group",
        )),
        (_, true) => Err(Status::invalid_argument(
            "hold_off_ms and old_members_stopped exclude each other: say one",
        )),
        (ms, false) if ms <= limits::HOLD_OFF_MS_MAX => Ok(ms),
        (ms, false) => Err(Status::invalid_argument(format!(
            "hold_off_ms is {ms}; it is at most {}",
            limits::HOLD_OFF_MS_MAX
        ))),
    }
}

#[tonic::async_trait]
impl Service for Maintenance {
    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let one = Arc::clone(&self.one).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(
                "another backup is being read from this member; try again, or ask another member",
            )
        })?;
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Backup(sender));
        let backup = receiver.await.map_err(|_| stopping())?;
        let backup: Backup = backup.map_err(Status::failed_precondition)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        tokio::spawn(stream(backup.encode(), sender, one));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn compact(
        &self,
        _request: Request<CompactRequest>,
    ) -> Result<Response<CompactResponse>, Status> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Compact(sender));
        let compacted = receiver.await.map_err(|_| stopping())?;
        let index = compacted.map_err(Status::failed_precondition)?;
        Ok(Response::new(CompactResponse { index: index.0 }))
    }

    async fn confirm_stopped(
        &self,
        request: Request<ConfirmStoppedRequest>,
    ) -> Result<Response<ConfirmStoppedResponse>, Status> {
        let cluster = identity("cluster_id", &request.into_inner().cluster_id)?;
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Lift(cluster, sender));
        let lifted = receiver.await.map_err(|_| stopping())?;
        lifted.map_err(Status::failed_precondition)?;
        Ok(Response::new(ConfirmStoppedResponse {}))
    }

    async fn recover(
        &self,
        request: Request<RecoverRequest>,
    ) -> Result<Response<RecoverResponse>, Status> {
        let recover = plan(&request.into_inner())?;
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Recover(Box::new(recover), sender));
        let begun = receiver.await.map_err(|_| stopping())?;
        let Recovered { index, hold_off_ms } = begun.map_err(Status::failed_precondition)?;
        let hold_off_ms = u64::from(hold_off_ms);
        Ok(Response::new(RecoverResponse { index: index.0, hold_off_ms }))
    }
}
