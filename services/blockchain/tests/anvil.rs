//! The service against another node software than the development chain, whose pool speaks other words.

mod fixture;

use std::time::Duration;

use alloy::consensus::{TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::{Provider, ProviderBuilder};
use custos_blockchain::{Adapter, BalanceReader, Nodes};
use custos_devchain::{dev_address, dev_key, sign};
use custos_domain::{Amount, AssetKind, BlockHash, CommandId, IntentId, TxHash};
use custos_messages::Mail;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{FeeQuote, SendOutcome, TreasuryInput};
use custos_parts::{require, start_anvil};
use custos_runtime::ops::{ChainReader, Holding};
use custos_runtime::service::Service;
use custos_testkit::{chain, wallet};
use fixture::{config, eth, wei};
use serde_json::{Value, json};

const CLIENT: Address = Address::repeat_byte(0xc1);

async fn ask(adapter: &Adapter, order: BlockchainOrder) -> TreasuryInput {
    let command = BlockchainCommand { id: CommandId([7; 32]), wallet: wallet(), chain: chain(), order };
    match adapter.handle(command).await.expect("an answer").pop() {
        Some(Mail::Treasury(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

async fn send(adapter: &Adapter, tx: &TxEnvelope) -> SendOutcome {
    let order = BlockchainOrder::Send { tx: TxHash(tx.tx_hash().0), raw: tx.encoded_2718() };
    match ask(adapter, order).await {
        TreasuryInput::Sent(sent) => sent.outcome,
        other => panic!("{other:?}"),
    }
}

fn payment(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(CLIENT),
        value: wei(5),
        access_list: Default::default(),
        input: Bytes::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anvil_is_understood_as_well() {
    let Some(anvil) = require("anvil", start_anvil(&["--chain-id", "31337", "--no-mining"])) else { return };
    let url = anvil.url();
    let nodes = Nodes::connect(&config(&[&url], Duration::from_secs(10))).await.expect("nodes");
    let control = ProviderBuilder::new().disable_recommended_fillers().connect_http(url.parse().expect("url"));
    let rich: U256 = U256::from(10_u64).pow(U256::from(18_u64));
    let _: Value = control.raw_request("anvil_setBalance".into(), json!([dev_address(1), rich])).await.expect("funded");
    let adapter = Adapter::new(nodes.clone());
    let signed = |tx: TxEip1559| sign(tx, &dev_key(1)).expect("signed");

    let order = BlockchainOrder::Estimate {
        intent: IntentId([3; 32]),
        from: eth(dev_address(1)),
        kind: AssetKind::Native,
        to: eth(CLIENT),
        value: Amount::new(5),
        data: Vec::new(),
    };
    let TreasuryInput::Estimated(answer) = ask(&adapter, order).await else { panic!("no estimate") };
    let FeeQuote::Quote { gas_limit, native_balance, next_nonce, .. } = answer.quote else { panic!("no quote") };
    assert_eq!((gas_limit, native_balance, next_nonce), (25_200, Amount::new(rich.to()), 0));

    let first = signed(payment(0));
    assert_eq!(send(&adapter, &first).await, SendOutcome::InPool);
    assert_eq!(send(&adapter, &first).await, SendOutcome::InPool);
    let table = [
        (TxEip1559 { value: wei(6), ..payment(0) }, SendOutcome::Underpriced),
        (TxEip1559 { value: rich, ..payment(1) }, SendOutcome::InsufficientFunds),
        (TxEip1559 { gas_limit: 20_999, ..payment(1) }, SendOutcome::Invalid),
        (TxEip1559 { chain_id: 1, ..payment(1) }, SendOutcome::Invalid),
        (TxEip1559 { max_fee_per_gas: 1, max_priority_fee_per_gas: 1, ..payment(1) }, SendOutcome::FeeTooLow),
    ];
    for (tx, expected) in table {
        assert_eq!(send(&adapter, &signed(tx.clone())).await, expected, "{tx:?}");
    }
    let _: Value = control.raw_request("evm_mine".into(), json!([])).await.expect("mined");
    assert_eq!(send(&adapter, &first).await, SendOutcome::NonceSpent);

    let head: Value = control.raw_request("eth_getBlockByNumber".into(), json!(["latest", false])).await.expect("head");
    let hash: alloy::primitives::B256 = serde_json::from_value(head["hash"].clone()).expect("a hash");
    let held = BalanceReader::new(nodes)
        .balances(&chain(), &BlockHash(hash.0), &[Holding { address: eth(CLIENT), contract: None }])
        .await;
    assert_eq!(held, Ok(vec![Amount::new(5)]));
}
