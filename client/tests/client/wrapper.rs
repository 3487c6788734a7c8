//! `quorate lock` and `quorate elect` with real processes, beside a fake sidecar.

use crate::fake::Sidecar;
use crate::process::{
    QUORATE, Scratch, Terminal, Wrapper, full_pipe, gone, is_gone, own_memory_kib,
};
use quorate_client::clock;
use rustix::process::{Signal, pidfd_send_signal};
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

#[test]
fn the_command_sees_its_grant_and_its_exit_code_is_ours() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "echo $QUORATE_NAME $QUORATE_TOKEN $QUORATE_ENDPOINT; exit 7";
    let mut wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "sh", "-c", script]);
    assert_eq!(wrapper.line(), format!("a 1 unix:{}", sidecar.socket.display()));
    assert_eq!(wrapper.end(), (7, String::new()));
    let state = sidecar.state();
    assert!(state.names.is_empty() && state.sessions.is_empty(), "released and closed");
    assert_eq!(state.holds, [(1, 1)]);
    assert_eq!(state.tethers, 1);
}

#[test]
fn a_signalled_command_gives_128_plus_n() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(wrapper.end().0, 137);
    let wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "/nonexistent/command"]);
    assert_eq!(wrapper.end().0, 127);
    let wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "/dev/null"]);
    assert_eq!(wrapper.end().0, 126);
}

#[test]
fn the_rest_of_the_group_is_gone_before_the_release() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $!; exit 0";
    let mut wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "sh", "-c", script]);
    let orphan = format!("/proc/{}", wrapper.line());
    assert_eq!(wrapper.end().0, 0);
    assert!(!fs::exists(orphan).unwrap());
}

#[test]
fn an_ignored_sigchld_hides_no_end() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    // Not every shell can: dash gives SIGCHLD its default back.
    let outer = "trap '' CHLD; sed -n 's/^SigIgn:\t//p' /proc/self/status
        exec \"$0\" lock a -- sh -c 'sleep 1000 2>/dev/null & echo $!; exit 7'";
    let command = &mut Command::new("bash");
    let mut wrapper =
        Wrapper::spawn(&sidecar, command.args(["-c", outer, QUORATE]).stderr(Stdio::piped()));
    let ignored = u64::from_str_radix(&wrapper.line(), 16).unwrap();
    assert_eq!(ignored >> (Signal::CHILD.as_raw() - 1) & 1, 1, "the test needs it ignored");
    let orphan = format!("/proc/{}", wrapper.line());
    assert_eq!(wrapper.end(), (7, String::new()));
    assert!(!fs::exists(orphan).unwrap());
}

#[test]
fn without_renewals_the_tree_is_gone_before_the_deadline() {
    for ignore in ["trap '' TERM;", ""] {
        let scratch = Scratch::new();
        let sidecar = Sidecar::start(&scratch.0);
        let script = format!("{ignore} sleep 1000 & echo $!; echo $$; while :; do wait; done");
        let arguments = ["lock", "a", "--ttl", "1s", "--", "sh", "-c", &script];
        let mut wrapper = Wrapper::start(&sidecar, &arguments);
        let (grandchild, child) = (wrapper.process(), wrapper.process());
        sidecar.state().frozen = true;
        let ended = gone(&child).max(gone(&grandchild));
        let deadline_ns = sidecar.state().latest_deadline_ns;
        assert!(ended < deadline_ns, "{} ns late", ended.saturating_sub(deadline_ns));
        let (code, errors) = wrapper.end();
        assert_eq!(code, 76);
        assert!(errors.contains("no renewal came"), "{errors}");
    }
}

#[test]
fn an_unread_stderr_delays_no_signal() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let (_unread, full) = full_pipe();
    let script = "trap '' TERM; sleep 1000 & echo $!; echo $$; while :; do wait; done";
    let arguments = ["lock", "a", "--ttl", "1s", "--", "sh", "-c", script];
    let mut wrapper = Wrapper::spawn(&sidecar, Command::new(QUORATE).args(arguments).stderr(full));
    let (grandchild, child) = (wrapper.process(), wrapper.process());
    sidecar.state().frozen = true;
    let ended = gone(&child).max(gone(&grandchild));
    let deadline_ns = sidecar.state().latest_deadline_ns;
    assert!(ended < deadline_ns, "{} ns late", ended.saturating_sub(deadline_ns));
    assert_eq!(wrapper.child.wait().unwrap().code(), Some(76));
}

