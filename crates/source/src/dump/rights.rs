//! What a role may not read of a database, among that which `pg_dump` would read.
//!
//! ```text
//! patterns of pg_dump ──→ conditions in SQL ──→ tables, sequences, large objects ──→ what we lack a right for
//! ```
//!
//! `pg_dump` locks each table that it dumps, reads each sequence and large object, and refuses a table of which row
//! security would hide rows.
//!
//! Source: PostgreSQL documentation, "pg_dump" and "Patterns" of psql.
//!
//! Invariant: what belongs to an extension is left out as `pg_dump` leaves it out, but for its configuration tables.
//! Never here: what is done about it.

use serde_json::Value;

use super::read::Selection;

/// How many objects are named of each kind.
const NAMED_MAX: usize = 5;

/// What cannot be read: a few names of each kind, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lacking {
    pub(super) tables: Named,
    pub(super) sequences: Named,
    /// Tables of which row security would hide rows.
    pub(super) filtered: Named,
    /// Large objects, by their numbers.
    pub(super) large_objects: Named,
    /// Schemas that may not be entered.
    pub(super) schemas: Named,
    /// How many tables the selection has.
    pub(super) table_count: u64,
}

/// Some names, of so many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Named {
    pub(super) names: Vec<String>,
    pub(super) count: u64,
}

impl Named {
    fn of_answer(answer: &Value) -> Option<Self> {
        let names = answer.get("names").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let names = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Self { names, count: answer.get("count")?.as_u64()? })
    }

    /// `a, b and 7 more`.
    pub(super) fn shown(&self) -> String {
        let more = self.count.saturating_sub(self.names.len() as u64);
        let names = self.names.join(", ");
        if more == 0 { names } else { format!("{names} and {more} more") }
    }
}

impl Lacking {
    pub(super) fn of_answer(answer: &Value) -> Option<Self> {
        let named = |name: &str| answer.get(name).and_then(Named::of_answer);
        Some(Self {
            tables: named("tables")?,
            sequences: named("sequences")?,
            filtered: named("filtered")?,
            large_objects: named("large_objects")?,
            schemas: named("schemas")?,
            table_count: answer.get("table_count")?.as_u64()?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.tables, &self.sequences, &self.filtered, &self.large_objects, &self.schemas]
            .iter()
            .all(|one| one.count == 0)
    }
}

/// The question for one database.
pub(super) fn question(selection: &Selection) -> String {
    let wanted = condition(selection);
    // Without --schema and --table alone, large objects are dumped.
    let has_objects = selection.schemas.is_empty() && selection.tables.is_empty();
    let named = |condition: &str| {
        format!(
            "(select json_build_object('count', count(*), 'names', (array_agg(name order by name))[:{NAMED_MAX}]) \
             from selected where {condition})"
        )
    };
    format!(
        "with path as (
            select case trim(name, ' \"') when '$user' then current_user else trim(name, ' \"') end as name
            from unnest(string_to_array((select reset_val from pg_settings where name = 'search_path'), ',')) as name),
        owned as (
            select c.oid, c.relkind, c.relnamespace as own_namespace, coalesce(t.relname, c.relname) as relname,
                coalesce(tn.nspname, n.nspname) as nspname, format('%I.%I', n.nspname, c.relname) as name
            from pg_class c join pg_namespace n on n.oid = c.relnamespace
            left join pg_depend d on c.relkind = 'S' and d.classid = 'pg_class'::regclass and d.objid = c.oid
                and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
            left join pg_class t on t.oid = d.refobjid left join pg_namespace tn on tn.oid = t.relnamespace
            where c.relkind in ('r', 'p', 'S') and c.relpersistence <> 't' and n.nspname !~ '^pg_'
                and n.nspname <> 'information_schema' and (
                    exists (select 1 from pg_extension e where c.oid = any (e.extconfig))
                    or not exists (select 1 from pg_depend e where e.classid = 'pg_class'::regclass
                        and e.objid = c.oid and e.deptype = 'e'))),
        selected as (select * from owned where {wanted}),
        objects as (
            select l.oid from pg_largeobject_metadata l
            where {has_objects} and current_setting('lo_compat_privileges') = 'off'
                and not (select rolsuper from pg_roles where rolname = current_user)
                and not exists (
                    select 1 from aclexplode(coalesce(l.lomacl, acldefault('L', l.lomowner))) a
                    where a.privilege_type = 'SELECT'
                        and (a.grantee = 0 or pg_has_role(current_user, a.grantee, 'usage'))))
        select json_build_object(
            'table_count', (select count(*) from selected where relkind <> 'S'),
            'schemas', (select json_build_object('count', count(*), 'names', (array_agg(name order by name))[:{NAMED_MAX}])
                from (select distinct quote_ident(nspname) as name from selected
                    where not has_schema_privilege(own_namespace, 'usage')) s),
            'tables', {tables}, 'sequences', {sequences}, 'filtered', {filtered},
            'large_objects', (select json_build_object('count', count(*),
                'names', (array_agg(oid::text order by oid))[:{NAMED_MAX}]) from objects))",
        tables = named("relkind <> 'S' and not has_table_privilege(oid, 'select')"),
        sequences = named("relkind = 'S' and not has_table_privilege(oid, 'select')"),
        filtered = named("relkind <> 'S' and row_security_active(oid)"),
    )
}

