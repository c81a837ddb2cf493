//! Followers against a development chain and the embedded log.

mod fixture;

use std::collections::BTreeSet;
use std::time::Instant;

use alloy::primitives::{Address, Bytes, TxKind, U256, keccak256};
use custos_devchain::{Dropped, Lies, Request, dev_address, dev_key};
use custos_domain::Amount;
use custos_messages::Source;
use custos_messages::chain::{BlockReport, TransferSeen};
use custos_messages::watch::{AddressRole, WatchRecord, WatchedAddress};
use custos_testkit::{account, asset, chain, wallet};
use fixture::{eth, until, wei, world};

const DEPOSIT: Address = Address::repeat_byte(0xd1);
const LATER: Address = Address::repeat_byte(0xd2);

fn transfers(reports: &[BlockReport]) -> Vec<(u64, TransferSeen)> {
    let of = |report: &BlockReport| {
        let number = report.block.number;
        report.transfers.clone().into_iter().map(move |seen| (number, seen)).collect::<Vec<_>>()
    };
    reports.iter().flat_map(of).collect()
}

#[test]
fn every_block_is_reported_once_in_order_from_the_first_configured_on() {
    let world = world();
    world.dev.mine_n(5);
    let _running = world.follow();
    let reports = world.reported();
    let numbers: Vec<u64> = reports.iter().map(|report| report.block.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    for report in &reports {
        assert_eq!(report.block, world.block(report.block.number));
        assert_eq!(report.parent, world.block(report.block.number - 1).hash);
        assert_eq!(report.time.0, (1_700_000_000 + 12 * report.block.number) * 1_000);
        assert_eq!(report.node.as_str(), "a");
    }
}

#[test]
fn a_follower_stops_so_far_beyond_the_cursor_and_goes_on_when_it_moves() {
    let mut world = world();
    world.lead_max = 3;
    world.dev.mine_n(9);
    let _running = world.follow();
    let numbers = || world.reports().iter().map(|report| report.block.number).collect::<Vec<_>>();
    until(|| (numbers().len() == 4).then_some(()));
    let asked = || world.dev.requests().iter().filter(|request| request.method == "eth_getBlockByNumber").count();
    let before = asked();
    until(|| (asked() > before + 5).then_some(()));
    assert_eq!(numbers(), [1, 2, 3, 4], "it looks at the node and reports no more");
    world.cursor(4);
    until(|| (numbers().len() == 7).then_some(()));
    world.cursor(8);
    until(|| (numbers() == [1, 2, 3, 4, 5, 6, 7, 8, 9]).then_some(()));
}

#[test]
fn a_follower_that_may_go_no_further_sees_that_its_node_has_another_chain() {
    let mut world = world();
    world.lead_max = 3;
    world.dev.mine_n(9);
    let _running = world.follow();
    let numbers = || world.reports().iter().map(|report| report.block.number).collect::<Vec<_>>();
    until(|| (numbers() == [1, 2, 3, 4]).then_some(()));
    world.dev.replace(7, Dropped::Reinject, &vec![Vec::new(); 8]).unwrap();
    until(|| (numbers() == [1, 2, 3, 4, 3, 4]).then_some(()));
    assert_eq!(world.reports().last().map(|report| report.block), Some(world.block(4)));
}

#[test]
fn a_follower_can_begin_with_the_genesis_block() {
    let mut world = world();
    world.start_block = 0;
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    let _running = world.follow();
    world.reported();
    assert_eq!(world.announced(1)[0].from, world.block(0));
}

#[test]
fn ether_and_tokens_to_a_watched_address_are_reported_with_their_indexes() {
    let mut world = world();
    let token = world.dev.deploy_token("Test Dollar", "TUSD").unwrap();
    let unlisted = world.dev.deploy_token("Other", "OTH").unwrap();
    world.list_token(token);
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    let paid = world.dev.send_ether(DEPOSIT, wei(7)).unwrap();
    world.dev.send_token(unlisted, DEPOSIT, wei(8)).unwrap();
    let first = world.dev.send_token(token, DEPOSIT, wei(9)).unwrap();
    let second = world.dev.send_token(token, DEPOSIT, wei(10)).unwrap();
    world.dev.send_ether(LATER, wei(11)).unwrap();
    world.dev.mine();
    let _running = world.follow();
    let seen = transfers(&world.reported());
    let mut expected = vec![
        (paid, 1_000_000, "ETH", 7_u128),
        // Logs are counted through the block: the unlisted token's is the first.
        (first, 1, "TUSD", 9),
        (second, 2, "TUSD", 10),
    ];
    expected.sort();
    assert_eq!(seen.len(), 3, "{seen:?}");
    for ((number, seen), (tx, index, code, units)) in seen.iter().zip(expected) {
        assert_eq!(*number, 3);
        assert_eq!((seen.tx.0, seen.index), (tx.0, index));
        assert_eq!((&seen.asset, seen.amount), (&asset(code), Amount::new(units)));
        assert_eq!((seen.from, seen.to, seen.account), (eth(dev_address(0)), eth(DEPOSIT), account("ada")));
    }
}

#[test]
fn a_token_whose_balances_do_not_agree_with_its_events_is_not_credited() {
    let mut world = world();
    // Whatever it is asked, it claims to have paid five units to the address, and answers that nobody has anything.
    let mut runtime = vec![0x60, 5, 0x5f, 0x52, 0x73];
    runtime.extend(DEPOSIT.as_slice());
    runtime.extend([0x5f, 0x7f]);
    runtime.extend(keccak256("Transfer(address,address,uint256)"));
    runtime.extend([0x60, 32, 0x5f, 0xa3, 0x60, 32, 0x60, 32, 0xf3]);
    let length = u8::try_from(runtime.len()).unwrap();
    // codecopy(0, 10, length); return(0, length)
    let mut creation = vec![0x60, length, 0x60, 10, 0x5f, 0x39, 0x60, length, 0x5f, 0xf3];
    creation.extend(runtime);
    world.dev.spend(&dev_key(4), TxKind::Create, U256::ZERO, creation.into()).unwrap();
    let token = dev_address(4).create(0);
    world.list_token(token);
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    world.dev.mine();
    world.dev.spend(&dev_key(4), TxKind::Call(token), U256::ZERO, Bytes::new()).unwrap();
    world.dev.send_ether(DEPOSIT, wei(1)).unwrap();
    world.dev.mine();
    let _running = world.follow();
    let seen = transfers(&world.reported());
    assert_eq!(seen.iter().map(|(_, one)| one.asset.as_str()).collect::<Vec<_>>(), ["ETH"]);
    let counted = r#"transfers_unreported_total{chain="eip155:31337",reason="token-balance-disagrees"} 1"#;
    assert!(world.metrics.text().contains(counted), "{}", world.metrics.text());
}

#[test]
fn ether_that_a_contract_passes_on_is_seen_by_its_call() {
    let world = world();
    let forwarder = world.dev.deploy_forwarder(DEPOSIT).unwrap();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    let tx = world.dev.send_ether(forwarder, wei(21)).unwrap();
    world.dev.mine();
    let _running = world.follow();
    let seen = transfers(&world.reported());
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].1.tx.0, seen[0].1.index, seen[0].1.amount), (tx.0, 1_000_001, Amount::new(21)));
    assert_eq!(seen[0].1.from, eth(forwarder));
}

