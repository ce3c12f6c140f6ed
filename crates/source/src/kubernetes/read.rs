//! The objects of a cluster, as events.
//!
//! Never here: the form of objects and lists.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;

use async_stream::try_stream;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;

use super::canonical::{canonical, is_derived};
use super::items::Items;
use crate::command::{CommandLine, Patience, Producer, ProducerEnd, ProducerStatus};
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, escaped};
use crate::error::{Fault, SourceError};
use crate::events::{Event, Events, Layout, SourceEntry};

/// The folder of objects that are in no namespace; no namespace can be called so.
const CLUSTER: &str = "_cluster";
/// The longest answer that is read whole, in bytes.
const ANSWER_LEN_MAX: usize = 4 * 1024 * 1024;
/// How much of what kubectl said goes into an error, in bytes.
const WORDS_LEN_MAX: usize = 2000;
/// Types that say what happens, not what was declared.
const PASSING: [&str; 9] = [
    "bindings",
    "componentstatuses",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "nodes.metrics.k8s.io",
    "pods.metrics.k8s.io",
];

/// What kubectl's words mean: the first that is found decides.
const WORDS: [(&str, Fault); 17] = [
    ("(forbidden)", Fault::Right),
    ("forbidden:", Fault::Right),
    ("(unauthorized)", Fault::Login),
    ("must be logged in", Fault::Login),
    ("provide credentials", Fault::Login),
    ("doesn't have a resource type", Fault::Missing),
    ("context was not found", Fault::Missing),
    ("does not exist", Fault::Missing),
    ("error loading config file", Fault::Setting),
    ("error: stat ", Fault::Setting),
    ("too many requests", Fault::Busy),
    ("currently unable to handle the request", Fault::Busy),
    ("timed out", Fault::Busy),
    ("unable to connect", Fault::Unreachable),
    ("connection refused", Fault::Unreachable),
    ("connection to the server", Fault::Unreachable),
    ("unexpected eof", Fault::Interrupted),
];

/// Which cluster, and what of it.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// The program; `kubectl` in `PATH` if `None`.
    pub kubectl: Option<PathBuf>,
    /// The file of clusters and credentials; kubectl's own default if `None`.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; its current one if `None`.
    pub context: Option<String>,
    /// Objects of these namespaces only, and none of the cluster itself; everything if empty.
    pub namespaces: Vec<String>,
    /// These types only, as `kubectl api-resources -o name` names them; all but what passes if empty.
    pub types: Vec<String>,
    /// Types that are left out.
    pub excluded_types: Vec<String>,
    /// Keeps what controllers make again by themselves too.
    pub keeps_derived: bool,
    /// How long each call may be silent and take.
    pub patience: Patience,
    /// Variables of our own environment that kubectl does not get: secrets.
    pub env_hidden: Vec<OsString>,
}

impl Cluster {
    /// The cluster for messages.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.context {
            Some(context) => format!("kubernetes in context {context}"),
            None => "kubernetes in the current context".to_owned(),
        }
    }

    pub(super) fn command(&self, args: &[&str]) -> CommandLine {
        let program = self.kubectl.clone().unwrap_or_else(|| "kubectl".into());
        let mut command = CommandLine::new(program, args);
        command.env_hidden = self.env_hidden.clone();
        if let Some(file) = &self.kubeconfig {
            command.args.push(format!("--kubeconfig={}", file.display()).into());
        }
        if let Some(context) = &self.context {
            command.args.push(format!("--context={context}").into());
        }
        command
    }

    fn is_wanted(&self, name: &str) -> bool {
        let is_listed = |names: &[String]| names.iter().any(|known| known == name);
        match self.types.is_empty() {
            true => !PASSING.contains(&name) && !is_listed(&self.excluded_types),
            false => is_listed(&self.types) && !is_listed(&self.excluded_types),
        }
    }
}

