use alloy::{
    primitives::{Address, U256},
    providers::{Provider, ext::DebugApi},
    rpc::types::{
        TransactionRequest,
        trace::geth::{CallFrame, GethDebugTracingOptions, GethTrace},
    },
    sol_types::SolCall,
};
use custos_devchain::{Token, dev_address, mint_data, token_code};

use crate::fixture::{BOB, Node, node};

async fn frames(node: &Node) -> Vec<CallFrame> {
    let options = GethDebugTracingOptions::call_tracer(Default::default());
    let traces = node.client.debug_trace_block_by_hash(node.chain.head().hash, options).await.expect("traces");
    let frame = |trace: &GethTrace| trace.clone().try_into_call_frame().expect("call frame");
    traces.iter().map(|trace| frame(trace.success().expect("traced"))).collect()
}

#[tokio::test]
async fn ether_that_a_contract_passes_on_is_seen_only_in_the_trace() {
    let node = node().await;
    let to = Address::repeat_byte(0x77);
    let forwarder = node.chain.deploy_forwarder(to).expect("deployed");
    let hash = node.chain.send_ether(forwarder, U256::from(123)).expect("sent");
    node.chain.mine();
    assert_eq!(node.client.get_balance(to).await.expect("balance"), U256::from(123));
    let receipt = node.client.get_transaction_receipt(hash).await.expect("read").expect("mined");
    assert!(receipt.status() && receipt.logs().is_empty());
    assert_eq!(receipt.to, Some(forwarder));
    let frames = frames(&node).await;
    assert_eq!((frames.len(), frames[0].typ.as_str(), frames[0].to), (1, "CALL", Some(forwarder)));
    assert_eq!(frames[0].gas_used, U256::from(receipt.gas_used));
    let inner = &frames[0].calls[0];
    assert_eq!((inner.from, inner.to, inner.value), (forwarder, Some(to), Some(U256::from(123))));
    assert_eq!(inner.error, None);
}

#[tokio::test]
async fn ether_that_is_passed_to_a_contract_that_refuses_it_comes_back_and_the_trace_says_so() {
    let node = node().await;
    let rejecter = node.chain.deploy_rejecter().expect("deployed");
    let forwarder = node.chain.deploy_forwarder(rejecter).expect("deployed");
    let hash = node.chain.send_ether(forwarder, U256::from(5)).expect("sent");
    node.chain.mine();
    let receipt = node.client.get_transaction_receipt(hash).await.expect("read").expect("mined");
    assert!(!receipt.status());
    assert_eq!(node.chain.balance(forwarder), U256::ZERO);
    let frames = frames(&node).await;
    assert_eq!(frames[0].error.as_deref(), Some("execution reverted"));
    assert_eq!(frames[0].calls[0].error.as_deref(), Some("execution reverted"));
}

#[tokio::test]
async fn a_paused_token_reverts_its_transfers_with_a_reason() {
    let node = node().await;
    let token = node.chain.deploy_token("Dollar", "USD").expect("deployed");
    let bob = dev_address(BOB);
    let balance = || async {
        let call = Token::balanceOfCall { account: bob }.abi_encode();
        let answer = node.client.call(TransactionRequest::default().to(token).input(call.into())).await.expect("call");
        Token::balanceOfCall::abi_decode_returns(&answer).expect("number")
    };
    node.chain.send_token(token, bob, U256::from(40)).expect("sent");
    node.chain.mine();
    assert_eq!(balance().await, U256::from(40));

    node.chain.pause_token(token).expect("sent");
    let hash = node.chain.send_token(token, bob, U256::from(2)).expect("sent");
    node.chain.mine();
    let receipt = node.client.get_transaction_receipt(hash).await.expect("read").expect("mined");
    assert!(!receipt.status() && receipt.logs().is_empty());
    assert_eq!(balance().await, U256::from(40));
    let transfer = Token::transferCall { to: bob, amount: U256::from(1) }.abi_encode();
    let request = TransactionRequest::default().from(dev_address(0)).to(token).input(transfer.into());
    for error in [
        node.client.call(request.clone()).await.expect_err("reverts"),
        node.client.estimate_gas(request.clone()).await.expect_err("reverts"),
    ] {
        let answer = error.as_error_resp().expect("an answer");
        assert_eq!(answer.code, 3);
        assert_eq!(answer.message, "execution reverted: ERC20Pausable: token transfer while paused");
        assert!(answer.as_revert_data().is_some());
    }
    node.chain.unpause_token(token).expect("sent");
    node.chain.mine();
    assert!(node.client.call(request).await.is_ok());
}

