//! `quorate watch NAME`.

use super::ls;
use crate::cli::Output;
use crate::paint::{self, Ink, ink, safe};
use quorate_client::{Client, Error, Kind, Leadership, Observer};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// What a name is used as is not worth a longer wait.
const KIND_MAX: Duration = Duration::from_millis(300);

/// Until nobody reads, or an observer is refused. A broken connection is made again: the state
/// comes first.
pub async fn run(client: &Client, output: Output, name: &str) -> Result<(), Error> {
    let mut observer = client.observe(name).await?;
    let mut shown = None;
    let mut kind = Kind::Election;
    loop {
        match observer.next().await {
            Ok(leadership) => {
                if shown.as_ref() == Some(&leadership) {
                    continue;
                }
                if output == Output::Text {
                    kind = kind_of(client, name).await.unwrap_or(kind);
                }
                let line = match output {
                    Output::Text => words(kind, &leadership),
                    Output::Json => as_json(name, &leadership),
                };
                if !paint::line(&line) {
                    return Ok(());
                }
                shown = Some(leadership);
            }
            Err(error) if error.is_transient() => {
                if output == Output::Text {
                    let why = match error {
                        // What broke it is of no use to anybody.
                        Error::Broken(_) => "the connection to the sidecar broke".to_owned(),
                        error => error.to_string(),
                    };
                    paint::say(&format!("{why}; observing again"));
                }
                observer = again(client, name).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn again(client: &Client, name: &str) -> Result<Observer, Error> {
    loop {
        match client.observe(name).await {
            Err(error) if error.is_transient() || error.is_unreachable() => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// None: it is not known, or the name is not in use.
async fn kind_of(client: &Client, name: &str) -> Option<Kind> {
    let info = timeout(KIND_MAX, client.get(name)).await;
    info.ok().and_then(Result::ok).flatten().map(|info| info.kind)
}

fn as_json(name: &str, leadership: &Leadership) -> String {
    let event = match leadership {
        Leadership::Leader(leader) => {
            json!({ "name": name, "event": "leader", "leader": ls::holder_as_json(leader) })
        }
        Leadership::Nobody => json!({ "name": name, "event": "nobody" }),
    };
    event.to_string()
}

fn words(kind: Kind, leadership: &Leadership) -> String {
    let does = if kind == Kind::Lock { "holds it" } else { "leads" };
    match leadership {
        Leadership::Leader(leader) => {
            let who = ink(Ink::Green, &safe(&leader.who()));
            let mut line = format!("{who} {does}, token {}", leader.token);
            if !leader.value.is_empty() {
                line.push_str(&format!(
                    ", value {}",
                    safe(&String::from_utf8_lossy(&leader.value))
                ));
            }
            line
        }
        Leadership::Nobody => ink(Ink::Yellow, &format!("nobody {does}")),
    }
}
