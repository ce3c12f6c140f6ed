//! Kubernetes through the real kubectl. The API server is an actor of ours here, which answers what a cluster would in cases
//! that a real one cannot be brought into; `cluster` has a real one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use source::Fault;
use source::command::Patience;
use source::kubernetes::{Cluster, manifests};
use tempfile::TempDir;

use crate::running::{failed, free_port, printed, read};

mod cluster;
mod preflight;

type Answers = Arc<dyn Fn(&str) -> (u16, Value) + Send + Sync>;

/// Serves these answers, and gives a kubeconfig that leads there.
fn actor(answers: Answers) -> (TempDir, Cluster) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::Builder::new()
        .spawn(move || {
            for stream in listener.incoming() {
                let answers = Arc::clone(&answers);
                std::thread::Builder::new().spawn(move || serve(&stream.unwrap(), &answers)).unwrap();
            }
        })
        .unwrap();
    cluster_at(port)
}

fn cluster_at(port: u16) -> (TempDir, Cluster) {
    let folder = TempDir::new().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "u", "user": {"token": "hidden"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    });
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    (folder, Cluster { kubeconfig: Some(kubeconfig), ..Cluster::default() })
}

fn serve(stream: &TcpStream, answers: &Answers) {
    let mut reader = BufReader::new(stream);
    loop {
        let head: Vec<String> =
            reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let Some(request) = head.first() else { return };
        let path = request.split(' ').nth(1).unwrap_or_default();
        let len =
            head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        let mut asked = vec![0; len.unwrap_or_default()];
        if reader.read_exact(&mut asked).is_err() {
            return;
        }
        // What is asked by POST comes after its path.
        let (status, body) = answers(&format!("{path}{}", String::from_utf8_lossy(&asked)));
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = stream;
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn resources(version: &str, resources: &[(&str, &str, bool)]) -> Value {
    let resources: Vec<Value> = resources
        .iter()
        .map(|(name, kind, namespaced)| {
            json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["list", "get"]})
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
}

fn object(version: &str, kind: &str, namespace: Option<&str>, name: &str, more: Value) -> Value {
    let mut object = more;
    object["apiVersion"] = version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object["metadata"]["uid"] = "u-1".into();
    object["metadata"]["resourceVersion"] = "123".into();
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn list(items: &[Value], next: &str) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": next, "resourceVersion": "9"}, "items": items})
}

fn refusal(status: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status});
    (status, body)
}

fn answer(path: &str) -> (u16, Value) {
    let config = |n: u32| {
        object(
            "v1",
            "ConfigMap",
            Some("shop"),
            &format!("map-{n}"),
            json!({"data": {"text": "}]{[ \"quoted\" \\", "n": n.to_string()}}),
        )
    };
    let body = match path.split('?').next().unwrap_or_default() {
        "/version" => json!({"major": "1", "minor": "32", "gitVersion": "v1.32.9", "platform": "linux/amd64"}),
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "apps",
            "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
            "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}]}),
        "/api/v1" => resources(
            "v1",
            &[
                ("configmaps", "ConfigMap", true),
                ("events", "Event", true),
                ("pods", "Pod", true),
                ("secrets", "Secret", true),
                ("namespaces", "Namespace", false),
            ],
        ),
        "/apis/apps/v1" => resources("apps/v1", &[("deployments", "Deployment", true)]),
        // Two pages, as of a large cluster.
        "/api/v1/configmaps" if path.contains("continue=") => list(&[config(3)], ""),
        "/api/v1/configmaps" => list(&[config(1), config(2)], "next-page"),
        "/api/v1/pods" => list(
            &[
                object(
                    "v1",
                    "Pod",
                    Some("shop"),
                    "owned",
                    json!({"metadata": {"ownerReferences": [{"controller": true}]}}),
                ),
                object("v1", "Pod", Some("shop"), "own", json!({"status": {"phase": "Running"}})),
            ],
            "",
        ),
        "/api/v1/secrets" => list(&[], ""),
        "/api/v1/namespaces" => list(&[object("v1", "Namespace", None, "shop", json!({}))], ""),
        "/apis/apps/v1/deployments" => {
            list(&[object("apps/v1", "Deployment", Some("shop"), "web", json!({"spec": {"replicas": 3}}))], "")
        }
        "/api/v1/namespaces/shop/configmaps" => list(&[config(1)], ""),
        _ => return refusal(404, "NotFound", "the server could not find the requested resource"),
    };
    (200, body)
}

