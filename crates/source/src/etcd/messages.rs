//! The few messages of etcd's gRPC interface that are needed, by hand: generating them takes a compiler of its own.
//!
//! Numbers and types are those of `etcdserverpb/rpc.proto`; what is not needed is not decoded.
//!
//! Never here: when they are sent.

use prost::Message;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Blobs of a snapshot are 32 KiB; a server could be set up otherwise.
const MESSAGE_LEN_MAX: usize = 16 * 1024 * 1024;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotResponse {
    #[prost(uint64, tag = "2")]
    pub(super) remaining_bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) blob: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
    #[prost(uint64, tag = "5")]
    pub(super) raft_index: u64,
    #[prost(string, repeated, tag = "8")]
    pub(super) errors: Vec<String>,
    #[prost(bool, tag = "10")]
    pub(super) is_learner: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

/// A member that can be called.
#[derive(Debug, Clone)]
pub(super) struct Member {
    grpc: Grpc<Channel>,
    token: Option<MetadataValue<Ascii>>,
}

impl Member {
    pub(super) fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX), token: None }
    }

    /// Logs in: later calls carry what this one was given.
    pub(super) async fn authenticate(&mut self, name: &str, password: &str) -> Result<(), Status> {
        let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer: AuthenticateResponse = self.call("/etcdserverpb.Auth/Authenticate", request).await?;
        let token = MetadataValue::try_from(answer.token);
        self.token = Some(token.map_err(|_| Status::internal("a token that cannot be sent"))?);
        Ok(())
    }

    pub(super) async fn status(&mut self) -> Result<StatusResponse, Status> {
        self.call("/etcdserverpb.Maintenance/Status", Empty {}).await
    }

    pub(super) async fn snapshot(&mut self) -> Result<Streaming<SnapshotResponse>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
        let codec: ProstCodec<Empty, SnapshotResponse> = ProstCodec::default();
        let request = self.request(Empty {});
        Ok(self.grpc.server_streaming(request, path, codec).await?.into_inner())
    }

    async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ready().await?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let request = self.request(message);
        Ok(self.grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}
