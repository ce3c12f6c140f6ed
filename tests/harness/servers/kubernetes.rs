//! A real API server over a private etcd, without controllers: what is declared stays as it is, and nothing else is there.
//!
//! `scripts/kube-apiserver.sh` builds the server. Its own etcd listens on loopback, as it does.
//!
//! Invariant: both are killed, and their folder removed, when it is dropped.
//! Never here: the code under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::stores::{Running, free_port, until};

/// The token of who may do everything.
pub const ADMIN: &str = "hidden-token-of-admin";
/// The token of a user called meek, who may do nothing until somebody grants it.
pub const MEEK: &str = "hidden-token-of-meek";

/// A namespace with a secret and more in it, a role with a name that is odd, and a type of our own.
pub const OBJECTS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
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
/// An object of the type of our own, with numbers that no float holds.
pub const CUSTOM: &str = r#"{"apiVersion": "shop.example/v1", "kind": "Cron", "metadata": {"name": "c", "namespace": "shop"},
    "spec": {"factor": 0.1234567890123456, "count": 9007199254740993}}"#;
/// The types of [`OBJECTS`] and [`CUSTOM`], which are quicker to list than all.
pub const TYPES: [&str; 8] = [
    "clusterroles.rbac.authorization.k8s.io",
    "configmaps",
    "crons.shop.example",
    "customresourcedefinitions.apiextensions.k8s.io",
    "deployments.apps",
    "namespaces",
    "secrets",
    "services",
];

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    port: u16,
    _etcd: Running,
    server: Option<Running>,
}

impl Cluster {
    /// Starts an empty one, and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("backstay-kube-").expect("a temporary folder");
        let [client, peer, port] = [free_port(), free_port(), free_port()];
        let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", "one", "--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer, "--unsafe-no-fsync"]);
        etcd.args(["--initial-cluster", &format!("one={peer}"), "--data-dir", &path("etcd")]);
        let made =
            Command::new("openssl").args(["genrsa", "-out", &path("key"), "2048"]).stderr(Stdio::null()).status();
        assert!(made.is_ok_and(|status| status.success()), "openssl makes no key");
        let tokens = format!("{ADMIN},admin,1,system:masters\n{MEEK},meek,2\n");
        fs::write(path("tokens"), tokens).expect("our own folder");
        let mut server = Command::new(program());
        server.args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC", "--service-account-issuer=https://x"]);
        server.args(["--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.0.0.0/24"]);
        server.arg(format!("--etcd-servers={client}")).arg(format!("--secure-port={port}"));
        server.arg(format!("--cert-dir={}", path("certs"))).arg(format!("--token-auth-file={}", path("tokens")));
        server.arg(format!("--service-account-key-file={}", path("key")));
        server.arg(format!("--service-account-signing-key-file={}", path("key")));
        let (etcd, server) = (Running::start(&mut etcd), Running::start(&mut server));
        let cluster = Self { folder, port, _etcd: etcd, server: Some(server) };
        let is_done = |words: &[&str]| cluster.kubectl(words).output().is_ok_and(|output| output.status.success());
        until("the API server", || is_done(&["get", "--raw", "/readyz"]));
        until("the first namespace", || is_done(&["get", "namespace", "default"]));
        cluster
    }

    /// A kubeconfig of whoever holds this token; tokens of one length share one.
    #[must_use]
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        let server = format!("https://127.0.0.1:{}", self.port);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
        });
        let path = self.folder.path().join(format!("config-{}", token.len()));
        fs::write(&path, config.to_string()).expect("our own folder");
        path
    }

    /// kubectl as who may do everything.
    #[must_use]
    pub fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig(ADMIN)).args(words).stdin(Stdio::null());
        command
    }

    /// Runs kubectl, which must succeed, and gives what it printed.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.kubectl(words).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes [`OBJECTS`] and [`CUSTOM`].
    pub fn fill(&self) {
        for (name, content) in [("objects.json", OBJECTS), ("custom.json", CUSTOM)] {
            let path = self.folder.path().join(name);
            fs::write(&path, content).expect("our own folder");
            self.ask(&["create", "-f", &path.display().to_string()]);
            self.wait_until_defined();
        }
    }

    /// Waits until the type of our own can be listed.
    pub fn wait_until_defined(&self) {
        let is_there = || self.kubectl(&["get", "crons", "-A"]).output().is_ok_and(|output| output.status.success());
        until("the new type", is_there);
    }

    /// Kills the API server; the rest stays.
    pub fn stop(&mut self) {
        drop(self.server.take());
    }

    /// A folder of its own, gone with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
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
