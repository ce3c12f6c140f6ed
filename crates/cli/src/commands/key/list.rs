//! `key list`: every key of the repository.
//!
//! Invariant: a key that this one may not see the label of is shown without it.
//! Never here: secrets.

use clap::Args;
use engine::KeyInfo;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::paint::Paint;
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  backstay key list
  backstay key list --json | jq -r '.[] | select(.role == \"writer\").id'";

/// List keys, oldest first
///
/// The key in use is marked by an asterisk.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ListArgs {}

#[derive(Debug, Serialize)]
struct Document<'a> {
    id: &'a str,
    role: String,
    label: Option<&'a str>,
    kind: &'a str,
    created_at: String,
    is_current: bool,
    is_revoked: bool,
    identity: &'a str,
}

/// Lists them.
pub(super) async fn run(ctx: &Context) -> Result<Outcome, CommandError> {
    let keys = ctx.open_repository().await?.keys().await?;
    if ctx.ui.is_json {
        ctx.ui.json(&keys.iter().map(document).collect::<Vec<_>>())?;
    } else {
        ctx.ui.line(table(&keys, ctx.ui.stdout))?;
    }
    Ok(Outcome::Done)
}

fn table(keys: &[KeyInfo], paint: Paint) -> String {
    let columns = ["", "ID", "Role", "Kind", "Made", "Label"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for key in keys {
        let label = key.label.clone().unwrap_or_default();
        table.row([
            if key.is_current { "*" } else { "" }.to_owned(),
            human::short(&key.id),
            key.role.to_string(),
            key.kind.to_owned(),
            human::local_time(key.created_at),
            if key.revoked { format!("{label} (removed)") } else { label },
        ]);
    }
    table.show(paint)
}

fn document(key: &KeyInfo) -> Document<'_> {
    Document {
        id: &key.id,
        role: key.role.to_string(),
        label: key.label.as_deref(),
        kind: if key.kind == "key file" { "key_file" } else { key.kind },
        created_at: human::rfc3339(key.created_at),
        is_current: key.is_current,
        is_revoked: key.revoked,
        identity: &key.identity,
    }
}
