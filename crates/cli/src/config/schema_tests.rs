//! The schema for editors takes what the program takes, and refuses what it refuses.
//!
//! Never here: mistakes that only the program can find, such as names that lead nowhere.

use serde_json::Value;

use super::tests::WHOLE;
use super::{Config, read};

/// Whether `value` is what `schema` describes, as far as ours uses JSON Schema.
fn takes(schema: &Value, value: &Value, root: &Value) -> bool {
    let any = |name: &str| schema[name].as_array().is_none_or(|all| all.iter().any(|one| takes(one, value, root)));
    let referred = schema["$ref"].as_str().and_then(|path| root.pointer(path.trim_start_matches('#')));
    let is_typed = match &schema["type"] {
        Value::String(name) => is_a(name, value),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(|name| is_a(name, value)),
        _ => true,
    };
    let is_const = schema.get("const").is_none_or(|wanted| wanted == value);
    let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let fields = value.as_object().is_none_or(|map| {
        required.all(|name| map.contains_key(name))
            && map.iter().all(|(name, own)| match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(field), _) => takes(field, own, root),
                (None, Value::Bool(is_open)) => *is_open,
                (None, Value::Null) => true,
                (None, others) => takes(others, own, root),
            })
    });
    let items = value.as_array().is_none_or(|all| all.iter().all(|one| takes(&schema["items"], one, root)));
    is_typed
        && is_const
        && fields
        && items
        && any("oneOf")
        && any("anyOf")
        && referred.is_none_or(|to| takes(to, value, root))
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("our schema has the type {other}"),
    }
}

/// Whether the schema takes it, and the first mistake that the program finds.
fn verdicts(text: &str) -> (bool, Option<String>) {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).expect("a schema is JSON");
    let document: toml::Value = toml::from_str(text).expect("TOML");
    let document = serde_json::to_value(document).expect("is JSON too");
    let set = |_: &str| Some("x".to_owned());
    let mistake = read(text, set).err().and_then(|mistakes| mistakes.sorted().first().map(ToString::to_string));
    (takes(&schema, &document, &schema), mistake)
}

const MORE: &str = r#"
[repositories.offsite]
url = "/mnt/offsite"
key_file = "/etc/backstay/key"

[sources.whole]
kind = "postgres-physical"
url = "postgres://backup@/postgres"
patroni = ["http://10.0.0.1:8008"]
incremental = false

[sources.queue]
kind = "redis-aof"
path = "/var/lib/redis/appendonlydir"

[sources.cluster]
kind = "kubernetes"
context = "production"
namespaces = ["shop"]
types = ["secrets"]
exclude_types = ["events"]
derived = true

[jobs.whole]
repository = "main"
sources = ["whole", "queue", "cluster"]
retention = { daily = 7, within = "30d" }
hold = "7y"
tags = ["daily"]
copy_to = ["offsite"]
hooks = { before = ["true"], after = ["true"], on_failure = ["true"] }
sources_at_once = 3
compression = 9
limit_upload = "10M"
"#;

#[test]
fn schema_and_program_take_and_refuse_the_same_keys() {
    let whole = WHOLE.replace("schedule =", "repository = \"main\"\nschedule =") + MORE;
    assert_eq!(verdicts(&whole), (true, None));
    for (right, wrong) in [
        ("kind = \"etcd\"", "kind = \"etcdd\""),
        ("endpoints =", "endpoint ="),
        ("percent_max", "percent_maxx"),
        ("lock_timeout = \"90s\"", "lock_timeout = 90"),
        ("paths = [\"/srv/media\"]", "paths = \"/srv/media\""),
        ("url = \"/mnt/offsite\"", "# no url"),
        ("derived = true", "derived = \"yes\""),
        ("exclude_types", "excluded_types"),
        ("on_failure", "on_error"),
        ("daily = 7", "per_day = 7"),
        ("sources_at_once = 3", "sources_at_once = \"three\""),
        ("limit_upload = \"10M\"", "limit_upload = 10"),
        ("then = \"warn\"", "then = \"warm\""),
        ("[jobs.whole]", "[job.whole]"),
    ] {
        assert!(whole.contains(right), "{right}");
        let (is_taken, mistake) = verdicts(&whole.replacen(right, wrong, 1));
        assert!(
            !is_taken && mistake.is_some(),
            "{wrong}: the schema takes it: {is_taken}; the program says {mistake:?}"
        );
    }
}
