//! One file a verb.

pub mod completions;
mod elect;
mod explain;
mod lock;
mod ls;
mod members;
pub mod sibling;
mod snapshot;
mod status;
mod watch;

use crate::cli::{Output, Verb};
use crate::failure::Failure;
use crate::{admin, exit, paint};
use quorate_client::{Candidates, Client, Error};

/// Runs a verb that talks to a sidecar; the exit code.
pub async fn run(endpoint: Option<&str>, output: Output, verb: Verb) -> u8 {
    let verb = match verb {
        Verb::Members(args) if members::is_admin(&args) => {
            return ended(members::administer(args, output).await, output);
        }
        Verb::Snapshot(args) => return ended(snapshot::run(args, output).await, output),
        verb => verb,
    };
    let candidates = match Candidates::resolve(endpoint) {
        Ok(candidates) => candidates,
        Err(error) => return Failure::from(error).say(output),
    };
    match verb {
        Verb::Lock(args) => lock::run(&candidates, output, args).await,
        Verb::Elect(args) => elect::run(&candidates, output, args).await,
        verb => match ask(&candidates, output, verb).await {
            Ok(()) => exit::OK,
            Err(error) => Failure::from(error).say(output),
        },
    }
}

fn ended(result: admin::Result<()>, output: Output) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(failure) => failure.say(output),
    }
}

async fn ask(candidates: &Candidates, output: Output, verb: Verb) -> Result<(), Error> {
    let client = Client::connect_first(candidates).await?;
    match verb {
        Verb::Status => status::run(&client, output).await,
        Verb::Ls { prefix } => ls::run(&client, output, &prefix).await,
        Verb::Members(_) => members::list(&client, output).await,
        Verb::Watch { name } => watch::run(&client, output, &name).await,
        Verb::Explain { name } => explain::run(&client, output, &name).await,
        // Each of the others has its own way from main.
        _ => Ok(()),
    }
}

/// A number of things, in words.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Rows with a head, each column as wide as its widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![paint::ink(paint::Ink::Dim, &line(&mut head.iter().copied()))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines
}

fn print(lines: &[String]) {
    for line in lines {
        if !paint::line(line) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["a".to_owned(), "1".to_owned()], vec!["größer".to_owned(), String::new()]];
        let lines = table(&["NAME", "N"], &rows);
        assert_eq!(lines[1..], ["a       1", "größer"]);
    }
}
