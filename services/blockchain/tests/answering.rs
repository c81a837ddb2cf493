//! The service and the balance reader against a development chain.

mod fixture;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use alloy::consensus::{TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::sol_types::SolCall;
use custos_blockchain::{Adapter, BalanceReader, BlockchainError, Nodes};
use custos_devchain::{DevChain, Dropped, Lies, Settings, Token, dev_address, dev_key, sign};
use custos_domain::{Amount, AssetKind, BlockHash, ChainId, CommandId, IntentId, TxHash};
use custos_messages::Mail;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{FeeQuote, SendOutcome, TreasuryInput};
use custos_runtime::ops::{ChainReader, Holding};
use custos_runtime::service::{Service, Setback};
use custos_testkit::{chain, wallet};
use fixture::{World, config, eth, wei, world};

const GWEI: u128 = 1_000_000_000;
const CLIENT: Address = Address::repeat_byte(0xc1);

fn command(order: BlockchainOrder) -> BlockchainCommand {
    BlockchainCommand { id: CommandId([7; 32]), wallet: wallet(), chain: chain(), order }
}

fn payment(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(CLIENT),
        value: wei(5),
        access_list: Default::default(),
        input: Bytes::new(),
    }
}

fn signed(tx: TxEip1559) -> TxEnvelope {
    sign(tx, &dev_key(1)).expect("signed")
}

fn send(world: &World, adapter: &Adapter, tx: &TxEnvelope) -> SendOutcome {
    let order = BlockchainOrder::Send { tx: TxHash(tx.tx_hash().0), raw: tx.encoded_2718() };
    let mut mails = world.runtime.block_on(adapter.handle(command(order))).expect("an answer");
    match mails.pop() {
        Some(Mail::Treasury(TreasuryInput::Sent(sent))) => {
            assert_eq!((sent.command, sent.wallet, sent.tx.0), (CommandId([7; 32]), wallet(), tx.tx_hash().0));
            sent.outcome
        }
        other => panic!("{other:?}"),
    }
}

fn estimate(world: &World, from: Address, kind: AssetKind, to: Address, value: u128, data: Vec<u8>) -> FeeQuote {
    let intent = IntentId([3; 32]);
    let (from, to, value) = (eth(from), eth(to), Amount::new(value));
    let order = BlockchainOrder::Estimate { intent, from, kind, to, value, data };
    let mut mails = world.runtime.block_on(Adapter::new(world.nodes()).handle(command(order))).expect("an answer");
    match mails.pop() {
        Some(Mail::Treasury(TreasuryInput::Estimated(answer))) => answer.quote,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ether_payment_is_quoted_with_margins_and_balances_of_one_block() {
    let world = world();
    world.dev.mine();
    let base = u128::from(world.dev.head().base_fee);
    let held = Amount::new(world.dev.balance(dev_address(1)).to());
    let quote = estimate(&world, dev_address(1), AssetKind::Native, CLIENT, 5, Vec::new());
    assert_eq!(
        quote,
        FeeQuote::Quote {
            gas_limit: 25_200,
            max_fee_per_gas: Amount::new(2 * base + 1),
            max_priority_fee_per_gas: Amount::new(1),
            native_balance: held,
            asset_balance: held,
            next_nonce: 0,
        }
    );
}

#[test]
fn a_token_payment_that_would_revert_is_told_from_one_that_lacks_funds() {
    let world = world();
    let token = world.dev.deploy_token("Test Dollar", "TUSD").unwrap();
    let kind = AssetKind::Erc20 { contract: eth(token) };
    let transfer = |amount: u64| Token::transferCall { to: CLIENT, amount: wei(amount) }.abi_encode();
    world.dev.send_token(token, dev_address(1), wei(100)).unwrap();
    world.dev.mine();
    let quote = |amount| estimate(&world, dev_address(1), kind.clone(), token, 0, transfer(amount));
    let FeeQuote::Quote { gas_limit, asset_balance, .. } = quote(100) else { panic!("no quote") };
    assert_eq!(asset_balance, Amount::new(100));
    assert!((40_000..100_000).contains(&gas_limit), "{gas_limit}");
    let FeeQuote::Quote { asset_balance, .. } = quote(101) else { panic!("too little is no revert") };
    assert_eq!(asset_balance, Amount::new(100));
    world.dev.pause_token(token).unwrap();
    world.dev.mine();
    assert_eq!(quote(100), FeeQuote::WouldRevert);
}

#[test]
fn an_empty_hot_address_is_quoted_with_its_empty_balance() {
    let world = world();
    let quote = estimate(&world, Address::repeat_byte(0xee), AssetKind::Native, CLIENT, 5, Vec::new());
    assert!(matches!(quote, FeeQuote::Quote { native_balance: Amount::ZERO, next_nonce: 0, .. }), "{quote:?}");
}

#[test]
fn a_failing_node_makes_a_question_wait_and_an_unknown_chain_stops_the_service() {
    let world = world();
    let adapter = Adapter::new(world.nodes());
    let order = |_| BlockchainOrder::Estimate {
        intent: IntentId([3; 32]),
        from: eth(CLIENT),
        kind: AssetKind::Native,
        to: eth(CLIENT),
        value: Amount::ZERO,
        data: Vec::new(),
    };
    world.dev.set_lies(Lies { error_on: ["eth_estimateGas".to_owned()].into(), ..Lies::default() });
    let waits = world.runtime.block_on(adapter.handle(command(order(())))).expect_err("no answer");
    assert!(matches!(waits, Setback::Retry(_)));
    let elsewhere = BlockchainCommand { chain: ChainId::eip155(5), ..command(order(())) };
    let stops = world.runtime.block_on(adapter.handle(elsewhere)).expect_err("no answer");
    assert!(matches!(stops, Setback::Halt(_)));
}

#[test]
fn the_same_bytes_can_be_sent_again_and_again() {
    let world = world();
    let adapter = Adapter::new(world.nodes());
    let tx = signed(payment(0));
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::InPool);
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::InPool);
    world.dev.mine();
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::NonceSpent);
    world.dev.reorg(1, Dropped::Lose).unwrap();
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::InPool);
}

