//! The admin ports of a group's members, for the verbs that change the group.
//!
//! Purpose: reach the members that were named, and find the one that a verb needs: the leader, or
//! the one of that name. Must not guess: what no address was given for is asked for by its name.

mod address;
mod tls;

pub use crate::failure::{Failure, Result};
pub use address::Address;

use crate::cli::AdminArgs;
use hyper_util::rt::TokioIo;
use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{StatusRequest, StatusResponse, Voter};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// Connecting, handshake and the first answer.
const REACH_MAX: Duration = Duration::from_secs(4);
/// What listens there speaks something else.
const NO_HTTP: &str = "no HTTP/2 there (is it a TLS port?)";
/// Where a sidecar's admin port is, unless it was told another place.
const DEFAULT: &str = "127.0.0.1:7402";

/// One member that answered.
#[derive(Debug)]
pub struct Reached {
    pub address: Address,
    pub channel: Channel,
    pub status: StatusResponse,
}

impl Reached {
    pub fn members(&self) -> MembersClient<Channel> {
        MembersClient::new(self.channel.clone())
    }
}

/// Every address, with what came of it.
#[derive(Debug)]
pub struct Group {
    pub reached: Vec<Reached>,
    /// Those that did not answer, and why.
    pub missing: Vec<(Address, String)>,
}

impl Group {
    /// Asks every member that was named for its status. At least one answers.
    pub async fn reach(args: &AdminArgs) -> Result<Group> {
        let is_plain = args.tls_cert.is_none() && args.tls_key.is_none() && args.tls_ca.is_none();
        let group = Group::ask(args).await?;
        if !group.reached.is_empty() {
            return Ok(group);
        }
        let mut words = "no admin port answers; tried".to_owned();
        for (address, why) in &group.missing {
            words += &format!("\n  {address}: {why}");
        }
        let hint = if is_plain && group.missing.iter().any(|(_, why)| why.contains(NO_HTTP)) {
            "if these ports speak TLS, give --tls-cert, --tls-key, --tls-ca"
        } else {
            "say where they are: --admin NAME=HOST:PORT, or QUORATE_ADMIN; `quorate dev` prints \
             its own"
        };
        Err(Failure::unavailable(words).because("NO_ADMIN_PORT").hint(hint))
    }

    async fn ask(args: &AdminArgs) -> Result<Group> {
        let tls = tls::Tls::of(args).map_err(Failure::usage)?.map(Arc::new);
        let mut group = Group { reached: Vec::new(), missing: Vec::new() };
        // All at once: one that does not answer costs the others no time.
        let ask = |address: Address| {
            let (asked, tls) = (address.clone(), tls.clone());
            let reach = async move { reach(&asked, tls.as_deref()).await };
            (address, tokio::spawn(timeout(REACH_MAX, reach)))
        };
        let asked: Vec<_> = addresses(args)?.into_iter().map(ask).collect();
        for (address, answer) in asked {
            let words = |error: tokio::task::JoinError| Ok(Err(error.to_string()));
            match answer.await.unwrap_or_else(words) {
                Ok(Ok((channel, status))) => {
                    group.reached.push(Reached { address, channel, status });
                }
                Ok(Err(why)) => group.missing.push((address, why)),
                Err(_) => {
                    let why = format!("no answer within {} s", REACH_MAX.as_secs());
                    group.missing.push((address, why));
                }
            }
        }
        Ok(group)
    }

    /// The one that leads.
    pub fn leader(&self) -> Result<&Reached> {
        if let Some(leader) = self.reached.iter().find(|one| one.status.role == "leader") {
            return Ok(leader);
        }
        let known = self.reached.iter().find_map(|one| {
            let id = &one.status.leader_id;
            known(&one.status).find(|member| !id.is_empty() && member.member_id == *id)
        });
        Err(Failure::unavailable(match known {
            Some(leader) => format!(
                "{0} leads, and no address given is its own: add --admin {0}=HOST:PORT",
                leader.name
            ),
            None => "no leader is known: is a majority of the voters running? See `quorate \
                     members status`"
                .to_owned(),
        }))
    }

