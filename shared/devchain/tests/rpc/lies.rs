use std::time::{Duration, Instant};

use alloy::{eips::eip2718::Encodable2718, primitives::hex, providers::Provider};
use custos_devchain::{DevChain, DevChainError, Lies, Settings, dev_address};
use serde_json::json;

use crate::fixture::{ALICE, by_alice, node, payment};

#[tokio::test]
async fn a_send_that_times_out_is_in_the_pool_all_the_same() {
    let node = node().await;
    node.chain.set_lies(Lies { accept_and_time_out_sends: 1, ..Lies::default() });
    let tx = by_alice(payment(0));
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [hex::encode_prefixed(tx.encoded_2718())],
    });
    let impatient = reqwest::Client::builder().timeout(Duration::from_millis(300)).build().expect("client");
    let error = impatient.post(node.server.url()).json(&body).send().await.expect_err("no answer");
    assert!(error.is_timeout());
    assert_eq!(node.chain.pool(), [*tx.tx_hash()]);
    assert_eq!(node.send(&tx).await, Err("already known".into()));
    assert_eq!(node.chain.lies(), Lies::default());
}

#[tokio::test]
async fn a_dropped_send_is_answered_and_forgotten() {
    let node = node().await;
    node.chain.set_lies(Lies { drop_sends: 1, ..Lies::default() });
    let tx = by_alice(payment(0));
    assert_eq!(node.send(&tx).await.as_ref(), Ok(tx.tx_hash()));
    assert!(node.chain.pool().is_empty());
    assert_eq!(node.chain.mine().transactions, 0);
    assert_eq!(node.send(&tx).await.as_ref(), Ok(tx.tx_hash()));
    assert_eq!(node.chain.mine().transactions, 1);
}

#[tokio::test]
async fn a_stale_node_shows_nothing_above_its_head() {
    let node = node().await;
    node.chain.mine_n(3);
    let hash = node.send(&by_alice(payment(0))).await.expect("accepted");
    let mined = node.chain.mine();
    node.chain.set_lies(Lies { stale_head: 2, ..Lies::default() });
    assert_eq!(node.client.get_block_number().await.expect("number"), 2);
    assert!(node.client.get_block_by_hash(mined.hash).await.expect("read").is_none());
    assert!(node.client.get_transaction_receipt(hash).await.expect("read").is_none());
    assert_eq!(node.nonce(dev_address(ALICE)).await.0, 0);
    node.chain.set_lies(Lies::default());
    assert_eq!(node.nonce(dev_address(ALICE)).await.0, 1);
}

#[tokio::test]
async fn answers_can_be_late_and_methods_can_fail() {
    let node = node().await;
    node.chain.set_lies(Lies { delay_ms: 50, error_on: ["eth_getLogs".to_owned()].into(), ..Lies::default() });
    let asked = Instant::now();
    assert_eq!(node.client.get_block_number().await.expect("number"), 0);
    assert!(asked.elapsed() >= Duration::from_millis(50));
    assert!(node.client.get_logs(&Default::default()).await.is_err());
}

#[tokio::test]
async fn blocks_come_by_themselves_at_an_interval_or_with_every_payment() {
    let node = node().await;
    node.chain.set_auto(Some(Duration::ZERO));
    let hash = node.send(&by_alice(payment(0))).await.expect("accepted");
    assert!(node.client.get_transaction_receipt(hash).await.expect("read").is_some());
    node.chain.set_auto(Some(Duration::from_millis(5)));
    let watched = async {
        while node.client.get_block_number().await.expect("number") < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), watched).await.expect("blocks are mined");
    node.chain.set_auto(None);
}

#[tokio::test]
async fn the_chain_listens_on_loopback_only() {
    let chain = DevChain::new(Settings::default()).expect("chain");
    let error = chain.serve(([0, 0, 0, 0], 0).into()).await.expect_err("refused");
    assert!(matches!(error, DevChainError::NotLoopback { .. }));
}
