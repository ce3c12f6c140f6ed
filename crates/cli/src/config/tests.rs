//! Mistakes are found, all of them, where they are; what is right is read.

use super::{Config, SourceConfig, is_trusted, read};

pub(super) const WHOLE: &str = r#"
[repositories.main]
url = "s3://bucket/backups"
password_file = "/etc/backstay/password"

[sources.db]
kind = "postgres"
url = "postgres://backup@db.example/shop"
password = "${DB_PASSWORD}"
shrink = { percent_max = 50, then = "warn" }

[sources.cache]
kind = "redis"
urls = ["redis://one:6379", "redis://two:6379"]

[sources.kv]
kind = "etcd"
endpoints = ["https://etcd:2379"]

[sources.app]
kind = "sqlite"
path = "/var/lib/app.db"
lock_timeout = "90s"

[sources.media]
kind = "files"
paths = ["/srv/media"]
exclude_larger_than = "500M"

[sources.report]
kind = "command"
command = ["report", "--all"]
env = { TOKEN = "${TOKEN:-none}" }

[jobs.nightly]
sources = ["db", "cache", "kv", "app", "media", "report"]
schedule = "0 2 * * *"
timeout = "4h"
"#;

fn variables(name: &str) -> Option<String> {
    (name == "DB_PASSWORD").then(|| "it's $hidden \"${DB_PASSWORD}".to_owned())
}

fn parse(text: &str) -> Result<Config, Vec<String>> {
    read(text, variables).map_err(|mistakes| mistakes.sorted().iter().map(ToString::to_string).collect())
}

#[test]
fn whole_configuration_is_read_and_variables_are_filled_in_once() {
    let config = parse(WHOLE).expect("has no mistake");
    let Some(SourceConfig::Postgres(db)) = config.sources.get("db") else { panic!("{config:?}") };
    assert_eq!(db.password.as_ref().map(|password| password.0.as_str()), Some("it's $hidden \"${DB_PASSWORD}"));
    assert_eq!((db.shrink.percent_max, config.sources.len()), (50, 6));
    let Some(SourceConfig::Sqlite(app)) = config.sources.get("app") else { panic!("{config:?}") };
    assert_eq!(app.lock_timeout.map(|span| span.0.as_secs()), Some(90));
    assert!(!format!("{config:?}").contains("hidden"), "secrets are not shown");
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_suggestion() {
    let text = WHOLE
        .replace("urls = [", "urlz = [")
        .replace("path = \"/var", "path = 7 # \"/var")
        .replace("\"kv\", \"app\"", "\"kvv\", \"app\"")
        .replace("kind = \"etcd\"", "kind = \"etcdd\"")
        .replace("0 2 * * *", "0 25 * * *")
        .replace("${TOKEN:-none}", "${TOKEN}")
        .replace("percent_max", "percent_maxx");
    let found = parse(&text).expect_err("has mistakes");
    let expected = [
        ("line 10, column 12", "source \"db\": unknown key \"percent_maxx\"; did you mean \"percent_max\"?"),
        ("line 14, column 1", "source \"cache\": unknown key \"urlz\"; did you mean \"urls\"?"),
        ("line 17, column 8", "source \"kv\": unknown kind \"etcdd\"; did you mean \"etcd\"?"),
        ("line 22, column 8", "source \"app\": invalid type: integer `7`"),
        ("line 33, column 17", "the environment variable TOKEN is not set"),
        ("line 36, column 27", "job \"nightly\": there is no source \"kvv\"; did you mean \"kv\"?"),
        ("line 37, column 12", "job \"nightly\": schedule \"0 25 * * *\""),
    ];
    for (place, what) in expected {
        assert!(found.iter().any(|told| told.starts_with(place) && told.contains(what)), "{place}: {what}: {found:#?}");
    }
}

#[test]
fn text_that_is_no_toml_is_told_by_line() {
    let found = parse("[jobs.x\nsources = [\"a\"\n").expect_err("is no TOML");
    assert!(found.first().is_some_and(|told| told.starts_with("line ")), "{found:?}");
}

#[test]
fn missing_keys_names_and_passwords_given_twice_are_told() {
    let found = parse("[sources.\"a/b\"]\nkind = \"sqlite\"\n[sources.c]\nkind = \"sqlite\"\n[jobs.j]\nsources = []\n");
    let found = found.expect_err("has mistakes").join("\n");
    for what in ["source \"c\": the key \"path\" is missing", "there are 0 repositories", "sources is empty"] {
        assert!(found.contains(what), "{what}: {found}");
    }
    let twice = "[sources.r]\nkind = \"redis\"\nurls = [\"redis://x\"]\npassword = \"a\"\npassword_file = \"b\"\n";
    assert!(parse(twice).expect_err("has a mistake").join("").contains("more than one password"));
}

#[test]
fn mistakes_between_tables_are_told_at_the_value_that_is_wrong() {
    let text = r#"
[repositories.one]
url = "ftp://host"
password_file = "a"
password_command = "b"
[repositories."t.wo"]
url = "/x"
[sources]
db = { kind = "postgres", url = "postgres://me@host/x", patroni = ["http://a:8008", "a:8008"], tables = ["t"], databases = ["a", "*"] }
c = { kind = "redis", urls = [], password_file = "f", password = "p" }
[jobs.j]
sources = ["c", "db", "c"]
repository = "ones"
compression = 22
hooks = { before = ["x"], after = [] }
sources_at_once = 0
[jobs."k.l"]
sources = ["c"]
"#;
    let found = parse(text).expect_err("has mistakes");
    let expected = [
        ("line 3, column 7", "repository \"one\": "),
        ("line 5, column 20", "more than once what opens it; keep one of password_file, password_command, key_file"),
        ("line 9, column 33", "it names a host, and patroni tells the hosts"),
        ("line 9, column 85", "\"a:8008\" is no URL"),
        ("line 9, column 105", "tables and schemas are of one database"),
        ("line 9, column 130", "\"*\" stands for all databases"),
        ("line 10, column 30", "urls is empty"),
        ("line 10, column 50", "more than one password is given"),
        ("line 12, column 23", "source \"c\" is named twice"),
        ("line 13, column 14", "there is no repository \"ones\"; did you mean \"one\"?"),
        ("line 14, column 15", "compression is from 1 to 19"),
        ("line 15, column 35", "a hook is empty"),
        ("line 16, column 19", "sources_at_once must be at least 1"),
        ("line 17, column 7", "there are 2 repositories, and it names none"),
    ];
    for (place, what) in expected {
        assert!(found.iter().any(|told| told.starts_with(place) && told.contains(what)), "{place}: {what}: {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn file_that_others_may_write_is_not_trusted_unless_it_is_named() {
    assert!(is_trusted(1000, 0o644, 1000) && is_trusted(0, 0o644, 1000) && is_trusted(0, 0o600, 0));
    assert!(!is_trusted(1001, 0o600, 1000) && !is_trusted(1000, 0o600, 0), "of somebody else");
    assert!(!is_trusted(1000, 0o664, 1000) && !is_trusted(0, 0o646, 0), "open to others");
}