#[tokio::test]
async fn an_estimate_is_the_smallest_limit_that_works() {
    let node = node().await;
    let token = node.chain.deploy_token("Dollar", "USD").expect("deployed");
    let plain = TransactionRequest::default().from(dev_address(0)).to(dev_address(BOB)).value(U256::from(1));
    assert_eq!(node.client.estimate_gas(plain).await.expect("estimate"), 21_000);
    let transfer = Token::transferCall { to: Address::repeat_byte(9), amount: U256::from(1) }.abi_encode();
    let request = TransactionRequest::default().from(dev_address(0)).to(token).input(transfer.into());
    let enough = node.client.estimate_gas(request.clone()).await.expect("estimate");
    let with = |gas: u64| TransactionRequest { gas: Some(gas), ..request.clone() };
    assert!(node.client.call(with(enough)).await.is_ok());
    assert!(node.client.call(with(enough - 1)).await.is_err());
    let poor = TransactionRequest::default().from(Address::repeat_byte(8)).to(dev_address(BOB)).value(U256::from(1));
    let error = node.client.estimate_gas(poor).await.expect_err("no funds");
    assert!(error.to_string().contains("insufficient funds for gas * price + value"), "{error}");
}

#[tokio::test]
async fn a_set_balance_is_seen_at_once_and_stands_in_the_next_state() {
    let node = node().await;
    let who = Address::repeat_byte(3);
    node.chain.set_balance(who, U256::from(42));
    assert_eq!(node.client.get_balance(who).await.expect("balance"), U256::from(42));
    node.chain.mine();
    assert_eq!(node.client.get_balance(who).await.expect("balance"), U256::from(42));
}

#[tokio::test]
async fn the_unlocked_account_pays_deploys_and_mints_over_rpc_and_no_other_account_does() {
    let node = node().await;
    let to = Address::repeat_byte(0x66);
    let unlocked = node.client.get_accounts().await.expect("accounts");
    assert_eq!(unlocked, [dev_address(0)]);
    let from_faucet = TransactionRequest::default().from(dev_address(0));
    let deployed = node.client.send_transaction(from_faucet.clone().input(token_code("Dollar", "USD").into())).await;
    let deployed = *deployed.expect("sent").tx_hash();
    node.chain.mine();
    let receipt = node.client.get_transaction_receipt(deployed).await.expect("read").expect("mined");
    let token = receipt.contract_address.expect("a contract");
    let paid = from_faucet.clone().to(to).value(U256::from(5));
    drop(node.client.send_transaction(paid).await.expect("sent"));
    let minted = from_faucet.to(token).input(mint_data(to, U256::from(7)).into());
    drop(node.client.send_transaction(minted).await.expect("sent"));
    node.chain.mine();
    assert_eq!(node.client.get_balance(to).await.expect("balance"), U256::from(5));
    let asked = Token::balanceOfCall { account: to }.abi_encode();
    let held = node.client.call(TransactionRequest::default().to(token).input(asked.into())).await.expect("called");
    assert_eq!(U256::from_be_slice(&held), U256::from(7));
    let stranger = TransactionRequest::default().from(dev_address(BOB)).to(to).value(U256::from(1));
    assert!(node.client.send_transaction(stranger).await.is_err());
}
