//! The chain model against the development chain, which executes for real: the adapter's own questions, and the same answers.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails that cannot")]

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::consensus::TxEip1559;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::rpc::json_rpc::{RequestPacket, Response, ResponsePacket};
use alloy::transports::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use custos_blockchain::{Adapter, BlockchainConfig, ChainConfig, NodeConfig, NodeUrl, Nodes};
use custos_devchain::{DevChain, Settings, dev_address, dev_key, sign};
use custos_domain::{Amount, AssetKind, CommandId, EthAddress, IntentId, NodeName, TxHash};
use custos_messages::Mail;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{Estimated, FeeQuote, SendOutcome, Sent, TreasuryInput};
use custos_runtime::service::Service as _;
use custos_simulation::surroundings::chain::{Network, NetworkSettings, SharedNetwork, Wire};
use custos_testkit::{asset, chain, wallet};
use futures::executor::block_on;
use serde_json::json;
use tower::Service;

const GWEI: u128 = 1_000_000_000;
const NUMBER: u64 = 31_337;

/// The way to a development chain in this process.
#[derive(Clone)]
struct Direct(Arc<DevChain>);

impl Service<RequestPacket> for Direct {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: RequestPacket) -> Self::Future {
        let request = asked.as_single().expect("one request at a time");
        let params: serde_json::Value = request.params().map(|text| serde_json::from_str(text.get()).unwrap()).unwrap();
        let answer = self.0.ask(json!({ "jsonrpc": "2.0", "id": 0, "method": request.method(), "params": params }));
        let answer: Result<Response, _> = serde_json::from_value(answer);
        let answer = answer.map(|answer| ResponsePacket::Single(Response { id: request.id().clone(), ..answer }));
        Box::pin(std::future::ready(answer.map_err(TransportErrorKind::custom)))
    }
}

fn adapter(transport: BoxTransport) -> Adapter {
    let config = BlockchainConfig {
        chains: vec![ChainConfig {
            chain: chain(),
            number: NUMBER,
            nodes: vec![NodeConfig { name: NodeName::new("a").unwrap(), url: NodeUrl::new(String::new()) }],
            start_block: 1,
            poll: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            native: asset("ETH"),
            tokens: Default::default(),
            tip_floor: 1,
        }],
    };
    Adapter::new(Nodes::over(&config, move |_, _| transport.clone()))
}

/// Both chains, with the same rich accounts and the same token.
struct Both {
    dev: Arc<DevChain>,
    model: SharedNetwork,
    adapters: [Adapter; 2],
    token: Address,
    time: u64,
}

impl Both {
    fn new() -> Self {
        let dev = Arc::new(DevChain::new(Settings { base_fee: 1_000_000_000, ..Settings::default() }).unwrap());
        let token = dev.deploy_token("T", "T").unwrap();
        dev.mint_token(token, dev_address(1), U256::from(1_000_000)).unwrap();
        dev.mine();
        let rich = dev.balance(dev_address(1)).to::<u128>();
        let model = SharedNetwork::new(NetworkSettings {
            chain: NUMBER,
            token,
            nodes: vec!["a".to_owned()],
            time: 1,
            base_fee: dev.head().base_fee.into(),
            endowed: vec![(dev_address(1), rich, 1_000_000)],
            block_most: 100,
        });
        let adapters =
            [adapter(BoxTransport::new(Direct(Arc::clone(&dev)))), adapter(BoxTransport::new(Wire::new(model.clone(), 0)))];
        Self { dev, model, adapters, token, time: 1 }
    }

    fn network<T>(&self, look: impl FnOnce(&mut Network) -> T) -> T {
        look(&mut self.model.lock())
    }

    fn mine(&mut self) {
        self.time += 12;
        self.dev.set_base_fee(GWEI).unwrap();
        self.dev.mine();
        self.network(|network| {
            network.set_base_fee(GWEI);
            network.mine(self.time);
            network.sync(0, 0);
        });
    }

    fn ask(&self, order: &BlockchainOrder) -> [TreasuryInput; 2] {
        self.adapters.each_ref().map(|adapter| {
            let order = order.clone();
            let command = BlockchainCommand { id: CommandId([2; 32]), wallet: wallet(), chain: chain(), order };
            match block_on(adapter.handle(command)).unwrap().remove(0) {
                Mail::Treasury(answer) => answer,
                other => panic!("{other:?}"),
            }
        })
    }

