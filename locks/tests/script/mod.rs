//! Reads and runs the lines of a golden script.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_locks::{
    Attachment, Claim, Command, Event, Generation, Key, Machine, Mode, NameKind, Outcome, Refusal,
    RequestId, SessionId, Token,
};

/// What the script printed.
pub fn run(input: &str) -> String {
    let mut script = Script { next: 1, ..Script::default() };
    for line in input.lines().filter(|line| !line.starts_with('#')) {
        script.line(line);
        script.machine.check();
    }
    script.printed
}

#[derive(Default)]
struct Script {
    machine: Machine,
    next: u64,
    /// Ids of sessions by the letter of their key; kept past their end.
    sessions: BTreeMap<String, u64>,
    printed: String,
}

impl Script {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "at" => self.next = words[1].parse().unwrap(),
            "state" => self.print_state(),
            "snapshot" => {
                let bytes = self.machine.encode();
                let decoded = Machine::decode(&bytes).unwrap();
                assert_eq!(decoded, self.machine);
                assert_eq!(decoded.encode(), bytes);
                self.machine = decoded;
            }
            "fill" => self.fill(&words[1..]),
            _ => {
                let command = self.parse(&words);
                self.apply(line, &command);
            }
        }
    }

    fn apply(&mut self, line: &str, command: &Command) {
        let index = self.next;
        self.next += 1;
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes).as_ref(), Ok(command));
        let mut events = Vec::new();
        let outcome = self.machine.apply(index, command, &mut events);
        if let (Command::Open { key, .. }, Outcome::Opened { session, .. }) = (command, &outcome) {
            self.sessions.insert(letter(*key), session.0);
        }
        writeln!(self.printed, "{index} {line}\n  = {}", self.show(&outcome)).unwrap();
        for event in events {
            writeln!(self.printed, "  ! {}", self.show_event(&event)).unwrap();
        }
    }

    /// `fill A 256 NAME`: claims that are not acquired, request ids from 1, unprinted.
    fn fill(&mut self, words: &[&str]) {
        let count: u64 = words[1].parse().unwrap();
        for request in 1..=count {
            let text = format!("claim {} {request} {} lock try unacked=1", words[0], words[2]);
            let command = self.parse(&text.split_whitespace().collect::<Vec<_>>());
            let outcome = self.machine.apply(self.next, &command, &mut Vec::new());
            assert_eq!(outcome, Outcome::NotAcquired);
            self.next += 1;
        }
        writeln!(self.printed, "filled {count}").unwrap();
    }

    fn parse(&self, words: &[&str]) -> Command {
        let option =
            |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str, or: u64| option(key).map_or(or, |text| text.parse().unwrap());
        let generation = Generation(number("gen", 1));
        let unacked = RequestId(number("unacked", 0));
        let has = |flag| words.contains(&flag);
        match words[0] {
            "start" => Command::Start {
                epoch: words[1].parse().unwrap(),
                last_n: words[2].parse().unwrap(),
            },
            "open" => Command::Open {
                key: key(words[1]),
                ttl_ms: u32::try_from(number("ttl", 5000)).unwrap(),
                attachment: attachment(option("at").unwrap_or("1.1")),
                label: repeated(option("label").unwrap_or("")),
            },
            "resume" => Command::Resume {
                key: key(words[1]),
                replaces: Generation(number("replaces", 1)),
                attachment: attachment(option("at").unwrap()),
            },
            "close" => Command::Close { session: self.id(words[1]), generation },
            "expire" => {
                let seen = words[1..].iter().map(|word| {
                    let (session, generation) = word.split_once('.').unwrap();
                    (self.id(session), Generation(generation.parse().unwrap()))
                });
                Command::Expire { sessions: seen.collect() }
            }
            "claim" => Command::Claim(Claim {
                session: self.id(words[1]),
                generation,
                request: RequestId(words[2].parse().unwrap()),
                lowest_unacked: unacked,
                name: repeated(words.get(3).copied().unwrap_or("")),
                kind: if has("election") { NameKind::Election } else { NameKind::Lock },
                mode: if has("shared") { Mode::Shared } else { Mode::Exclusive },
                permits: u32::try_from(number("permits", 1)).unwrap(),
                priority: option("priority").map_or(0, |text| text.parse().unwrap()),
                value: repeated(option("value").unwrap_or("")).into_bytes(),
                queue: !has("try"),
            }),
            "release" => Command::Release {
                session: self.id(words[1]),
                generation,
                request: words[2].parse().ok().map(|id| (RequestId(id), unacked)),
                name: repeated(words[3]),
                token: token(words[4]),
            },
            "cancel" => Command::Cancel {
                session: self.id(words[1]),
                generation,
                request: RequestId(words[2].parse().unwrap()),
            },
            other => panic!("no such line: {other}"),
        }
    }

    fn id(&self, word: &str) -> SessionId {
        match word.strip_prefix('#') {
            Some(id) => SessionId(id.parse().unwrap()),
            None => SessionId(self.sessions[word]),
        }
    }

    fn who(&self, session: SessionId) -> String {
        let letter = self.sessions.iter().find(|(_, id)| **id == session.0);
        letter.map_or(format!("#{}", session.0), |(letter, _)| letter.clone())
    }

    fn show(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Opened { session, generation, ttl_ms } => {
                format!("opened #{} gen={} ttl={ttl_ms}", session.0, generation.0)
            }
            Outcome::Resumed { session, generation, ttl_ms, grants, next_request } => {
                let mut text = format!("resumed #{} gen={}", session.0, generation.0);
                write!(text, " ttl={ttl_ms} next={}", next_request.0).unwrap();
                for grant in grants {
                    let kind = kind(grant.kind);
                    let (name, request) = (&grant.name, grant.request.0);
                    write!(text, " [{name} {kind} {} by {request}]", show(grant.token)).unwrap();
                }
                text
            }
            Outcome::Granted { token } => format!("granted {}", show(*token)),
            Outcome::Queued { position } => format!("queued, {position} ahead"),
            Outcome::Closed { released } => format!("closed, {released} released"),
            Outcome::Expired { ended } => format!("expired {ended}"),
            Outcome::Refused(refusal) => format!("refused: {}", refused(*refusal)),
            plain => format!("{plain:?}"),
        }
    }

    fn show_event(&self, event: &Event) -> String {
        match event {
            Event::Moved { session, generation, attachment } => {
                let (member, boot) = (attachment.member, attachment.boot);
                format!("{} moved to {member}.{boot} gen={}", self.who(*session), generation.0)
            }
            Event::Granted { session, request, name, token } => {
                format!("{} granted {name} {} by {}", self.who(*session), show(*token), request.0)
            }
            Event::Lost { session, request, name, token, cause } => {
                let who = self.who(*session);
                format!("{who} lost {name} {} by {}: {cause:?}", show(*token), request.0)
            }
            Event::Dequeued { session, request, name, cause } => {
                format!("{} left {name} by {}: {cause:?}", self.who(*session), request.0)
            }
            Event::Ended { session, cause } => format!("{} ended: {cause:?}", self.who(*session)),
        }
    }

    fn print_state(&mut self) {
        let mut text = format!("state last={}\n", show(self.machine.last_token()));
        for (id, session) in self.machine.sessions() {
            let (at, label) = (session.attachment(), session.label());
            write!(text, "  {} gen={}", self.who(id), session.generation().0).unwrap();
            write!(text, " at={}.{} ttl={}", at.member, at.boot, session.ttl_ms()).unwrap();
            writeln!(text, " next={} label={label:?}", session.next_request().0).unwrap();
        }
        for (name, view) in self.machine.names("") {
            write!(text, "  {name} {}", kind(view.kind)).unwrap();
            if let Some(holder) = view.holder {
                let (who, value) = (self.who(holder.session), holder.value.len());
                write!(text, " {who} {} by {}", show(holder.token), holder.request.0).unwrap();
                write!(text, " value={value}").unwrap();
            }
            for waiter in view.waiters {
                write!(text, " <- {} by {}", self.who(waiter.session), waiter.request.0).unwrap();
            }
            text.push('\n');
        }
        self.printed.push_str(&text);
    }
}