#[test]
fn a_send_whose_effect_is_unknown_is_tried_again_and_found_in_the_pool() {
    let world = world();
    let impatient = config(&[&world.server.url()], Duration::from_millis(300));
    let adapter = Adapter::new(world.runtime.block_on(Nodes::connect(&impatient)).expect("nodes"));
    let tx = signed(payment(0));
    world.dev.set_lies(Lies { accept_and_time_out_sends: 1, ..Lies::default() });
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::Retry);
    assert_eq!(world.dev.pool(), [*tx.tx_hash()]);
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::InPool);
}

#[test]
fn refusals_of_a_live_node_are_told_apart() {
    let world = world();
    let adapter = Adapter::new(world.nodes());
    let all = world.dev.balance(dev_address(1));
    assert_eq!(send(&world, &adapter, &signed(payment(0))), SendOutcome::InPool);
    let table = [
        (TxEip1559 { value: wei(6), ..payment(0) }, SendOutcome::Underpriced),
        (TxEip1559 { value: all, ..payment(1) }, SendOutcome::InsufficientFunds),
        (TxEip1559 { gas_limit: 20_999, ..payment(1) }, SendOutcome::Invalid),
        (TxEip1559 { chain_id: 1, ..payment(1) }, SendOutcome::Invalid),
        (TxEip1559 { max_priority_fee_per_gas: 0, ..payment(1) }, SendOutcome::FeeTooLow),
        (TxEip1559 { max_fee_per_gas: 100_000 * GWEI, ..payment(1) }, SendOutcome::Retry),
    ];
    for (tx, expected) in table {
        assert_eq!(send(&world, &adapter, &signed(tx.clone())), expected, "{tx:?}");
    }
    let order = BlockchainOrder::Send { tx: TxHash([1; 32]), raw: signed(payment(1)).encoded_2718() };
    let answer = world.runtime.block_on(adapter.handle(command(order))).expect("an answer");
    let Some(Mail::Treasury(TreasuryInput::Sent(sent))) = answer.first() else { panic!("{answer:?}") };
    assert_eq!(sent.outcome, SendOutcome::Invalid);
}

#[test]
fn bytes_go_to_every_node_and_one_is_enough() {
    let world = world();
    let other = DevChain::new(Settings::default()).unwrap();
    let server = world.runtime.block_on(other.serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
    let both = config(&[&world.server.url(), &server.url()], Duration::from_secs(10));
    let adapter = Adapter::new(world.runtime.block_on(Nodes::connect(&both)).expect("nodes"));
    let tx = signed(payment(0));
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::InPool);
    assert_eq!((world.dev.pool(), other.pool()), (vec![*tx.tx_hash()], vec![*tx.tx_hash()]));
    world.dev.set_lies(Lies { error_on: ["eth_sendRawTransaction".to_owned()].into(), ..Lies::default() });
    assert_eq!(send(&world, &adapter, &tx), SendOutcome::InPool);
}

#[test]
fn a_node_of_another_chain_is_refused_at_the_start() {
    let world = fixture::world_with(Settings { chain_number: 5, ..Settings::default() });
    let refused = world.runtime.block_on(Nodes::connect(&world.config())).err();
    assert!(matches!(refused, Some(BlockchainError::WrongChain { expected: 31_337, found: 5, .. })), "{refused:?}");
}

#[test]
fn balances_are_read_at_a_canonical_block_and_refused_at_any_other() {
    let world = world();
    let token = world.dev.deploy_token("Test Dollar", "TUSD").unwrap();
    world.dev.send_token(token, CLIENT, wei(9)).unwrap();
    world.dev.send_ether(CLIENT, wei(4)).unwrap();
    world.dev.mine();
    let then = world.head();
    world.dev.send_ether(CLIENT, wei(4)).unwrap();
    world.dev.mine();
    let reader = BalanceReader::new(world.nodes());
    let native = Holding { address: eth(CLIENT), contract: None };
    let tokens = Holding { address: eth(CLIENT), contract: Some(eth(token)) };
    let read = |block: &BlockHash| world.runtime.block_on(reader.balances(&chain(), block, &[native, tokens]));
    assert_eq!(read(&then.hash), Ok(vec![Amount::new(4), Amount::new(9)]));
    world.dev.replace(2, Dropped::Lose, &[]).unwrap();
    let problem = read(&then.hash).expect_err("the block was left");
    assert!(problem.contains("not on the canonical chain of node a"), "{problem}");
    assert!(read(&BlockHash([9; 32])).expect_err("no such block").contains("does not know"));
    assert_eq!(U256::ZERO, world.dev.balance(CLIENT));
}
