//! Transfers and address requests.

use custos_domain::Digest;
use custos_messages::Mail;
use custos_messages::accounts::*;
use custos_messages::events::HouseBook;
use custos_saga::machine::Effects;
use custos_testkit as kit;

use crate::bank::*;

fn mail(effects: &Effects) -> AccountsInput {
    match &effects.messages[0].message {
        Mail::Accounts(message) => message.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transfer_between_two_shards_passes_through_transit_and_arrives_once() {
    let (mut here, mut there) = (Bank::funded(), Bank::open());
    there.context.partition = 1;
    here.tell(transfer("ann", "t1", "bob", "ETH", kit::ether("3")));
    let asked = here.clear();
    assert_eq!(story(&asked)[2..], ["credit-receiver asked", "> transfer in 3000000000000000000 ETH", "disarm", "arm"]);
    let arrived = there.tell(mail(&asked));
    let expected = ["TransferIn: Dr House InTransit 3 ETH, Cr Available 3 ETH", "TransferReceived", "> credited true"];
    assert_eq!(story(&arrived), expected);
    assert_eq!(story(&there.tell(mail(&here.wake()))), ["> credited true", "dropped repeat"]);
    let told = story(&here.tell(mail(&arrived)));
    assert_eq!(
        told,
        [
            "credit-receiver done",
            "TransferOut: Dr Held 3 ETH, Cr House InTransit 3 ETH",
            "settle done",
            "ended Completed",
            "disarm"
        ]
    );
    assert_eq!(story(&here.tell(mail(&arrived))), ["dropped ended"]);
    assert_eq!(here.house(HouseBook::InTransit, "ETH").credit, there.house(HouseBook::InTransit, "ETH").debit);
    assert_eq!(there.balances("bob", "ETH").available, kit::ether("3"));
    assert_eq!(here.balances("ann", "ETH").available, kit::ether("7"));
}

#[test]
fn a_receiver_that_does_not_exist_says_no_for_ever_and_the_hold_goes_back() {
    let mut bank = Bank::funded();
    bank.tell(transfer("ann", "t1", "eve", "ETH", kit::ether("3")));
    let asked = mail(&bank.clear());
    let refused = bank.tell(asked.clone());
    assert_eq!(story(&refused), ["> credited false"]);
    bank.tell(open("eve"));
    assert_eq!(story(&bank.tell(asked)), ["> credited false", "dropped repeat"], "once no, always no");
    let told = story(&bank.tell(mail(&refused)));
    let expected =
        ["Release: Dr Held 3 ETH, Cr Available 3 ETH", "hold-funds undone", "ended Refused(ReceiverRefused)", "disarm"];
    assert_eq!(told, expected);
    assert_eq!(bank.balances("ann", "ETH").available, kit::ether("10"));
}

#[test]
fn an_address_is_told_when_it_is_watched_and_asked_for_until_then() {
    let mut bank = Bank::open();
    let request = AccountsInput::RequestAddress(RequestAddress {
        account: kit::account("ann"),
        key: kit::key("a1"),
        fingerprint: Digest::of(b"a1"),
        chain: kit::chain(),
    });
    let asked = bank.tell(request);
    assert_eq!(story(&asked), ["started", "allocate asked", "> allocate address", "arm", "reply accepted"]);
    assert_eq!(bank.wake().messages, asked.messages);
    let ready = AddressReady {
        saga: kit::saga("ann", "issue-address", "a1"),
        wallet: kit::wallet(),
        chain: kit::chain(),
        address: kit::address("ann"),
        path: "m/44'/60'/0'/0/0".to_owned(),
        watched_from: kit::block("main", 7),
    };
    let told = story(&bank.tell(AccountsInput::AddressReady(ready.clone())));
    assert_eq!(told, ["AddressIssued", "allocate done", "ended Completed", "disarm"]);
    assert_eq!(story(&bank.tell(AccountsInput::AddressReady(ready))), ["dropped ended"]);
}