/// Closes what it inherited, the tether too, tells its number, and stays.
const CLOSER: &str = "for fd in /proc/$$/fd/*; do
        fd=${fd##*/}; test $fd -gt 2 && eval \"exec $fd>&-\"
    done
    echo $$; exec sleep 1000";

#[test]
fn a_killed_wrapper_takes_the_command_with_it() {
    for whole_group in [false, true] {
        let scratch = Scratch::new();
        let sidecar = Sidecar::start(&scratch.0);
        let script = "trap '' TERM HUP; bash -c \"$0\" & sleep 1000 & echo $!; echo $$
            while :; do wait; done";
        let arguments = ["lock", "a", "--", "sh", "-c", script, CLOSER];
        let command = &mut Command::new(QUORATE);
        let command = command.args(arguments).process_group(0).stderr(Stdio::piped());
        let mut wrapper = Wrapper::spawn(&sidecar, command);
        let tree = [wrapper.process(), wrapper.process(), wrapper.process()];
        let guardian = wrapper.guardian();
        let watched = tree.iter().map(|process| process.try_clone().unwrap());
        sidecar.state().watched = watched.collect();
        // Asked to end, as by who ends a whole service: it does not.
        pidfd_send_signal(&guardian, Signal::TERM).unwrap();
        let killed = clock::now_ns();
        wrapper.kill(whole_group);
        let ended = tree.iter().map(gone).max().unwrap();
        assert!(ended - killed < 1_000_000_000, "gone after {} ns", ended - killed);
        gone(&guardian);
        assert_eq!(sidecar.alive_at_tether_end(), 0, "freed while the tree lives");
        wrapper.child.wait().unwrap();
    }
}

#[test]
fn the_guardian_is_small_and_leaves_with_the_command() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "trap 'exit 3' TERM; echo $$; while :; do sleep 0.01; done";
    let mut wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "sh", "-c", script]);
    let _child = wrapper.process();
    let guardian = wrapper.guardian();
    let own = own_memory_kib(&guardian);
    assert!(own < 1024, "the guardian's own memory: {own} KiB");
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.end().0, 3);
    assert!(is_gone(&guardian));
}

#[test]
fn a_guardian_refuses_what_is_no_group() {
    for group in ["0", "1", "-1", "x", ""] {
        let output =
            Command::new(QUORATE).args(["__guardian", group]).stdin(Stdio::null()).output();
        assert_eq!(output.unwrap().status.code(), Some(64), "{group}");
    }
}

#[test]
fn a_restarted_sidecar_goes_unnoticed() {
    for swallow in [0, 1, 2] {
        let scratch = Scratch::new();
        let mut sidecar = Sidecar::start(&scratch.0);
        let script = "echo $$; read line; echo $line $QUORATE_TOKEN";
        let fifo = scratch.0.join("go");
        let script = format!("mkfifo {0}; exec < {0}; {script}", fifo.display());
        // The fifo is opened when both ends are: after the restart.
        let script = script.replace("exec <", "echo $$; exec <").replace("echo $$; read", "read");
        let arguments = ["elect", "a", "--ttl", "2s", "--", "sh", "-c", &script];
        let mut wrapper = Wrapper::start(&sidecar, &arguments);
        let child = wrapper.process();
        sidecar.down();
        sidecar.state().swallow_resumes = swallow;
        sidecar.up();
        // Renewed again under the new boot, past the deadline of the old one.
        let old_deadline_ns = sidecar.state().latest_deadline_ns;
        while clock::now_ns() < old_deadline_ns + 100_000_000 {
            std::thread::yield_now();
        }
        assert!(!is_gone(&child));
        fs::write(&fifo, "same\n").unwrap();
        assert_eq!(wrapper.line(), "same 1");
        assert_eq!(wrapper.end().0, 0);
        let state = sidecar.state();
        assert_eq!(state.resumes, swallow + 1);
        assert_eq!(state.holds, [(1, 1), (1, 1)], "the same request id");
        assert_eq!(state.tokens, [1], "the same token");
        assert!(state.names.is_empty());
    }
}

#[test]
fn sigterm_is_passed_on_and_waited_for() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "exec 2>/dev/null; trap 'exit 3' TERM; echo $$; while :; do sleep 0.01; done";
    for again in [&["--"][..], &["--again", "--"][..]] {
        let arguments = [&["lock", "a"], again, &["sh", "-c", script]].concat();
        let mut wrapper = Wrapper::start(&sidecar, &arguments);
        let _child = wrapper.process();
        wrapper.signal(Signal::TERM);
        assert_eq!(wrapper.end(), (3, String::new()));
        assert!(sidecar.state().names.is_empty());
    }
}

#[test]
fn again_and_again_with_rising_tokens() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "exec 2>/dev/null; trap 'exit 0' TERM; echo $QUORATE_TOKEN
        test $QUORATE_TOKEN -lt 3 && kill -9 $$
        while :; do sleep 0.01; done";
    let arguments = ["elect", "a", "--again", "--", "sh", "-c", script];
    let mut wrapper = Wrapper::start(&sidecar, &arguments);
    assert_eq!([wrapper.line(), wrapper.line(), wrapper.line()], ["1", "2", "3"]);
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.end().0, 0);
    let state = sidecar.state();
    assert_eq!(state.holds, [(1, 1), (2, 2), (3, 3)], "one session, rising ids");
    assert_eq!(state.tethers, 1, "one tether for all");
}

