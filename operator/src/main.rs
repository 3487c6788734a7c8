//! `quorate-operator`.
fn main() {
    let definition = quorate_operator::crd::definition();
    let text = serde_yaml::to_string(&definition).expect("a definition is plain data");
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}
