//! One object in the form in which it is kept: without what the cluster says of it, keys sorted.
//!
//! Never here: I/O.

use serde_json::{Map, Value};

/// What the cluster writes into an object's metadata by itself.
const METADATA: [&str; 7] =
    ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "deletionTimestamp"];
/// What `kubectl apply` remembers: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether the cluster makes the object again by itself: it belongs to a controller, is a mirror of a node's own pod,
/// a token of a service account, or the cluster's own certificate or address.
#[must_use]
pub fn is_derived(object: &Value) -> bool {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = object.get("metadata");
    let owners = metadata.and_then(|metadata| metadata.get("ownerReferences")).and_then(Value::as_array);
    let is_controlled = |owner: &Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    let kind = text(object.get("kind"));
    let part = |name: &str| text(metadata.and_then(|metadata| metadata.get(name)));
    let name = part("name");
    owners.is_some_and(|owners| owners.iter().any(is_controlled))
        || metadata.and_then(|metadata| metadata.get("annotations")?.get(MIRROR)).is_some()
        || (kind == "Secret" && text(object.get("type")) == "kubernetes.io/service-account-token")
        || (kind == "ConfigMap" && name == "kube-root-ca.crt")
        || (kind == "Service" && name == "kubernetes" && part("namespace") == "default")
}

/// The object as it is kept: indented JSON with sorted keys and a newline at its end.
#[must_use]
pub fn canonical(mut object: Value) -> Vec<u8> {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        METADATA.iter().for_each(|name| _ = metadata.remove(*name));
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let is_empty = annotations.is_some_and(|annotations| {
            annotations.remove(LAST_APPLIED);
            annotations.is_empty()
        });
        if is_empty {
            metadata.remove("annotations");
        }
    }
    let mut text = format!("{:#}", sorted(object)).into_bytes();
    text.push(b'\n');
    text
}

/// Sorts by ourselves: whether maps are sorted depends on a feature that any crate of the build may switch.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(Map::from_iter(pairs))
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_cluster_says_is_dropped_and_keys_are_sorted() {
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "status": {"x": 1},
            "metadata": {
                "uid": "u", "name": "app", "resourceVersion": "77", "managedFields": [], "generation": 3,
                "creationTimestamp": "2026", "annotations": {LAST_APPLIED: "{}"}, "labels": {"b": "2", "a": "1"}
            },
            "data": {"z": "1", "a": "status"}
        });
        let expected = "{\n  \"apiVersion\": \"v1\",\n  \"data\": {\n    \"a\": \"status\",\n    \"z\": \"1\"\n  },\n  \
                        \"kind\": \"ConfigMap\",\n  \"metadata\": {\n    \"labels\": {\n      \"a\": \"1\",\n      \
                        \"b\": \"2\"\n    },\n    \"name\": \"app\"\n  }\n}\n";
        assert_eq!(String::from_utf8(canonical(object)).unwrap(), expected);
    }

    #[test]
    fn numbers_stay_what_they_are() {
        for number in
            ["1111111111111111111111112", "0.1234567890123456789", "9007199254740993", "18446744073709551615", "1e300"]
        {
            let text = format!("{{\"n\": {number}}}");
            let kept = canonical(serde_json::from_str(&text).unwrap());
            let again: Value = serde_json::from_slice(&kept).unwrap();
            assert_eq!(canonical(again.clone()), kept, "{number}");
            let is_integer = number.parse::<u64>().is_ok();
            assert!(!is_integer || String::from_utf8(kept).unwrap().contains(number), "{number}");
            assert_eq!(again["n"].as_f64(), Some(number.parse::<f64>().unwrap()), "{number}");
        }
    }

    #[test]
    fn what_controllers_make_again_is_derived() {
        let owned =
            |controller: bool| json!({"kind": "Pod", "metadata": {"ownerReferences": [{"controller": controller}]}});
        assert!(is_derived(&owned(true)) && !is_derived(&owned(false)));
        assert!(is_derived(&json!({"kind": "Secret", "type": "kubernetes.io/service-account-token"})));
        assert!(!is_derived(&json!({"kind": "Secret", "type": "Opaque", "metadata": {"name": "s"}})));
        assert!(is_derived(&json!({"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}})));
        assert!(is_derived(&json!({"kind": "Pod", "metadata": {"annotations": {MIRROR: "x"}}})));
    }
}
