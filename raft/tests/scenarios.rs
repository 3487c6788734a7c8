//! The tables of `docs/scenarios.md`: no cell is empty, and every file, test and bug named there
//! exists. In a build with planted bugs also: a script of the row fails with the row's bug.

#[cfg(feature = "planted")]
#[cfg(test)]
#[path = "disk/mod.rs"]
mod disk;
#[cfg(feature = "planted")]
#[cfg(test)]
#[path = "golden/show.rs"]
mod show;
#[cfg(feature = "planted")]
#[cfg(test)]
#[path = "golden/words.rs"]
mod words;
#[cfg(feature = "planted")]
#[cfg(test)]
#[path = "golden/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

/// A scenario.
struct Row {
    name: String,
    /// Scripts and tests.
    places: Vec<String>,
    bugs: Vec<String>,
    /// What is wrong with the row itself.
    faults: Vec<&'static str>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A bug is written as the zoo does: lower case and hyphens. Nothing else that is quoted is.
fn is_bug(word: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    word.contains('-') && word.chars().all(plain)
}

fn row(line: &str) -> Row {
    let inner = line.trim_start_matches("| ").trim_end_matches(" |");
    let cells: Vec<&str> = inner.split(" | ").collect();
    let [name, what, places, fails] = cells[..] else { panic!("four cells, not {line}") };
    let elsewhere = what.strip_prefix("Does not apply: ");
    let mut faults = Vec::new();
    if name.is_empty() || elsewhere.unwrap_or(what).len() < 8 {
        faults.push("does not say what must happen, or why it does not apply");
    }
    if elsewhere.is_none() && !places.contains('`') {
        faults.push("names no script and no test");
    }
    if elsewhere.is_none() && fails.len() < 8 {
        faults.push("does not say what fails without it");
    }
    Row {
        name: name.to_owned(),
        places: quoted(places).map(str::to_owned).collect(),
        bugs: quoted(fails).filter(|word| is_bug(word)).map(str::to_owned).collect(),
        faults,
    }
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/scenarios.md")).expect("the tables");
    let of_table = |line: &&str| line.starts_with("| ") && !line.starts_with("| scenario |");
    text.lines().filter(of_table).map(row).collect()
}

/// The file of a place.
fn file(place: &str) -> PathBuf {
    let path = place.split_once("::").map_or(place, |(path, _)| path);
    match path.split_once('/') {
        Some(("node" | "log" | "quorum", _)) => root().join("raft/testdata").join(path),
        Some(("locks", name)) if !name.contains('/') => {
            root().join("locks/tests/testdata").join(format!("{name}.txt"))
        }
        _ => root().join(path),
    }
}

/// Why a place is none.
fn missing(place: &str) -> Option<String> {
    let Ok(text) = fs::read_to_string(file(place)) else { return Some(format!("no {place}")) };
    let test = place.split_once("::").map(|(_, test)| format!("fn {test}("));
    test.filter(|test| !text.contains(test)).map(|test| format!("no {test} in {place}"))
}

#[test]
fn every_file_test_and_bug_exists() {
    let planted = ["raft", "locks", "sidecar", "client"].map(|home| {
        fs::read_to_string(root().join(home).join("src/planted.rs")).expect("each has bugs")
    });
    let lives = |bug: &String| planted.iter().any(|text| text.contains(&format!("\"{bug}\"")));
    let rows = rows();
    let mut wrong = Vec::new();
    for Row { name, places, bugs, faults } in &rows {
        wrong.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
        wrong.extend(places.iter().filter_map(|p| missing(p)).map(|why| format!("{name}: {why}")));
        let unknown = bugs.iter().filter(|bug| !lives(bug));
        wrong.extend(unknown.map(|bug| format!("{name}: no bug {bug}")));
    }
    assert!(rows.len() > 300, "only {} rows were read", rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a script of nodes prints something else, or panics. `None`: the place is none.
#[cfg(feature = "planted")]
fn differs(place: &str) -> Option<bool> {
    let ("node" | "log", _) = place.split_once('/')? else { return None };
    let text = fs::read_to_string(file(place)).expect("a script");
    let (input, expected) = text.split_once("\n\n").expect("input and output");
    let output = std::panic::catch_unwind(|| words::run(input));
    Some(output.map_or(true, |output| output != expected))
}

/// A row that names a simulator as well may leave it to that.
#[cfg(feature = "planted")]
#[test]
fn every_bug_of_a_row_is_caught_by_a_script_of_it() {
    use quorate_raft::planted::{Bug, plant};
    // What a caught bug prints on its way is not news.
    std::panic::set_hook(Box::new(|_| {}));
    let mut wrong = Vec::new();
    for Row { name, places, bugs, .. } in rows() {
        let own = Bug::ALL.iter().filter(|bug| bugs.iter().any(|name| *name == bug.name()));
        for bug in own {
            plant(Some(*bug));
            let caught = places.iter().any(|place| differs(place) == Some(true));
            let simulated = places.iter().any(|place| place.contains("tests/simulator/"));
            plant(None);
            if !caught && !simulated {
                wrong.push(format!("{name}: no script of it fails with {}", bug.name()));
            }
        }
        if let Some(script) = places.iter().find(|place| differs(place) == Some(true)) {
            wrong.push(format!("{name}: {script} fails without any bug"));
        }
    }
    drop(std::panic::take_hook());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
