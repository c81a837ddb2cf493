//! What a nonce costs the house: booked under the block that shows it, once, and corrected when the chain changes its mind.

use custos_domain::{Amount, WalletId};
use custos_messages::accounts::*;
use custos_messages::events::{EventBody, HouseBook};
use custos_saga::machine::Effects;
use custos_testkit as kit;

use crate::bank::*;

fn spent(version: u64, settled: Option<Inclusion>, now: Option<Inclusion>) -> HouseSpent {
    let wallet = WalletId::omnibus(&kit::tenant(), &kit::chain());
    let gas_asset = kit::asset("ETH");
    HouseSpent { wallet, chain: kit::chain(), nonce: 0, version, gas_asset, payment: None, settled, now }
}

fn of_payment(said: HouseSpent, code: &str, amount: Amount) -> HouseSpent {
    let payment = PaidFor { saga: kit::saga("ann", "withdrawal", "w1"), asset: kit::asset(code), amount };
    HouseSpent { payment: Some(payment), ..said }
}

fn tell(bank: &mut Bank, said: &HouseSpent) -> Effects {
    bank.tell(AccountsInput::HouseSpent(said.clone()))
}

fn mined(branch: &str, fee: &str, pays: bool) -> Inclusion {
    inclusion("pay", branch, kit::ether(fee), pays)
}

/// Ann has paid 1 ETH for a fee of 0.001, and it is settled.
fn paid(bank: &mut Bank) -> Inclusion {
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    bank.clear();
    let (id, first) = (kit::saga("ann", "withdrawal", "w1"), mined("main", "0.001", true));
    for news in [signature("pay", 1), PaymentNews::Seen(first.clone()), PaymentNews::Final(first.clone())] {
        bank.tell(payment(id, news));
    }
    first
}

#[test]
fn the_gas_of_a_no_op_is_booked_while_a_block_holds_it() {
    let mut bank = Bank::funded();
    let before = bank.house(HouseBook::Custody, "ETH");
    let seen = tell(&mut bank, &spent(1, None, Some(mined("main", "0.002", false))));
    assert_eq!(story(&seen), ["HouseSpent", "HouseSpent @120: Dr House Gas 0.002 ETH, Cr House Custody 0.002 ETH"]);
    let gone = tell(&mut bank, &spent(2, None, None));
    assert_eq!(story(&gone), ["HouseSpent", "HouseUnspent @120: Cr House Gas 0.002 ETH, Dr House Custody 0.002 ETH"]);
    assert_eq!(bank.house(HouseBook::Custody, "ETH"), before);
    tell(&mut bank, &spent(3, None, Some(mined("fork", "0.003", false))));
    assert_eq!(bank.house(HouseBook::Gas, "ETH").debit, kit::ether("0.003"));
}

#[test]
fn repeats_and_late_words_about_a_nonce_change_nothing() {
    let mut bank = Bank::funded();
    let (first, second) = (spent(1, None, Some(mined("main", "0.002", false))), spent(2, None, None));
    tell(&mut bank, &first);
    assert_eq!(story(&tell(&mut bank, &first)), ["dropped repeat"]);
    tell(&mut bank, &second);
    assert_eq!(story(&tell(&mut bank, &first)), ["dropped repeat"]);
    assert_eq!(bank.house(HouseBook::Gas, "ETH").debit, Amount::ZERO);
}

#[test]
fn a_word_that_overtook_another_says_all_that_the_other_said() {
    let mut bank = Bank::funded();
    tell(&mut bank, &spent(1, None, Some(mined("main", "0.002", false))));
    let late = tell(&mut bank, &spent(3, None, Some(mined("fork", "0.005", false))));
    assert_eq!(
        story(&late),
        [
            "HouseSpent",
            "HouseUnspent @120: Cr House Gas 0.002 ETH, Dr House Custody 0.002 ETH",
            "HouseSpent @120: Dr House Gas 0.005 ETH, Cr House Custody 0.005 ETH",
        ]
    );
}

