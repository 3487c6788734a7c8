//! From the wish to hold to the exit code: session, tether, claim, command, release; and again.

use super::child::{Keeper as ChildKeeper, Start, Status};
use super::hold::{self, End, Guard};
use super::notice::Notices;
use super::program;
use super::signals::Signals;
use super::wait::{Wait, Why};
use crate::cli::{HoldArgs, Output};
use crate::failure::Failure;
use crate::{exit, paint, voice};
use quorate_client::{Candidates, Client, Error, Session, SessionOptions, Tether, VARIABLE};
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The pause before a group or a sidecar that cannot serve is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A command that failed sooner than this failed quickly.
const QUICK: Duration = Duration::from_secs(1);
const AGAIN_PAUSE_MIN: Duration = Duration::from_millis(100);
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The last word to the sidecar waits no longer: the end of this process says the same.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_LOST: Duration = Duration::from_millis(100);
/// A tether that is not bound by then is left out: then only the TTL ends the session of a killed
/// wrapper.
const TETHER_PATIENCE: Duration = Duration::from_millis(500);
/// How long the end waits for whoever reads our words. Nothing is held any more.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Trouble shorter than this is not worth a word.
const PATIENCE: Duration = Duration::from_millis(300);

/// What is wanted.
#[derive(Debug)]
pub struct Plan {
    pub hold: HoldArgs,
    /// The value of an election; none for a lock.
    pub value: Option<String>,
    pub output: Output,
}

/// Why nothing was acquired.
enum Miss {
    Signal(Signal),
    TimedOut,
    Error(Error),
}

struct Campaign {
    plan: Plan,
    client: Client,
    signals: Signals,
    child: Option<ChildKeeper>,
    session: Option<(Session, Notices)>,
    tether: Option<Tether>,
    /// Released by the close of the session.
    last: Option<Guard>,
    /// Quick failures in a row.
    pause: Duration,
    /// The first wait ends then: it began before the sidecar was reached.
    until: Option<Instant>,
    wait: Wait,
}

/// Runs the plan; the exit code.
pub async fn run(candidates: &Candidates, plan: Plan) -> u8 {
    // From here on no reader of our words can hold us up.
    if let Err(error) = voice::start(paint::write) {
        return Failure::from(Error::System(error.to_string())).say(plan.output);
    }
    let code = carry_out(candidates, plan).await;
    voice::drain(LAST_WORDS);
    code
}

async fn carry_out(candidates: &Candidates, plan: Plan) -> u8 {
    if let Some(program) = plan.hold.command.first()
        && let Err(failure) = program::find(program)
    {
        return failure.say(plan.output);
    }
    let (output, name) = (plan.output, plan.hold.name.clone());
    let mut campaign = match prepare(candidates, plan).await {
        Ok(campaign) => campaign,
        Err(miss) => return missed(miss, None, &name, output).await,
    };
    loop {
        let started = Instant::now();
        let end = match campaign.round().await {
            Ok(end) => end,
            Err(miss) => {
                let code = missed(miss, Some(&campaign.client), &name, output).await;
                campaign.leave(FAREWELL).await;
                return code;
            }
        };
        if !campaign.plan.hold.again || wants_end(&end) {
            let farewell = if end.lost.is_some() { FAREWELL_LOST } else { FAREWELL };
            campaign.leave(farewell).await;
            return ended(&end, output);
        }
        if let Some(signal) = campaign.pause(&end, started.elapsed()).await {
            campaign.leave(FAREWELL).await;
            return exit::of_signal(signal.as_raw());
        }
    }
}

async fn prepare(candidates: &Candidates, plan: Plan) -> Result<Campaign, Miss> {
    let system = |error: std::io::Error| Miss::Error(Error::System(error.to_string()));
    let mut signals = Signals::new().map_err(system)?;
    let child =
        if plan.hold.command.is_empty() { None } else { Some(ChildKeeper::new().map_err(system)?) };
    let until = plan.hold.wait.map(|wait| Instant::now() + wait);
    let mut wait = Wait::new(plan.output);
    let client = loop {
        let connect = Client::connect_first(candidates);
        match limited(until, &mut signals, connect).await {
            Err(Miss::Error(error)) if error.is_unreachable() && plan.hold.awaits_a_sidecar() => {
                if until.is_some_and(|until| Instant::now() + RETRY_PAUSE >= until) {
                    return Err(Miss::Error(error));
                }
                wait.no_sidecar(&error);
                rest(&mut signals, RETRY_PAUSE).await?;
            }
            result => break result?,
        }
    };
    let (session, tether, last, pause) = (None, None, None, Duration::ZERO);
    Ok(Campaign { plan, client, signals, child, session, tether, last, pause, until, wait })
}

/// A pause that a signal ends.
async fn rest(signals: &mut Signals, pause: Duration) -> Result<(), Miss> {
    tokio::select! {
        () = sleep(pause) => Ok(()),
        signal = signals.next() => Err(Miss::Signal(signal)),
    }
}