    /// The one of this name or identity; without one, the only one.
    pub fn named(&self, word: Option<&str>) -> Result<&Reached> {
        let Some(word) = word else {
            if let ([only], []) = (&self.reached[..], &self.missing[..]) {
                return Ok(only);
            }
            return Err(Failure::usage(format!(
                "which member? Name one of: {}",
                names(self.reached.iter().map(|one| &one.status.name))
            )));
        };
        let is =
            |one: &&Reached| one.status.name == word || hexadecimal(&one.status.member_id) == word;
        self.reached.iter().find(is).ok_or_else(|| {
            let missing = self.missing.iter().map(|(address, why)| format!("\n  {address}: {why}"));
            Failure::unavailable(format!(
                "no address given is that of {word}: add --admin {word}=HOST:PORT{}",
                missing.collect::<String>()
            ))
        })
    }

    /// The identity behind a name, an identity, or NAME=IDENTITY.
    pub fn voter(&self, word: &str) -> Result<Voter> {
        if let Some((name, id)) = word.split_once('=') {
            let member_id = identity(id).ok_or_else(|| {
                Failure::usage(format!("{word}: {id:?} is not 32 hexadecimal digits"))
            })?;
            return Ok(Voter { member_id, name: name.to_owned() });
        }
        let own = self.reached.iter().map(|one| Voter {
            member_id: one.status.member_id.clone(),
            name: one.status.name.clone(),
        });
        let others = self.reached.iter().flat_map(|one| known(&one.status).cloned());
        // What a member says of itself first: it may have lost its disk, and be another by now.
        let mut all = own.chain(others);
        all.find(|one| one.name == word || hexadecimal(&one.member_id) == word).ok_or_else(|| {
            Failure::usage(format!(
                "nobody knows {word}: add its --admin {word}=HOST:PORT, or write {word}=MEMBER-ID"
            ))
        })
    }
}

/// Everybody in the membership that a member knows.
pub fn known(status: &StatusResponse) -> impl Iterator<Item = &Voter> {
    status.voters.iter().chain(&status.learners).chain(&status.outgoing)
}

/// 16 bytes as people see them.
pub fn hexadecimal(bytes: &[u8]) -> String {
    <[u8; 16]>::try_from(bytes)
        .map(|bytes| format!("{:032x}", u128::from_le_bytes(bytes)))
        .unwrap_or_default()
}

fn identity(text: &str) -> Option<Vec<u8>> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
    Some(id.to_le_bytes().to_vec())
}

pub fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn addresses(args: &AdminArgs) -> Result<Vec<Address>> {
    let given = args.admin.iter().filter(|text| !text.is_empty());
    let mut addresses =
        given.map(|text| Address::parse(text)).collect::<std::result::Result<Vec<_>, _>>();
    if let Ok(none) = &mut addresses
        && none.is_empty()
    {
        none.push(Address::parse(DEFAULT).map_err(Failure::usage)?);
    }
    addresses.map_err(Failure::usage)
}

async fn reach(
    address: &Address,
    tls: Option<&tls::Tls>,
) -> std::result::Result<(Channel, StatusResponse), String> {
    let channel = connect(address, tls).await?;
    let status = MembersClient::new(channel.clone()).status(StatusRequest::default()).await;
    let status = status.map_err(|status| match root(&status) {
        // Nothing but the first bytes of an answer: what the other side speaks.
        Some(behind) if tls.is_none() => format!("{NO_HTTP}: {behind}"),
        _ => status.message().to_owned(),
    })?;
    let status = status.into_inner();
    if let Some(name) = &address.name
        && *name != status.name
    {
        return Err(format!("{} answers there, not {name}", status.name));
    }
    Ok((channel, status))
}