#[test]
fn a_settled_payment_mined_again_costs_the_house_the_difference_and_the_client_nothing() {
    for (fee, debit, credit) in [("0.004", "0.003", "0"), ("0.0004", "0", "0.0006")] {
        let mut bank = Bank::funded();
        let first = paid(&mut bank);
        let (client, custody) = (bank.balances("ann", "ETH"), bank.house(HouseBook::Custody, "ETH").debit);
        let said = |version, now| of_payment(spent(version, Some(first.clone()), now), "ETH", kit::ether("1"));

        let gone = tell(&mut bank, &said(1, None));
        assert_eq!(
            story(&gone),
            [
                "HouseSpent",
                "HouseUnspent @120: Cr House Gas 0.001 ETH, Dr House Custody 0.001 ETH, Cr House InFlight 1 ETH, \
                 Dr House Custody 1 ETH",
            ]
        );
        assert!(gone.events.iter().all(|event| event.saga == Some(kit::saga("ann", "withdrawal", "w1"))));
        assert_eq!(bank.house(HouseBook::Custody, "ETH").debit, custody.plus(kit::ether("1.001")).unwrap());

        tell(&mut bank, &said(2, Some(mined("fork", fee, true))));
        let gas = bank.house(HouseBook::Gas, "ETH");
        assert_eq!((gas.debit, gas.credit), (kit::ether(debit), kit::ether(credit)));
        assert_eq!(bank.house(HouseBook::InFlight, "ETH").credit, Amount::ZERO);
        let left = kit::ether("1").plus(kit::ether(fee)).unwrap();
        assert_eq!(
            bank.house(HouseBook::Custody, "ETH").debit,
            custody.plus(kit::ether("1.001")).unwrap().minus(left).unwrap()
        );
        assert_eq!(bank.balances("ann", "ETH"), client, "what a client settled stays settled");
    }
}

#[test]
fn a_settled_payment_back_in_its_first_block_leaves_no_trace_in_the_balances() {
    let mut bank = Bank::funded();
    let first = paid(&mut bank);
    let before = bank.house(HouseBook::Custody, "ETH");
    let said = |version, now| of_payment(spent(version, Some(first.clone()), now), "ETH", kit::ether("1"));
    tell(&mut bank, &said(1, None));
    tell(&mut bank, &said(2, Some(mined("fork", "0.004", true))));
    tell(&mut bank, &said(3, None));
    tell(&mut bank, &said(4, Some(first.clone())));
    assert_eq!(bank.house(HouseBook::Custody, "ETH"), before);
    for book in [HouseBook::Gas, HouseBook::InFlight, HouseBook::Suspense] {
        let net = bank.house(book, "ETH");
        assert_eq!((net.debit, net.credit), (Amount::ZERO, Amount::ZERO), "{book:?}");
    }
}

#[test]
fn a_payment_given_back_and_then_mined_after_all_is_the_houses_loss_until_a_human_finds_it() {
    let mut bank = Bank::funded();
    let reverted = mined("main", "0.001", false);
    let now = Some(mined("fork", "0.002", true));
    tell(&mut bank, &of_payment(spent(1, Some(reverted), now), "TUSD", kit::tusd("40")));
    assert_eq!(bank.house(HouseBook::Suspense, "TUSD").debit, kit::tusd("40"));
    assert_eq!(bank.house(HouseBook::Gas, "ETH").debit, kit::ether("0.001"), "the difference of the two fees");
    assert_eq!(bank.house(HouseBook::InFlight, "TUSD").debit, Amount::ZERO);
}

#[test]
fn what_a_saga_books_later_is_taken_out_of_the_houses_books() {
    let mut bank = Bank::funded();
    let stranger = mined("main", "0.002", false);
    tell(&mut bank, &spent(1, None, Some(stranger.clone())));
    let settled = tell(&mut bank, &spent(2, Some(stranger.clone()), Some(stranger)));
    assert_eq!(story(&settled), ["HouseSpent", "HouseUnspent @120: Cr House Gas 0.002 ETH, Dr House Custody 0.002 ETH"]);
}

#[test]
fn an_entry_that_cannot_be_made_calls_a_human_and_is_not_made_by_halves_later() {
    let mut bank = Bank::funded();
    let huge = Inclusion { fee: Amount::new(u128::MAX), ..mined("main", "0.001", false) };
    let said = of_payment(spent(1, None, Some(Inclusion { succeeded: true, ..huge })), "ETH", Amount::new(u128::MAX));
    let refused = tell(&mut bank, &said);
    assert_eq!(story(&refused), ["HouseSpent", "alarm SagaParked", "dropped ledger-fault"]);
    assert!(!refused.events.iter().any(|event| matches!(event.body, EventBody::Posted(_))));
    assert_eq!(story(&tell(&mut bank, &said)), ["dropped repeat"]);
}
