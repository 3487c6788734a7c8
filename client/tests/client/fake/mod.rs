//! A sidecar of one, in memory: the contract's answers without a group. Its state outlives its
//! restarts.

mod service;

use quorate_client::clock;
use quorate_proto::v1::{self, claim_event, session_event};
use service::Fake;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnixListenerStream;

type Items<T> = mpsc::UnboundedSender<Result<T, tonic::Status>>;

#[derive(Default)]
pub struct Session {
    pub id: u64,
    pub generation: u64,
    pub ttl_ms: u64,
    pub tethered: bool,
    boot: u64,
    keeper: Option<Items<v1::SessionEvent>>,
}

pub struct Claim {
    pub key: Vec<u8>,
    pub request_id: u64,
    pub token: u64,
    items: Option<Items<v1::ClaimEvent>>,
}

#[derive(Default)]
pub struct State {
    pub boot: u64,
    pub sessions: BTreeMap<Vec<u8>, Session>,
    pub names: BTreeMap<String, VecDeque<Claim>>,
    pub last_token: u64,
    pub latest_deadline_ns: u64,
    pub tokens: Vec<u64>,
    pub holds: Vec<(u64, u64)>,
    pub resumes: u64,
    pub tethers: u64,
    pub frozen: bool,
    /// At the end of a tether it is seen how many of these live.
    pub watched: Vec<OwnedFd>,
    /// The last of these counts.
    pub alive_at_tether_end: Option<usize>,
    /// Resumes that are done, and whose answer is lost.
    pub swallow_resumes: u64,
    /// Nothing is granted, for so long by its own words.
    pub hold_off_ms: u64,
}

impl State {
    fn deadline(&mut self, ttl_ms: u64) -> u64 {
        let deadline_ns = clock::now_ns() + ttl_ms * 950_000;
        self.latest_deadline_ns = self.latest_deadline_ns.max(deadline_ns);
        deadline_ns
    }

    /// Grants the name to its first claim, if that has no token yet.
    fn grant(&mut self, name: &str) {
        let Some(claim) = self.names.get(name).and_then(VecDeque::front) else { return };
        if self.hold_off_ms > 0 {
            return;
        }
        let session = &self.sessions[&claim.key];
        let (ttl_ms, session_id, generation) = (session.ttl_ms, session.id, session.generation);
        let fresh = claim.token == 0;
        let deadline_boottime_ns = self.deadline(ttl_ms);
        if fresh {
            self.last_token += 1;
            self.tokens.push(self.last_token);
        }
        let last = self.last_token;
        let claim = self.names.get_mut(name).and_then(VecDeque::front_mut).expect("just seen");
        claim.token = if fresh { last } else { claim.token };
        let token = claim.token;
        let valid_for_ms = ttl_ms;
        let granted =
            v1::Granted { token, deadline_boottime_ns, session_id, generation, valid_for_ms };
        tell(claim, claim_event::Event::Granted(granted));
    }

    /// Whoever is first, if that has a token.
    fn holder(&self, name: &str) -> Option<v1::Holder> {
        let claim = self.names.get(name)?.front().filter(|claim| claim.token > 0)?;
        let session_id = self.sessions[&claim.key].id;
        Some(v1::Holder { session_id, token: claim.token, ..v1::Holder::default() })
    }

    fn info(&self, name: &str) -> v1::NameInfo {
        let (kind, holder) = (v1::Kind::Lock.into(), self.holder(name));
        v1::NameInfo { name: name.to_owned(), kind, holder, waiters: Vec::new() }
    }

    fn release(&mut self, name: &str, key: &[u8], request_id: u64) {
        let Some(queue) = self.names.get_mut(name) else { return };
        if let Some(at) = queue.iter().position(|c| c.key == key && c.request_id == request_id) {
            let claim = queue.remove(at).expect("just found");
            tell(&claim, claim_event::Event::Released(v1::Released {}));
            if at == 0 {
                self.grant(name);
            }
        }
        if self.names.get(name).is_some_and(VecDeque::is_empty) {
            self.names.remove(name);
        }
    }

