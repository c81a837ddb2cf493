//! Operators' questions to the owner of a shard: the one read that goes past the SQL read model (gRPC).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use custos_messages::{Machine, ShardName};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::wire::ops::shards_client::ShardsClient;
use crate::wire::ops::shards_server::{Shards, ShardsServer};
use crate::wire::ops::{DescribeReply, DescribeRequest};

/// One thing that a shard knows.
pub use crate::wire::ops::Fact;

/// Asks a shard about a subject; `None` when it does not answer in time.
pub type Answer = Arc<dyn Fn(String) -> Option<Vec<Fact>> + Send + Sync>;

/// The desk where this process's shards can be asked.
#[derive(Clone, Default)]
pub struct Desk {
    shards: Arc<Mutex<BTreeMap<ShardName, Answer>>>,
}

impl Desk {
    /// A shard can be asked.
    pub fn open(&self, shard: ShardName, answer: Answer) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, answer);
    }

    /// It no longer can.
    pub fn close(&self, shard: ShardName) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }

    fn of(&self, shard: ShardName) -> Option<Answer> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }
}

#[tonic::async_trait]
impl Shards for Desk {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        let DescribeRequest { machine, partition, subject } = request.into_inner();
        let machine =
            Machine::from_name(&machine).ok_or_else(|| Status::invalid_argument(format!("no machine `{machine}`")))?;
        let shard = ShardName { machine, partition };
        let answer = self.of(shard).ok_or_else(|| Status::failed_precondition(format!("{shard} is not owned here")))?;
        let facts = tokio::task::spawn_blocking(move || answer(subject))
            .await
            .map_err(|_| Status::internal("the question failed"))?
            .ok_or_else(|| Status::unavailable(format!("{shard} does not answer")))?;
        Ok(Response::new(DescribeReply { found: !facts.is_empty(), facts }))
    }
}

/// Serves the desk until `stop`.
///
/// # Errors
/// The port cannot be opened.
pub async fn serve_desk(desk: Desk, address: SocketAddr, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .add_service(ShardsServer::new(desk))
        .serve_with_shutdown(address, stop.cancelled_owned())
        .await
}

/// Why an operator's question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The owner cannot be reached.
    #[error("the owner at {address} cannot be reached")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The owner does not answer this.
    #[error("the owner at {address} answers: {message}")]
    Refused {
        /// Its address.
        address: String,
        /// What it says.
        message: String,
    },
}

/// Asks the owner at `address` (host:port) what `shard` knows about `subject`; empty when nothing.
///
/// # Errors
/// The owner cannot be reached, or does not own the shard any more.
pub async fn ask_owner(address: &str, shard: ShardName, subject: &str) -> Result<Vec<Fact>, AskError> {
    let unreachable = |source| AskError::Unreachable { address: address.to_owned(), source };
    let mut client = ShardsClient::connect(format!("http://{address}")).await.map_err(unreachable)?;
    let request = DescribeRequest {
        machine: shard.machine.name().to_owned(),
        partition: shard.partition,
        subject: subject.to_owned(),
    };
    let reply = client
        .describe(request)
        .await
        .map_err(|status| AskError::Refused { address: address.to_owned(), message: status.message().to_owned() })?;
    Ok(reply.into_inner().facts)
}
