//! Every store against the suite for all, and what only real servers can show.
//!
//! The S3 tests need the server that `scripts/s3s.sh` builds.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use store::testing::{MemoryStore, S3Server, conformance};
use store::{Env, Location, SharedStore, StoreError, StoreOptions, Variables, open_store};

async fn open(location: &Location, options: &StoreOptions) -> SharedStore {
    open_store(location, options, &Env::system()).await.expect("opens")
}

/// Options that read nothing from the environment and do not wait long for what is not there.
fn plain_options() -> StoreOptions {
    StoreOptions { retries_max: 0, variables: Variables::none(), ..StoreOptions::default() }
}

#[tokio::test]
async fn memory_conforms() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    conformance::conforms(&store).await;
    conformance::lets_one_of_many_racing_creates_win(&store).await;
}

#[tokio::test]
async fn directory_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::Directory(folder.path().join("a b/ü"));
    let store = open(&location, &plain_options()).await;
    conformance::conforms(&store).await;
    conformance::lets_one_of_many_racing_creates_win(&store).await;
}

#[tokio::test]
async fn s3_conforms() {
    let server = S3Server::start().await;
    let store = open(&server.location("deep/pre fix"), &server.options()).await;
    conformance::conforms(&store).await;
}

#[tokio::test]
async fn s3_prefixes_do_not_see_each_other() {
    let server = S3Server::start().await;
    let a = open(&server.location("a"), &server.options()).await;
    let ab = open(&server.location("ab"), &server.options()).await;
    conformance::creates_once_and_keeps_the_first(&a).await;
    conformance::creates_once_and_keeps_the_first(&ab).await;
}

#[tokio::test]
async fn wrong_secret_is_refused_as_wrong_credentials() {
    let server = S3Server::start().await;
    let mut options = server.options();
    options.s3.secret_access_key = Some("not the secret".into());
    let store = open(&server.location("x"), &options).await;
    for error in refusals(&store).await {
        assert!(matches!(error, StoreError::CredentialsWrong { .. }), "{error:?}");
        assert!(!error.to_string().contains("not the secret"), "{error}");
    }
}

