//! The snapshot of the best of several members, as events.
//!
//! Never here: gRPC's messages.

use std::time::Duration;

use async_stream::try_stream;
use futures::StreamExt as _;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use super::messages::{Member, StatusResponse};
use super::trailer::SnapshotEnd;
use crate::blocking;
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, escaped};
use crate::error::{Fault, SourceError, with_causes};
use crate::events::{Event, Events, Layout, SourceEntry};
use crate::secret::Secret;
use crate::tls::Tls;

/// Pages of etcd's database, in bytes.
const PAGE_LEN: u32 = 4096;
/// How long a member may take to be reached: several may have to be tried.
const CONNECT_FOR: Duration = Duration::from_secs(10);
/// How long a member may be silent unless told otherwise.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// Which members, and who we are there.
#[derive(Debug, Clone)]
pub struct EtcdSnapshot {
    /// Client URLs, such as `https://10.0.0.1:2379`. One of them is read: a follower if it answers.
    pub endpoints: Vec<String>,
    /// A user with the role `root`, where authentication is on.
    pub user: Option<(String, Secret)>,
    /// For `https://`.
    pub tls: Tls,
    /// How long a member may be silent.
    pub idle_for: Duration,
}

impl EtcdSnapshot {
    /// These members, without a user.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, user: None, tls: Tls::default(), idle_for: IDLE_FOR }
    }
}

/// Reads the one entry `snapshot.db`.
///
/// Facts: `server`, `server_version`, `cluster_id`, `member_id` (hexadecimal), `role`, `revision` (at the beginning:
/// the snapshot has at least this one), `raft_index`, `raft_term`.
///
/// The stream fails with [`SourceError::Server`]; what came before is then not to be kept.
#[must_use]
pub fn snapshot(request: EtcdSnapshot) -> Events {
    let events = try_stream! {
        let (mut chosen, warnings) = choose(&request).await?;
        for warning in warnings {
            yield Event::Warning(warning);
        }
        let place = chosen.place.clone();
        let called = timeout(request.idle_for, chosen.member.snapshot()).await;
        let mut blobs = called.map_err(|_| silent(&place, request.idle_for))?.map_err(|error| refused(&place, &error))?;
        let path = EntryPath::try_from(b"snapshot.db".to_vec())?;
        let metadata = Metadata { mode: 0o600, ..Metadata::default() };
        let entry = Entry { path, kind: EntryKind::File { len: 0 }, metadata };
        yield Event::Begin(SourceEntry { entry, layout: Layout::Pages(PAGE_LEN), base: None });
        let mut end = SnapshotEnd::default();
        let mut remaining = 0;
        loop {
            let next = timeout(request.idle_for, blobs.message()).await;
            let next = next.map_err(|_| silent(&place, request.idle_for))?.map_err(|error| cut(&place, &error))?;
            let Some(answer) = next else { break };
            remaining = answer.remaining_bytes;
            if !answer.blob.is_empty() {
                end.push(&answer.blob);
                yield Event::Data(answer.blob);
            }
        }
        if remaining > 0 {
            let what = format!("it ended the snapshot {remaining} bytes too early");
            Err(SourceError::server(&place, Fault::Incomplete, what))?;
        }
        end.finish().map_err(|why| SourceError::server(&place, Fault::Damaged, why))?;
        yield Event::End;
        for (name, value) in chosen.facts() {
            yield Event::Fact { name: name.to_owned(), value };
        }
    };
    events.boxed()
}

/// A member that answers.
pub(super) struct Candidate {
    pub(super) place: String,
    pub(super) member: Member,
    pub(super) status: StatusResponse,
}

impl Candidate {
    pub(super) fn is_leader(&self) -> bool {
        self.status.header.as_ref().is_some_and(|header| header.member_id == self.status.leader)
    }

    /// The least is the best: a follower, then the leader, then what is not in step.
    fn rank(&self) -> (bool, bool, u64) {
        let is_out = self.status.is_learner || self.status.leader == 0 || !self.status.errors.is_empty();
        (is_out, self.is_leader(), u64::MAX - self.status.raft_index)
    }

    fn facts(self) -> Vec<(&'static str, String)> {
        let role = if self.is_leader() { "leader" } else { "follower" };
        let header = self.status.header.unwrap_or_default();
        vec![
            ("server", self.place),
            ("server_version", self.status.version),
            ("cluster_id", format!("{:x}", header.cluster_id)),
            ("member_id", format!("{:x}", header.member_id)),
            ("role", role.to_owned()),
            ("revision", header.revision.to_string()),
            ("raft_index", self.status.raft_index.to_string()),
            ("raft_term", header.raft_term.to_string()),
        ]
    }
}

