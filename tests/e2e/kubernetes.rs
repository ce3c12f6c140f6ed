//! Objects of a real Kubernetes API server as a component of a job: stored, listed, and applied to a fresh cluster.
//!
//! Invariant: what a secret holds, and the token by which it was read, are nowhere in clear.
//! Never here: the form of objects, and lists that no server sends (see the tests of `source`).

use std::path::Path;
use std::process::Command;

use harness::binary::{Host, Ran, Run as _, shell};
use harness::servers::kubernetes::{ADMIN, Cluster, MEEK, TYPES};
use serde_json::Value;

/// What only the cluster and what was restored may show: a secret's content, as it is and as the cluster writes it.
const SECRETS: [&str; 4] = ["hunter2", "aHVudGVyMg", ADMIN, MEEK];

fn source(name: &str, kubeconfig: &Path, types: &[&str], more: &str) -> String {
    format!(
        "[sources.{name}]\nkind = \"kubernetes\"\nkubeconfig = \"{}\"\ntypes = {types:?}\n{more}\n[jobs.{name}]\n\
         sources = [\"{name}\"]\n",
        kubeconfig.display()
    )
}

fn configure(host: &Host, sources: &[String]) {
    let repository = host.repository();
    host.write(
        "backstay.toml",
        format!("[repositories.main]\nurl = \"{}\"\n{}", repository.display(), sources.concat()),
    );
}

fn command(host: &Host, words: &[&str]) -> Command {
    let mut command = host.backstay(["-vvv"]);
    command.args(words).current_dir(host.path(""));
    command
}

/// Runs a job that must succeed, and gives its component.
fn ran(host: &Host, job: &str) -> Value {
    let ran = kept(command(host, &["--json", "run", job]).run().expect_code(0));
    ran.json()["components"][0].clone()
}

/// What it printed holds no secret.
#[track_caller]
fn kept(ran: Ran) -> Ran {
    for secret in SECRETS {
        assert!(!ran.stderr.contains(secret) && !ran.text().contains(secret), "{secret}: {ran}");
    }
    ran
}

fn nothing_shows_a_secret(folder: &Path) {
    for name in shell(folder, "find . -type f").lines() {
        let bytes = std::fs::read(folder.join(name)).expect("our own file");
        for secret in SECRETS {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{name} in {} shows {secret}", folder.display());
        }
    }
}

#[test]
fn objects_of_a_cluster_come_back_in_a_fresh_one_and_their_secrets_are_sealed() {
    let (mut one, host) = (Cluster::start(), Host::with_repository());
    one.fill();
    let two = Cluster::start();
    let (from, to) = (one.kubeconfig(ADMIN), two.kubeconfig(ADMIN));
    let types = ["configmaps", "namespaces", "secrets"];
    configure(
        &host,
        &[
            source("cluster", &from, &TYPES, ""),
            source("fresh", &to, &TYPES, ""),
            source("meek", &one.kubeconfig(MEEK), &types, ""),
            source("less", &one.kubeconfig(MEEK), &types, "exclude_types = [\"secrets\"]\nnamespaces = [\"shop\"]"),
            source("stranger", &one.kubeconfig("hunter2"), &types, ""),
            source("odd", &from, &["unicorns.example"], ""),
            source("lost", Path::new("/nowhere/config"), &types, ""),
        ],
    );
    let first = ran(&host, "cluster");
    assert_eq!((&first["kind"], &first["state"]), (&"kubernetes".into(), &"complete".into()), "{first}");
    assert!(first["facts"]["server_version"].as_str().is_some_and(|version| version.starts_with('v')), "{first}");

    // A cluster in which nothing changed stores next to nothing, and one object that did about as much as it is long.
    let idle = ran(&host, "cluster");
    let of = |component: &Value, field: &str| component[field].as_u64().expect("a count");
    assert_eq!((of(&idle, "new_len"), of(&idle, "content_len")), (0, of(&first, "content_len")), "{idle}");
    one.ask(&["-n", "shop", "patch", "configmap", "app", "-p", r#"{"data": {"later": "value"}}"#]);
    let changed = ran(&host, "cluster");
    assert!((1..20_000).contains(&of(&changed, "new_len")), "{changed}");
    let listed = kept(command(&host, &["ls", "latest", "--source", "cluster"]).run().expect_code(0));
    for name in ["shop/Secret/db.json", "_cluster/ClusterRole.rbac.authorization.k8s.io/odd:role.json"] {
        assert!(listed.text().lines().any(|line| line.ends_with(name)), "{name}: {listed}");
    }
    let shown = host.backstay(["cat", "latest:shop/ConfigMap/app.json", "--source", "cluster"]).run().expect_code(0);
    assert_eq!(shown.json()["data"]["later"], "value");

    comes_back(&host, &two, &to);
    is_refused(&host, &mut one);
    nothing_shows_a_secret(&host.repository());
    nothing_shows_a_secret(&host.path("cache"));
    host.check();
}

/// By the commands that the restore prints; what is then backed up of the fresh cluster is the same, byte for byte.
fn comes_back(host: &Host, fresh: &Cluster, kubeconfig: &Path) {
    let folder = host.path("restored");
    let restore = ["--json", "restore", "latest", "cluster", "--source", "cluster", "--to"];
    let plan = kept(command(host, &restore).arg(&folder).run().expect_code(0)).json();
    let steps = plan["next_steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 2, "{plan}");
    for step in steps.iter().filter_map(|step| step["command"].as_str()) {
        shell(&host.path(""), &format!("export KUBECONFIG='{}'\n{step} >/dev/null", kubeconfig.display()));
        fresh.wait_until_defined();
    }
    ran(host, "fresh");
    let again = host.path("again");
    command(host, &["restore", "latest", "fresh", "--source", "fresh", "--to"]).arg(&again).run().expect_code(0);
    shell(&host.path(""), "diff -r restored again");
    assert!(folder.join("shop/Cron.shop.example/c.json").exists());
}

/// Types that may not be listed, wrong tokens, and a server that is down: nothing is committed.
fn is_refused(host: &Host, cluster: &mut Cluster) {
    cluster.ask(&["create", "clusterrole", "lists", "--verb=list", "--resource=configmaps,namespaces"]);
    cluster.ask(&["create", "clusterrolebinding", "meek", "--clusterrole=lists", "--user=meek"]);
    assert_eq!(ran(host, "less")["facts"]["object_count"], "1", "the config map of one namespace");
    let committed = host.snapshots();
    let refused = |job: &str, reason: &str, hint: &str| {
        let ran = kept(command(host, &["run", job]).run().expect_code(2)).says(&[reason, hint]);
        assert_eq!(host.snapshots(), committed, "{ran}");
    };
    refused("meek", "secrets is forbidden", "exclude");
    refused("stranger", "must be logged in", "hint: correct the user or the password");
    refused("odd", "there is no type unicorns.example", "hint: ");
    refused("lost", "/nowhere/config", "hint: correct");
    let checked = kept(command(host, &["config", "check"]).run().expect_code(1));
    assert!(checked.text().contains("may not list secrets"), "{checked}");
    cluster.stop();
    refused("cluster", "refused", "hint: see that it runs");
}