    fn send(&self, tx: TxEip1559) -> [SendOutcome; 2] {
        let signed = sign(tx, &dev_key(1)).unwrap();
        let order = BlockchainOrder::Send { tx: TxHash(signed.tx_hash().0), raw: signed.encoded_2718() };
        self.ask(&order).map(|answer| match answer {
            TreasuryInput::Sent(Sent { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        })
    }

    fn quote(&self, to: Address, kind: AssetKind, value: u128, data: &Bytes) -> [FeeQuote; 2] {
        let at = |address: Address| EthAddress(address.0.0);
        let (intent, from, value) = (IntentId([1; 32]), at(dev_address(1)), Amount::new(value));
        self.ask(&BlockchainOrder::Estimate { intent, from, kind, to: at(to), value, data: data.to_vec() }).map(|answer| {
            match answer {
                TreasuryInput::Estimated(Estimated { quote, .. }) => quote,
                other => panic!("{other:?}"),
            }
        })
    }
}

fn payment(nonce: u64, fee: u128, tip: u128) -> TxEip1559 {
    TxEip1559 {
        chain_id: NUMBER,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: fee,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(dev_address(2)),
        value: U256::from(GWEI),
        access_list: Default::default(),
        input: Bytes::new(),
    }
}

fn transfer(to: Address, units: u64) -> Bytes {
    let mut data = vec![0xa9, 0x05, 0x9c, 0xbb];
    data.extend([0; 12]);
    data.extend(to.as_slice());
    data.extend([0; 24]);
    data.extend(units.to_be_bytes());
    data.into()
}

#[test]
fn both_chains_judge_the_same_bytes_alike() {
    let mut both = Both::new();
    let script = [
        ("first", payment(0, 10 * GWEI, GWEI)),
        ("again", payment(0, 10 * GWEI, GWEI)),
        ("weak replacement", payment(0, 10 * GWEI + 1, GWEI + 1)),
        ("only the fee raised", payment(0, 11 * GWEI, GWEI)),
        ("replacement", payment(0, 11 * GWEI, 1_100_000_000)),
        ("beyond a gap", payment(5, 10 * GWEI, GWEI)),
        ("tip above fee", payment(1, GWEI, 2 * GWEI)),
        ("no tip", payment(1, GWEI, 0)),
        ("too little gas", TxEip1559 { gas_limit: 20_000, ..payment(1, 10 * GWEI, GWEI) }),
        ("another chain", TxEip1559 { chain_id: 1, ..payment(1, 10 * GWEI, GWEI) }),
        ("more than there is", TxEip1559 { value: U256::MAX >> 130, ..payment(1, 10 * GWEI, GWEI) }),
    ];
    for (name, tx) in script {
        let [real, model] = both.send(tx);
        assert_eq!(real, model, "{name}");
    }
    both.mine();
    for (name, tx) in [("spent", payment(0, 20 * GWEI, 2 * GWEI)), ("next", payment(1, 10 * GWEI, GWEI))] {
        let [real, model] = both.send(tx);
        assert_eq!(real, model, "{name}");
    }
    both.mine();
    let (real, model) = (both.dev.balance(dev_address(1)), both.network(|network| balance(network, dev_address(1))));
    assert_eq!(real, U256::from(model), "what the sender has left");
}

fn balance(network: &Network, address: Address) -> u128 {
    network.head().unwrap().state.balance(custos_simulation::surroundings::chain::Coin::Ether, &address)
}

#[test]
fn both_chains_quote_alike_but_for_the_gas_of_a_token() {
    let both = Both::new();
    let [real, model] = both.quote(dev_address(2), AssetKind::Native, 7, &Bytes::new());
    let strip = |quote: FeeQuote| match quote {
        FeeQuote::Quote { gas_limit, native_balance, asset_balance, next_nonce, .. } => {
            (gas_limit, native_balance, asset_balance, next_nonce)
        }
        FeeQuote::WouldRevert => panic!("would revert"),
    };
    assert_eq!(strip(real), strip(model));
    let token = AssetKind::Erc20 { contract: EthAddress(both.token.0.0) };
    let [real, model] = both.quote(both.token, token.clone(), 0, &transfer(dev_address(2), 5));
    let ((_, real_native, real_asset, real_nonce), (_, native, units, nonce)) = (strip(real), strip(model));
    assert_eq!((real_native, real_asset, real_nonce), (native, units, nonce));
    let [real, model] = both.quote(both.token, token, 0, &transfer(dev_address(2), 5_000_000));
    assert_eq!(real, model, "more tokens than there are");
}