#[test]
fn again_after_a_loss_with_a_new_session() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "echo $QUORATE_TOKEN; exec sleep 1000";
    let arguments = ["lock", "a", "--ttl", "1s", "--again", "--", "sh", "-c", script];
    let mut wrapper = Wrapper::start(&sidecar, &arguments);
    assert_eq!(wrapper.line(), "1");
    sidecar.state().frozen = true;
    assert_eq!(wrapper.line(), "2");
    sidecar.state().frozen = false;
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.end().0, 143);
    assert_eq!(sidecar.state().holds, [(1, 1), (1, 1)], "the first request of each session");
}

#[test]
fn a_taken_name() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let mut holder = Wrapper::start(&sidecar, &["lock", "a"]);
    assert_eq!(holder.line(), "1", "held until a signal, the token printed");
    let tried = Wrapper::start(&sidecar, &["lock", "a", "--try", "--", "true"]);
    assert_eq!(tried.end().0, 75);
    let waited = Wrapper::start(&sidecar, &["lock", "a", "--wait", "100ms", "--", "true"]);
    assert_eq!(waited.end().0, 75);
    let script = "echo got $QUORATE_TOKEN";
    let mut next = Wrapper::start(&sidecar, &["lock", "a", "--", "sh", "-c", script]);
    holder.signal(Signal::INT);
    assert_eq!(holder.end().0, 0);
    assert_eq!(next.line(), "got 2");
    assert_eq!(next.end().0, 0);
    let mut json = Wrapper::start(&sidecar, &["lock", "a", "--output", "json"]);
    assert_eq!(json.line(), r#"{"name":"a","token":"3"}"#);
    json.signal(Signal::TERM);
    assert_eq!(json.end().0, 0);
}

#[test]
fn the_tree_inherits_the_tether_and_nothing_else() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = "readlink /proc/self/fd/* | grep -c ^socket: ; exec sleep 1000";
    let mut wrapper = Wrapper::start(&sidecar, &["lock", "a", "--", "sh", "-c", script]);
    assert_eq!(wrapper.line(), "1");
    assert!(sidecar.state().sessions.values().all(|session| session.tethered));
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.end().0, 143);
}

#[test]
fn no_sidecar_and_bad_usage() {
    let scratch = Scratch::new();
    let run = |arguments: &[&str]| {
        let output = Command::new(QUORATE)
            .args(arguments)
            .env("QUORATE_ENDPOINT", "")
            .env("XDG_RUNTIME_DIR", &scratch.0)
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, errors) = run(&["lock", "a", "--", "true"]);
    assert_eq!(code, 69);
    let dev = scratch.0.join("quorate/dev.sock").display().to_string();
    assert!(errors.contains("/run/quorate/quorate.sock") && errors.contains(&dev), "{errors}");
    let missing = scratch.0.join("x").display().to_string();
    let (code, errors) = run(&["--endpoint", &missing, "ls"]);
    assert_eq!((code, errors.contains(&dev)), (69, false), "{errors}");
    assert_eq!(run(&["lock"]).0, 64);
    assert_eq!(run(&["--endpoint", "http://10.0.0.1:1", "ls"]).0, 64);
    let (code, errors) = run(&["lock", "a", "--ttl", "5", "--", "true"]);
    assert!(code == 64 && errors.contains("500ms"), "{errors}");
}

#[test]
fn a_child_whose_parent_is_not_the_wrapper_does_not_start() {
    let output =
        Command::new(QUORATE).args(["__exec", "--parent", "1", "--", "echo", "ran"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(126));
    assert!(output.stdout.is_empty());
}

#[test]
fn ls_and_completions() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let mut holder = Wrapper::start(&sidecar, &["lock", "a"]);
    holder.line();
    let mut list = Wrapper::start(&sidecar, &["ls", "--output", "json"]);
    assert!(list.line().contains(r#""token":"1""#));
    assert_eq!(list.end().0, 0);
    let mut completions = Wrapper::start(&sidecar, &["completions", "bash"]);
    assert!(!completions.line().is_empty());
    // Read to the end, so that the writer is not cut off.
    drop(completions.lines.read_to_string(&mut String::new()));
    assert_eq!(completions.end().0, 0);
    holder.signal(Signal::TERM);
    assert_eq!(holder.end().0, 0);
}

#[test]
fn at_a_terminal_the_command_is_in_front_and_gives_it_back() {
    let scratch = Scratch::new();
    let sidecar = Sidecar::start(&scratch.0);
    let script = format!(
        "{QUORATE} lock a -- sh -c 'echo ready; read x; echo got $x'; echo code $?
        read y; echo then $y
        {QUORATE} lock a -- sh -c 'echo sleeping; exec sleep 1000'; echo code $?
        read z; echo last $z"
    );
    let mut terminal = Terminal::run(&sidecar, &script);
    terminal.expect("ready");
    terminal.write(b"one\n");
    terminal.expect("got one");
    terminal.expect("code 0");
    terminal.write(b"two\n");
    terminal.expect("then two");
    terminal.expect("sleeping");
    terminal.write(b"\x1a");
    terminal.expect("Ctrl-Z does not stop it");
    terminal.write(b"\x03");
    terminal.expect("code 130");
    terminal.write(b"three\n");
    terminal.expect("last three");
    assert!(sidecar.state().names.is_empty());
}
