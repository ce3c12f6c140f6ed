//! Choices out of a table of contents as `pg_dump` 15 writes it.

use super::*;

/// `id kind schema name: ids of what it depends on`.
const CONTENTS: &str = "
6 SCHEMA - app:
847 TYPE app mood: 6
224 FUNCTION app f(): 6
216 TABLE app customers: 6 847
215 SEQUENCE app customers_id_seq: 6 216
3403 SEQUENCE~OWNED~BY app customers_id_seq: 215
219 SEQUENCE app free: 6
218 TABLE app orders: 6
3404 COMMENT app TABLE~orders: 218
3405 ACL app TABLE~orders: 218
220 VIEW app v: 218 6
222 TABLE public part:
223 TABLE public part1: 222
3224 TABLE~ATTACH public part1: 223 222
3225 DEFAULT app customers~id: 215 216 216
3388 TABLE~DATA app customers: 216
3390 TABLE~DATA app orders: 218
3393 TABLE~DATA public part1: 223
3407 SEQUENCE~SET app customers_id_seq: 215
3228 CONSTRAINT app customers~customers_pkey: 216
3410 COMMENT app CONSTRAINT~customers_pkey: 3228
3229 INDEX app orders_customer_idx: 218
3237 TRIGGER app orders~tr: 224 218
3236 FK~CONSTRAINT app orders~orders_customer_fkey: 216 3228 218
3386 PUBLICATION~TABLE app pub~orders: 218 3385
4000 TABLE other customers:";

fn contents() -> Contents {
    let items = CONTENTS.lines().filter(|line| !line.is_empty()).map(|line| {
        let (words, needs) = line.split_once(':').unwrap();
        let words: Vec<String> = words.split(' ').map(|word| word.replace('~', " ")).collect();
        Item {
            id: words[0].parse().unwrap(),
            kind: words[1].clone(),
            schema: if words[2] == "-" { String::new() } else { words[2].clone() },
            name: words[3].clone(),
            depends_on: needs.split_whitespace().map(|id| id.parse().unwrap()).collect(),
            ..Item::default()
        }
    });
    Contents { database: "shop".into(), items: items.collect(), ..Contents::default() }
}

fn present(schemas: &[&str], types: &[&str], functions: &[&str]) -> Present {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Present { schemas: all(schemas), types: all(types), functions: all(functions), ..Present::default() }
}

fn chosen(tables: &[&str], schemas: &[&str], present: &Present) -> Result<Choice, NoChoice> {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Wanted { tables: all(tables), schemas: all(schemas), replaces: false }.choose(&contents(), present)
}

#[test]
fn a_table_comes_with_what_belongs_to_it_and_what_the_target_lacks() {
    let empty = chosen(&["app.customers"], &[], &present(&["public"], &[], &[])).unwrap();
    assert_eq!(empty.ids, [6, 847, 216, 215, 3403, 3225, 3388, 3407, 3228, 3410]);
    assert!(empty.relations.iter().eq(["app.customers", "app.customers_id_seq"]), "{empty:?}");
    let there = chosen(&["app.customers"], &[], &present(&["public", "app"], &["app.mood"], &[])).unwrap();
    assert_eq!(there.ids, [216, 215, 3403, 3225, 3388, 3407, 3228, 3410]);
    assert_eq!(there.left_out, [""; 0]);
}

#[test]
fn a_foreign_key_comes_only_with_both_tables_and_is_named_if_it_does_not() {
    let one = chosen(&["orders"], &[], &present(&["app"], &[], &["app.f()"])).unwrap();
    assert_eq!(one.ids, [218, 3404, 3405, 3390, 3229, 3237]);
    assert_eq!(one.left_out, ["foreign key app.orders orders_customer_fkey"]);
    let both = chosen(&["orders", "app.customers"], &[], &present(&["app"], &["app.mood"], &["app.f()"])).unwrap();
    assert!(both.ids.contains(&3236) && both.left_out.is_empty(), "{both:?}");
}

#[test]
fn a_partitioned_table_comes_with_its_partitions_and_a_partition_alone() {
    let whole = chosen(&["public.part"], &[], &present(&["public"], &[], &[])).unwrap();
    assert_eq!(whole.ids, [222, 223, 3224, 3393]);
    let one = chosen(&["public.part1"], &[], &present(&["public"], &[], &[])).unwrap();
    assert_eq!(one.ids, [223, 3393]);
}

#[test]
fn a_schema_comes_with_everything_in_it_and_is_made_only_if_it_is_missing() {
    let fresh = chosen(&[], &["app"], &present(&["public"], &[], &[])).unwrap();
    assert!([6, 847, 224, 216, 219, 218, 220, 3236].iter().all(|id| fresh.ids.contains(id)), "{fresh:?}");
    assert!(![222, 223, 4000].iter().any(|id| fresh.ids.contains(id)), "{fresh:?}");
    let there = chosen(&[], &["app"], &present(&["app"], &[], &[])).unwrap();
    assert!(!there.ids.contains(&6) && there.ids.contains(&847), "{there:?}");
}

#[test]
fn types_and_functions_of_a_schema_that_are_there_are_replaced_or_named() {
    let there = present(&["app"], &["app.mood"], &["app.f()"]);
    let kept = chosen(&[], &["app"], &there).unwrap();
    assert!(![6, 847, 224].iter().any(|id| kept.ids.contains(id)), "{kept:?}");
    assert_eq!(kept.kept, ["type app.mood", "function app.f()"]);
    let replaces = |tables: &[&str], schemas: &[&str]| {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Wanted { tables: all(tables), schemas: all(schemas), replaces: true }.choose(&contents(), &there).unwrap()
    };
    let replaced = replaces(&[], &["app"]);
    assert!(replaced.ids.contains(&847) && replaced.ids.contains(&224) && !replaced.ids.contains(&6), "{replaced:?}");
    assert!(replaced.kept.is_empty());
    // What a table only needs belongs to others too.
    let table = replaces(&["app.orders"], &[]);
    assert!(!table.ids.contains(&224) && table.kept.is_empty(), "{table:?}");
}

#[test]
fn names_that_fit_nothing_or_too_much_are_refused() {
    let nothing = present(&[], &[], &[]);
    let said = |tables: &[&str], schemas: &[&str]| chosen(tables, schemas, &nothing).unwrap_err().to_string();
    assert_eq!(said(&["app.order"], &[]), "the dump of database shop has no table app.order");
    assert_eq!(said(&[], &["apps"]), "the dump of database shop has no schema apps");
    assert_eq!(said(&["customers"], &[]), "table customers is in several schemas: app.customers, other.customers");
}
