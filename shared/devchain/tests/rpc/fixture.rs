//! One node with a client, and transactions to send.

use std::net::{Ipv4Addr, SocketAddr};

use alloy::{
    consensus::{TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, Bytes, TxHash, TxKind, U256},
    providers::{Provider, ProviderBuilder, RootProvider},
    transports::{RpcError, TransportErrorKind},
};
use custos_devchain::{DevChain, Server, Settings, dev_address, dev_key, sign};

pub const GWEI: u128 = 1_000_000_000;

pub struct Node {
    pub chain: DevChain,
    pub client: RootProvider,
    pub server: Server,
}

pub async fn node() -> Node {
    node_with(Settings::default()).await
}

pub async fn node_with(settings: Settings) -> Node {
    let chain = DevChain::new(settings).expect("chain");
    let server = chain.serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("listen");
    let builder = ProviderBuilder::new().disable_recommended_fillers();
    let client = builder.connect_http(server.url().parse().expect("url"));
    Node { chain, client, server }
}

impl Node {
    pub async fn send(&self, tx: &TxEnvelope) -> Result<TxHash, String> {
        let sent = self.client.send_raw_transaction(&tx.encoded_2718()).await;
        sent.map(|pending| *pending.tx_hash()).map_err(|error| text(&error))
    }

    pub async fn nonce(&self, address: Address) -> (u64, u64) {
        let latest = self.client.get_transaction_count(address).await.expect("latest");
        (latest, self.client.get_transaction_count(address).pending().await.expect("pending"))
    }
}

pub fn text(error: &RpcError<TransportErrorKind>) -> String {
    error.as_error_resp().map_or_else(|| error.to_string(), |answer| answer.message.to_string())
}

pub const ALICE: u32 = 1;
pub const BOB: u32 = 2;

/// A payment of one gwei from Alice to Bob.
pub fn payment(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(dev_address(BOB)),
        value: U256::from(GWEI),
        access_list: Default::default(),
        input: Bytes::new(),
    }
}

pub fn by_alice(tx: TxEip1559) -> TxEnvelope {
    sign(tx, &dev_key(ALICE)).expect("signed")
}

pub fn raw(tx: &TxEnvelope) -> Bytes {
    tx.encoded_2718().into()
}
