//! `quorate`: leader election and locks from the command line.
//!
//! Purpose: what people and scripts use. Exit codes: see `cli.rs`. Must not contain a rule of
//! sessions or deadlines: those are the library's.

mod admin;
mod cli;
mod command;
mod duration;
mod exit;
mod failure;
mod paint;
mod typed;
mod voice;
mod wrapper;

use clap::Parser as _;
use cli::{Cli, ElectArgs, LockArgs, Output, Verb};
use failure::Failure;
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
            let written = error.print();
            if error.use_stderr() {
                let words: Vec<_> = std::env::args_os().collect();
                if let Some(tip) = typed::tip(&error, &words) {
                    paint::say(&tip);
                }
                return ExitCode::from(exit::USAGE);
            }
            paint::note(written);
            return ExitCode::from(written_or_not(exit::OK, Output::Text));
        }
    };
    let output = cli.output;
    ExitCode::from(written_or_not(run(cli), output))
}

/// What was done and could not be told is a failure.
fn written_or_not(code: u8, output: Output) -> u8 {
    match paint::unwritten() {
        Some(why) if code == exit::OK => Failure::new(exit::OUTPUT, why).say(output),
        _ => code,
    }
}

fn run(cli: Cli) -> u8 {
    let Cli { endpoint, output, mut verb } = cli;
    if let Verb::Lock(LockArgs { hold }) | Verb::Elect(ElectArgs { hold, .. }) = &mut verb {
        if hold.command.is_empty() && std::env::args_os().any(|word| word == "--") {
            let words = "nothing follows `--`; give a command, or leave out `--` to hold until ^C";
            return Failure::usage(words).say(output);
        }
        hold.settle();
    }
    match verb {
        Verb::Exec(args) => wrapper::exec::run(&args),
        Verb::Foreground(args) => wrapper::terminal::run(&args),
        Verb::Completions { shell } => command::completions::run(shell),
        Verb::Wal(args) => command::sibling::start("wal", args.arguments, output).say(output),
        Verb::Recover(args) => {
            command::sibling::start("recover", args.arguments, output).say(output)
        }
        Verb::Inject(args) => command::sibling::start("inject", args.arguments, output).say(output),
        Verb::Dev(args) => command::sibling::start("dev", args.arguments, output).say(output),
        verb => {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return Failure::unavailable(error.to_string()).say(output),
            };
            let code = runtime.block_on(command::run(endpoint.as_deref(), output, verb));
            // Nothing that still waits for a sidecar keeps the command from ending.
            runtime.shutdown_background();
            code
        }
    }
}
