//! `restore SNAPSHOT COMPONENT --list`: what a component holds. Of dumps their tables of contents, as `pg_restore --list`
//! shows them; of the others their files, and what the source said of itself.
//!
//! Never here: a target.

use serde::Serialize;
use source::dump::Contents;

use super::plan::{Plan, SHOWN_MAX, table_of, tell_rest};
use super::{Restoring, archive};
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::table::{Align, Table};

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    plan: Plan,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dumps: Vec<DumpDocument>,
}

#[derive(Debug, Serialize)]
struct DumpDocument {
    file: String,
    database: String,
    server_version: String,
    dump_version: String,
    roles: Vec<String>,
    extensions: Vec<String>,
    items: Vec<ItemDocument>,
}

#[derive(Debug, Serialize)]
struct ItemDocument {
    id: i64,
    kind: String,
    schema: String,
    name: String,
    owner: String,
    has_data: bool,
}

/// Shows it.
pub(super) async fn run(restoring: &Restoring<'_>) -> Result<Outcome, CommandError> {
    let mut files = restoring.files().await?;
    if restoring.kind() == "postgres" {
        files = restoring.dumps(files)?;
    }
    let mut dumps = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(b".dump") && restoring.kind() == "postgres") {
        if let Some(contents) = archive::open(restoring, &file.path).await?.contents {
            dumps.push(document(&file.path, contents));
        }
    }
    let document = Document { plan: restoring.plan(None).with_files(&files), dumps };
    let ui = &restoring.ctx.ui;
    if ui.is_json {
        ui.json(&document)?;
        return Ok(Outcome::Done);
    }
    let mut text = table_of(&document.plan.files).show(ui.stdout);
    text.push('\n');
    if !document.plan.facts.is_empty() {
        let mut facts = Table::new(&[("Fact", Align::Left), ("Value", Align::Left)]);
        document.plan.facts.iter().for_each(|(name, value)| facts.row([name.clone(), value.clone()]));
        text.push_str(&format!("\n{}\n", facts.show(ui.stdout)));
    }
    for dump in &document.dumps {
        text.push_str(&format!("\n{}", shown(dump, restoring)));
    }
    ui.text(text).await?;
    tell_rest(document.plan.file_count, SHOWN_MAX, "files, which ls shows", restoring.ctx);
    Ok(Outcome::Done)
}

fn document(path: &[u8], contents: Contents) -> DumpDocument {
    let item = |item: source::dump::Item| ItemDocument {
        id: item.id,
        kind: item.kind,
        schema: item.schema,
        name: item.name,
        owner: item.owner,
        has_data: item.has_data,
    };
    DumpDocument {
        file: String::from_utf8_lossy(path).into_owned(),
        database: contents.database,
        server_version: contents.server_version,
        dump_version: contents.dump_version,
        roles: contents.roles.into_iter().collect(),
        extensions: contents.extensions.into_iter().collect(),
        items: contents.items.into_iter().map(item).collect(),
    }
}

fn shown(dump: &DumpDocument, restoring: &Restoring<'_>) -> String {
    let mut table = Table::new(&[
        ("Kind", Align::Left),
        ("Schema", Align::Left),
        ("Name", Align::Left),
        ("Owner", Align::Left),
        ("Data", Align::Left),
    ]);
    for item in &dump.items {
        let data = if item.has_data { "yes" } else { "" }.to_owned();
        table.row([item.kind.clone(), item.schema.clone(), item.name.clone(), item.owner.clone(), data]);
    }
    let about = format!(
        "{}: database {}, of Postgres {}, {}",
        dump.file,
        dump.database,
        dump.server_version,
        human::counted(dump.items.len() as u64, "item", "items")
    );
    format!("{}\n{}\n", human::escaped(about.as_bytes()), table.show(restoring.ctx.ui.stdout))
}
