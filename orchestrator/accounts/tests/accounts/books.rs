//! State records: strange bytes are an error that names what is wrong, never a panic and never a half-read record.

use custos_accounts::Accounts;
use custos_messages::accounts::{DepositNews, PaymentNews};
use custos_saga::machine::{Machine, StateError};
use custos_testkit as kit;

use crate::bank::*;

/// A shard with a record of every kind.
fn busy() -> Bank {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    bank.clear();
    let id = kit::saga("ann", "withdrawal", "w1");
    bank.tell(payment(id, signature("pay", 1)));
    bank.tell(payment(id, PaymentNews::Seen(inclusion("pay", "main", kit::ether("0.001"), true))));
    bank.tell(withdraw("ann", "w2", "ETH", kit::ether("5")));
    bank.clear();
    bank.tell(transfer("ann", "t1", "bob", "ETH", kit::ether("1")));
    bank.tell(deposit(&arrival("bob", "ETH", kit::ether("1"), "gift", kit::block("main", 101)), DepositNews::Seen));
    bank
}

#[test]
fn strange_keys_and_values_are_refused_by_name() {
    let bank = busy();
    for (key, entity) in &bank.state {
        let (name, value) = (Accounts::encode_key(key), Accounts::encode_entity(entity));
        assert!(matches!(Accounts::decode(&[0x09], &value), Err(StateError::Key(_))));
        let mut later = value.clone();
        later[1] = 99;
        assert!(matches!(Accounts::decode(&name, &later), Err(StateError::Schema { schema: 99, .. })), "{key:?}");
        assert!(matches!(Accounts::decode(&name, &value[..2]), Err(StateError::Field { field: "is", .. })), "{key:?}");
        for cut in 0..value.len() {
            // A cut may still be whole Protobuf, but then a field is missing.
            assert!(Accounts::decode(&name, &value[..cut]).is_err(), "{key:?} cut at {cut}");
        }
        for at in 0..value.len() {
            let mut spoilt = value.clone();
            spoilt[at] ^= 0x55;
            if let Ok((read, entity)) = Accounts::decode(&name, &spoilt) {
                let written = Accounts::encode_entity(&entity);
                assert_eq!(Accounts::decode(&name, &written).unwrap(), (read, entity), "what is accepted is whole");
            }
        }
    }
}
