//! A real API server over a private etcd, which nothing but our own objects is in, and a second one that they come back to.
//!
//! `scripts/kube-apiserver.sh` builds it. There are no controllers: what is declared stays as it is.

use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::running::{Read, Running, until};

struct Api {
    folder: TempDir,
    _etcd: Running,
    _server: Running,
}

impl Api {
    fn start() -> Self {
        let folder = TempDir::with_prefix("backstay-kube-").unwrap();
        let [client, peer, port] = [free_port(), free_port(), free_port()];
        let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", "one", "--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer, "--unsafe-no-fsync"]);
        etcd.args(["--initial-cluster", &format!("one={peer}"), "--data-dir", &path("etcd")]);
        printed(Command::new("openssl").args(["genrsa", "-out", &path("key"), "2048"]));
        std::fs::write(path("tokens"), "hidden,admin,1,system:masters\n").unwrap();
        let mut server = Command::new(program());
        server.args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC", "--service-account-issuer=https://x"]);
        server.args(["--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.0.0.0/24"]);
        server.arg(format!("--etcd-servers={client}")).arg(format!("--secure-port={port}"));
        server.arg(format!("--cert-dir={}", path("certs"))).arg(format!("--token-auth-file={}", path("tokens")));
        server.arg(format!("--service-account-key-file={}", path("key")));
        server.arg(format!("--service-account-signing-key-file={}", path("key")));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": "hidden"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
        });
        std::fs::write(path("config"), config.to_string()).unwrap();
        let (etcd, server) = (Running::start(&mut etcd), Running::start(&mut server));
        let api = Self { folder, _etcd: etcd, _server: server };
        until(|| api.kubectl(&["get", "--raw", "/readyz"]).output().is_ok_and(|output| output.status.success()));
        until(|| api.kubectl(&["get", "namespace", "default"]).output().is_ok_and(|output| output.status.success()));
        api
    }

    fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.folder.path().join("config")).args(words).stdin(Stdio::null());
        command
    }

    fn cluster(&self) -> Cluster {
        Cluster { kubeconfig: Some(self.folder.path().join("config")), ..Cluster::default() }
    }

    /// Makes the objects that lie in a file.
    fn create(&self, file: &Path) {
        printed(self.kubectl(&["create", "-f"]).arg(file));
    }
}

/// The server, wherever `scripts/kube-apiserver.sh` put it.
fn program() -> PathBuf {
    let cache = std::env::var_os("BACKSTAY_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/backstay")));
    let program = cache.expect("a home").join("bin/kube-apiserver");
    assert!(program.exists(), "{} is missing: scripts/kube-apiserver.sh builds it", program.display());
    program
}

const OBJECTS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "shop"}, "data": {"password": "aHVudGVyMg=="}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app", "namespace": "shop"}, "data": {"a": "}]{ \"q\" \\ ü"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
     "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}},
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
     "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "odd:role"},
     "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crons.shop.example"},
     "spec": {"group": "shop.example", "scope": "Namespaced", "names": {"plural": "crons", "singular": "cron", "kind": "Cron"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}
]}"#;
const CUSTOM: &str = r#"{"apiVersion": "shop.example/v1", "kind": "Cron", "metadata": {"name": "c", "namespace": "shop"},
    "spec": {"factor": 0.1234567890123456, "count": 9007199254740993}}"#;

fn wanted(read: &Read) -> Vec<(String, &[u8])> {
    let is_ours = |name: &str| {
        name.starts_with("shop/") || name.contains("/shop") || name.contains("odd:role") || name.contains("crons.")
    };
    read.entries.iter().filter(|entry| is_ours(&entry.name)).map(|entry| (entry.name.clone(), &*entry.data)).collect()
}

/// The types of our own objects, which are quicker to list than all.
fn ours(api: &Api) -> Cluster {
    let types = [
        "clusterroles.rbac.authorization.k8s.io",
        "configmaps",
        "crons.shop.example",
        "deployments.apps",
        "namespaces",
    ];
    let types = [types.as_slice(), &["customresourcedefinitions.apiextensions.k8s.io", "secrets", "services"]].concat();
    Cluster { types: types.into_iter().map(str::to_owned).collect(), ..api.cluster() }
}

/// Waits until the new type can be listed.
fn define(api: &Api) {
    until(|| api.kubectl(&["get", "crons", "-A"]).output().is_ok_and(|output| output.status.success()));
}

#[tokio::test]
async fn the_objects_of_a_real_cluster_come_back_in_a_fresh_one() {
    let one = Api::start();
    let (objects, custom) = (one.folder.path().join("objects.json"), one.folder.path().join("custom.json"));
    std::fs::write(&objects, OBJECTS).unwrap();
    std::fs::write(&custom, CUSTOM).unwrap();
    one.create(&objects);
    define(&one);
    one.create(&custom);
    let read_one = read(manifests(one.cluster())).await.unwrap();
    assert!(
        read_one.fact("server_version").starts_with('v') && read_one.fact("object_count").parse::<u64>().unwrap() > 8
    );
    let names: Vec<String> = wanted(&read_one).into_iter().map(|(name, _)| name).collect();
    for name in [
        "_cluster/ClusterRole.rbac.authorization.k8s.io/odd:role.json",
        "_cluster/CustomResourceDefinition.apiextensions.k8s.io/crons.shop.example.json",
        "_cluster/Namespace/shop.json",
        "shop/ConfigMap/app.json",
        "shop/Cron.shop.example/c.json",
        "shop/Deployment.apps/web.json",
        "shop/Secret/db.json",
        "shop/Service/web.json",
    ] {
        assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
    }
    let custom: Value = serde_json::from_slice(&read_one.entry("shop/Cron.shop.example/c.json").data).unwrap();
    assert_eq!(custom["spec"], json!({"factor": 0.1234567890123456, "count": 9_007_199_254_740_993_u64}));
    let again = read(manifests(ours(&one))).await.unwrap();
    assert_eq!(wanted(&again), wanted(&read_one), "nothing changed");

    // In the order in which one would: what belongs to the cluster, then the rest.
    let two = Api::start();
    let folder = two.folder.path().join("restored");
    for (name, data) in wanted(&read_one) {
        let path = folder.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }
    let apply = |below: &str| printed(two.kubectl(&["apply", "-R", "-f"]).arg(folder.join(below)));
    apply("_cluster");
    define(&two);
    apply("shop");
    let read_two = read(manifests(ours(&two))).await.unwrap();
    assert_eq!(wanted(&read_two), wanted(&read_one), "what came back is what was there");
}