#[tokio::test]
async fn unknown_key_is_refused_as_wrong_credentials() {
    let server = S3Server::start().await;
    let mut options = server.options();
    options.s3.access_key_id = Some("nobody".into());
    let store = open(&server.location("x"), &options).await;
    for error in refusals(&store).await {
        assert!(matches!(error, StoreError::CredentialsWrong { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn missing_bucket_is_told_from_a_missing_object() {
    let server = S3Server::start().await;
    let location = "s3://no-such-bucket/x".parse().expect("a location");
    let store = open(&location, &server.options()).await;
    // This server makes a bucket for a put and calls the object missing for a get; a listing tells.
    let error = store.list("packs").try_next().await.expect_err("list is refused");
    assert!(matches!(error, StoreError::BucketMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("s3://no-such-bucket/x"), "{error}");
}

/// What reading, writing and listing are answered where none of them can work.
async fn refusals(store: &SharedStore) -> Vec<StoreError> {
    let put = store.put_new("config", vec!["x".into()]).await.expect_err("put is refused");
    let get = store.get("config").await.expect_err("get is refused");
    let list = store.list("packs").try_next().await.expect_err("list is refused");
    vec![put, get, list]
}

#[tokio::test]
async fn endpoint_where_nothing_listens_is_unreachable_at_once() {
    let mut options = plain_options();
    options.s3.endpoint = Some("http://127.0.0.1:1".into());
    options.s3.access_key_id = Some("a".into());
    options.s3.secret_access_key = Some("b".into());
    let store = open(&"s3://bucket/x".parse().expect("a location"), &options).await;
    for error in refusals(&store).await {
        let shown = error.to_string();
        assert!(matches!(error, StoreError::Unreachable { .. }) && shown.contains("refused"), "{shown}");
    }
}

#[tokio::test]
async fn host_without_an_address_says_so() {
    let mut options = plain_options();
    options.s3.endpoint = Some("http://no-such-host.invalid".into());
    options.s3.access_key_id = Some("a".into());
    options.s3.secret_access_key = Some("b".into());
    let store = open(&"s3://bucket/x".parse().expect("a location"), &options).await;
    let error = store.get("config").await.expect_err("unreachable");
    assert!(error.to_string().contains("does not resolve"), "{error:?}");
}

#[tokio::test]
async fn server_that_never_answers_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut options = plain_options();
    options.request_for = Duration::from_millis(200);
    options.s3.endpoint = Some(format!("http://{}", listener.local_addr().expect("bound")));
    options.s3.access_key_id = Some("a".into());
    options.s3.secret_access_key = Some("b".into());
    let store = open(&"s3://bucket/x".parse().expect("a location"), &options).await;
    let error = store.put_new("config", vec!["x".into()]).await.expect_err("no answer");
    assert!(error.is_outcome_unknown() && error.to_string().contains("no answer in time"), "{error:?}");
}

#[tokio::test]
async fn missing_credentials_are_named_before_the_first_request() {
    let mut options = plain_options();
    options.s3.endpoint = Some("http://127.0.0.1:1".into());
    options.variables = Variables::none().with("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    let location = "s3://bucket/x".parse().expect("a location");
    let error = open_store(&location, &options, &Env::system()).await.expect_err("no credentials");
    assert!(matches!(error, StoreError::CredentialsMissing { .. }), "{error:?}");
}

#[tokio::test]
async fn keys_and_endpoint_of_a_profile_open_the_store() {
    let server = S3Server::start().await;
    let home = tempfile::tempdir().expect("a folder");
    let aws = home.path().join(".aws");
    std::fs::create_dir(&aws).expect("a folder");
    let from = server.options().s3;
    let (id, secret) = (from.access_key_id.expect("set"), from.secret_access_key.expect("set"));
    let keys = format!("[night]\naws_access_key_id = {id}\naws_secret_access_key={secret}\n");
    let endpoint = from.endpoint.expect("set");
    let config = format!("# a comment\n[profile night]\nendpoint_url = {endpoint}\ns3 =\n  max_queue_size = 9\n");
    std::fs::write(aws.join("credentials"), keys).expect("written");
    std::fs::write(aws.join("config"), config).expect("written");
    let mut options = plain_options();
    options.variables =
        Variables::none().with("HOME", home.path().to_str().expect("a plain path")).with("AWS_PROFILE", "night");
    let store = open(&server.location("x"), &options).await;
    conformance::creates_once_and_keeps_the_first(&store).await;
}

#[tokio::test]
async fn directory_that_is_a_file_is_refused_when_it_is_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    for path in [file.clone(), file.join("below")] {
        let location = Location::Directory(path);
        let error = open_store(&location, &plain_options(), &Env::system()).await.expect_err("a file is there");
        assert!(matches!(error, StoreError::NotADirectory { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn missing_directory_reads_as_empty_and_is_not_made_by_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("not/yet");
    let store = open(&Location::Directory(path.clone()), &plain_options()).await;
    assert!(store.get("config").await.expect_err("absent").is_not_found());
    assert_eq!(store.head("config").await.expect("answers"), None);
    assert!(store.list("").try_next().await.expect("lists").is_none());
    store.delete("config").await.expect("absent is fine");
    assert!(!path.exists());
    store.put_new("config", vec!["x".into()]).await.expect("creates");
    assert_eq!(store.get("config").await.expect("reads"), "x");
}

#[tokio::test]
async fn file_left_by_an_interrupted_put_is_not_listed_and_not_in_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config#1"), "half an obj").expect("written");
    let store = open(&Location::Directory(folder.path().into()), &plain_options()).await;
    assert!(store.list("").try_next().await.expect("lists").is_none());
    store.put_new("config", vec!["whole".into()]).await.expect("creates");
    assert_eq!(store.get("config").await.expect("reads"), "whole");
}

#[tokio::test]
async fn truncated_file_is_named_when_a_range_of_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&Location::Directory(folder.path().into()), &plain_options()).await;
    store.put_new("packs/ab/x", vec!["0123456789".into()]).await.expect("creates");
    std::fs::write(folder.path().join("packs/ab/x"), "0123").expect("written");
    let error = store.get_range("packs/ab/x", 2..8).await.expect_err("too short");
    assert!(matches!(error, StoreError::Truncated { len: 2, expected_len: 6, .. }), "{error:?}");
}
