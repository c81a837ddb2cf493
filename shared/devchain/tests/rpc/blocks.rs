use alloy::{
    consensus::proofs::{calculate_receipt_root, calculate_transaction_root},
    eips::{BlockId, BlockNumberOrTag},
    primitives::U256,
    providers::Provider,
};
use custos_devchain::{Settings, dev_address};
use serde_json::{Value, json};

use crate::fixture::{ALICE, BOB, GWEI, by_alice, node, node_with, payment};

#[tokio::test]
async fn a_payment_is_mined_with_a_receipt_and_moves_exactly_its_value() {
    let node = node().await;
    let before = node.client.get_balance(dev_address(BOB)).await.expect("balance");
    let hash = node.send(&by_alice(payment(0))).await.expect("accepted");
    assert!(node.client.get_transaction_receipt(hash).await.expect("receipt").is_none());
    let waiting = node.client.get_transaction_by_hash(hash).await.expect("read").expect("known");
    assert_eq!(waiting.block_hash, None);

    let block = node.chain.mine();
    let receipt = node.client.get_transaction_receipt(hash).await.expect("read").expect("mined");
    assert!(receipt.status());
    assert_eq!((receipt.block_number, receipt.block_hash), (Some(1), Some(block.hash)));
    assert_eq!(receipt.gas_used, 21_000);
    assert_eq!(receipt.effective_gas_price, u128::from(block.base_fee) + GWEI);
    let after = node.client.get_balance(dev_address(BOB)).await.expect("balance");
    assert_eq!(after - before, U256::from(GWEI));
    let spent = U256::from(1_000_000_u64) * U256::from(10_u64).pow(U256::from(18_u64))
        - node.client.get_balance(dev_address(ALICE)).await.expect("balance");
    assert_eq!(spent, U256::from(GWEI) + U256::from(21_000 * receipt.effective_gas_price));
    let receipts = node.client.get_block_receipts(BlockId::hash(block.hash)).await.expect("read").expect("block");
    assert_eq!(receipts, vec![receipt]);
}

#[tokio::test]
async fn headers_link_and_alloy_recomputes_every_hash_and_root() {
    let node = node().await;
    let token = node.chain.deploy_token("Dollar", "USD").expect("deployed");
    node.chain.send_token(token, dev_address(BOB), U256::from(5_u64)).expect("sent");
    node.send(&by_alice(payment(0))).await.expect("accepted");
    node.chain.mine_n(3);
    let mut parent = None;
    for number in 0..=4_u64 {
        let block = node.client.get_block_by_number(number.into()).full().await.expect("read").expect("block");
        assert_eq!(block.header.inner.hash_slow(), block.header.hash, "block {number}");
        assert_eq!(block.header.number, number);
        if let Some(parent) = parent {
            assert_eq!(block.header.parent_hash, parent);
        }
        parent = Some(block.header.hash);
        let receipts = node.client.get_block_receipts(BlockId::number(number)).await.expect("read").expect("block");
        let receipts: Vec<_> = receipts.into_iter().map(|receipt| receipt.inner.into_primitives_receipt()).collect();
        assert_eq!(block.header.receipts_root, calculate_receipt_root(&receipts));
        let txs: Vec<_> = block.transactions.into_transactions().map(|tx| tx.inner.into_inner()).collect();
        assert_eq!(block.header.transactions_root, calculate_transaction_root(&txs));
    }
    let by_hash = node.client.get_block_by_hash(parent.expect("blocks")).await.expect("read").expect("block");
    assert_eq!(by_hash.header.number, 4);
}

#[tokio::test]
async fn the_base_fee_follows_eip_1559_down_to_seven_wei_and_state_roots_change_only_with_state() {
    let node = node().await;
    let blocks = node.chain.mine_n(3);
    let fees: Vec<u64> = blocks.iter().map(|block| block.base_fee).collect();
    assert_eq!(fees, [875_000_000, 765_625_000, 669_921_875]);
    let root = |number: u64| {
        let client = node.client.clone();
        async move { client.get_block_by_number(number.into()).await.expect("read").expect("block").header.state_root }
    };
    assert_eq!(root(0).await, root(3).await);
    node.chain.send_ether(dev_address(BOB), U256::from(1_u64)).expect("sent");
    node.chain.mine();
    assert_ne!(root(3).await, root(4).await);
}

