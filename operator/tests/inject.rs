//! What becomes of pods that want a sidecar: golden files in `testdata/inject`, documents, a line
//! `=====`, and the documents with the sidecar, or the sentence. `REWRITE=1` writes them anew.

use quorate_operator::inject;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const RULE: &str = "\n=====\n";
const IMAGE: &str = "quorate.dev/quorate:1";

fn files() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/inject");
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("it is text");
        (path, text)
    };
    files.into_iter().map(read).collect()
}

fn input(text: &str) -> &str {
    text.split(RULE).next().expect("there is an input").trim_end()
}

#[test]
fn pods_become_these() {
    let files = files();
    assert!(files.len() >= 10, "the golden files are gone");
    for (path, text) in files {
        let made = inject::documents(input(&text), IMAGE);
        let made = made.unwrap_or_else(|why| format!("refused: {why}\n"));
        let now = format!("{}{RULE}{made}", input(&text));
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, now).expect("it can be written");
        } else {
            assert_eq!(text, now, "{}: REWRITE=1 writes it anew", path.display());
        }
    }
}

#[test]
fn what_has_its_sidecar_stays_as_it_is() {
    let mut tried = 0;
    for (path, text) in files() {
        let Ok(once) = inject::documents(input(&text), IMAGE) else { continue };
        let twice = inject::documents(&once, "another:2").expect("it was good before");
        assert_eq!(once, twice, "{}", path.display());
        tried += 1;
    }
    assert!(tried >= 5, "{tried} good files");
}

/// Whatever is there already is there afterwards, in the same order; the sidecar comes on top.
#[test]
fn nothing_of_a_pod_is_lost() {
    for (path, text) in files() {
        let Ok(made) = inject::documents(input(&text), IMAGE) else { continue };
        let parse = |text: &str| -> Vec<Value> {
            let documents = serde_yaml::Deserializer::from_str(text);
            let parsed = documents.map(|it| serde::Deserialize::deserialize(it).expect("YAML"));
            parsed.filter(|it: &Value| !it.is_null()).collect()
        };
        for (before, after) in parse(input(&text)).iter().zip(parse(&made)) {
            kept(before, &after, &path.display().to_string());
        }
    }
}

fn kept(before: &Value, after: &Value, at: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(_)) => {
            before.iter().for_each(|(key, value)| kept(value, &after[key], &format!("{at}.{key}")));
        }
        (Value::Array(before), Value::Array(after)) => {
            let rest = after.iter().filter(|item| item["name"] != json!("quorate"));
            before.iter().zip(rest).for_each(|(before, after)| kept(before, after, at));
            assert!(after.len() >= before.len(), "{at}");
        }
        _ => assert_eq!(before, after, "{at}"),
    }
}