/// What is behind all that is said of an error; none if nothing is.
fn root(error: &dyn std::error::Error) -> Option<String> {
    let first = error.source()?;
    let last = std::iter::successors(Some(first), |error| error.source()).last();
    last.map(ToString::to_string)
}

/// One connection; when it breaks, so does the channel.
async fn connect(
    address: &Address,
    tls: Option<&tls::Tls>,
) -> std::result::Result<Channel, String> {
    let words = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect(&address.place).await.map_err(words)?;
    stream.set_nodelay(true).map_err(words)?;
    let endpoint = Endpoint::from_static("http://member");
    let channel = match tls {
        None => once(endpoint, stream).await,
        Some(tls) => {
            let name = address.name.as_deref().ok_or(
                "with TLS the member's name is needed, to know it by its certificate: \
                 --admin NAME=HOST:PORT",
            )?;
            let stream = tls.handshake(stream, name).await.map_err(words)?;
            once(endpoint, stream).await
        }
    };
    channel.map_err(|error| match std::error::Error::source(&error) {
        Some(behind) => format!("{NO_HTTP}: {behind}"),
        None => error.to_string(),
    })
}

async fn once<S>(
    endpoint: Endpoint,
    stream: S,
) -> std::result::Result<Channel, tonic::transport::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let again = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        std::future::ready(once.take().ok_or_else(again))
    });
    endpoint.connect_with_connector(connector).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    fn voter(name: &str, id: u8) -> Voter {
        Voter { member_id: vec![id; 16], name: name.to_owned() }
    }

    /// A group seen through members `a` (which leads, if so) and `new`, which nobody knows yet.
    fn group(leads: bool) -> Group {
        let reached = |name: &str, id: u8, role: &str, voters: Vec<Voter>| Reached {
            address: Address::parse("127.0.0.1:1").expect("an address"),
            channel: Endpoint::from_static("http://nobody").connect_lazy(),
            status: StatusResponse {
                name: name.to_owned(),
                member_id: vec![id; 16],
                leader_id: voters.last().map(|last| last.member_id.clone()).unwrap_or_default(),
                role: role.to_owned(),
                voters,
                ..StatusResponse::default()
            },
        };
        let role = if leads { "leader" } else { "follower" };
        let voters = vec![voter("a", 1), voter("b", 2)];
        let all = vec![reached("a", 1, role, voters), reached("new", 3, "blank", Vec::new())];
        Group { reached: all, missing: Vec::new() }
    }

    #[tokio::test]
    async fn the_leader_is_found_or_named() {
        assert_eq!(group(true).leader().expect("it leads").status.name, "a");
        let words = group(false).leader().expect_err("not reached").words;
        assert!(words.contains("b leads") && words.contains("--admin b=HOST:PORT"), "{words}");
    }

    #[tokio::test]
    async fn a_name_an_identity_or_both() {
        let group = group(true);
        assert_eq!(group.voter("b").expect("known"), voter("b", 2));
        assert_eq!(group.voter("new").expect("reached"), voter("new", 3));
        let id = "02".repeat(16);
        assert_eq!(group.voter(&id).expect("known"), voter("b", 2));
        assert_eq!(group.voter(&format!("far={id}")).expect("both"), voter("far", 2));
        for bad in ["far", "far=02", "far=xx"] {
            assert_eq!(group.voter(bad).expect_err(bad).code, exit::USAGE);
        }
    }

    #[tokio::test]
    async fn one_of_several_has_to_be_named() {
        let mut group = group(true);
        assert_eq!(group.named(None).expect_err("two").code, exit::USAGE);
        assert_eq!(group.named(Some("new")).expect("reached").status.name, "new");
        assert!(group.named(Some("b")).expect_err("not reached").words.contains("--admin b="));
        group.reached.pop();
        assert_eq!(group.named(None).expect("the only one").status.name, "a");
    }
}
