//! The door: every request gets an answer, a no changes nothing, and a key is used once.

use custos_domain::{Digest, SagaId};
use custos_messages::Source;
use custos_messages::accounts::*;
use custos_saga::machine::Cause;
use custos_testkit as kit;

use crate::bank::*;

fn with(change: impl FnOnce(&mut RequestWithdrawal)) -> AccountsInput {
    let AccountsInput::RequestWithdrawal(mut request) = withdraw("ann", "w1", "ETH", kit::ether("1")) else { panic!() };
    change(&mut request);
    AccountsInput::RequestWithdrawal(request)
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let cases: Vec<(AccountsInput, &str)> = vec![
        (with(|it| it.asset = kit::asset("DOGE")), "reply UnknownAsset"),
        (with(|it| it.account = kit::account("eve")), "reply UnknownAccount"),
        (with(|it| it.amount = kit::ether("0")), "reply ZeroAmount"),
        (with(|it| it.fee_max = kit::ether("0.2")), "reply FeeAbovePolicy"),
        (with(|it| it.amount = kit::ether("9.995")), "reply InsufficientFunds"),
        (with(|it| it.amount = custos_domain::Amount::new(u128::MAX)), "reply InsufficientFunds"),
        (with(|it| it.to = kit::address("hot")), "reply SameAccount"),
        (transfer("ann", "t1", "ann", "ETH", kit::ether("1")), "reply SameAccount"),
        (transfer("ann", "t1", "bob", "DOGE", kit::ether("1")), "reply UnknownAsset"),
        (transfer("eve", "t1", "bob", "ETH", kit::ether("1")), "reply UnknownAccount"),
        (transfer("ann", "t1", "bob", "ETH", kit::ether("11")), "reply InsufficientFunds"),
    ];
    let mut bank = Bank::funded();
    for (input, expected) in cases {
        assert_eq!(story(&bank.tell(input.clone())), [expected], "{input:?}");
    }
    let mut bank = Bank::empty();
    for input in [open("ann"), with(|_| {}), transfer("ann", "t1", "bob", "ETH", kit::ether("1"))] {
        assert_eq!(story(&bank.tell(input)), ["reply NoPolicy"]);
    }
}

#[test]
fn the_same_key_and_body_get_the_same_answer_while_it_runs_and_for_ever_after() {
    let mut bank = Bank::funded();
    let request = with(|_| {});
    let other = with(|it| it.fingerprint = Digest::of(b"another body"));
    let first = bank.tell(request.clone()).reply;
    for step in 0..2 {
        let again = bank.tell(request.clone());
        assert_eq!((again.reply.clone(), again.events.len()), (first.clone(), 0));
        assert_eq!(story(&bank.tell(other.clone())), ["dropped repeat", "reply key reused"]);
        if step == 0 {
            bank.screened(hit());
            assert!(
                !bank.state.keys().any(|key| matches!(key, custos_accounts::state::Key::Saga(_))),
                "only fingerprints stay"
            );
        }
    }
}

#[test]
fn an_ended_request_is_answered_alike_by_its_record_and_by_what_a_restore_keeps_of_it() {
    let mut bank = Bank::funded();
    let request = with(|_| {});
    bank.tell(request.clone());
    bank.screened(hit());
    let AccountsInput::RequestWithdrawal(asked) = &request else { panic!() };
    let saga = SagaId::derive(&asked.account, "withdrawal", asked.key.as_str().as_bytes());
    let late = payment(saga, PaymentNews::Taken);
    let others = (0..112).filter(|bit| *bit != 104).map(|bit: usize| with(|it| it.fingerprint.0[bit / 8] ^= 1 << (bit % 8)));
    let expected = |input: &AccountsInput| match input {
        AccountsInput::Payment(_) => vec!["dropped ended"],
        _ if *input == request => vec!["dropped repeat", "reply accepted"],
        _ => vec!["dropped repeat", "reply key reused"],
    };
    for input in others.chain([request.clone(), late]) {
        let mut kept = Kept::restored(&bank.state);
        let effects = kept.hear(Cause::Message { source: Source::Gateway, message: input.clone() }, &bank.context);
        assert_eq!(story(&effects), expected(&input), "{input:?}");
        assert_eq!(bank.tell(input), effects);
        assert!(kept.is_left_of(&bank.state));
    }
}

#[test]
fn an_account_is_opened_once_and_its_id_is_derived() {
    let mut bank = Bank::open();
    assert_eq!(story(&bank.tell(open("eve"))), ["AccountOpened", "reply accepted"]);
    assert_eq!(story(&bank.tell(open("eve"))), ["dropped repeat", "reply accepted"]);
    let AccountsInput::OpenAccount(mut forged) = open("mallory") else { panic!() };
    forged.account = kit::account("ann");
    assert_eq!(story(&bank.tell(AccountsInput::OpenAccount(forged))), ["reply UnknownAccount"]);
}

#[test]
fn a_policy_is_adopted_when_it_is_newer_and_readable() {
    let mut bank = Bank::open();
    let mut next = kit::policy();
    assert_eq!(story(&bank.tell(AccountsInput::Policy(signed(&next)))), ["dropped old-policy"]);
    next.version = 2;
    assert_eq!(story(&bank.tell(AccountsInput::Policy(signed(&next)))), ["PolicyAdopted"]);
    let mut garbage = signed(&next);
    garbage.bytes = vec![0xff; 9];
    assert_eq!(story(&bank.tell(AccountsInput::Policy(garbage))), ["dropped unreadable-policy"]);
}

#[test]
fn marks_and_alarms_are_told_on_the_houses_account_of_the_shard() {
    let mut bank = Bank::open();
    let mark = |partition| {
        AccountsInput::BlockMark(BlockMark {
            chain: kit::chain(),
            path: MarkPath::Deposits,
            block: kit::block("main", 9),
            partition,
        })
    };
    assert_eq!(story(&bank.tell(mark(1))), ["dropped other-partition"]);
    let marked = bank.tell(mark(0));
    assert_eq!(story(&marked), ["Marked"]);
    assert_eq!(marked.events[0].account, custos_domain::AccountId::house(&kit::tenant(), 0));
    let alarm = AccountsInput::Alarm(Alarm { code: AlarmCode::ForeignSpend, subject: "tx".to_owned() });
    assert_eq!(story(&bank.tell(alarm)), ["alarm ForeignSpend"]);
}
