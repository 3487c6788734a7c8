//! `quorate elect NAME -- CMD`.

use crate::cli::{ElectArgs, Output};
use crate::wrapper::campaign::{self, Plan};
use quorate_client::Candidates;

pub async fn run(candidates: &Candidates, output: Output, args: ElectArgs) -> u8 {
    campaign::run(candidates, Plan { hold: args.hold, value: Some(args.value), output }).await
}
