//! Settings from a file: `KEY=VALUE` lines, whose keys are the names of the environment variables.
//! A flag wins over the environment, and the environment over the file.
//!
//! Every bad line is found at once, each with its number. Which keys there are, the command line
//! says: whatever flag has a variable can stand in the file, but for the one that names the file.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The variable that names the file.
pub const VARIABLE: &str = "QUORATE_CONFIG";

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    path: PathBuf,
    /// Key to line and value.
    values: BTreeMap<String, (usize, String)>,
    /// Line and sentence.
    complaints: Vec<(usize, String)>,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no text. What is wrong with its lines comes from
    /// [`File::complaints`].
    pub fn read(path: &Path) -> Result<File, String> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|why| format!("--config {}: {why}", path.display()))?;
        Ok(File::parse(path, &text))
    }

    fn parse(path: &Path, text: &str) -> File {
        let mut file = File { path: path.to_owned(), ..File::default() };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                file.complain(number, &format!("{line:?} is no KEY=VALUE: QUORATE_NAME=a, say"));
                continue;
            };
            let (key, value) = (key.trim_end(), value.trim_start());
            if let Some((first, _)) = file.values.get(key) {
                let why = format!("{key} stands in line {first} already; keep one");
                file.complain(number, &why);
                continue;
            }
            file.values.insert(key.to_owned(), (number, value.to_owned()));
        }
        file
    }

    fn complain(&mut self, line: usize, why: &str) {
        self.complaints.push((line, format!("{}:{line}: {why}", self.path.display())));
    }

    /// The value of a key, if the file has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(_, value)| value.as_str())
    }

    /// What is wrong with the lines, in their order; keys that are no variable of `command` too.
    #[must_use]
    pub fn complaints(&self, command: &Command) -> Vec<String> {
        let variables = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
        let known: BTreeSet<&str> = variables.filter(|name| *name != VARIABLE).collect();
        let mut file = self.clone();
        for (key, (line, _)) in &self.values {
            if !known.contains(key.as_str()) {
                let why =
                    format!("{key:?} is no setting; `{} --help` has them", command.get_name());
                file.complain(*line, &why);
            }
        }
        file.complaints.sort();
        file.complaints.into_iter().map(|(_, why)| why).collect()
    }

    /// The command with the file's values below flags and environment.
    #[must_use]
    pub fn defaults(&self, command: Command) -> Command {
        command.mut_args(|arg| {
            let key = arg.get_env().and_then(|key| key.to_str()).filter(|key| *key != VARIABLE);
            match key.and_then(|key| self.get(key)).map(str::to_owned) {
                Some(value) => arg.default_value(value),
                None => arg,
            }
        })
    }

    /// Names the line of a complaint about a flag whose value came from the file.
    #[must_use]
    pub fn placed(&self, complaint: String, command: &Command, matches: &ArgMatches) -> String {
        let flag = complaint.split(' ').next().and_then(|word| word.strip_prefix("--"));
        let arg = command.get_arguments().find(|arg| flag.is_some() && arg.get_long() == flag);
        let line = arg.and_then(|arg| {
            let given = matches.value_source(arg.get_id().as_str());
            let (line, _) = self.values.get(arg.get_env()?.to_str()?)?;
            (given == Some(ValueSource::DefaultValue)).then_some(line)
        });
        match line {
            Some(line) => format!("{}:{line}: {complaint}", self.path.display()),
            None => complaint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SidecarArgs};
    use clap::{Args, FromArgMatches as _};

    fn run() -> Command {
        SidecarArgs::augment_args(Command::new("run"))
    }

    /// The settings, or all that is wrong with them.
    fn config(text: &str, flags: &[&str]) -> Result<Config, Vec<String>> {
        let file = File::parse(Path::new("f"), text);
        let command = file.defaults(run());
        let matches = command.clone().get_matches_from([&["run"], flags].concat());
        let args = SidecarArgs::from_arg_matches(&matches).unwrap();
        let mut all = file.complaints(&command);
        let config = Config::check(args);
        let (config, found) = config.map_or_else(|why| (None, why), |good| (Some(good), vec![]));
        all.extend(found.into_iter().map(|why| file.placed(why, &command, &matches)));
        config.filter(|_| all.is_empty()).ok_or(all)
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let text = "# of a pod\n\n QUORATE_NAME = a \nQUORATE_DATA_DIR=/d\r\n\
                    QUORATE_PEERS=b=h:1,c=h:2\nQUORATE_LOG=warn\n";
        let found = config(text, &["--log=error"]).unwrap();
        assert_eq!((found.name.as_str(), found.data_dir.to_str()), ("a", Some("/d")));
        assert_eq!(found.addresses.named.len(), 2);
        assert_eq!(found.log, super::super::Level::Error);
        assert_eq!(config(text, &["--name=z"]).unwrap().name, "z");
    }

    #[test]
    fn every_bad_line_is_reported_with_its_number() {
        let text = "QUORATE_NAME=A\nnonsense\nQUORATE_PEER=a=h:1\nQUORATE_NAME=b\n\
                    QUORATE_CONFIG=g\nQUORATE_LOG=loud\nQUORATE_SOCKET_MODE=9\n";
        let parts = [
            "f:2: \"nonsense\" is no KEY=VALUE",
            "f:3: \"QUORATE_PEER\" is no setting",
            "f:4: QUORATE_NAME stands in line 1 already",
            "f:5: \"QUORATE_CONFIG\" is no setting",
            "f:1: --name is \"A\"",
            "--data-dir is missing",
            "f:7: --socket-mode is \"9\"",
            "--log is \"quiet\"",
        ];
        let complaints = config(text, &["--log=quiet"]).unwrap_err();
        assert_eq!(complaints.len(), parts.len(), "{complaints:#?}");
        for (complaint, part) in complaints.iter().zip(parts) {
            assert!(complaint.starts_with(part), "{complaint:?} for {part:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let why = File::read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(why.starts_with("--config /nowhere/at/all: "), "{why}");
    }
}