/// What of `owned` is selected, as a condition.
fn condition(selection: &Selection) -> String {
    let any = |patterns: &[String], one: fn(&str) -> String| {
        let each: Vec<String> = patterns.iter().map(|pattern| one(pattern)).collect();
        if each.is_empty() { "false".to_owned() } else { format!("({})", each.join(" or ")) }
    };
    let is_all = selection.schemas.is_empty() && selection.tables.is_empty();
    format!(
        "({is_all} or {} or {}) and not ({} or {})",
        any(&selection.schemas, in_schema),
        any(&selection.tables, is_table),
        any(&selection.exclude_schemas, in_schema),
        any(&selection.exclude_tables, is_table),
    )
}

fn in_schema(pattern: &str) -> String {
    format!("nspname ~ {}", literal(&expressions(pattern, false).1))
}

fn is_table(pattern: &str) -> String {
    match expressions(pattern, true) {
        (Some(schema), table) => format!("(nspname ~ {} and relname ~ {})", literal(&schema), literal(&table)),
        (None, table) => format!("(nspname in (select name from path) and relname ~ {})", literal(&table)),
    }
}

/// A pattern of psql as regular expressions: of the schema, if it names one, and of the name.
fn expressions(pattern: &str, has_schema: bool) -> (Option<String>, String) {
    let (mut schema, mut current, mut is_quoted) = (None, String::new(), false);
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                current.push('"');
            }
            '"' => is_quoted = !is_quoted,
            '$' => current.push_str("\\$"),
            char if is_quoted && "|*+?()[]{}.^\\".contains(char) => current.extend(['\\', char]),
            char if is_quoted => current.push(char),
            '*' => current.push_str(".*"),
            '?' => current.push('.'),
            '.' if has_schema => schema = Some(whole(&std::mem::take(&mut current))),
            char => current.extend(char.to_lowercase()),
        }
    }
    (schema, whole(&current))
}

fn whole(expression: &str) -> String {
    format!("^({expression})$")
}

/// As a string of SQL, whatever the server takes a backslash for.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_expressions_as_psql_reads_them() {
        let of = |pattern| expressions(pattern, true);
        assert_eq!(of("Orders"), (None, "^(orders)$".into()));
        assert_eq!(of("shop.ord*"), (Some("^(shop)$".into()), "^(ord.*)$".into()));
        assert_eq!(of("\"Odd.Name\"\"?\".t?"), (Some("^(Odd\\.Name\"\\?)$".into()), "^(t.)$".into()));
        assert_eq!(expressions("a.b", false).1, "^(a.b)$");
        assert_eq!(literal("it's \\$"), "E'it''s \\\\$'");
    }

    #[test]
    fn a_few_names_stand_for_many() {
        let named = Named { names: vec!["a".into(), "b".into()], count: 9 };
        assert_eq!(named.shown(), "a, b and 7 more");
    }
}