/// Reads an entry `NAMESPACE/KIND.GROUP/NAME.json` for each object (`KIND` alone for the core group).
///
/// Facts: `server_version`, `kubectl_version`, `object_count`, `derived_count` (left out).
///
/// The stream fails with [`SourceError::Server`]; what came before is then not to be kept.
#[must_use]
pub fn manifests(cluster: Cluster) -> Events {
    let events = try_stream! {
        let place = cluster.place();
        let versions = answer(&cluster, &cluster.command(&["version", "-o", "json"])).await?;
        let names = answer(&cluster, &cluster.command(&["api-resources", "--verbs=list", "-o", "name"])).await?;
        let types = chosen(&cluster, &String::from_utf8_lossy(&names))?;
        let (mut object_count, mut derived_count) = (0_u64, 0_u64);
        for (name, scope) in types.iter().flat_map(|name| scopes(&cluster).into_iter().map(move |scope| (name, scope))) {
            let command = cluster.command(&["get", name, &scope, "--ignore-not-found=false", "-o", "json"]);
            let mut producer = Producer::spawn(&command, |_| {})?.with_patience(cluster.patience);
            let mut items = Items::default();
            let mut paths = HashSet::new();
            let mut seen = Ok(());
            while let Some(data) = producer.next().await {
                let found = items.push(&data?);
                for object in found.as_deref().unwrap_or_default() {
                    let object: Value = serde_json::from_slice(object).map_err(|error| {
                        SourceError::server(&place, Fault::Protocol, format!("an object of {name} is no JSON: {error}"))
                    })?;
                    // Objects of the cluster itself come under every namespace.
                    let is_elsewhere = scope != ALL && namespace_of(&object).is_none();
                    if is_elsewhere || (!cluster.keeps_derived && is_derived(&object)) {
                        derived_count += u64::from(!is_elsewhere);
                        continue;
                    }
                    let path = path_of(&place, &object)?;
                    if !paths.insert(path.clone()) {
                        let what = format!("{path} comes twice: it changed while it was listed");
                        Err(SourceError::server(&place, Fault::Busy, what))?;
                    }
                    object_count += 1;
                    let content = Bytes::from(canonical(object));
                    yield begin(path, content.len())?;
                    yield Event::Data(content);
                    yield Event::End;
                }
                if let Err(why) = found {
                    seen = Err(why);
                    break;
                }
            }
            judge(&format!("{place}, {name}"), seen, &producer.finish().await?)?;
            items.finish().map_err(|why| SourceError::server(format!("{place}, {name}"), Fault::Incomplete, why))?;
        }
        let version = |side: &str| version_of(&versions, side);
        for (name, value) in [
            ("server_version", version("serverVersion")),
            ("kubectl_version", version("clientVersion")),
            ("object_count", object_count.to_string()),
            ("derived_count", derived_count.to_string()),
        ] {
            yield Event::Fact { name: name.to_owned(), value };
        }
    };
    events.boxed()
}

const ALL: &str = "--all-namespaces";

pub(super) fn scopes(cluster: &Cluster) -> Vec<String> {
    match cluster.namespaces.is_empty() {
        true => vec![ALL.to_owned()],
        false => cluster.namespaces.iter().map(|name| format!("--namespace={name}")).collect(),
    }
}

pub(super) fn chosen(cluster: &Cluster, names: &str) -> Result<Vec<String>, SourceError> {
    let there: Vec<&str> = names.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(missing) = cluster.types.iter().find(|name| !there.contains(&name.as_str())) {
        let what = format!("there is no type {} that can be listed", escaped(missing.as_bytes()));
        return Err(SourceError::server(cluster.place(), Fault::Missing, what));
    }
    let mut types: Vec<String> = there.into_iter().filter(|name| cluster.is_wanted(name)).map(str::to_owned).collect();
    types.sort();
    types.dedup();
    Ok(types)
}

