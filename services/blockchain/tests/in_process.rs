//! A node that is reached without sockets: the same client, the same reading of answers, and no runtime.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{RequestPacket, Response, ResponsePacket};
use alloy::transports::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use custos_blockchain::{Adapter, BlockchainConfig, ChainConfig, NodeConfig, NodeUrl, Nodes};
use custos_devchain::{DevChain, Settings, dev_address};
use custos_domain::{Amount, AssetKind, CommandId, EthAddress, IntentId, NodeName};
use custos_messages::Mail;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{Estimated, FeeQuote, TreasuryInput};
use custos_runtime::service::Service;
use custos_testkit::{asset, chain, wallet};
use futures::executor::block_on;
use serde_json::json;
use tower::Service as Tower;

/// The way to a development chain in this process.
#[derive(Clone)]
struct Direct(Arc<DevChain>);

impl Tower<RequestPacket> for Direct {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: RequestPacket) -> Self::Future {
        let request = asked.as_single().expect("one request at a time");
        let params: serde_json::Value = serde_json::from_str(request.params().expect("parameters").get()).expect("JSON");
        let answer = self.0.ask(json!({ "jsonrpc": "2.0", "id": 0, "method": request.method(), "params": params }));
        let answer: Result<Response, _> = serde_json::from_value(answer);
        let answer = answer.map(|answer| ResponsePacket::Single(Response { id: request.id().clone(), ..answer }));
        Box::pin(std::future::ready(answer.map_err(TransportErrorKind::custom)))
    }
}

fn adapter(dev: &Arc<DevChain>, number: u64) -> Adapter {
    let name = NodeName::new("a").expect("a name");
    let config = BlockchainConfig {
        chains: vec![ChainConfig {
            chain: chain(),
            number,
            nodes: vec![NodeConfig { name, url: NodeUrl::new("nowhere".to_owned()) }],
            start_block: 1,
            poll: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            native: asset("ETH"),
            tokens: Default::default(),
            tip_floor: 1,
        }],
    };
    Adapter::new(Nodes::over(&config, |_, _| BoxTransport::new(Direct(Arc::clone(dev)))))
}

fn question() -> BlockchainCommand {
    let at = |index| EthAddress(dev_address(index).0.0);
    let order = BlockchainOrder::Estimate {
        intent: IntentId([1; 32]),
        from: at(1),
        kind: AssetKind::Native,
        to: at(2),
        value: Amount::new(7),
        data: Vec::new(),
    };
    BlockchainCommand { id: CommandId([2; 32]), wallet: wallet(), chain: chain(), order }
}

#[test]
fn a_node_behind_a_transport_of_the_caller_is_asked_without_a_runtime() {
    let dev = Arc::new(DevChain::new(Settings::default()).unwrap());
    dev.mine();
    let answered = block_on(adapter(&dev, 31_337).handle(question())).unwrap();
    let [Mail::Treasury(TreasuryInput::Estimated(Estimated { quote, .. }))] = answered.as_slice() else {
        panic!("{answered:?}");
    };
    assert!(matches!(quote, FeeQuote::Quote { gas_limit: 25_200, next_nonce: 0, .. }), "{quote:?}");
}

#[test]
fn such_a_node_is_asked_for_its_chain_before_anything_else() {
    let dev = Arc::new(DevChain::new(Settings::default()).unwrap());
    let refused = block_on(adapter(&dev, 1).handle(question())).unwrap_err();
    assert!(matches!(refused, custos_runtime::service::Setback::Halt(_)), "{refused:?}");
}
