//! What `dev` says on standard output: a table and sentences for people, or one JSON object a line
//! for programs.

use super::Output;
use super::group::Ready;
use serde::Serialize;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

/// One member, as the first JSON line describes it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) member_id: String,
    pub(super) pid: u32,
    pub(super) endpoint: String,
    pub(super) admin: String,
    /// The HTTP face, which this version does not have.
    pub(super) http: Option<String>,
    pub(super) metrics: String,
    pub(super) data_dir: String,
}

#[derive(Serialize)]
struct ReadyLine<'a> {
    members: &'a [Described],
    ready: bool,
}

#[derive(Serialize)]
struct EventLine<'a> {
    event: &'a str,
    name: &'a str,
    pid: u32,
}

/// See the module.
pub(super) struct Show {
    output: Output,
    restart_after: Option<Duration>,
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    // A program that reads a pipe waits for the line.
    out.flush()
}

fn json(line: &impl Serialize) -> io::Result<()> {
    say(&serde_json::to_string(line).map_err(io::Error::other)?)
}

impl Show {
    pub(super) fn new(output: Output, restart_after: Option<Duration>) -> Show {
        Show { output, restart_after }
    }

    /// Whether `dev.sock` is to be made: programs name their endpoints.
    pub(super) fn wants_link(&self) -> bool {
        self.output == Output::Text
    }

    /// The cluster has a leader.
    pub(super) fn ready(
        &self,
        dir: &Path,
        members: &[Described],
        ready: &Ready,
        linked: Option<&Path>,
    ) -> io::Result<()> {
        match self.output {
            Output::Json => json(&ReadyLine { members, ready: true }),
            Output::Text => say(&table(dir, members, ready, linked)),
        }
    }

    /// A member's process ended.
    pub(super) fn exited(&self, name: &str, pid: u32, status: Option<&str>) -> io::Result<()> {
        match self.output {
            Output::Json => json(&EventLine { event: "exited", name, pid }),
            Output::Text => {
                let next = match self.restart_after {
                    Some(wait) => format!("it starts again in {wait:?}"),
                    None => "it stays down (--no-restart)".to_owned(),
                };
                let status = status.unwrap_or("unknown status");
                say(&format!("{name} (process {pid}) ended: {status}; {next}"))
            }
        }
    }

    /// A member was started again.
    pub(super) fn started(&self, name: &str, pid: u32) -> io::Result<()> {
        match self.output {
            Output::Json => json(&EventLine { event: "started", name, pid }),
            Output::Text => say(&format!("{name} runs again (process {pid})")),
        }
    }

    /// All members are told to stop.
    pub(super) fn stopping(&self) {
        if self.output == Output::Text {
            // Whoever read it may be gone.
            let _ = say("stopping all members");
        }
    }
}

fn table(dir: &Path, members: &[Described], ready: &Ready, linked: Option<&Path>) -> String {
    let count = match members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut text = format!("Quorate runs: {count}, logs in {}\n\n", dir.display());
    let width = members.iter().map(|member| member.endpoint.len()).max().unwrap_or(0);
    let line = |name: &str, pid: &str, endpoint: &str, metrics: &str| {
        format!("  {name:<11} {pid:>8}  {endpoint:<width$}  {metrics}\n")
    };
    text += &line("member", "process", "endpoint", "metrics");
    for (place, member) in members.iter().enumerate() {
        let mark = if place == ready.leader { " *" } else { "" };
        let name = format!("{}{mark}", member.name);
        text += &line(&name, &member.pid.to_string(), &member.endpoint, &member.metrics);
    }
    text += &format!("  * leads (term {})\n\nIn another terminal:\n", ready.term);
    let endpoint = match (linked, members.first()) {
        (None, Some(member)) => format!(" --endpoint {}", member.endpoint),
        _ => String::new(),
    };
    let lines = [
        (format!("quorate{endpoint} lock backup -- ./backup.sh"), "a script, under a lock"),
        (format!("quorate{endpoint} elect demo"), "stand for election until Ctrl-C"),
        (format!("quorate{endpoint} status"), "who leads the group"),
        (format!("quorate{endpoint} ls"), "what is held, and by whom"),
    ];
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in lines {
        text += &format!("  {command:<width$}   # {what}\n");
    }
    let admin = |member: &Described| {
        let place = member.admin.split_once("://").map_or(&*member.admin, |(_, place)| place);
        format!("{}={place}", member.name)
    };
    let admins: Vec<String> = members.iter().map(admin).collect();
    text += &format!("  export QUORATE_ADMIN={}\n", admins.join(","));
    if members.iter().any(|member| member.admin.starts_with("https:")) {
        let tls = dir.join("tls");
        let file = |name: &str| tls.join(name).display().to_string();
        text += &format!(
            "  export QUORATE_CLUSTER=dev QUORATE_TLS_CA={} \\\n    QUORATE_TLS_CERT={} \
             QUORATE_TLS_KEY={}\n",
            file("ca.pem"),
            file("admin.pem"),
            file("admin.key")
        );
    }
    text += "  quorate members status   # each member, by its admin port\n";
    text += "\nCtrl-C stops all members; the same command continues from their logs.";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Described {
        Described {
            name: name.to_owned(),
            member_id: "0a".to_owned(),
            pid: 7,
            endpoint: "unix:/d/member-1/quorate.sock".to_owned(),
            admin: "http://127.0.0.1:2".to_owned(),
            http: None,
            metrics: "http://127.0.0.1:3/metrics".to_owned(),
            data_dir: "/d/member-1/data".to_owned(),
        }
    }

    #[test]
    fn the_lines_for_programs() {
        let line = ReadyLine { members: &[member("member-1")], ready: true };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            "{\"members\":[{\"name\":\"member-1\",\"member_id\":\"0a\",\"pid\":7,\
             \"endpoint\":\"unix:/d/member-1/quorate.sock\",\"admin\":\"http://127.0.0.1:2\",\
             \"http\":null,\"metrics\":\"http://127.0.0.1:3/metrics\",\
             \"data_dir\":\"/d/member-1/data\"}],\"ready\":true}"
        );
        let event = EventLine { event: "exited", name: "member-1", pid: 7 };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            "{\"event\":\"exited\",\"name\":\"member-1\",\"pid\":7}"
        );
    }

    #[test]
    fn the_table_names_the_leader_and_what_to_type() {
        let members = [member("member-1"), member("member-2")];
        let ready = Ready { leader: 1, term: 4, ids: Vec::new() };
        let text = table(Path::new("/d"), &members, &ready, None);
        assert!(text.contains("member-2 *") && text.contains("(term 4)"), "{text}");
        let admins = "export QUORATE_ADMIN=member-1=127.0.0.1:2,member-2=127.0.0.1:2\n";
        assert!(text.contains(admins), "{text}");
        assert!(text.contains("quorate --endpoint unix:/d/member-1/quorate.sock lock"), "{text}");
        let linked = table(Path::new("/d"), &members, &ready, Some(Path::new("/r/dev.sock")));
        assert!(linked.contains("  quorate lock backup -- ./backup.sh"), "{linked}");
    }
}
