//! `quorate watch NAME`.

use super::ls;
use crate::cli::Output;
use crate::paint::{self, Ink, ink, safe};
use quorate_client::{Client, Error, Leadership, Observer};
use serde_json::json;
use std::time::Duration;

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Until nobody reads, or an observer is refused. A broken connection is made again: the state
/// comes first.
pub async fn run(client: &Client, output: Output, name: &str) -> Result<(), Error> {
    let mut observer = client.observe(name).await?;
    let mut shown = None;
    loop {
        match observer.next().await {
            Ok(leadership) => {
                if shown.as_ref() == Some(&leadership) {
                    continue;
                }
                if !paint::line(&words(output, name, &leadership)) {
                    return Ok(());
                }
                shown = Some(leadership);
            }
            Err(error) if error.is_transient() => {
                paint::say(&format!("{error}; observing again"));
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

fn words(output: Output, name: &str, leadership: &Leadership) -> String {
    if output == Output::Json {
        let event = match leadership {
            Leadership::Leader(leader) => {
                json!({ "name": name, "event": "leader", "leader": ls::holder_as_json(leader) })
            }
            Leadership::Nobody => json!({ "name": name, "event": "nobody" }),
        };
        return event.to_string();
    }
    match leadership {
        Leadership::Leader(leader) => {
            let mut line =
                format!("{} leads, token {}", ink(Ink::Green, &safe(&leader.who())), leader.token);
            if !leader.value.is_empty() {
                line.push_str(&format!(
                    ", value {}",
                    safe(&String::from_utf8_lossy(&leader.value))
                ));
            }
            line
        }
        Leadership::Nobody => ink(Ink::Yellow, "nobody leads"),
    }
}