#[tokio::test]
async fn an_old_balance_is_read_at_its_block_by_hash_and_by_number() {
    let node = node_with(Settings { state_history: 8, ..Settings::default() }).await;
    let bob = dev_address(BOB);
    let genesis = node.chain.head();
    let start = node.client.get_balance(bob).await.expect("balance");
    for wei in [5_u64, 7] {
        node.chain.send_ether(bob, U256::from(wei)).expect("sent");
        node.chain.mine();
    }
    let at_hash = node.client.get_balance(bob).block_id(BlockId::hash_canonical(genesis.hash)).await.expect("balance");
    let at_one = node.client.get_balance(bob).number(1).await.expect("balance");
    let now = node.client.get_balance(bob).await.expect("balance");
    assert_eq!((at_hash, at_one, now), (start, start + U256::from(5), start + U256::from(12)));
    assert_eq!(node.client.get_transaction_count(dev_address(0)).number(1).await.expect("nonce"), 1);

    node.chain.mine_n(8);
    let gone = node.client.get_balance(bob).number(1).await.expect_err("beyond the kept states");
    assert!(gone.to_string().contains("missing trie node"), "{gone}");
}

#[tokio::test]
async fn tags_safe_and_finalized_stand_behind_the_head_by_the_settings() {
    let node = node_with(Settings { safe_depth: 32, finalized_depth: 64, ..Settings::default() }).await;
    let number = |tag: BlockNumberOrTag| {
        let client = node.client.clone();
        async move { client.get_block_by_number(tag).await.expect("read").expect("block").header.number }
    };
    assert_eq!((number(BlockNumberOrTag::Safe).await, number(BlockNumberOrTag::Finalized).await), (0, 0));
    node.chain.mine_n(100);
    assert_eq!((number(BlockNumberOrTag::Safe).await, number(BlockNumberOrTag::Finalized).await), (68, 36));
    assert_eq!((number(BlockNumberOrTag::Latest).await, number(BlockNumberOrTag::Earliest).await), (100, 0));
}

#[tokio::test]
async fn fee_history_names_base_fees_ratios_and_rewards() {
    let node = node().await;
    node.send(&by_alice(payment(0))).await.expect("accepted");
    let block = node.chain.mine();
    let history = node.client.get_fee_history(2, BlockNumberOrTag::Latest, &[10.0, 50.0]).await.expect("history");
    assert_eq!(history.oldest_block, 0);
    assert_eq!(history.base_fee_per_gas.len(), 3);
    assert_eq!(history.base_fee_per_gas[1], u128::from(block.base_fee));
    assert_eq!(history.gas_used_ratio, [0.0, 0.0007]);
    assert_eq!(history.reward, Some(vec![vec![0, 0], vec![GWEI, GWEI]]));
    assert_eq!(node.client.get_max_priority_fee_per_gas().await.expect("tip"), GWEI);
    assert_eq!(node.client.get_gas_price().await.expect("price"), GWEI + u128::from(block.base_fee));
    let estimate = node.client.estimate_eip1559_fees().await.expect("estimate");
    assert!(estimate.max_fee_per_gas > u128::from(block.base_fee));
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_unknown_methods_have_their_code() {
    let node = node().await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" },
        { "jsonrpc": "2.0", "id": 2, "method": "eth_nothing", "params": [] },
        { "id": 3, "method": "eth_chainId" },
    ]);
    let http = reqwest::Client::new();
    let answer = http.post(node.server.url()).json(&batch).send().await.expect("sent").json::<Value>().await.expect("json");
    assert_eq!(answer[0], json!({ "jsonrpc": "2.0", "id": 1, "result": "0x7a69" }));
    assert_eq!(answer[1]["error"]["code"], -32_601);
    assert_eq!(answer[2]["error"]["code"], -32_600);
    let methods: Vec<String> = node.chain.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["eth_chainId", "eth_nothing"]);
}