    fn close(&mut self, key: &[u8]) {
        let names: Vec<String> = self.names.keys().cloned().collect();
        for name in names {
            let of = |claim: &&Claim| claim.key == key;
            let ids = self.names[&name].iter().filter(of).map(|claim| claim.request_id);
            for id in ids.collect::<Vec<_>>() {
                self.release(&name, key, id);
            }
        }
        self.sessions.remove(key);
    }

    fn renew(&mut self) {
        if self.frozen {
            return;
        }
        let keys: Vec<(Vec<u8>, u64)> =
            self.sessions.iter().map(|(key, session)| (key.clone(), session.ttl_ms)).collect();
        for (key, ttl_ms) in keys {
            let session = &self.sessions[&key];
            if session.boot != self.boot || session.keeper.is_none() {
                continue;
            }
            let deadline_boottime_ns = self.deadline(ttl_ms);
            let renewed = v1::Renewed { deadline_boottime_ns, valid_for_ms: ttl_ms };
            if let Some(keeper) = &self.sessions[&key].keeper {
                let event = Some(session_event::Event::Renewed(renewed));
                drop(keeper.send(Ok(v1::SessionEvent { event })));
            }
            for claim in self.names.values().flatten() {
                if claim.key == key && claim.token > 0 {
                    tell(claim, claim_event::Event::Renewed(renewed));
                }
            }
        }
    }
}

fn tell(claim: &Claim, event: claim_event::Event) {
    if let Some(items) = &claim.items {
        drop(items.send(Ok(v1::ClaimEvent { event: Some(event) })));
    }
}

/// A fake sidecar on a socket of its own.
pub struct Sidecar {
    pub socket: PathBuf,
    pub state: Arc<Mutex<State>>,
    running: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Sidecar {
    pub fn start(directory: &Path) -> Sidecar {
        let socket = directory.join("quorate.sock");
        let mut sidecar = Sidecar { socket, state: Arc::default(), running: None };
        sidecar.up();
        sidecar
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits for the end of a tether: how many of the watched processes lived then.
    pub fn alive_at_tether_end(&self) -> usize {
        let patience = clock::now_ns() + 20_000_000_000;
        loop {
            if let Some(alive) = self.state().alive_at_tether_end {
                return alive;
            }
            assert!(clock::now_ns() < patience, "the tether stays");
            thread::yield_now();
        }
    }

    /// Every connection breaks, as with kill -9.
    pub fn down(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().unwrap();
        }
        drop(std::fs::remove_file(&self.socket));
        for claim in self.state().names.values_mut().flatten() {
            claim.items = None;
        }
        for session in self.state().sessions.values_mut() {
            session.keeper = None;
        }
    }

    pub fn up(&mut self) {
        self.state().boot += 1;
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (socket, state) = (self.socket.clone(), Arc::clone(&self.state));
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::bind(&socket).unwrap();
                ready.send(()).unwrap();
                let incoming = UnixListenerStream::new(listener);
                let fake = Fake { state: Arc::clone(&state) };
                let server = tonic::transport::Server::builder()
                    .add_service(v1::sessions_server::SessionsServer::new(fake.clone()))
                    .add_service(v1::status_server::StatusServer::new(fake.clone()))
                    .add_service(v1::locks_server::LocksServer::new(fake.clone()))
                    .add_service(v1::elections_server::ElectionsServer::new(fake))
                    .serve_with_incoming(incoming);
                let renewals = async {
                    let mut due = tokio::time::interval(Duration::from_millis(50));
                    loop {
                        due.tick().await;
                        state.lock().unwrap().renew();
                    }
                };
                tokio::select! {
                    served = server => served.unwrap(),
                    () = renewals => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        self.running = Some((stop, thread));
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.down();
    }
}