/// Says why nothing was acquired; the exit code.
async fn missed(miss: Miss, client: Option<&Client>, name: &str, output: Output) -> u8 {
    let why = match (&miss, client) {
        (Miss::TimedOut | Miss::Error(Error::NotAcquired(None)), Some(client)) => {
            Why::of(client, name).await
        }
        _ => Why::Unknown,
    };
    let failure = match miss {
        Miss::Signal(signal) => return exit::of_signal(signal.as_raw()),
        Miss::TimedOut => {
            let words = format!("{} was not acquired in time", paint::safe(name));
            Failure::new(exit::NOT_ACQUIRED, why.behind(&words)).because("WAIT_EXPIRED")
        }
        Miss::Error(Error::NotAcquired(None)) if !matches!(why, Why::Unknown) => {
            Failure::new(exit::NOT_ACQUIRED, why.behind("not acquired"))
        }
        Miss::Error(error) => Failure::from(error),
    };
    failure.say(output)
}

/// The exit code. Programs get an object for what people were told when it came.
fn ended(end: &End, output: Output) -> u8 {
    let code = code_of(end);
    let why = match (&end.lost, &end.failed) {
        (Some(why), _) => why.clone(),
        (None, Some(error)) => format!("the command was not started: {error}"),
        (None, None) => return code,
    };
    if output == Output::Json {
        Failure::new(code, why).say(output);
    }
    code
}

/// A signal to us, or, from the terminal, to the command alone, whose group is in front there.
fn wants_end(end: &End) -> bool {
    let interrupted = exit::of_signal(Signal::INT.as_raw());
    let by_terminal = match end.status {
        Some(Status::Signalled(signal)) => signal == Signal::INT.as_raw(),
        Some(Status::Exited(code)) => code == interrupted,
        None => false,
    };
    end.signal.is_some() || (by_terminal && super::terminal::is_ours())
}

fn code_of(end: &End) -> u8 {
    match (end.lost.is_some(), end.status) {
        (true, _) => exit::LOST,
        (false, Some(Status::Exited(code))) => code,
        (false, Some(Status::Signalled(signal))) => exit::of_signal(signal),
        (false, None) if end.failed.is_some() => exit::NOT_EXECUTABLE,
        (false, None) => exit::OK,
    }
}

impl Campaign {
    /// One grant, from the claim to the release.
    async fn round(&mut self) -> Result<End, Miss> {
        let guard = self.acquire().await?;
        let watchdog = guard.watchdog().map_err(Miss::Error)?;
        let token = guard.token().to_string();
        let end = if self.child.is_some() {
            self.mend_tether().await;
            let start = self.start(token);
            // Both are there: made by prepare and acquire.
            let (Some(child), Some((_, notices))) = (&mut self.child, &mut self.session) else {
                return Err(Miss::TimedOut);
            };
            hold::command(watchdog, child, start, &mut self.signals, notices).await
        } else {
            self.show(&token);
            let Some((_, notices)) = &mut self.session else { return Err(Miss::TimedOut) };
            hold::nothing(watchdog, &mut self.signals, notices).await
        };
        if let Some(error) = &end.failed
            && self.plan.output == Output::Text
        {
            paint::say(&format!("the command was not started: {error}"));
        }
        Ok(self.give_back(guard, end).await)
    }

    /// At the end of all, the session's close releases as well, in one step.
    async fn give_back(&mut self, guard: Guard, mut end: End) -> End {
        if !self.plan.hold.again || wants_end(&end) {
            self.last = Some(guard);
            return end;
        }
        if end.lost.is_some() {
            // A session that was not renewed is not worth another claim.
            self.last = Some(guard);
            self.leave(FAREWELL_LOST).await;
            return end;
        }
        tokio::select! {
            // Over when released, or when the deadline has passed.
            _ = guard.release() => {}
            signal = self.signals.next() => end.signal = Some(signal),
        }
        end
    }

    async fn acquire(&mut self) -> Result<Guard, Miss> {
        let until = match self.until.take() {
            Some(until) => Some(until),
            None => {
                self.wait = Wait::new(self.plan.output);
                self.plan.hold.wait.map(|wait| Instant::now() + wait)
            }
        };
        loop {
            match self.acquire_once(until).await {
                Err(Miss::Error(error)) if self.may_retry(&error) => {
                    self.wait.no_sidecar(&error);
                    let again = Instant::now() + RETRY_PAUSE;
                    if until.is_some_and(|until| again >= until) {
                        return Err(Miss::TimedOut);
                    }
                    self.drop_session_if_over();
                    rest(&mut self.signals, RETRY_PAUSE).await?;
                }
                result => return result,
            }
        }
    }

    fn may_retry(&self, error: &Error) -> bool {
        let lost = matches!(error, Error::SessionOver(_)) || error.is_unreachable();
        (lost || error.is_transient()) && !self.plan.hold.try_only
    }

    fn drop_session_if_over(&mut self) {
        if self.session.as_ref().is_some_and(|(session, _)| !session.is_live()) {
            self.session = None;
            self.tether = None;
        }
    }

