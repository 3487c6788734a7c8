//! `quorate lock NAME -- CMD`.

use crate::cli::{LockArgs, Output};
use crate::wrapper::campaign::{self, Plan};
use quorate_client::Candidates;

pub async fn run(candidates: &Candidates, output: Output, args: LockArgs) -> u8 {
    campaign::run(candidates, Plan { hold: args.hold, value: None, output }).await
}
