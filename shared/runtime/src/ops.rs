//! Operators' questions to the owner of a shard: the one read that goes past the SQL read model (gRPC).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use custos_domain::{Amount, BlockHash, ChainId, EthAddress};
use custos_messages::{Machine, ShardName};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::shard::{Progress, Standing};
use crate::wire::ops::chains_client::ChainsClient;
use crate::wire::ops::chains_server::{Chains, ChainsServer};
use crate::wire::ops::shards_client::ShardsClient;
use crate::wire::ops::shards_server::{Shards, ShardsServer};
use crate::wire::ops::{BalancesReply, BalancesRequest, DescribeReply, DescribeRequest};

/// One thing that a shard knows.
pub use crate::wire::ops::Fact;

/// Asks a shard about a subject; `None` when it does not answer in time.
pub type Answer = Arc<dyn Fn(String) -> Option<Vec<Fact>> + Send + Sync>;

/// The desk where this process's shards can be asked.
#[derive(Clone, Default)]
pub struct Desk {
    shards: Arc<Mutex<BTreeMap<ShardName, Answer>>>,
    shown: Arc<Mutex<BTreeMap<ShardName, Progress>>>,
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

    /// A shard is held here: where it stands can be seen from now on, also while it cannot be asked.
    pub(crate) fn show(&self, shard: ShardName, progress: Progress) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, progress);
    }

    /// It is not held here any more.
    pub(crate) fn hide(&self, shard: ShardName) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }

    /// The shards of `machine` that are held here.
    pub(crate) fn shown(&self, machine: Machine) -> Vec<(ShardName, Progress)> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let of = shown.iter().filter(|(shard, _)| shard.machine == machine);
        of.map(|(shard, progress)| (*shard, progress.clone())).collect()
    }

    /// Where a shard stands; `None` if it is not held here.
    #[must_use]
    pub fn standing(&self, shard: ShardName) -> Option<Standing> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).map(Progress::standing)
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
        let elsewhere = || Status::failed_precondition(format!("{shard} is not owned here"));
        if subject.is_empty() {
            let facts = self.standing(shard).ok_or_else(elsewhere)?.facts();
            return Ok(Response::new(DescribeReply { found: true, facts }));
        }
        let answer = self.of(shard).ok_or_else(elsewhere)?;
        let facts = tokio::task::spawn_blocking(move || answer(subject))
            .await
            .map_err(|_| Status::internal("the question failed"))?
            .ok_or_else(|| Status::unavailable(format!("{shard} does not answer")))?;
        Ok(Response::new(DescribeReply { found: !facts.is_empty(), facts }))
    }
}

/// Coins at an address: of a token's contract, or of the chain's native asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// Where.
    pub address: EthAddress,
    /// Which token; `None` for the native asset.
    pub contract: Option<EthAddress>,
}

/// Reads a chain. Implemented by the blockchain service.
#[tonic::async_trait]
pub trait ChainReader: Send + Sync + 'static {
    /// What `holdings` held at `block`, in their order.
    ///
    /// # Errors
    /// The node is not reachable, or `block` is not on its canonical chain: one line for a person.
    async fn balances(&self, chain: &ChainId, block: &BlockHash, holdings: &[Holding]) -> Result<Vec<Amount>, String>;
}

struct Reading(Arc<dyn ChainReader>);

#[tonic::async_trait]
impl Chains for Reading {
    async fn balances(&self, request: Request<BalancesRequest>) -> Result<Response<BalancesReply>, Status> {
        let BalancesRequest { chain, block_hash, holdings } = request.into_inner();
        let bad = |what: &str| Status::invalid_argument(what.to_owned());
        let chain = ChainId::new(&chain).map_err(|error| bad(&error.to_string()))?;
        let block = BlockHash::from_slice(&block_hash).map_err(|error| bad(&error.to_string()))?;
        let address = |bytes: Vec<u8>| bytes.try_into().map(EthAddress).map_err(|_| bad("an address is 20 bytes"));
        let mut asked = Vec::with_capacity(holdings.len());
        for holding in holdings {
            let contract = if holding.contract.is_empty() { None } else { Some(address(holding.contract)?) };
            asked.push(Holding { address: address(holding.address)?, contract });
        }
        let amounts = self.0.balances(&chain, &block, &asked).await.map_err(Status::unavailable)?;
        Ok(Response::new(BalancesReply { amounts: amounts.iter().map(|amount| amount.to_be_bytes().to_vec()).collect() }))
    }
}