    async fn acquire_once(&mut self, until: Option<Instant>) -> Result<Guard, Miss> {
        self.drop_session_if_over();
        if self.session.is_none() {
            let opened = {
                let open = open(&self.client, &self.plan);
                limited(until, &mut self.signals, open).await?
            };
            self.tether = opened.1;
            let notices = Notices::new(opened.0.pulse());
            self.session = Some((opened.0, notices));
        }
        let Some((session, notices)) = &mut self.session else { return Err(Miss::TimedOut) };
        let claim = claim(session, &self.plan);
        let waiting = async {
            tokio::select! {
                guard = claim => guard,
                () = notices.watch() => std::future::pending().await,
                () = self.wait.tell(&self.client, &self.plan.hold.name) => {
                    std::future::pending().await
                }
            }
        };
        limited(until, &mut self.signals, waiting).await
    }

    /// A tether that a restart of the sidecar broke: a new one for a new tree.
    async fn mend_tether(&mut self) {
        let live = match &mut self.tether {
            Some(tether) => tether.is_live().await,
            None => false,
        };
        if !live && let Some((session, _)) = &self.session {
            self.tether = tether(session).await;
        }
    }

    fn start(&self, token: String) -> Start {
        let environment = vec![
            ("QUORATE_NAME", self.plan.hold.name.clone()),
            ("QUORATE_TOKEN", token),
            (VARIABLE, self.client.endpoint().to_string()),
        ];
        let tether = self.tether.as_ref().and_then(|tether| tether.inheritable().ok());
        Start { command: self.plan.hold.command.clone(), environment, tether }
    }

    fn show(&self, token: &str) {
        let name = &self.plan.hold.name;
        let text = match self.plan.output {
            Output::Text => token.to_owned(),
            Output::Json => serde_json::json!({ "name": name, "token": token }).to_string(),
        };
        paint::line(&text);
        if self.plan.output == Output::Text {
            paint::say(&format!("holding {} until SIGINT or SIGTERM", paint::safe(name)));
        }
    }

    /// A pause after a command that failed quickly, longer each time. A signal ends it.
    async fn pause(&mut self, end: &End, ran: Duration) -> Option<Signal> {
        let failed = end.failed.is_some() || end.status.is_some_and(|s| s != Status::Exited(0));
        if !failed || end.lost.is_some() || ran >= QUICK {
            self.pause = Duration::ZERO;
            return None;
        }
        self.pause = (self.pause * 2).clamp(AGAIN_PAUSE_MIN, AGAIN_PAUSE_MAX);
        match rest(&mut self.signals, self.pause).await {
            Err(Miss::Signal(signal)) => Some(signal),
            _ => None,
        }
    }

    /// Ends the session. A sidecar that does not answer learns it from the end of this process.
    async fn leave(&mut self, patience: Duration) {
        if let Some((session, _)) = self.session.take() {
            let _ = timeout(patience, session.close()).await;
        }
        self.tether = None;
        self.last = None;
    }
}

/// Until the time is up or a signal comes.
async fn limited<T>(
    until: Option<Instant>,
    signals: &mut Signals,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Miss> {
    let in_time = async {
        match until {
            Some(until) => timeout_at(until, work).await.map_err(|_| Miss::TimedOut)?,
            None => work.await,
        }
        .map_err(Miss::Error)
    };
    tokio::select! {
        biased;
        signal = signals.next() => Err(Miss::Signal(signal)),
        result = in_time => result,
    }
}

async fn open(client: &Client, plan: &Plan) -> Result<(Session, Option<Tether>), Error> {
    let tethered = !plan.hold.command.is_empty();
    let options = SessionOptions { ttl: plan.hold.ttl, label: label(plan), tethered };
    let opening = client.session(options);
    tokio::pin!(opening);
    let session = match timeout(PATIENCE, &mut opening).await {
        Ok(session) => session?,
        Err(_) => {
            if plan.output == Output::Text {
                paint::say("waiting for the group to open a session");
            }
            opening.await?
        }
    };
    let tether = if tethered { tether(&session).await } else { None };
    Ok((session, tether))
}

async fn tether(session: &Session) -> Option<Tether> {
    match timeout(TETHER_PATIENCE, session.tether()).await {
        Ok(Ok(tether)) => Some(tether),
        // The session was opened as tethered: without one only the TTL ends it. Slower, and safe.
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn claim(session: &Session, plan: &Plan) -> Result<Guard, Error> {
    let name = &plan.hold.name;
    match (&plan.value, plan.hold.try_only) {
        (None, true) => session.try_lock(name).await.map(Guard::Lock),
        (None, false) => session.lock(name).await.map(Guard::Lock),
        (Some(value), true) => {
            session.try_campaign(name, value.as_bytes()).await.map(Guard::Election)
        }
        (Some(value), false) => session.campaign(name, value.as_bytes()).await.map(Guard::Election),
    }
}

/// For people: which machine, which process, which command. At most 256 bytes.
fn label(plan: &Plan) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let mut label = format!("{host}/{}", std::process::id());
    if let Some(program) = plan.hold.command.first() {
        label.push(' ');
        label.push_str(&program.to_string_lossy());
    }
    let end = (0..=label.len().min(256)).rev().find(|end| label.is_char_boundary(*end));
    label.truncate(end.unwrap_or(0));
    label
}
