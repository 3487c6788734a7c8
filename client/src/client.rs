//! One sidecar, as an application sees it: reads, observers, and the way to sessions.

use crate::endpoint::{Candidates, Endpoint};
use crate::error::Error;
use crate::link::Link;
use crate::tether::Tether;
use crate::view::{Holder, NameInfo};
use quorate_proto::v1::elections_client::ElectionsClient;
use quorate_proto::v1::leader_event::Event;
use quorate_proto::v1::locks_client::LocksClient;
use quorate_proto::v1::sessions_client::SessionsClient;
use quorate_proto::v1::status_client::StatusClient;
use quorate_proto::v1::{
    GetRequest, LeaderEvent, LeaderRequest, ListRequest, ListSessionsRequest, ObserveRequest,
    SessionInfo, StatusRequest, StatusResponse,
};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::Streaming;

/// A list of every name may be large; the sidecar bounds it, not the 4 MiB of gRPC's habit.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A sidecar. Cheap to clone; clones share one connection.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    link: Arc<Mutex<Arc<Link>>>,
}

impl Client {
    /// Connects to the sidecar at this endpoint. Belongs to the tokio runtime that it is called in.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Client, Error> {
        let link = Link::connect(endpoint).await.map_err(|error| unreachable(endpoint, &error))?;
        Ok(Client::over(endpoint.clone(), link))
    }

    /// Connects to the first sidecar that is there.
    ///
    /// # Errors
    /// [`Error::Unreachable`], naming all that were tried.
    pub async fn connect_first(candidates: &Candidates) -> Result<Client, Error> {
        let mut tried = Vec::new();
        for endpoint in &candidates.endpoints {
            match Link::connect(endpoint).await {
                Ok(link) => return Ok(Client::over(endpoint.clone(), link)),
                Err(error) => {
                    tried.push((endpoint.to_string(), error.to_string()));
                    if !candidates.may_skip(&error) {
                        break;
                    }
                }
            }
        }
        Err(Error::Unreachable(tried))
    }

    fn over(endpoint: Endpoint, link: Link) -> Client {
        Client { endpoint, link: Arc::new(Mutex::new(Arc::new(link))) }
    }

    /// Where the sidecar is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The present connection; a new one if that was cut.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.lock().await;
        if link.is_cut() {
            let new = Link::connect(&self.endpoint).await;
            *link = Arc::new(new.map_err(|error| unreachable(&self.endpoint, &error))?);
        }
        Ok(Arc::clone(&link))
    }

    /// A connection of its own, bound to the session with this key.
    pub(crate) async fn tether(&self, key: [u8; 16]) -> Result<Tether, Error> {
        let link = Link::connect(&self.endpoint).await;
        Tether::bind(link.map_err(|error| unreachable(&self.endpoint, &error))?, key).await
    }

    /// An answer, or the end of this connection.
    fn answered<T>(
        link: &Link,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Error> {
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let error = Error::from(status);
            if matches!(error, Error::Broken(_)) {
                link.cut();
            }
            error
        })
    }

    /// Who holds the name and who waits for it; none if nobody does.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn get(&self, name: &str) -> Result<Option<NameInfo>, Error> {
        let link = self.link().await?;
        let mut locks = LocksClient::new(link.channel.clone());
        let answer = locks.get(GetRequest { name: name.to_owned() }).await;
        Ok(Client::answered(&link, answer)?.name.map(NameInfo::from))
    }

    /// Every name in use that starts so, in order.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn list(&self, prefix: &str) -> Result<Vec<NameInfo>, Error> {
        let link = self.link().await?;
        let mut locks =
            LocksClient::new(link.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let answer = locks.list(ListRequest { prefix: prefix.to_owned() }).await;
        Ok(Client::answered(&link, answer)?.names.into_iter().map(NameInfo::from).collect())
    }

    /// The group, as this sidecar sees it. Answered without a majority too.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let link = self.link().await?;
        let answer = StatusClient::new(link.channel.clone()).get(StatusRequest {}).await;
        let mut status = Client::answered(&link, answer)?;
        status.members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(status)
    }

    /// Every open session.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        let link = self.link().await?;
        let mut sessions =
            SessionsClient::new(link.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let answer = sessions.list(ListSessionsRequest {}).await;
        Ok(Client::answered(&link, answer)?.sessions)
    }

    /// Who leads the election; none is a normal answer.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn leader(&self, name: &str) -> Result<Option<Holder>, Error> {
        let link = self.link().await?;
        let mut elections = ElectionsClient::new(link.channel.clone());
        let answer = elections.leader(LeaderRequest { name: name.to_owned() }).await;
        Ok(Client::answered(&link, answer)?.leader.map(Holder::from))
    }

    /// Who leads the election, now and at every change, in order.
    ///
    /// # Errors
    /// A refusal, or a broken connection.
    pub async fn observe(&self, name: &str) -> Result<Observer, Error> {
        let link = self.link().await?;
        let mut elections = ElectionsClient::new(link.channel.clone());
        let answer = elections.observe(ObserveRequest { name: name.to_owned() }).await;
        let events = Client::answered(&link, answer)?;
        Ok(Observer { events, link })
    }
}

fn unreachable(endpoint: &Endpoint, error: &std::io::Error) -> Error {
    Error::Unreachable(vec![(endpoint.to_string(), error.to_string())])
}

/// One item of an [`Observer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This one leads.
    Leader(Holder),
    /// Nobody leads.
    Nobody,
}

/// The changes of one election.
#[derive(Debug)]
pub struct Observer {
    events: Streaming<LeaderEvent>,
    link: Arc<Link>,
}

impl Observer {
    /// The next change; the first is the present state.
    ///
    /// # Errors
    /// The stream broke: observe again, the state comes first.
    pub async fn next(&mut self) -> Result<Leadership, Error> {
        loop {
            let event = self.events.message().await.map_err(|status| {
                let error = Error::from(status);
                if matches!(error, Error::Broken(_)) {
                    self.link.cut();
                }
                error
            })?;
            match event.map(|event| event.event) {
                Some(Some(Event::Leader(holder))) => {
                    return Ok(Leadership::Leader(Holder::from(holder)));
                }
                Some(Some(Event::Nobody(_))) => return Ok(Leadership::Nobody),
                // A later version's news.
                Some(None) => {}
                None => return Err(Error::Broken("the sidecar ended the stream".to_owned())),
            }
        }
    }
}