#[test]
fn a_block_whose_traces_cannot_be_had_waits_and_loses_nothing() {
    let world = world();
    let forwarder = world.dev.deploy_forwarder(DEPOSIT).unwrap();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    let broken = Lies { error_on: ["debug_traceBlockByHash".to_owned()].into(), ..Lies::default() };
    world.dev.set_lies(broken);
    let direct = world.dev.send_ether(DEPOSIT, wei(5)).unwrap();
    world.dev.send_ether(forwarder, wei(6)).unwrap();
    world.dev.mine();
    let _running = world.follow();
    // An error of the node is no word that it cannot trace: the block waits.
    let asked = |request: &Request| request.method == "debug_traceBlockByHash";
    until(|| (world.dev.requests().iter().filter(|one| asked(one)).count() > 2).then_some(()));
    assert!(world.reports().iter().all(|report| report.transfers.is_empty()));
    world.dev.set_lies(Lies::default());
    let seen = transfers(&world.reported());
    let amounts: Vec<_> = seen.iter().map(|(_, one)| one.amount.base_units()).collect();
    assert!(amounts.contains(&5) && amounts.contains(&6) && seen.iter().any(|(_, one)| one.tx.0 == direct.0));
}

#[test]
fn transactions_from_a_hot_address_are_reported_with_fee_and_outcome() {
    let world = world();
    let rejecter = world.dev.deploy_rejecter().unwrap();
    world.watch(dev_address(1), "house", AddressRole::Hot);
    world.watch(dev_address(2), "ada", AddressRole::Deposit);
    let key = dev_key(1);
    let good = world.dev.spend(&key, TxKind::Call(dev_address(3)), wei(1), Bytes::new()).unwrap();
    let bad = world.dev.spend(&key, TxKind::Call(rejecter), wei(1), Bytes::new()).unwrap();
    world.dev.spend(&dev_key(2), TxKind::Call(dev_address(3)), wei(1), Bytes::new()).unwrap();
    let before = world.dev.balance(dev_address(1));
    world.dev.mine();
    let _running = world.follow();
    let reports = world.reported();
    let spends = &reports.last().unwrap().spends;
    let told: Vec<_> = spends.iter().map(|spend| (spend.tx.0, spend.nonce, spend.succeeded)).collect();
    assert_eq!(told, [(good.0, 0, true), (bad.0, 1, false)]);
    assert!(spends.iter().all(|spend| spend.wallet == wallet()));
    let fees: u128 = spends.iter().map(|spend| spend.fee.base_units()).sum();
    assert_eq!(before - world.dev.balance(dev_address(1)), U256::from(fees) + wei(1));
}

