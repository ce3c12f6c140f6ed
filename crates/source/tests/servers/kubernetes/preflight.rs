//! Whether a cluster's objects could be listed, asked through the real kubectl.

use std::sync::Arc;

use serde_json::json;
use source::Verdict;
use source::kubernetes::{Cluster, preflight};

use super::{actor, answer, cluster_at, free_port, refusal};
use crate::preflight::finds;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

#[tokio::test]
async fn what_may_not_be_listed_is_named_and_what_is_not_wanted_is_not_asked() {
    let reviewing = |path: &str| match path.strip_prefix(REVIEWS) {
        Some(asked) => {
            // kubectl asks in protobuf: the words are in it as they are.
            assert!(asked.contains("list"), "{asked}");
            let allowed = !asked.contains("secrets");
            (
                201,
                json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "status": {"allowed": allowed}}),
            )
        }
        None => answer(path),
    };
    let (_folder, mut cluster) = actor(Arc::new(reviewing));
    finds(&preflight(&cluster).await, Verdict::Problem, "may not list secrets", "ClusterRole");
    cluster.excluded_types = vec!["secrets".into()];
    let told = preflight(&cluster).await;
    finds(&told, Verdict::Fine, "version v1.32.9", "");
    finds(&told, Verdict::Fine, "may list all of 4 types", "");
}

#[tokio::test]
async fn clusters_that_refuse_or_are_not_there_and_a_missing_kubectl_are_told() {
    let (_folder, cluster) = actor(Arc::new(|_: &str| refusal(401, "Unauthorized", "Unauthorized")));
    finds(&preflight(&cluster).await, Verdict::Problem, "kubernetes in the current context", "credentials");
    let (_folder, mut cluster) = cluster_at(free_port());
    finds(&preflight(&cluster).await, Verdict::Problem, "refused", "kubectl cluster-info");
    cluster.context = Some("nowhere".into());
    finds(&preflight(&cluster).await, Verdict::Problem, "nowhere", "kubectl config get-contexts");
    cluster = Cluster { kubectl: Some("/nowhere/kubectl".into()), ..cluster };
    finds(&preflight(&cluster).await, Verdict::Problem, "/nowhere/kubectl", "install the program");
}