#[tokio::test]
async fn each_object_is_a_file_in_a_form_that_changes_only_with_it() {
    let (_folder, cluster) = actor(Arc::new(answer));
    let one = read(manifests(cluster.clone())).await.unwrap();
    let expected = [
        "shop/ConfigMap/map-1.json",
        "shop/ConfigMap/map-2.json",
        "shop/ConfigMap/map-3.json",
        "shop/Deployment.apps/web.json",
        "_cluster/Namespace/shop.json",
        "shop/Pod/own.json",
    ];
    assert_eq!(one.names(), expected);
    assert_eq!(
        (one.fact("server_version"), one.fact("object_count"), one.fact("derived_count")),
        ("v1.32.9", "6", "1")
    );
    let map: Value = serde_json::from_slice(&one.entry("shop/ConfigMap/map-1.json").data).unwrap();
    assert_eq!(map["data"]["text"], "}]{[ \"quoted\" \\");
    assert_eq!(map["metadata"], json!({"name": "map-1", "namespace": "shop"}));
    assert!(!String::from_utf8_lossy(&one.entry("shop/Pod/own.json").data).contains("status"));
    let two = read(manifests(cluster)).await.unwrap();
    assert!(one.entries.iter().zip(&two.entries).all(|(one, two)| one.data == two.data));
}

#[tokio::test]
async fn types_and_namespaces_are_selected() {
    let (_folder, mut cluster) = actor(Arc::new(answer));
    cluster.types = vec!["configmaps".into()];
    cluster.namespaces = vec!["shop".into()];
    assert_eq!(read(manifests(cluster.clone())).await.unwrap().names(), ["shop/ConfigMap/map-1.json"]);
    cluster.types = vec!["unicorns.example".into()];
    let words = failed(read(manifests(cluster)).await, Fault::Missing);
    assert!(words.contains("unicorns.example"), "{words}");
}

#[tokio::test]
async fn a_type_that_may_not_be_listed_is_an_error_unless_it_is_excluded() {
    let forbidding = |path: &str| match path.starts_with("/api/v1/secrets") {
        true => refusal(403, "Forbidden", "secrets is forbidden: User \"backup\" cannot list resource"),
        false => answer(path),
    };
    let (_folder, mut cluster) = actor(Arc::new(forbidding));
    let words = failed(read(manifests(cluster.clone())).await, Fault::Right);
    assert!(words.contains("secrets") && words.contains("exclude"), "{words}");
    cluster.excluded_types = vec!["secrets".into()];
    read(manifests(cluster)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_us_or_is_not_there_is_named() {
    let (_folder, cluster) = actor(Arc::new(|_: &str| refusal(401, "Unauthorized", "Unauthorized")));
    let words = failed(read(manifests(cluster)).await, Fault::Login);
    assert!(!words.contains("hidden"), "{words}");
    let (_folder, cluster) = cluster_at(free_port());
    failed(read(manifests(cluster)).await, Fault::Unreachable);
    let (_folder, mut cluster) = cluster_at(1);
    cluster.context = Some("nowhere".into());
    let words = failed(read(manifests(cluster)).await, Fault::Missing);
    assert!(words.contains("context nowhere"), "{words}");
}

/// A script in the place of kubectl, for what no server can be made to do.
fn scripted(script: &str) -> (TempDir, Cluster) {
    let folder = TempDir::new().unwrap();
    let kubectl: PathBuf = folder.path().join("kubectl");
    let answers = "case $1 in version) echo '{}';; api-resources) echo configmaps;;";
    std::fs::write(&kubectl, format!("#!/bin/sh\n{answers} get) {script};; esac\n")).unwrap();
    printed(std::process::Command::new("chmod").arg("755").arg(&kubectl));
    (folder, Cluster { kubectl: Some(kubectl), ..Cluster::default() })
}

#[tokio::test]
async fn a_list_that_is_cut_or_no_list_is_no_backup() {
    let (_folder, cluster) = scripted("printf '{\"items\":[{\"a\":1}'");
    failed(read(manifests(cluster)).await, Fault::Protocol);
    let (_folder, cluster) = scripted("printf '{\"items\":['");
    failed(read(manifests(cluster)).await, Fault::Incomplete);
    let (_folder, cluster) = scripted("echo nonsense");
    failed(read(manifests(cluster)).await, Fault::Protocol);
    let (_folder, cluster) = scripted("printf '{\"items\":[]}'; kill -9 $$");
    failed(read(manifests(cluster)).await, Fault::Incomplete);
    let (_folder, mut cluster) = scripted("sleep 100");
    cluster.patience = Patience { idle_for: Some(Duration::from_millis(300)), total_for: None };
    failed(read(manifests(cluster)).await, Fault::Busy);
}
