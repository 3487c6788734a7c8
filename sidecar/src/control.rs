//! The control socket beside the log, and `quorate-sidecar drain`, which a pod runs before it
//! stops.
//!
//! `DATA_DIR/control.sock` serves Status, Drain and Undrain of `quorate.admin.v1.Members`, and
//! refuses all else. Nobody is asked who they are: the socket is this user's alone, in this
//! container. It is bound while the directory is held, so that one that lies there is stale.
//!
//! Architecture invariant: `drain` ends within [`DRAIN_MAX`], whatever the sidecar does, and finds
//! nothing wrong with one that is not there: a pod that stops must not wait for it.

use crate::admin::Admin;
use crate::config::file::{self, File};
use clap::Args;
use hyper_util::rt::TokioIo;
use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::members_server::Members;
use quorate_proto::admin::{
    BootstrapRequest, BootstrapResponse, ChangeMembershipRequest, ChangeMembershipResponse,
    DrainRequest, DrainResponse, RetireRequest, RetireResponse, StatusRequest, StatusResponse,
    TransferLeadershipRequest, TransferLeadershipResponse, UndrainRequest, UndrainResponse,
};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// The name of the socket in the data directory.
const NAME: &str = "control.sock";
/// Who may connect: this user.
pub const MODE: u32 = 0o600;
/// `drain` never takes longer.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// What it leaves for starting and ending.
const DRAIN_SPARE: Duration = Duration::from_millis(200);

/// Where the control socket of a data directory is.
#[must_use]
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Control {
    admin: Admin,
}

impl Control {
    /// The part of this service that the socket has.
    #[must_use]
    pub fn new(admin: Admin) -> Control {
        Control { admin }
    }
}

fn refused<T>() -> Result<T, Status> {
    Err(Status::permission_denied(
        "the control socket has Status, Drain and Undrain only; ask the admin port",
    ))
}

#[tonic::async_trait]
impl Members for Control {
    async fn bootstrap(
        &self,
        _request: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        refused()
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.admin.status(request).await
    }

    async fn change_membership(
        &self,
        _request: Request<ChangeMembershipRequest>,
    ) -> Result<Response<ChangeMembershipResponse>, Status> {
        refused()
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        self.admin.drain(request).await
    }

    async fn undrain(
        &self,
        request: Request<UndrainRequest>,
    ) -> Result<Response<UndrainResponse>, Status> {
        self.admin.undrain(request).await
    }

    async fn transfer_leadership(
        &self,
        _request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        refused()
    }

    async fn retire(
        &self,
        _request: Request<RetireRequest>,
    ) -> Result<Response<RetireResponse>, Status> {
        refused()
    }
}

/// The flags of `quorate-sidecar drain`.
#[derive(Args, Clone, Debug)]
#[command(
    about = "Has the sidecar beside give up Raft leadership: a pod's preStop",
    after_help = "\
The sidecar goes on serving its clients, and does not stand for leadership until it is started
again, or somebody calls Members.Undrain. Ends within 5 s, with exit code 0 also where no sidecar
runs; standard error says what was done. In a pod:

  lifecycle: {preStop: {exec: {command: [quorate-sidecar, drain]}}}"
)]
pub struct DrainArgs {
    /// The sidecar's data directory, with its control socket
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The sidecar's settings, where neither the flag nor the environment has the directory
    #[arg(long, env = file::VARIABLE, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl DrainArgs {
    fn directory(&self) -> Result<PathBuf, String> {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        if let Some(directory) = self.data_dir.clone().filter(given) {
            return Ok(directory);
        }
        let file = self.config.as_deref().map(File::read).transpose()?;
        let directory = file.as_ref().and_then(|file| file.get("QUORATE_DATA_DIR"));
        directory.filter(|value| !value.is_empty()).map(PathBuf::from).ok_or_else(|| {
            "which sidecar? Write --data-dir /var/lib/quorate, say, or name its settings with \
             --config"
                .to_owned()
        })
    }
}

/// `quorate-sidecar drain`.
#[must_use]
pub fn drain(args: &DrainArgs) -> ExitCode {
    let directory = match args.directory() {
        Ok(directory) => directory,
        Err(why) => {
            eprintln!("quorate-sidecar drain: {why}");
            return ExitCode::from(64);
        }
    };
    let (sender, receiver) = mpsc::channel();
    // A thread of its own: not even a file system that hangs may keep this process.
    std::thread::spawn(move || {
        // Nobody listens any more if this took too long.
        let _ = sender.send(drained(&socket(&directory)));
    });
    let said = receiver.recv_timeout(DRAIN_MAX - DRAIN_SPARE);
    eprintln!("quorate-sidecar drain: {}", said.unwrap_or_else(|_| late()));
    ExitCode::SUCCESS
}

fn late() -> String {
    format!("the sidecar did not answer within {} s: going on without", DRAIN_MAX.as_secs())
}

/// Drains the sidecar behind this socket, and says what came of it.
fn drained(socket: &Path) -> String {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let asked = runtime.enable_all().build().map(|runtime| runtime.block_on(ask(socket)));
    match asked {
        Ok(Ok(words)) => words,
        Ok(Err(why)) => format!("nothing was drained: {why}"),
        Err(why) => format!("nothing was drained: no runtime: {why}"),
    }
}

async fn ask(socket: &Path) -> Result<String, String> {
    let mut members = connect(socket)
        .await
        .map_err(|why| format!("no sidecar answers at {}: {why}", socket.display()))?;
    let words = |status: Status| status.message().to_owned();
    members.drain(DrainRequest {}).await.map_err(words)?;
    let status = members.status(StatusRequest::default()).await.map_err(words)?.into_inner();
    Ok(match status.role.as_str() {
        "leader" => format!("{} still leads: no other voter could take over", status.name),
        role => format!("{} is {role}, and does not stand for leadership any more", status.name),
    })
}

async fn connect(socket: &Path) -> io::Result<MembersClient<Channel>> {
    let mut stream = Some(TokioIo::new(UnixStream::connect(socket).await?));
    let connector = tower::service_fn(move |_| {
        let again = || io::Error::new(io::ErrorKind::NotConnected, "the connection broke");
        std::future::ready(stream.take().ok_or_else(again))
    });
    let endpoint = Endpoint::from_static("http://control");
    let channel = endpoint.connect_with_connector(connector).await.map_err(io::Error::other)?;
    Ok(MembersClient::new(channel))
}
