//! `quorate completions SHELL`.

use crate::cli::Cli;
use crate::{exit, paint};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

pub fn run(shell: Shell) -> u8 {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "quorate", &mut script);
    paint::line(String::from_utf8_lossy(&script).trim_end());
    exit::OK
}
