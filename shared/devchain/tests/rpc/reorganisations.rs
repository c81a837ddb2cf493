use alloy::{
    eips::BlockId,
    primitives::{B256, U256},
    providers::Provider,
    rpc::types::Filter,
};
use custos_devchain::{Dropped, dev_address};
use serde_json::json;

use crate::fixture::{ALICE, BOB, GWEI, by_alice, node, payment, raw};

#[tokio::test]
async fn dropped_blocks_take_their_receipts_and_the_payment_returns_to_the_pool() {
    let node = node().await;
    let hash = node.send(&by_alice(payment(0))).await.expect("accepted");
    let old = node.chain.mine();
    node.chain.mine();
    assert_eq!(node.chain.reorg(2, Dropped::Reinject).expect("reorganised"), [hash]);
    assert_eq!(node.client.get_block_number().await.expect("number"), 0);
    assert!(node.client.get_transaction_receipt(hash).await.expect("read").is_none());
    assert_eq!(node.nonce(dev_address(ALICE)).await, (0, 1));
    assert_eq!(node.chain.pool(), [hash]);

    let new = node.chain.mine();
    assert_eq!((new.number, new.parent_hash), (old.number, old.parent_hash));
    assert_ne!(new.hash, old.hash);
    let receipt = node.client.get_transaction_receipt(hash).await.expect("read").expect("mined again");
    assert_eq!(receipt.block_hash, Some(new.hash));
    assert!(node.chain.is_canonical(new.hash) && !node.chain.is_canonical(old.hash));
}

#[tokio::test]
async fn a_lost_payment_is_mined_when_its_bytes_are_sent_again() {
    let node = node().await;
    let tx = by_alice(payment(0));
    node.send(&tx).await.expect("accepted");
    node.chain.mine();
    node.chain.reorg(1, Dropped::Lose).expect("reorganised");
    assert!(node.chain.pool().is_empty());
    assert!(node.client.get_transaction_by_hash(*tx.tx_hash()).await.expect("read").is_none());
    node.send(&tx).await.expect("accepted again");
    assert_eq!(node.chain.mine().transactions, 1);
}

