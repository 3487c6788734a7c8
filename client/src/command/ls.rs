//! `quorate ls [PREFIX]`.

use super::{print, table};
use crate::cli::Output;
use crate::paint::safe;
use quorate_client::{Client, Error, Holder, NameInfo};
use serde_json::{Value, json};

pub async fn run(client: &Client, output: Output, prefix: &str) -> Result<(), Error> {
    let names = client.list(prefix).await?;
    if output == Output::Json {
        let names: Value = names.iter().map(name_as_json).collect();
        print(&[names.to_string()]);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    print(&table(&["NAME", "KIND", "HOLDER", "MEMBER", "TOKEN", "WAITING"], &rows));
    Ok(())
}

fn row(info: &NameInfo) -> Vec<String> {
    let (who, member, token) = match &info.holder {
        Some(holder) => (holder.who(), holder.member.clone(), holder.token.to_string()),
        None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
    };
    let kind = info.kind.as_str().to_owned();
    vec![safe(&info.name), kind, safe(&who), safe(&member), token, info.waiters.len().to_string()]
}

/// Tokens as strings: they need 63 bits.
pub(super) fn holder_as_json(holder: &Holder) -> Value {
    json!({
        "session_id": holder.session_id.to_string(),
        "label": holder.label,
        "token": holder.token.to_string(),
        "value": String::from_utf8_lossy(&holder.value),
        "member": holder.member,
    })
}

pub(super) fn name_as_json(info: &NameInfo) -> Value {
    let waiters = info.waiters.iter().map(|waiter| {
        json!({
            "session_id": waiter.session_id.to_string(),
            "label": waiter.label,
            "member": waiter.member,
        })
    });
    json!({
        "name": info.name,
        "kind": info.kind.as_str(),
        "holder": info.holder.as_ref().map(holder_as_json),
        "waiters": waiters.collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_client::Kind;

    #[test]
    fn a_token_is_a_string() {
        let token = (1 << 62) + 1;
        let holder = Some(Holder { token, ..Holder::default() });
        let info = NameInfo { name: "a".to_owned(), kind: Kind::Lock, holder, waiters: Vec::new() };
        assert_eq!(name_as_json(&info)["holder"]["token"], "4611686018427387905");
    }
}
