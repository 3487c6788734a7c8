//! `quorate completions SHELL`.

use crate::cli::Cli;
use crate::exit;
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use std::io::Write as _;

pub fn run(shell: Shell) -> u8 {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "quorate", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => exit::OK,
        Err(_) => exit::UNAVAILABLE,
    }
}