#[tokio::test]
async fn a_replacement_branch_can_hold_a_double_spend() {
    let node = node().await;
    let (first, second) = (by_alice(payment(0)), by_alice(alloy::consensus::TxEip1559 { value: U256::ZERO, ..payment(0) }));
    node.send(&first).await.expect("accepted");
    node.chain.mine();
    let branch = node.chain.replace(1, Dropped::Reinject, &[vec![], vec![raw(&second)]]).expect("replaced");
    assert_eq!(branch.iter().map(|block| (block.number, block.transactions)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
    assert_eq!(branch[1].parent_hash, branch[0].hash);
    assert!(node.client.get_transaction_receipt(*first.tx_hash()).await.expect("read").is_none());
    assert!(node.client.get_transaction_receipt(*second.tx_hash()).await.expect("read").is_some());
    assert!(node.chain.pool().is_empty(), "the spent nonce does not come back");
    assert_eq!(node.send(&first).await, Err("nonce too low: next nonce 1, tx nonce 0".into()));
}

#[tokio::test]
async fn a_branch_that_cannot_be_built_leaves_the_old_one_standing() {
    let node = node().await;
    let hash = node.send(&by_alice(payment(0))).await.expect("accepted");
    let head = node.chain.mine();
    let later = raw(&by_alice(payment(7)));
    let error = node.chain.replace(1, Dropped::Lose, &[vec![], vec![later]]).expect_err("nonce too high");
    assert!(error.to_string().contains("cannot stand in a replacement block"), "{error}");
    assert_eq!(node.chain.head(), head);
    assert!(node.client.get_transaction_receipt(hash).await.expect("read").is_some());
    assert!(node.chain.reorg(2, Dropped::Lose).is_err());
    assert_eq!(node.chain.head(), head);
}

#[tokio::test]
async fn a_side_block_stays_readable_by_hash_unless_canonical_is_required() {
    let node = node().await;
    node.chain.send_ether(dev_address(BOB), U256::from(1)).expect("sent");
    let side = node.chain.mine();
    node.chain.replace(1, Dropped::Lose, &[]).expect("replaced");
    assert!(node.client.get_block_by_hash(side.hash).await.expect("read").is_some());
    let receipts = node.client.get_block_receipts(BlockId::hash(side.hash)).await.expect("read").expect("kept");
    assert_eq!(receipts.len(), 1);
    let bob = node.client.get_balance(dev_address(BOB));
    let refused = bob.block_id(BlockId::hash_canonical(side.hash)).await.expect_err("not canonical");
    assert!(refused.to_string().contains("not currently canonical"));
}

#[tokio::test]
async fn logs_by_block_hash_and_by_range_follow_the_reorganisation() {
    let node = node().await;
    let token = node.chain.deploy_token("Dollar", "USD").expect("deployed");
    let sent = node.chain.send_token(token, dev_address(BOB), U256::from(7)).expect("sent");
    let block = node.chain.mine();
    let to_bob = Filter::new()
        .address(token)
        .event("Transfer(address,address,uint256)")
        .topic2(vec![dev_address(ALICE).into_word(), dev_address(BOB).into_word()]);
    let at_hash = node.client.get_logs(&to_bob.clone().at_block_hash(block.hash)).await.expect("logs");
    assert_eq!(at_hash.len(), 1);
    assert_eq!((at_hash[0].transaction_hash, at_hash[0].log_index), (Some(sent), Some(0)));
    let ranged = node.client.get_logs(&to_bob.clone().from_block(0).to_block(block.number)).await.expect("logs");
    assert_eq!(ranged, at_hash);
    let to_nobody = to_bob.clone().topic2(dev_address(9).into_word()).at_block_hash(block.hash);
    assert!(node.client.get_logs(&to_nobody).await.expect("logs").is_empty());

    node.chain.replace(1, Dropped::Lose, &[]).expect("replaced");
    assert!(node.client.get_logs(&to_bob.clone().from_block(0)).await.expect("logs").is_empty());
    assert_eq!(node.client.get_logs(&to_bob.at_block_hash(block.hash)).await.expect("side block").len(), 1);
}

#[tokio::test]
async fn log_queries_have_geths_limits() {
    let node = node().await;
    node.chain.mine_n(2);
    for (filter, expected) in [
        (Filter::new().from_block(1).to_block(9), "block range extends beyond current head block"),
        (Filter::new().from_block(2).to_block(1), "invalid block range params"),
        (Filter::new().at_block_hash(B256::repeat_byte(1)), "unknown block"),
        (Filter::new().topic1((0..1_001_u64).map(|i| U256::from(i).into()).collect::<Vec<B256>>()), "exceed max topics"),
    ] {
        let error = node.client.get_logs(&filter).await.expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn another_process_drives_the_chain_over_rpc() {
    let node = node().await;
    let ask = |method: &'static str, params: serde_json::Value| {
        let client = node.client.clone();
        async move { client.raw_request::<_, serde_json::Value>(method.into(), params).await.expect(method) }
    };
    let paid = ask("dev_faucet", json!([dev_address(BOB), "0x5"])).await;
    assert_eq!(ask("evm_mine", json!(["0x2"])).await, "0x2");
    assert_eq!(ask("dev_reorg", json!(["0x2", { "reinject": true }])).await, json!([paid]));
    assert_eq!(ask("evm_mine", json!([])).await, "0x1");
    assert_eq!(ask("dev_reorg", json!(["0x1", { "blocks": [] }])).await.as_array().map(Vec::len), Some(2));
    assert_eq!(ask("dev_setBaseFee", json!([format!("{:#x}", 9 * GWEI)])).await, true);
    assert_eq!(u128::from(node.chain.mine().base_fee), 9 * GWEI);
    ask("dev_faucet", json!([dev_address(BOB), "0x5"])).await;
    assert_eq!(ask("dev_dropPool", json!([])).await.as_array().map(Vec::len), Some(1));
    let token: alloy::primitives::Address =
        serde_json::from_value(ask("dev_deployToken", json!(["Dollar", "USD"])).await).expect("address");
    assert!(!node.client.get_code_at(token).await.expect("code").is_empty());
    ask("dev_lie", json!([{ "errorOn": ["eth_chainId"] }])).await;
    assert!(node.client.get_chain_id().await.is_err());
    ask("dev_lie", json!([])).await;
    assert_eq!(node.client.get_chain_id().await.expect("honest again"), 31_337);
    assert_eq!(ask("dev_requests", json!([])).await.as_array().map(Vec::len), Some(node.chain.requests().len()));
}
