//! `quorate explain NAME`.

use super::{ls, print};
use crate::cli::Output;
use crate::paint::{Ink, ink, safe};
use crate::wrapper::wait::held_off;
use quorate_client::{Client, Error, Holder, NameInfo};

pub async fn run(client: &Client, output: Output, name: &str) -> Result<(), Error> {
    let info = client.get(name).await?;
    if output == Output::Json {
        let answer = info.as_ref().map_or(serde_json::Value::Null, ls::name_as_json);
        print(&[answer.to_string()]);
        return Ok(());
    }
    let is_held = info.as_ref().is_some_and(|info| info.holder.is_some());
    let mut lines = match info {
        Some(info) => sentences(&info),
        None => {
            let name = ink(Ink::Bold, &safe(name));
            vec![format!("{name} is not in use: nobody holds it and nobody waits for it.")]
        }
    };
    if !is_held && let ms @ 1.. = client.status().await?.hold_off_ms {
        lines.push(ink(Ink::Yellow, &format!("No name is granted now: {}.", held_off(ms))));
    }
    print(&lines);
    Ok(())
}

fn at(member: &str) -> String {
    if member.is_empty() { String::new() } else { format!(" at member {}", safe(member)) }
}

fn held(holder: &Holder) -> String {
    format!(
        "Held by {} (session {}{}), with fencing token {}.",
        ink(Ink::Green, &safe(&holder.who())),
        holder.session_id,
        at(&holder.member),
        holder.token
    )
}

fn sentences(info: &NameInfo) -> Vec<String> {
    let article = if info.kind == quorate_client::Kind::Election { "an" } else { "a" };
    let name = ink(Ink::Bold, &safe(&info.name));
    let mut lines = vec![format!("{name} is {article} {}.", info.kind.as_str())];
    match &info.holder {
        Some(holder) => {
            lines.push(held(holder));
            if !holder.value.is_empty() {
                let value = String::from_utf8_lossy(&holder.value);
                lines.push(format!("Its value: {}", safe(&value)));
            }
        }
        None => lines.push("Nobody holds it.".to_owned()),
    }
    match info.waiters.len() {
        0 => lines.push("Nobody waits for it.".to_owned()),
        1 => lines.push("One waits for it:".to_owned()),
        n => lines.push(format!("{n} wait for it, in this order:")),
    }
    let waiters = info.waiters.iter().map(|waiter| {
        format!("  {} (session {}{})", safe(&waiter.who()), waiter.session_id, at(&waiter.member))
    });
    lines.extend(waiters);
    lines
}
