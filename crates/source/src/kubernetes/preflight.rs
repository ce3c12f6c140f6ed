//! Whether a cluster's objects could be listed now.
//!
//! Never here: the objects.

use futures::StreamExt as _;

use super::read::{Cluster, answer, chosen, scopes, version_of};
use crate::command::{Producer, ProducerStatus};
use crate::error::{Fault, SourceError};
use crate::preflight::Preflight;

/// Calls of kubectl at once.
const CALLS_MAX: usize = 4;
/// How many types are named.
const NAMED_MAX: usize = 5;

/// Asks the cluster for its version and types, and for each type whether we may list it: one call of kubectl each.
pub async fn preflight(cluster: &Cluster) -> Preflight {
    let mut told = Preflight::default();
    if let Err(error) = ask(cluster, &mut told).await {
        told.refused(&error, |fault, _| advice(fault));
    }
    told
}

async fn ask(cluster: &Cluster, told: &mut Preflight) -> Result<(), SourceError> {
    let place = cluster.place();
    let versions = answer(cluster, &cluster.command(&["version", "-o", "json"])).await?;
    let names = answer(cluster, &cluster.command(&["api-resources", "--verbs=list", "-o", "name"])).await?;
    let types = chosen(cluster, &String::from_utf8_lossy(&names))?;
    let (server, client) = (version_of(&versions, "serverVersion"), version_of(&versions, "clientVersion"));
    told.fine(format!("{place}: version {server}, asked by kubectl {client}"));
    let asked = types.iter().flat_map(|name| scopes(cluster).into_iter().map(move |scope| (name, scope)));
    let answers = futures::stream::iter(
        asked.map(|(name, scope)| async move { Ok::<_, SourceError>((name, may_list(cluster, name, &scope).await?)) }),
    );
    let mut forbidden = Vec::new();
    let mut answers = std::pin::pin!(answers.buffered(CALLS_MAX));
    while let Some(answer) = answers.next().await {
        let (name, may) = answer?;
        if !may && forbidden.last() != Some(name) {
            forbidden.push(name.clone());
        }
    }
    if forbidden.is_empty() {
        told.fine(format!("{place}: may list all of {} types", types.len()));
        return Ok(());
    }
    let named = forbidden.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = forbidden.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    told.problem(format!("{place}: may not list {named}{more}"), "grant the verb list on them, by a ClusterRole");
    Ok(())
}

/// Whether we may list a type. kubectl answers with its exit status: 1 is no.
async fn may_list(cluster: &Cluster, name: &str, scope: &str) -> Result<bool, SourceError> {
    let command = cluster.command(&["auth", "can-i", "list", name, scope, "--quiet"]);
    let mut producer = Producer::spawn(&command, |_| {})?.with_patience(cluster.patience);
    while let Some(data) = producer.next().await {
        data?;
    }
    Ok(producer.finish().await?.status == ProducerStatus::Exited(0))
}

fn advice(fault: Fault) -> Option<String> {
    let advice = match fault {
        Fault::Unreachable => "see that the context leads to a cluster that runs: kubectl cluster-info",
        Fault::Login => "renew the credentials of the kubeconfig",
        Fault::Setting | Fault::Missing => "correct kubeconfig and context: kubectl config get-contexts",
        _ => return None,
    };
    Some(advice.to_owned())
}