/// Serves operators' questions to shards, and reads of chains where `reader` is given, until `stop`.
///
/// # Errors
/// The port cannot be opened.
pub async fn serve_desk(
    desk: Desk,
    reader: Option<Arc<dyn ChainReader>>,
    address: SocketAddr,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .add_service(ShardsServer::new(desk))
        .add_optional_service(reader.map(|reader| ChainsServer::new(Reading(reader))))
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
    /// It is there and says nothing: it hangs, or is far too busy.
    #[error("the owner at {address} does not answer in time")]
    Silent {
        /// Its address.
        address: String,
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

/// A connection to `address` on which nothing takes longer than `within`: a process that hangs still accepts connections.
async fn channel(address: &str, within: Duration) -> Result<Channel, AskError> {
    let unreachable = |source| AskError::Unreachable { address: address.to_owned(), source };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    endpoint.connect_timeout(within).timeout(within).connect().await.map_err(unreachable)
}

/// What an answer that is none means.
fn refused(address: &str, status: &Status) -> AskError {
    let address = address.to_owned();
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => AskError::Silent { address },
        _ => AskError::Refused { address, message: status.message().to_owned() },
    }
}

/// Asks the owner at `address` (host:port) what `shard` knows about `subject`; empty when nothing. About the empty subject it says
/// where the shard itself stands, and why.
///
/// # Errors
/// The owner cannot be reached, does not answer `within` this time, or does not own the shard any more.
pub async fn ask_owner(address: &str, shard: ShardName, subject: &str, within: Duration) -> Result<Vec<Fact>, AskError> {
    let mut client = ShardsClient::new(channel(address, within).await?);
    let request = DescribeRequest {
        machine: shard.machine.name().to_owned(),
        partition: shard.partition,
        subject: subject.to_owned(),
    };
    let reply = client.describe(request).await.map_err(|status| refused(address, &status))?;
    Ok(reply.into_inner().facts)
}

/// Asks the blockchain service at `address` (host:port) what `holdings` held at `block`.
///
/// # Errors
/// The service cannot be reached, does not answer `within` this time, or its node does not have the block on its canonical chain.
pub async fn ask_balances(
    address: &str,
    chain: &ChainId,
    block: &BlockHash,
    holdings: &[Holding],
    within: Duration,
) -> Result<Vec<Amount>, AskError> {
    let malformed = |message: &str| AskError::Refused { address: address.to_owned(), message: message.to_owned() };
    let mut client = ChainsClient::new(channel(address, within).await?);
    let wire = |holding: &Holding| crate::wire::ops::Holding {
        address: holding.address.0.to_vec(),
        contract: holding.contract.map(|contract| contract.0.to_vec()).unwrap_or_default(),
    };
    let request = BalancesRequest {
        chain: chain.as_str().to_owned(),
        block_hash: block.0.to_vec(),
        holdings: holdings.iter().map(wire).collect(),
    };
    let reply = client.balances(request).await.map_err(|status| refused(address, &status))?.into_inner();
    let amount = |bytes: Vec<u8>| bytes.try_into().map(Amount::from_be_bytes).map_err(|_| malformed("a malformed amount"));
    let amounts: Vec<Amount> = reply.amounts.into_iter().map(amount).collect::<Result<_, _>>()?;
    if amounts.len() == holdings.len() {
        Ok(amounts)
    } else {
        Err(malformed("another number of amounts than was asked for"))
    }
}