pub(super) async fn answer(cluster: &Cluster, command: &CommandLine) -> Result<Vec<u8>, SourceError> {
    let place = cluster.place();
    let mut producer = Producer::spawn(command, |_| {})?.with_patience(cluster.patience);
    let mut answer = Vec::new();
    while let Some(data) = producer.next().await {
        answer.extend_from_slice(&data?);
        if answer.len() > ANSWER_LEN_MAX {
            return Err(SourceError::server(place, Fault::Protocol, "kubectl's answer has no end"));
        }
    }
    judge(&place, Ok(()), &producer.finish().await?)?;
    Ok(answer)
}

/// What kubectl says decides; if it is content, what it printed.
fn judge(place: &str, seen: Result<(), &'static str>, end: &ProducerEnd) -> Result<(), SourceError> {
    let how = match end.status {
        // It is cut short by us when its output makes no sense.
        _ if end.is_success() || seen.is_err() && end.stderr_tail.is_empty() => {
            return seen.map_err(|why| SourceError::server(place, Fault::Protocol, why));
        }
        ProducerStatus::Exited(code) => format!("kubectl ended with exit status {code}"),
        ProducerStatus::Signalled(signal) => format!("kubectl was killed by signal {signal}"),
    };
    let tail = end.stderr_tail.get(end.stderr_tail.len().saturating_sub(WORDS_LEN_MAX)..).unwrap_or_default();
    let words = escaped(tail.trim_ascii()).to_string();
    let lower = words.to_lowercase();
    let fault = WORDS.iter().find(|(known, _)| lower.contains(known)).map_or(Fault::Incomplete, |(_, fault)| *fault);
    let advice = match fault {
        Fault::Right => "; grant list on this type, or exclude it",
        _ => "",
    };
    Err(SourceError::server(place, fault, format!("{how}: {words}{advice}")))
}

fn namespace_of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("namespace")?.as_str()
}

pub(super) fn path_of(place: &str, object: &Value) -> Result<String, SourceError> {
    let parts = || {
        let kind = object.get("kind")?.as_str()?;
        let version = object.get("apiVersion")?.as_str()?;
        let name = object.get("metadata")?.get("name")?.as_str()?;
        let folder = version.split_once('/').map_or_else(|| kind.to_owned(), |(group, _)| format!("{kind}.{group}"));
        Some((folder, name))
    };
    let (folder, name) =
        parts().ok_or_else(|| SourceError::server(place, Fault::Protocol, "an object has no kind, version or name"))?;
    let part = |text: &str| text.replace('%', "%25").replace('/', "%2F");
    let namespace = namespace_of(object).unwrap_or(CLUSTER);
    Ok(format!("{}/{}/{}.json", part(namespace), part(&folder), part(name)))
}

pub(super) fn version_of(versions: &[u8], side: &str) -> String {
    let versions: Value = serde_json::from_slice(versions).unwrap_or_default();
    let version = versions.get(side).and_then(|version| version.get("gitVersion")).and_then(Value::as_str);
    version.unwrap_or("unknown").to_owned()
}

fn begin(path: String, len: usize) -> Result<Event, SourceError> {
    let metadata = Metadata { mode: 0o600, ..Metadata::default() };
    let kind = EntryKind::File { len: len as u64 };
    let entry = Entry { path: EntryPath::try_from(path.into_bytes())?, kind, metadata };
    Ok(Event::Begin(SourceEntry { entry, layout: Layout::Unknown, base: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_name_in_two_folders_whatever_it_is_called() {
        let object = |namespace: &str, name: &str| {
            let metadata = serde_json::json!({"namespace": namespace, "name": name});
            serde_json::json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata})
        };
        assert_eq!(path_of("k", &object("shop", "web")).unwrap(), "shop/Deployment.apps/web.json");
        assert_eq!(path_of("k", &object("s/hop", "a/b%")).unwrap(), "s%2Fhop/Deployment.apps/a%2Fb%25.json");
    }
}
