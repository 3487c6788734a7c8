//! One client's calls on the wire.

use hyper_util::rt::TokioIo;
use quorate_proto::v1::acquire_response::Outcome;
use quorate_proto::v1::locks_client::LocksClient;
use quorate_proto::v1::session_event::Event;
use quorate_proto::v1::sessions_client::SessionsClient;
use quorate_proto::v1::status_client::StatusClient;
use quorate_proto::v1::{
    AcquireRequest, CloseRequest, GetRequest, Holder, OpenRequest, ReleaseRequest, ResumeRequest,
    SessionEvent, StatusRequest,
};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

/// A call without an answer after this is unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// A call that was not done, or is not known to be.
#[derive(Clone, Debug)]
pub struct Failed {
    /// From the table of reasons; empty where the transport failed.
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// Whether it may have been done.
    pub unknown: bool,
    /// The session's present generation, where the refusal says it.
    pub generation: Option<u64>,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Failed {
        let info = status.get_details_error_info();
        let reason = info.as_ref().map(|i| i.reason.clone()).unwrap_or_default();
        let outcome = info.as_ref().and_then(|i| i.metadata.get("outcome").cloned());
        let generation =
            info.as_ref().and_then(|i| i.metadata.get("generation")).and_then(|g| g.parse().ok());
        let transport = reason.is_empty()
            && matches!(
                status.code(),
                Code::Unavailable
                    | Code::Unknown
                    | Code::Cancelled
                    | Code::Internal
                    | Code::DeadlineExceeded
            );
        let unknown = transport || outcome.as_deref() == Some("unknown");
        Failed { reason, message: status.message().to_owned(), unknown, generation }
    }
}

/// An attached session and the stream that keeps it.
#[derive(Debug)]
pub struct Attached {
    /// Its attach generation.
    pub generation: u64,
    /// Renewals, and its end.
    pub events: Streaming<SessionEvent>,
}

/// A connection to one sidecar, and one session's key.
#[derive(Debug)]
pub struct Caller {
    endpoint: PathBuf,
    sessions: SessionsClient<Channel>,
    locks: LocksClient<Channel>,
    status: StatusClient<Channel>,
    /// The session's key.
    pub key: Vec<u8>,
    /// The next request id.
    pub next_request: u64,
}

/// Connects to a Unix socket.
///
/// # Errors
/// Nobody listens there.
pub async fn channel(endpoint: PathBuf) -> Result<Channel, Failed> {
    let failed = |e: &dyn std::fmt::Display| Failed {
        reason: String::new(),
        message: e.to_string(),
        unknown: false,
        generation: None,
    };
    let connect = tower::service_fn(move |_| {
        let endpoint = endpoint.clone();
        async move { UnixStream::connect(endpoint).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://sidecar.invalid")
        .connect_with_connector(connect)
        .await
        .map_err(|e| failed(&e))
}

impl Caller {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(endpoint: PathBuf, key: Vec<u8>) -> Result<Caller, Failed> {
        let channel = channel(endpoint.clone()).await?;
        let sessions = SessionsClient::new(channel.clone());
        let locks = LocksClient::new(channel.clone());
        let status = StatusClient::new(channel);
        Ok(Caller { endpoint, sessions, locks, status, key, next_request: 1 })
    }

    /// Connects anew, with the same key and request ids.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn reconnect(&mut self) -> Result<(), Failed> {
        let channel = channel(self.endpoint.clone()).await?;
        self.sessions = SessionsClient::new(channel.clone());
        self.locks = LocksClient::new(channel.clone());
        self.status = StatusClient::new(channel);
        Ok(())
    }

    async fn first(
        call: impl Future<Output = Result<tonic::Response<Streaming<SessionEvent>>, Status>>,
    ) -> Result<Attached, Failed> {
        let timed_out = |_| Failed::from(Status::deadline_exceeded("no answer"));
        let wait = async {
            let mut events = call.await?.into_inner();
            let first = events.message().await?;
            match first.and_then(|event| event.event) {
                Some(Event::Opened(opened)) => {
                    Ok(Attached { generation: opened.generation, events })
                }
                Some(Event::Resumed(resumed)) => {
                    Ok(Attached { generation: resumed.generation, events })
                }
                other => Err(Status::internal(format!("first event is {other:?}"))),
            }
        };
        tokio::time::timeout(CALL_TIMEOUT, wait).await.map_err(timed_out)?.map_err(Failed::from)
    }

    /// Opens the session.
    ///
    /// # Errors
    /// Refused, or unknown.
    pub async fn open(&mut self, ttl_ms: u64, label: &str) -> Result<Attached, Failed> {
        let (key, label) = (self.key.clone(), label.to_owned());
        let request = OpenRequest { key, ttl_ms, label, ..OpenRequest::default() };
        Caller::first(self.sessions.open(request)).await
    }

    /// Takes the session back.
    ///
    /// # Errors
    /// Refused, or unknown.
    pub async fn resume(&mut self, generation: u64) -> Result<Attached, Failed> {
        let key = self.key.clone();
        let request = ResumeRequest { key, generation, ..ResumeRequest::default() };
        Caller::first(self.sessions.resume(request)).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// Refused, or unknown.
    pub async fn close(&mut self) -> Result<(), Failed> {
        let key = self.key.clone();
        self.sessions.close(CloseRequest { key }).await?;
        Ok(())
    }

    /// A fresh request id.
    pub fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request - 1
    }

    /// Claims a name; `None` if it is taken. The same `request` is the same claim.
    ///
    /// # Errors
    /// Refused, or unknown.
    pub async fn acquire(
        &mut self,
        name: &str,
        request: u64,
        wait_ms: u64,
    ) -> Result<Option<u64>, Failed> {
        let request = AcquireRequest {
            key: self.key.clone(),
            name: name.to_owned(),
            request_id: request,
            lowest_unacked: request,
            wait_ms,
        };
        let response = timed(self.locks.acquire(request)).await?;
        match response.outcome {
            Some(Outcome::Granted(granted)) => Ok(Some(granted.token)),
            _ => Ok(None),
        }
    }

    /// Gives a name back.
    ///
    /// # Errors
    /// Refused, or unknown.
    pub async fn release(&mut self, name: &str, token: u64, request: u64) -> Result<(), Failed> {
        let request = ReleaseRequest {
            key: self.key.clone(),
            name: name.to_owned(),
            token,
            request_id: request,
            lowest_unacked: request,
        };
        timed(self.locks.release(request)).await?;
        Ok(())
    }

    /// The name of the Raft leader, as this sidecar knows it; empty if it knows none.
    ///
    /// # Errors
    /// No answer.
    pub async fn leader(&mut self) -> Result<String, Failed> {
        Ok(timed(self.status.get(StatusRequest {})).await?.leader)
    }

    /// The Raft term, as this sidecar knows it.
    ///
    /// # Errors
    /// No answer.
    pub async fn term(&mut self) -> Result<u64, Failed> {
        Ok(timed(self.status.get(StatusRequest {})).await?.term)
    }

    /// Who holds a name, linearizably.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn holder(&mut self, name: &str) -> Result<Option<Holder>, Failed> {
        let response = timed(self.locks.get(GetRequest { name: name.to_owned() })).await?;
        Ok(response.name.and_then(|name| name.holder))
    }
}

async fn timed<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Failed::from(Status::deadline_exceeded("no answer"))),
    }
}
