//! A real API server, which nothing but our own objects is in, and a second one that they come back to.

use super::*;
use crate::kubernetes_cluster::{ADMIN, Cluster as Api, TYPES};
use crate::running::Read;

fn cluster(api: &Api) -> Cluster {
    Cluster { kubeconfig: Some(api.kubeconfig(ADMIN)), ..Cluster::default() }
}

fn wanted(read: &Read) -> Vec<(String, &[u8])> {
    let is_ours = |name: &str| {
        name.starts_with("shop/") || name.contains("/shop") || name.contains("odd:role") || name.contains("crons.")
    };
    read.entries.iter().filter(|entry| is_ours(&entry.name)).map(|entry| (entry.name.clone(), &*entry.data)).collect()
}

/// The types of our own objects, which are quicker to list than all.
fn ours(api: &Api) -> Cluster {
    Cluster { types: TYPES.map(str::to_owned).to_vec(), ..cluster(api) }
}

#[tokio::test]
async fn the_objects_of_a_real_cluster_come_back_in_a_fresh_one() {
    let one = Api::start();
    one.fill();
    let read_one = read(manifests(cluster(&one))).await.unwrap();
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
    let folder = two.folder().join("restored");
    for (name, data) in wanted(&read_one) {
        let path = folder.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }
    let apply = |below: &str| two.ask(&["apply", "-R", "-f", &folder.join(below).display().to_string()]);
    apply("_cluster");
    two.wait_until_defined();
    apply("shop");
    let read_two = read(manifests(ours(&two))).await.unwrap();
    assert_eq!(wanted(&read_two), wanted(&read_one), "what came back is what was there");
}