pub(super) async fn choose(request: &EtcdSnapshot) -> Result<(Candidate, Vec<String>), SourceError> {
    let mut best: Option<Candidate> = None;
    let mut failures = Vec::new();
    for endpoint in &request.endpoints {
        match enter(request, endpoint).await {
            Ok(found) if best.as_ref().is_none_or(|best| found.rank() < best.rank()) => best = Some(found),
            Ok(_) => {}
            Err(error) => failures.push(error),
        }
    }
    let Some(best) = best else {
        let none = || SourceError::server("etcd", Fault::Missing, "no endpoint was named");
        return Err(failures.into_iter().next().unwrap_or_else(none));
    };
    let mut warnings: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let alarms = best.status.errors.iter();
    warnings.extend(alarms.map(|alarm| format!("{}: {}", best.place, escaped(alarm.as_bytes()))));
    Ok((best, warnings))
}

async fn enter(request: &EtcdSnapshot, url: &str) -> Result<Candidate, SourceError> {
    let place = format!("etcd at {}", without_credentials(url));
    let wrong = |error: tonic::transport::Error| SourceError::server(&place, Fault::Setting, with_causes(&error));
    let mut endpoint =
        Endpoint::from_shared(url.to_owned()).map_err(wrong)?.connect_timeout(request.idle_for.min(CONNECT_FOR));
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(tls_config(&place, &request.tls).await?).map_err(wrong)?;
    }
    let entered = timeout(request.idle_for, async {
        let unreachable = |error| SourceError::server(&place, Fault::Unreachable, with_causes(&error));
        let channel: Channel = endpoint.connect().await.map_err(unreachable)?;
        let mut member = Member::new(channel);
        if let Some((name, password)) = &request.user {
            let answered = member.authenticate(name, password.expose()).await;
            answered.map_err(|error| refused(&place, &error))?;
        }
        let status = member.status().await.map_err(|error| refused(&place, &error))?;
        Ok(Candidate { place: place.clone(), member, status })
    });
    entered.await.map_err(|_| silent(&place, request.idle_for))?
}

async fn tls_config(place: &str, tls: &Tls) -> Result<ClientTlsConfig, SourceError> {
    let (place, tls) = (place.to_owned(), tls.clone());
    blocking::run(move || {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| {
                let what = format!("{} cannot be read: {error}", path.display());
                SourceError::server(&place, Fault::Setting, what)
            })
        };
        let mut config = match &tls.authorities {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((chain, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(read(chain)?, read(key)?));
        }
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name);
        }
        Ok(config)
    })
    .await?
}

/// A URL for messages: passwords do not belong into it, but people write them there.
fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
        None => url.to_owned(),
    }
}

pub(super) fn silent(place: &str, idle_for: Duration) -> SourceError {
    SourceError::server(place, Fault::Busy, format!("it sent nothing for {idle_for:?}"))
}

pub(super) fn refused(place: &str, status: &Status) -> SourceError {
    let words = status.message();
    let fault = match status.code() {
        // Version 3.4 says some of this without a code.
        _ if words.contains("user name is empty") || words.contains("invalid auth token") => Fault::Login,
        _ if words.contains("permission denied") => Fault::Right,
        Code::Unauthenticated => Fault::Login,
        Code::InvalidArgument if words.contains("auth") => Fault::Login,
        Code::PermissionDenied => Fault::Right,
        Code::FailedPrecondition => Fault::Setting,
        Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted => Fault::Busy,
        Code::Unavailable | Code::Cancelled | Code::Unknown => Fault::Interrupted,
        Code::Unimplemented => Fault::Version,
        Code::DataLoss => Fault::Damaged,
        _ => Fault::Protocol,
    };
    let advice = match fault {
        Fault::Login => "; authentication is on: a user with the role root is needed",
        Fault::Right => "; snapshots need a user with the role root",
        _ => "",
    };
    SourceError::server(place, fault, format!("{}{advice}", escaped(words.as_bytes())))
}

/// A failure in mid-stream: whatever the words, it went away.
fn cut(place: &str, status: &Status) -> SourceError {
    match refused(place, status) {
        SourceError::Server { place, what, fault: Fault::Protocol } => {
            SourceError::server(place, Fault::Interrupted, what)
        }
        other => other,
    }
}
