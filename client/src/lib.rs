//! Leader election and locks with fencing tokens, for an application beside a Quorate sidecar.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate_client::Error> {
//! use quorate_client::{Candidates, Client, SessionOptions};
//!
//! let client = Client::connect_first(&Candidates::resolve(None)?).await?;
//! let session = client.session(SessionOptions::default()).await?;
//! let lock = session.lock("backup").await?;
//! let token = lock.token(); // goes with every write to what the lock protects
//! # let work = async move { let _ = token; };
//! tokio::select! {
//!     () = work => lock.release().await?,
//!     loss = lock.lost() => eprintln!("stop at once: {loss:?}"),
//! }
//! # Ok(()) }
//! ```
//!
//! The deadline is the client's own business: it stops by its own clock, whatever the sidecar does.
//! When the sidecar restarts, the session goes on with the same tokens, and nobody notices.
//!
//! Architecture invariant: no Raft, no log, no other member is known here; only the sidecar beside
//! the application.

mod client;
pub mod clock;
pub mod deadline;
mod endpoint;
mod error;
mod keeper;
mod link;
#[doc(hidden)]
pub mod planted;
mod session;
mod tether;
mod view;

pub use client::{Client, Leadership, Observer};
pub use deadline::{Act, Deadline, KILL_MARGIN_NS, STOP_MARGIN_MIN_NS};
pub use endpoint::{Candidates, Endpoint, POD_SOCKET, VARIABLE};
pub use error::{Error, Reason};
/// The group's state, as the sidecar sends it.
pub use quorate_proto::v1::{SessionInfo, StatusResponse};
pub use session::{Election, Lock, Loss, Order, Pulse, Session, SessionOptions, Watchdog};
pub use tether::Tether;
pub use view::{Holder, Kind, NameInfo, Waiter};
