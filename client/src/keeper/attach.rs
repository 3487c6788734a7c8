//! Coming to a sidecar: the first Open, and each Resume after a broken connection.

use super::events::Events;
use crate::client::Client;
use crate::clock;
use crate::error::{Error, Reason};
use crate::link::Link;
use crate::session::SessionOptions;
use quorate_proto::v1::session_event::Event;
use quorate_proto::v1::sessions_client::SessionsClient;
use quorate_proto::v1::{OpenRequest, Opened, ResumeRequest, Resumed, SessionEvent};
use std::sync::Arc;
use std::time::Duration;

/// The pause before the second try; doubled each time up to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The pause after a try that came `pause` after the one before.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(BACKOFF_MIN, BACKOFF_MAX)
}

/// Which session, and from which attachment it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose {
    pub(super) key: [u8; 16],
    pub(super) generation: u64,
    pub(super) tethered: bool,
}

/// A session that is attached.
pub(super) struct Attached {
    pub(super) link: Arc<Link>,
    pub(super) resumed: Resumed,
    pub(super) events: Events<SessionEvent>,
}

/// Why a Resume did not come back.
pub(super) enum Failure {
    /// It never left: nothing moved.
    NotSent,
    /// It may have been done: the generation may have risen.
    Unknown,
    /// The group said no.
    Refused(Error),
}

fn unexpected() -> Error {
    Error::Broken("the sidecar did not say that the session is there".to_owned())
}

/// Opens the session. The connection is cut if the answer got lost, so that the sidecar stops
/// renewing it.
pub(super) async fn open(
    client: &Client,
    key: [u8; 16],
    options: &SessionOptions,
) -> Result<(Arc<Link>, Opened, Events<SessionEvent>), Error> {
    let link = client.link().await?;
    let request = OpenRequest {
        key: key.to_vec(),
        ttl_ms: u64::try_from(options.ttl.as_millis()).unwrap_or(u64::MAX),
        boottime_ns: clock::now_ns(),
        stops_at_break: false,
        label: options.label.clone(),
        tethered: options.tethered,
    };
    let answer = async {
        let mut events =
            SessionsClient::new(link.channel.clone()).open(request).await?.into_inner();
        let first = events.message().await?;
        Ok((first.and_then(|first| first.event), events))
    };
    match answer.await.map_err(|status: tonic::Status| Error::from(status)) {
        Ok((Some(Event::Opened(opened)), events)) => Ok((link, opened, Events::open(events))),
        Ok((Some(Event::Expired(expired)), _)) => {
            Err(Error::SessionOver(Reason::parse(&expired.reason)))
        }
        Ok(_) => {
            link.cut();
            Err(unexpected())
        }
        Err(error) => {
            if matches!(error, Error::Broken(_)) {
                link.cut();
            }
            Err(error)
        }
    }
}

/// Connects if need be, and takes the session back.
pub(super) async fn resume(
    client: Client,
    whose: Whose,
    pause: Duration,
) -> Result<Attached, Failure> {
    tokio::time::sleep(pause).await;
    let link = client.link().await.map_err(|_| Failure::NotSent)?;
    let request = ResumeRequest {
        key: whose.key.to_vec(),
        generation: whose.generation,
        boottime_ns: clock::now_ns(),
        stops_at_break: false,
        tethered: whose.tethered,
    };
    let answer = async {
        let mut sessions = SessionsClient::new(link.channel.clone());
        let mut events = sessions.resume(request).await?.into_inner();
        let first = events.message().await?;
        Ok((first.and_then(|first| first.event), events))
    };
    match answer.await.map_err(|status: tonic::Status| Error::from(status)) {
        Ok((Some(Event::Resumed(resumed)), events)) => {
            Ok(Attached { link, resumed, events: Events::open(events) })
        }
        Ok((Some(Event::Expired(expired)), _)) => {
            Err(Failure::Refused(Error::SessionOver(Reason::parse(&expired.reason))))
        }
        Ok(_) | Err(Error::Broken(_)) => {
            link.cut();
            Err(Failure::Unknown)
        }
        // The group did not answer the sidecar in time: it may yet do what was asked.
        Err(error) if error.is_transient() => Err(Failure::Unknown),
        Err(error) => Err(Failure::Refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses() {
        let mut pause = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pause = longer(pause);
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500]);
    }
}
