use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy},
    primitives::{Bytes, Signature, TxKind, U256},
    providers::Provider,
};
use custos_devchain::{ETHER, dev_address, dev_key, sign};
use serde_json::Value;

use crate::fixture::{ALICE, GWEI, by_alice, node, payment, text};

#[tokio::test]
async fn each_refusal_speaks_geths_words() {
    let node = node().await;
    node.send(&by_alice(payment(0))).await.expect("accepted");
    node.chain.mine();
    node.send(&by_alice(payment(1))).await.expect("accepted");
    node.send(&by_alice(payment(5))).await.expect("queued");
    let alice = node.chain.balance(dev_address(ALICE));
    let too_much = alice + U256::from(1);
    let cost = too_much + U256::from(210_000 * GWEI);
    let over = U256::from(210_000 * GWEI + 1);
    let ninth = U256::from(100_000_u64) * U256::from(ETHER) * U256::from(9_u64);
    let table: Vec<(TxEip1559, String)> = vec![
        (payment(1), "already known".into()),
        (payment(5), "already known".into()),
        (payment(0), "nonce too low: next nonce 1, tx nonce 0".into()),
        (TxEip1559 { gas_limit: 20_999, ..payment(2) }, "intrinsic gas too low: gas 20999, minimum needed 21000".into()),
        (
            TxEip1559 { input: Bytes::from(vec![1; 1_000]), gas_limit: 37_000, ..payment(2) },
            // 21000 + 16 * 1000 is enough to start; EIP-7623 wants 21000 + 40 * 1000.
            "insufficient gas for floor data gas cost: gas 37000, minimum needed 61000".into(),
        ),
        (
            TxEip1559 { max_priority_fee_per_gas: 11 * GWEI, ..payment(2) },
            "max priority fee per gas higher than max fee per gas".into(),
        ),
        (
            TxEip1559 { max_priority_fee_per_gas: 0, ..payment(2) },
            "transaction gas price below minimum: gas tip cap 0, minimum needed 1".into(),
        ),
        (
            TxEip1559 { gas_limit: 20_000_000, ..payment(2) },
            "transaction gas limit too high (cap: 16777216, tx: 20000000)".into(),
        ),
        (
            TxEip1559 { max_fee_per_gas: 100_000 * GWEI, ..payment(2) },
            "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)".into(),
        ),
        (TxEip1559 { chain_id: 1, ..payment(2) }, "invalid sender: invalid chain id for signer: have 1 want 31337".into()),
        (
            TxEip1559 { value: too_much, ..payment(2) },
            format!("insufficient funds for gas * price + value: balance {alice}, tx cost {cost}, overshot {over}"),
        ),
        (
            TxEip1559 { value: alice - U256::from(210_000 * GWEI), ..payment(2) },
            format!(
                "insufficient funds for gas * price + value: balance {alice}, queued cost {}, tx cost {alice}, overshot {}",
                210_001 * GWEI,
                210_001 * GWEI
            ),
        ),
        (payment(1).clone().tap(|tx| tx.value = ninth), "replacement transaction underpriced".into()),
    ];
    for (tx, expected) in table {
        assert_eq!(node.send(&by_alice(tx)).await, Err(expected));
    }
    assert_eq!(node.chain.pool().len(), 2);
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for TxEip1559 {}

#[tokio::test]
async fn bytes_that_are_no_transaction_are_refused() {
    let node = node().await;
    let unprotected = TxLegacy {
        chain_id: None,
        nonce: 0,
        gas_price: 10 * GWEI,
        gas_limit: 21_000,
        to: TxKind::Call(dev_address(0)),
        ..TxLegacy::default()
    };
    let signature = dev_key(ALICE).sign_prehash_recoverable(unprotected.signature_hash().as_slice()).expect("signed");
    let unprotected = TxEnvelope::from(unprotected.into_signed(Signature::from(signature)));
    let refusal = node.send(&unprotected).await;
    assert_eq!(refusal, Err("only replay-protected (EIP-155) transactions allowed over RPC".into()));
    for (raw, expected) in [
        (&b"\x02\xc0"[..], "rlp: too few elements for types.DynamicFeeTx"),
        (b"", "typed transaction too short"),
        (b"\x55garbage", "transaction type not supported"),
    ] {
        let error = node.client.send_raw_transaction(raw).await.expect_err("refused");
        assert_eq!(text(&error), expected);
    }
}

#[tokio::test]
async fn a_replacement_needs_ten_percent_on_both_fields_to_the_wei() {
    let base = TxEip1559 { max_fee_per_gas: 10_000_000_005, max_priority_fee_per_gas: 1_000_000_005, ..payment(0) };
    // Ten percent more, rounded down: 11,000,000,005 and 1,100,000,005.
    for (fee, tip, accepted) in [
        (11_000_000_004, 1_100_000_005, false),
        (11_000_000_005, 1_100_000_004, false),
        (20_000_000_000, 1_000_000_005, false),
        (10_000_000_005, 2_000_000_000, false),
        (11_000_000_005, 1_100_000_005, true),
    ] {
        let node = node().await;
        let first = node.send(&by_alice(base.clone())).await.expect("accepted");
        let bumped = by_alice(TxEip1559 { max_fee_per_gas: fee, max_priority_fee_per_gas: tip, ..base.clone() });
        let answer = node.send(&bumped).await;
        if accepted {
            assert_eq!(answer.as_ref(), Ok(bumped.tx_hash()));
            assert_eq!(node.chain.pool(), [*bumped.tx_hash()]);
        } else {
            assert_eq!(answer, Err("replacement transaction underpriced".into()), "fee {fee} tip {tip}");
            assert_eq!(node.chain.pool(), [first]);
        }
    }
}

#[tokio::test]
async fn a_gap_waits_in_the_queue_until_it_is_filled() {
    let node = node().await;
    let alice = dev_address(ALICE);
    let last = node.send(&by_alice(payment(2))).await.expect("queued");
    node.send(&by_alice(payment(0))).await.expect("pending");
    assert_eq!(node.nonce(alice).await, (0, 1));
    let status: Value = node.client.raw_request("txpool_status".into(), ()).await.expect("status");
    assert_eq!(status, serde_json::json!({ "pending": "0x1", "queued": "0x1" }));
    assert_eq!(node.chain.mine().transactions, 1);
    assert_eq!(node.chain.pool(), [last]);
    node.send(&by_alice(payment(1))).await.expect("pending");
    assert_eq!(node.nonce(alice).await, (1, 3));
    assert_eq!(node.chain.mine().transactions, 2);
    assert_eq!(node.nonce(alice).await, (3, 3));
}

#[tokio::test]
async fn a_base_fee_spike_keeps_a_payment_pending_until_it_is_over() {
    let node = node().await;
    node.chain.set_base_fee(50 * GWEI).expect("fits");
    let hash = node.send(&by_alice(payment(0))).await.expect("accepted below the base fee");
    let spike = node.chain.mine();
    assert_eq!((u128::from(spike.base_fee), spike.transactions), (50 * GWEI, 0));
    assert_eq!(node.nonce(dev_address(ALICE)).await, (0, 1));
    let mut block = node.chain.mine();
    while u128::from(block.base_fee) > 10 * GWEI {
        assert_eq!(block.transactions, 0);
        block = node.chain.mine();
    }
    assert_eq!(block.transactions, 1);
    let receipt = node.client.get_transaction_receipt(hash).await.expect("read").expect("mined");
    // What the cap leaves above the base fee is all the tip there is.
    assert!(receipt.effective_gas_price <= 10 * GWEI);
}

#[tokio::test]
async fn the_better_tip_goes_first_and_a_sender_keeps_its_order() {
    let node = node().await;
    let tip = |gwei: u128, nonce: u64| TxEip1559 { max_priority_fee_per_gas: gwei * GWEI, ..payment(nonce) };
    let mut expected = vec![node.send(&by_alice(tip(2, 0))).await.expect("accepted")];
    expected.push(node.send(&by_alice(tip(9, 1))).await.expect("accepted"));
    let rival = sign(tip(3, 0), &dev_key(5)).expect("signed");
    expected.insert(0, node.send(&rival).await.expect("accepted"));
    let block = node.chain.mine();
    let mined = node.client.get_block_by_hash(block.hash).await.expect("read").expect("block");
    assert_eq!(mined.transactions.hashes().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_dropped_transaction_is_gone_and_its_successor_is_queued() {
    let node = node().await;
    let first = node.send(&by_alice(payment(0))).await.expect("accepted");
    node.send(&by_alice(payment(1))).await.expect("accepted");
    assert!(node.chain.drop_transaction(first));
    assert!(!node.chain.drop_transaction(first));
    assert!(node.client.get_transaction_by_hash(first).await.expect("read").is_none());
    assert_eq!(node.nonce(dev_address(ALICE)).await, (0, 0));
    assert_eq!(node.chain.drop_pool().len(), 1);
    assert!(node.chain.pool().is_empty());
}
