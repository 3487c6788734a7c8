//! What the command says when something goes wrong, or takes long: to people, and to programs.

use crate::fake::Sidecar;
use crate::process::{QUORATE, Scratch, Wrapper};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{ChildStderr, Command, Stdio};

/// Where nothing can be written.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn quorate(sidecar: &Sidecar, arguments: &[&str]) -> Command {
    let mut command = Command::new(QUORATE);
    command.args(arguments).env("QUORATE_ENDPOINT", &sidecar.socket).stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

/// The one object on standard error.
fn object(sidecar: &Sidecar, arguments: &[&str]) -> (i32, serde_json::Value) {
    let words = [arguments, &["--output", "json"]].concat();
    // In front of the command, if there is one.
    let words = match arguments.iter().position(|word| *word == "--") {
        Some(at) => [&arguments[..at], &["--output", "json"], &arguments[at..]].concat(),
        None => words,
    };
    let (code, errors) = ended(&mut quorate(sidecar, &words));
    assert_eq!(errors.lines().count(), 1, "{words:?}: {errors}");
    (code, serde_json::from_str(&errors).unwrap_or_else(|_| panic!("{words:?}: {errors}")))
}

fn errors(wrapper: &mut Wrapper) -> BufReader<ChildStderr> {
    BufReader::new(wrapper.child.stderr.take().unwrap())
}

fn line(errors: &mut BufReader<ChildStderr>) -> String {
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn an_answer_that_is_not_written_is_a_failure() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let verbs: [&[&str]; 5] =
        [&["ls"], &["status"], &["explain", "a"], &["completions", "bash"], &["--help"]];
    for verb in verbs {
        let (code, errors) = ended(quorate(&sidecar, verb).stdout(full()));
        assert_eq!(code, 74, "{verb:?}: {errors}");
        assert!(errors.contains("standard output: No space left on device"), "{errors}");
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(reader);
        let closed = ended(quorate(&sidecar, verb).stdout(writer));
        assert_eq!(closed, (0, String::new()), "{verb:?}: the reader's choice");
    }
    let (code, errors) = ended(quorate(&sidecar, &["ls", "--output", "json"]).stdout(full()));
    assert!(code == 74 && errors.contains(r#""reason":"OUTPUT_FAILED""#), "{errors}");
}

#[test]
fn a_token_that_is_not_written_ends_no_lock() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let mut command = quorate(&sidecar, &["lock", "a"]);
    let mut holder = command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(holder.stderr.take().unwrap());
    assert!(line(&mut errors).contains("standard output: No space left on device"));
    assert!(line(&mut errors).contains("holding a until"));
    assert_eq!(sidecar.state().tokens, [1]);
    assert_eq!(sidecar.state().names.len(), 1, "held on");
    kill_process(Pid::from_child(&holder), Signal::TERM).unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(0));
}

#[test]
fn programs_are_told_why_in_one_word() {
    let scratch = Scratch::new();
    let mut sidecar = Sidecar::start(&scratch.0);
    let mut holder = Wrapper::start(&sidecar, &["lock", "held"]);
    assert_eq!(holder.line(), "1");
    let table: [(&[&str], u64, &str, &str); 6] = [
        (&["lock", "held", "--try"], 75, "NOT_ACQUIRED", ""),
        (&["lock", "held", "--wait", "100ms"], 75, "WAIT_EXPIRED", ""),
        (&["lock", "b", "--", "no-such-command"], 127, "NO_SUCH_COMMAND", ""),
        (&["lock", "b", "--", "echo hi; ls"], 127, "NO_SUCH_COMMAND", "sh -c 'echo hi; ls'"),
        (&["lock", "b", "--", "/dev/null"], 126, "CANNOT_EXECUTE", ""),
        (&["lock", "b", "--"], 64, "BAD_USAGE", ""),
    ];
    let check = |sidecar: &Sidecar, (words, exit, reason, hint): (&[&str], u64, &str, &str)| {
        let (code, object) = object(sidecar, words);
        assert_eq!(u64::try_from(code).unwrap(), exit, "{object}");
        assert_eq!((&object["exit"], &object["reason"]), (&exit.into(), &reason.into()));
        assert!(object["error"].as_str().is_some_and(|words| !words.is_empty()), "{object}");
        assert_eq!(object["hint"].is_null(), hint.is_empty(), "{object}");
        assert!(object["hint"].as_str().unwrap_or_default().contains(hint), "{object}");
    };
    table.into_iter().for_each(|row| check(&sidecar, row));
    holder.signal(Signal::TERM);
    assert_eq!(holder.end().0, 0);
    sidecar.down();
    check(&sidecar, (&["ls"], 69, "NO_SIDECAR", "quorate dev"));
    check(&sidecar, (&["lock", "a", "--wait", "300ms"], 69, "NO_SIDECAR", "quorate dev"));
}