fn key(word: &str) -> Key {
    Key(u128::from(word.bytes().next().unwrap()))
}

fn letter(key: Key) -> String {
    String::from(char::from(u8::try_from(key.0).unwrap()))
}

fn attachment(word: &str) -> Attachment {
    let (member, boot) = word.split_once('.').unwrap();
    Attachment { member: member.parse().unwrap(), boot: boot.parse().unwrap() }
}

/// `x*257` is 257 times the letter x; `""` is nothing.
fn repeated(word: &str) -> String {
    match word.split_once('*') {
        Some((text, times)) => text.repeat(times.parse().unwrap()),
        None => word.trim_matches('"').to_owned(),
    }
}

fn token(word: &str) -> Token {
    let (epoch, n) = word.split_once(':').unwrap();
    Token(epoch.parse::<u64>().unwrap() << 48 | n.parse::<u64>().unwrap())
}

fn show(token: Token) -> String {
    format!("{}:{}", token.epoch(), token.n())
}

fn kind(kind: NameKind) -> &'static str {
    match kind {
        NameKind::Lock => "lock",
        NameKind::Election => "election",
    }
}

fn refused(refusal: Refusal) -> String {
    match refusal {
        Refusal::SessionMoved(generation) => format!("SessionMoved, now gen={}", generation.0),
        Refusal::AlreadyHeld(request) => format!("AlreadyHeld by {}", request.0),
        Refusal::RequestTooOld(floor) => format!("RequestTooOld, floor {}", floor.0),
        Refusal::StaleToken(token) => format!("StaleToken, now {}", show(token)),
        plain => format!("{plain:?}"),
    }
}
