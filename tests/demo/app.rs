//! The application of the demo: while it leads, it appends `token boottime_ns` to its file every 5
//! ms.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Between two lines.
const EVERY: Duration = Duration::from_millis(5);

/// Runs until it is ended. Started by `quorate elect`, which gives the token in its environment.
pub fn run(args: &[String]) -> ExitCode {
    let Some(file) = args.first() else { return ExitCode::from(64) };
    let token = std::env::var("QUORATE_TOKEN").unwrap_or_default();
    let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) else {
        return ExitCode::from(73);
    };
    let pid = std::process::id();
    loop {
        let now = quorate_tests::load::boottime_ns();
        if writeln!(file, "{token} {now} {pid}").is_err() {
            return ExitCode::from(74);
        }
        std::thread::sleep(EVERY);
    }
}
