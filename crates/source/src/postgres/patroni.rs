//! Patroni: which servers a cluster has now, by the REST interface of any of its members.
//!
//! ```text
//! GET /cluster of the first member that answers → replicas in step, then the leader, then replicas behind
//! ```
//!
//! Source: Patroni documentation, "Patroni REST API".
//!
//! Invariant: what Patroni says is only where to look; each server still has to let us in.
//! Never here: connecting to Postgres.

use std::time::Duration;

use futures::StreamExt as _;
use serde::Deserialize;

use super::address::Host;
use crate::error::{Fault, SourceError, with_causes};
use crate::tls::Tls;

/// How long one member may take to answer.
const ANSWER_FOR: Duration = Duration::from_secs(5);
/// The longest answer, in bytes: a member takes some hundred.
const ANSWER_LEN_MAX: usize = 1024 * 1024;
/// By how much a replica may be behind to be preferred, in bytes of log.
const LAG_MAX: u64 = 16 * 1024 * 1024;

/// Where a cluster's members answer.
#[derive(Debug, Clone, Default)]
pub struct Patroni {
    /// URLs of their REST interfaces, such as `http://10.0.0.1:8008`; asked in this order.
    pub endpoints: Vec<String>,
    /// For `https://`.
    pub tls: Tls,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    role: String,
    #[serde(default)]
    state: String,
    host: Option<String>,
    port: Option<u16>,
    /// A number, or the word `unknown`.
    lag: Option<serde_json::Value>,
    #[serde(default)]
    tags: serde_json::Value,
}

impl Patroni {
    /// The cluster's servers, the best for a backup first.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] with [`Fault::Unreachable`] if no member answers, with [`Fault::Missing`] if none of the
    /// cluster's servers runs.
    pub async fn hosts(&self) -> Result<Vec<Host>, SourceError> {
        let mut last = SourceError::server("patroni", Fault::Setting, "no member was named");
        for endpoint in &self.endpoints {
            let place = format!("patroni at {endpoint}");
            match self.cluster(&place, endpoint).await {
                Ok(cluster) => return ranked(&place, cluster),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn cluster(&self, place: &str, endpoint: &str) -> Result<Cluster, SourceError> {
        let failed = |fault, what: String| SourceError::server(place, fault, what);
        let unreachable = |error: reqwest::Error| failed(Fault::Unreachable, with_causes(&error.without_url()));
        let config = match endpoint.starts_with("https:") {
            true => self.tls.client(place).await?,
            false => Tls::of_nobody(place)?,
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_FOR)
            .build()
            .map_err(unreachable)?;
        let url = format!("{}/cluster", endpoint.trim_end_matches('/'));
        let answer = client.get(url).send().await.map_err(unreachable)?;
        if !answer.status().is_success() {
            return Err(failed(Fault::Unreachable, format!("it answers {}", answer.status())));
        }
        let mut body = Vec::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(unreachable)?);
            if body.len() > ANSWER_LEN_MAX {
                return Err(failed(Fault::Protocol, "its answer has no end".to_owned()));
            }
        }
        serde_json::from_slice(&body)
            .map_err(|error| failed(Fault::Protocol, format!("its answer is not that of Patroni: {error}")))
    }
}

impl Member {
    /// The least is the best; none for who cannot be read.
    fn rank(&self) -> Option<(u8, u64)> {
        let is_running = matches!(self.state.as_str(), "running" | "streaming" | "in archive recovery");
        let is_spared = self.tags.get("noloadbalance").and_then(serde_json::Value::as_bool).unwrap_or(false);
        let lag = self.lag.as_ref().map_or(Some(0), serde_json::Value::as_u64);
        match (self.role.as_str(), lag) {
            _ if !is_running => None,
            ("leader" | "master" | "primary" | "standby_leader", _) => Some((1, 0)),
            (_, Some(lag)) if lag <= LAG_MAX && !is_spared => Some((0, lag)),
            (_, lag) => Some((2, lag.unwrap_or(u64::MAX))),
        }
    }
}

fn ranked(place: &str, cluster: Cluster) -> Result<Vec<Host>, SourceError> {
    let member = |member: &Member| Some((member.rank()?, Host::new(member.host.as_deref()?, member.port?)));
    let mut found: Vec<_> = cluster.members.iter().filter_map(member).collect();
    found.sort_by_key(|(rank, _)| *rank);
    match found.is_empty() {
        true => Err(SourceError::server(place, Fault::Missing, "none of the cluster's servers runs")),
        false => Ok(found.into_iter().map(|(_, host)| host).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(members: &str) -> Result<String, SourceError> {
        let cluster = serde_json::from_str(&format!("{{\"members\": [{members}], \"scope\": \"x\"}}")).unwrap();
        Ok(ranked("patroni at x", cluster)?.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn replicas_in_step_come_first_and_those_behind_after_the_leader() {
        let members = r#"
            {"name": "a", "role": "leader", "state": "running", "host": "a", "port": 1, "timeline": 3},
            {"name": "b", "role": "replica", "state": "streaming", "host": "b", "port": 2, "lag": 900000000},
            {"name": "c", "role": "sync_standby", "state": "running", "host": "c", "port": 3, "lag": 5},
            {"name": "d", "role": "replica", "state": "start failed", "host": "d", "port": 4, "lag": "unknown"},
            {"name": "e", "role": "replica", "state": "streaming", "host": "e", "port": 5, "lag": 0},
            {"name": "f", "role": "replica", "state": "running", "host": "f", "port": 6, "lag": "unknown"},
            {"name": "g", "role": "replica", "state": "running", "host": "g", "port": 7, "lag": 0,
             "tags": {"noloadbalance": true}},
            {"name": "h", "role": "replica", "state": "creating replica"}"#;
        assert_eq!(shown(members).unwrap(), "e:5 c:3 a:1 g:7 b:2 f:6");
        let error =
            shown(r#"{"name": "d", "role": "replica", "state": "stopped", "host": "d", "port": 4}"#).unwrap_err();
        assert!(error.to_string().contains("none of the cluster's servers runs"), "{error}");
    }
}
