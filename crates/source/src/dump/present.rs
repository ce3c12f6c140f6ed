//! What a database holds already, before a dump is restored into it.
//!
//! Never here: what a dump holds.

use std::collections::BTreeSet;

use serde_json::Value;

use super::query::{ask, misunderstood};
use super::{Item, Programs, Server};
use crate::error::SourceError;

/// Everything but the system's own and what belongs to an extension.
const PRESENT: &str = "
select json_build_object(
    'relations', coalesce((select json_agg(nspname || '.' || relname) from pg_class c
        join pg_namespace n on n.oid = relnamespace
        where relkind in ('r', 'p', 'v', 'm', 'S', 'f') and nspname <> 'information_schema' and nspname !~ '^pg_'
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
            and d.deptype = 'e')), '[]'),
    'schemas', (select json_agg(nspname) from pg_namespace),
    'extensions', coalesce((select json_agg(extname) from pg_extension), '[]'),
    'types', coalesce((select json_agg(nspname || '.' || typname) from pg_type t
        join pg_namespace n on n.oid = typnamespace
        where nspname <> 'information_schema' and nspname !~ '^pg_'), '[]'),
    'functions', coalesce((select json_agg(nspname || '.' || proname || '(' ||
        case when prokind = 'a' and pronargs = 0 then '*' else oidvectortypes(proargtypes) end || ')')
        from pg_proc join pg_namespace n on n.oid = pronamespace
        where nspname <> 'information_schema' and nspname !~ '^pg_'), '[]'))";

/// What a database holds, by `schema.name` as the dump's own contents write it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Present {
    /// Tables, views and sequences.
    pub relations: BTreeSet<String>,
    /// All schemas, the system's too.
    pub schemas: BTreeSet<String>,
    /// Installed extensions.
    pub extensions: BTreeSet<String>,
    /// Types and domains, those of tables too.
    pub types: BTreeSet<String>,
    /// Functions, with the types of their arguments.
    pub functions: BTreeSet<String>,
}

impl Present {
    /// Asks for what `database` holds.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] if the database cannot be asked, or is not there.
    pub async fn ask(server: &Server, programs: &Programs, database: &str) -> Result<Self, SourceError> {
        let answer = ask(server, programs, database, PRESENT).await?;
        Self::of_answer(&answer).ok_or_else(|| misunderstood(server))
    }

    fn of_answer(answer: &Value) -> Option<Self> {
        let names = |name: &str| {
            let names = answer.get(name)?.as_array()?.iter();
            names.map(|name| name.as_str().map(str::to_owned)).collect::<Option<BTreeSet<_>>>()
        };
        Some(Self {
            relations: names("relations")?,
            schemas: names("schemas")?,
            extensions: names("extensions")?,
            types: names("types")?,
            functions: names("functions")?,
        })
    }

    /// Whether something of this kind and name is there; only of kinds that others need.
    pub(super) fn has(&self, item: &Item) -> bool {
        let name = item.full_name();
        match item.kind.as_str() {
            "SCHEMA" => self.schemas.contains(&item.name),
            "EXTENSION" => self.extensions.contains(&item.name),
            "TYPE" | "DOMAIN" => self.types.contains(&name),
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => self.functions.contains(&name),
            _ => self.relations.contains(&name),
        }
    }
}
