//! `quorate`: leader election and locks from the command line.
//!
//! Purpose: what people and scripts use. Exit codes: see `cli.rs`. Must not contain a rule of
//! sessions or deadlines: those are the library's.

mod admin;
mod cli;
mod command;
mod duration;
mod exit;
mod paint;
mod voice;
mod wrapper;

use clap::Parser as _;
use cli::{Cli, ElectArgs, LockArgs, Verb};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = command::sibling::if_asked(std::env::args_os()) {
        return ExitCode::from(code);
    }
    if let Some(code) = wrapper::guardian::if_asked(std::env::args_os()) {
        return ExitCode::from(code);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is the reader's choice.
            let _ = error.print();
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            return ExitCode::from(code);
        }
    };
    ExitCode::from(run(cli))
}

fn run(cli: Cli) -> u8 {
    let Cli { endpoint, output, mut verb } = cli;
    if let Verb::Lock(LockArgs { hold }) | Verb::Elect(ElectArgs { hold, .. }) = &mut verb {
        if hold.command.is_empty() && std::env::args_os().any(|word| word == "--") {
            paint::say("nothing follows `--`; give a command, or leave out `--` to hold until ^C");
            return exit::USAGE;
        }
        hold.settle();
    }
    match verb {
        Verb::Exec(args) => wrapper::exec::run(&args),
        Verb::Foreground(args) => wrapper::terminal::run(&args),
        Verb::Completions { shell } => command::completions::run(shell),
        Verb::Wal(args) => command::sibling::start("wal", &args.arguments),
        Verb::Recover(args) => command::sibling::start("recover", &args.arguments),
        Verb::Inject(args) => command::sibling::start("inject", &args.arguments),
        Verb::Dev(args) => command::sibling::start("dev", &args.arguments),
        verb => {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return say_failure(&error),
            };
            let code = runtime.block_on(command::run(endpoint.as_deref(), output, verb));
            // Nothing that still waits for a sidecar keeps the command from ending.
            runtime.shutdown_background();
            code
        }
    }
}

fn say_failure(error: &dyn std::fmt::Display) -> u8 {
    let _ = writeln!(std::io::stderr(), "quorate: {error}");
    exit::UNAVAILABLE
}