#[test]
fn after_a_reorganisation_the_new_branch_is_reported_from_the_fork_upward() {
    let world = world();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    world.dev.mine_n(3);
    world.dev.send_ether(DEPOSIT, wei(1)).unwrap();
    world.dev.mine();
    world.dev.mine();
    let _running = world.follow();
    let before = world.reported().len();
    assert_eq!(before, 5);
    world.dev.replace(2, Dropped::Lose, &[]).unwrap();
    let after = world.reported();
    let new: Vec<_> = after[before..].iter().map(|report| (report.block, report.parent)).collect();
    let expected: Vec<_> = (4..=6).map(|number| (world.block(number), world.block(number - 1).hash)).collect();
    assert_eq!(new, expected);
    assert_eq!(transfers(&after[before..]).len(), 0);
}

#[test]
fn a_chain_that_became_shorter_is_noticed_as_soon_as_it_contradicts() {
    let world = world();
    world.dev.mine_n(6);
    let _running = world.follow();
    world.reported();
    world.dev.reorg(4, Dropped::Lose).unwrap();
    world.dev.mine_n(2);
    let reports = world.reported();
    let numbers: Vec<u64> = reports.iter().map(|report| report.block.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 3, 4]);
}

#[test]
fn a_stale_head_is_no_reorganisation() {
    let world = world();
    world.dev.mine_n(5);
    let _running = world.follow();
    world.reported();
    world.dev.set_lies(Lies { stale_head: 3, ..Lies::default() });
    world.dev.clear_requests();
    until(|| (world.dev.requests().len() > 5).then_some(()));
    world.dev.set_lies(Lies::default());
    world.dev.mine();
    let numbers: Vec<u64> = world.reported().iter().map(|report| report.block.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_restarted_follower_reads_on_from_the_cursor_and_announces_everything_again() {
    let world = world();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    world.dev.mine_n(6);
    drop_after(world.follow(), || world.reported());
    let before = world.reports().len();
    world.cursor(4);
    world.watch(LATER, "bob", AddressRole::Deposit);
    let _running = world.follow();
    let announced = world.announced(3);
    let again: Vec<_> = announced[1..].iter().map(|news| (news.address, news.from)).collect();
    assert!(again.contains(&(eth(DEPOSIT), world.block(4))) && again.contains(&(eth(LATER), world.block(4))));
    let numbers = || world.reports()[before..].iter().map(|report| report.block.number).collect::<Vec<_>>();
    until(|| (numbers() == [5, 6]).then_some(()));
}

fn drop_after<T, R>(running: T, wait: impl FnOnce() -> R) {
    wait();
    drop(running);
}

#[test]
fn a_cursor_that_left_the_canonical_chain_is_walked_back() {
    let world = world();
    world.dev.mine_n(6);
    world.cursor(5);
    world.dev.replace(3, Dropped::Lose, &[]).unwrap();
    let _running = world.follow();
    let numbers: Vec<u64> = world.reported().iter().map(|report| report.block.number).collect();
    assert_eq!(numbers, [4, 5, 6, 7]);
}

#[test]
fn a_follower_waits_for_a_node_that_is_behind_the_cursor() {
    let world = world();
    world.dev.mine_n(6);
    world.cursor(5);
    world.dev.set_lies(Lies { stale_head: 3, ..Lies::default() });
    let _running = world.follow();
    until(|| (world.dev.requests().len() > 5).then_some(()));
    assert!(world.reports().is_empty());
    world.dev.set_lies(Lies::default());
    assert_eq!(world.reported().len(), 1);
}

#[test]
fn an_address_added_later_is_announced_and_seen_only_in_blocks_after() {
    let world = world();
    world.dev.send_ether(LATER, wei(1)).unwrap();
    world.dev.mine_n(2);
    let _running = world.follow();
    world.reported();
    world.watch(LATER, "bob", AddressRole::Deposit);
    let announced = world.announced(1);
    assert_eq!((announced[0].wallet, announced[0].address), (wallet(), eth(LATER)));
    assert_eq!((&announced[0].chain, announced[0].from), (&chain(), world.block(2)));
    world.dev.send_ether(LATER, wei(2)).unwrap();
    world.dev.mine();
    let seen = transfers(&world.reported());
    assert_eq!(seen.iter().map(|(number, one)| (*number, one.amount.base_units())).collect::<Vec<_>>(), [(3, 2)]);
    // Treasury asks again until it has heard.
    world.watch(LATER, "bob", AddressRole::Deposit);
    assert_eq!(world.announced(2)[1].from, world.block(3));
}

#[test]
fn a_forged_record_of_the_watch_list_is_put_aside_and_counted() {
    let world = world();
    let forged = WatchRecord::Address(WatchedAddress {
        chain: chain(),
        address: eth(DEPOSIT),
        account: account("eve"),
        wallet: wallet(),
        role: AddressRole::Deposit,
    });
    world.write(&forged, Source::Gateway);
    world.dev.send_ether(DEPOSIT, wei(1)).unwrap();
    world.dev.mine();
    let _running = world.follow();
    assert!(transfers(&world.reported()).is_empty());
    assert!(world.metrics.text().contains(r#"quarantined_total{part="follower",code="not-allowed"} 1"#));
}

#[test]
fn two_followers_of_one_node_say_the_same() {
    let world = world();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    world.dev.send_ether(DEPOSIT, wei(1)).unwrap();
    world.dev.mine_n(4);
    let _both = (world.follow(), world.follow());
    let mut reports = until(|| Some(world.reports()).filter(|all| all.len() == 8));
    reports.sort_by_key(|report| report.block.number);
    assert!(reports.chunks(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_follower_starts_while_its_node_is_silent_and_goes_on_when_it_speaks() {
    let world = world();
    world.dev.mine();
    world.dev.set_lies(Lies { error_on: ["eth_chainId".to_owned()].into(), ..Lies::default() });
    let _running = world.follow();
    until(|| (world.dev.requests().len() > 3).then_some(()));
    assert!(world.reports().is_empty());
    world.dev.set_lies(Lies::default());
    assert_eq!(world.reported().len(), 1);
}

#[test]
fn blocks_that_wait_are_fetched_and_reported_several_at_a_time() {
    const BLOCKS: u64 = 200;
    let world = world();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    let paid: Vec<_> = (1..=BLOCKS)
        .map(|number| {
            let tx = world.dev.send_ether(DEPOSIT, wei(number)).unwrap();
            world.dev.mine();
            (number, tx.0)
        })
        .collect();
    world.dev.set_lies(Lies { delay_ms: 5, ..Lies::default() });
    world.dev.clear_requests();
    let begun = Instant::now();
    let _running = world.follow();
    let seen = transfers(&world.reported());
    eprintln!("{:.0} blocks a second", 200.0 / begun.elapsed().as_secs_f64());
    assert_eq!(seen.iter().map(|(number, seen)| (*number, seen.tx.0)).collect::<Vec<_>>(), paid);
    let asked = world.dev.requests();
    let last = asked.iter().rposition(|request| request.method == "eth_getBlockReceipts").unwrap();
    let latest = |request: &&Request| request.method == "eth_getBlockByNumber" && request.params[0] == "latest";
    let looks = asked[..last].iter().filter(latest).count();
    assert!(looks <= 10, "the node was asked {looks} times how far it is, for {BLOCKS} blocks");
}

#[test]
fn every_report_stands_on_one_before_it_while_the_chain_is_reorganised_again_and_again() {
    let world = world();
    world.watch(DEPOSIT, "ada", AddressRole::Deposit);
    world.dev.mine_n(300);
    let _running = world.follow();
    for depth in [1, 40, 7, 90, 2, 33, 64, 5, 31, 12] {
        let before = world.reports().len();
        world.dev.replace(depth, Dropped::Lose, &[]).unwrap();
        world.dev.send_ether(DEPOSIT, wei(depth)).unwrap();
        world.dev.mine();
        until(|| (world.reports().len() > before).then_some(()));
    }
    let reports = world.reported();
    let mut known = BTreeSet::from([world.block(0).hash]);
    for report in &reports {
        assert!(known.contains(&report.parent), "block {} stands on nothing", report.block.number);
        known.insert(report.block.hash);
    }
    assert!((1..=world.head().number).all(|number| known.contains(&world.block(number).hash)));
}