#[test]
fn a_loss_is_told_to_programs_too() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let words = ["lock", "a", "--ttl", "1s", "--output", "json"];
    let mut holder = Wrapper::start(&sidecar, &words);
    assert_eq!(holder.line(), r#"{"name":"a","token":"1"}"#);
    sidecar.state().frozen = true;
    let (code, errors) = holder.end();
    assert_eq!(code, 76);
    assert!(errors.contains(r#""reason":"LOST""#), "{errors}");
}

#[test]
fn a_long_wait_says_for_whom() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let mut holder = Wrapper::start(&sidecar, &["lock", "held"]);
    assert_eq!(holder.line(), "1");
    let mut waiter = Wrapper::start(&sidecar, &["lock", "held", "--", "true"]);
    let mut errors = errors(&mut waiter);
    let words = "quorate: waiting for held: held by session 1 with token 1";
    assert_eq!(line(&mut errors), words);
    holder.signal(Signal::TERM);
    assert_eq!(holder.end().0, 0);
    assert_eq!(waiter.child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "said once");
}

#[test]
fn a_sidecar_that_is_not_up_yet_is_waited_for() {
    for patience in [&["--again"][..], &["--wait", "20s"]] {
        let scratch = Scratch::new();
        let mut sidecar = Sidecar::start(&scratch.0);
        sidecar.down();
        let script = "echo got $QUORATE_TOKEN; exec sleep 1000";
        let words = [&["elect", "a"], patience, &["--", "sh", "-c", script]].concat();
        let mut wrapper = Wrapper::start(&sidecar, &words);
        let mut errors = errors(&mut wrapper);
        let words = line(&mut errors);
        let socket = sidecar.socket.display().to_string();
        assert!(words.contains("no sidecar at") && words.contains(&socket), "{words}");
        assert!(words.ends_with("trying again"), "{words}");
        sidecar.up();
        assert_eq!(wrapper.line(), "got 1");
        wrapper.signal(Signal::TERM);
        assert_eq!(wrapper.child.wait().unwrap().code(), Some(143));
    }
}

#[test]
fn after_a_loss_a_sidecar_that_is_gone_is_named() {
    let scratch = Scratch::new();
    let mut sidecar = Sidecar::start(&scratch.0);
    let script = "echo $QUORATE_TOKEN; exec sleep 1000";
    let words = ["elect", "a", "--ttl", "1s", "--again", "--", "sh", "-c", script];
    let mut wrapper = Wrapper::start(&sidecar, &words);
    let mut errors = errors(&mut wrapper);
    assert_eq!(wrapper.line(), "1");
    sidecar.down();
    let said = std::iter::repeat_with(|| line(&mut errors)).take_while(|words| !words.is_empty());
    let named = said.into_iter().find(|words| words.contains("no sidecar at"));
    assert!(named.is_some_and(|words| words.ends_with("trying again")));
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_hold_off_is_named_where_nobody_holds_a_name() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    sidecar.state().hold_off_ms = 8_001;
    for patience in [&["--try"][..], &["--wait", "100ms"]] {
        let words = [&["lock", "a"], patience].concat();
        let (code, errors) = ended(&mut quorate(&sidecar, &words));
        assert_eq!(code, 75);
        assert!(errors.contains("held off") && errors.contains("up to 9 s more"), "{errors}");
        assert!(!errors.contains("is taken"), "{errors}");
    }
    let mut explain = Wrapper::start(&sidecar, &["explain", "a"]);
    let mut said = String::new();
    explain.lines.read_to_string(&mut said).unwrap();
    assert!(said.contains("up to 9 s more"), "{said}");
    assert_eq!(explain.end().0, 0);
    let mut status = Wrapper::start(&sidecar, &["status"]);
    said.clear();
    status.lines.read_to_string(&mut said).unwrap();
    assert!(said.contains(", 1 name\n") && said.contains("held off"), "{said}");
    assert_eq!(status.end().0, 0);
}

#[test]
fn a_command_without_dashes_gets_a_tip() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let (code, errors) = ended(&mut quorate(&sidecar, &["lock", "backup", "./x.sh", "a b"]));
    assert_eq!(code, 64);
    assert!(errors.contains("quorate lock backup -- ./x.sh 'a b'"), "{errors}");
}

#[test]
fn json_before_a_verb_of_a_sibling_is_no_silence() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let words = ["--output", "json", "wal", "inspect", "."];
    let (code, errors) = ended(&mut quorate(&sidecar, &words));
    assert!(code == 64 && errors.contains("writes no JSON"), "{errors}");
}

#[test]
fn watch_speaks_of_locks_and_of_broken_connections() {
    let scratch = Scratch::new();
    let mut sidecar = Sidecar::start(&scratch.0);
    let mut holder = Wrapper::start(&sidecar, &["lock", "a"]);
    assert_eq!(holder.line(), "1");
    let mut watcher = Wrapper::start(&sidecar, &["watch", "a"]);
    let mut errors = errors(&mut watcher);
    assert_eq!(watcher.line(), "session 1 holds it, token 1");
    sidecar.down();
    let words = "quorate: the connection to the sidecar broke; observing again";
    assert_eq!(line(&mut errors), words);
    watcher.kill(false);
    watcher.child.wait().unwrap();
    holder.kill(false);
    holder.child.wait().unwrap();
}

#[test]
fn a_tls_port_without_certificates_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // What a TLS port answers to anything else: a fatal alert.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[0x15, 3, 3, 0, 2, 2, 10]).unwrap();
        drop(stream.read(&mut [0; 64]));
    });
    let mut command = Command::new(QUORATE);
    let (code, errors) = ended(command.args(["members", "status", "--admin", &address]));
    server.join().unwrap();
    assert_eq!(code, 69);
    assert!(errors.contains("--tls-cert, --tls-key, --tls-ca"), "{errors}");
    assert!(!errors.contains("say where they are"), "{errors}");
}
