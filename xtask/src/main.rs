//! `cargo xtask VERB`: every task of the project, started from one place.

mod codegen;

fn main() -> std::process::ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let result = match verb.as_str() {
        "codegen" => codegen::run(),
        other => Err(format!("unknown verb {other:?}; there is: codegen")),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            std::process::ExitCode::FAILURE
        }
    }
}
