//! Records of a shard's state: the runtime's own and the machines', key and value.

use custos_accounts::Accounts;
use custos_chain::Chain;
use custos_domain::{Digest, Timestamp};
use custos_journal::LogIdentity;
use custos_messages::{Machine as Kind, ShardName, SignedPolicy};
use custos_runtime::shard::{LastInput, Manifest, Memory};
use custos_saga::machine::{Cause, Context, Machine, View};
use custos_testkit as kit;
use custos_treasury::Treasury;

use super::Target;
use crate::{join, split};

pub const TARGET: Target = Target { name: "state", seeds, run, words: &[], mutations: 5_000 };

pub fn manifest() -> Manifest {
    Manifest {
        transaction: 3,
        attempt: 1,
        next: 17,
        last: Some(LastInput { offset: 16, digest: Digest([5; 32]), at: Timestamp(1_790_000_000_000) }),
        event_sequence: 4,
        event_hash: Digest([6; 32]),
        state_root: Digest([7; 32]),
        outbox_root: Digest([8; 32]),
        logic: 1,
        first_logic: 1,
        log: log(),
        owner: "127.0.0.1:7082".to_owned(),
    }
}

pub fn log() -> LogIdentity {
    LogIdentity {
        cluster: "cluster".to_owned(),
        inbox: "custos.accounts.inbox.v1".to_owned(),
        state: "custos.accounts.state.v1".to_owned(),
        partitions: 2,
    }
}

pub const SHARD: ShardName = ShardName { machine: Kind::Accounts, partition: 0 };

/// What machines hold after a policy and, for accounts, a client's first requests; and the runtime's records.
fn seeds() -> Vec<Vec<u8>> {
    let record = manifest().record();
    let mut seeds = vec![join(&[record.key, record.value.unwrap_or_default()])];
    seeds.push(join(&[&[0x02, 1, 2, 3][..], &[8, 7]]));
    seeds.push(join(&[&[0x03, 1, 0, 0, 0, 1][..], &[8, 7]]));
    seeds.push(join(&[&[0x05, 3, 0, 0, 0, 1][..], &[8, 7]]));
    seeds.extend(held::<Accounts>(accounts_inputs()));
    seeds.extend(held::<Treasury>(treasury_inputs()));
    seeds.extend(held::<Chain>(vec![custos_messages::chain::ChainInput::Policy(policy())]));
    seeds
}

fn policy() -> SignedPolicy {
    kit::policy().sign(&kit::policy_root()).expect("the policy is whole")
}

fn accounts_inputs() -> Vec<custos_messages::accounts::AccountsInput> {
    use custos_messages::accounts::{AccountsInput, OpenAccount, RequestAddress};
    let (tenant, account) = (kit::tenant(), kit::account("client"));
    vec![
        AccountsInput::Policy(policy()),
        AccountsInput::OpenAccount(OpenAccount { tenant, account, key: kit::key("client") }),
        AccountsInput::RequestAddress(RequestAddress {
            account,
            key: kit::key("address"),
            fingerprint: Digest([9; 32]),
            chain: kit::chain(),
        }),
    ]
}

fn treasury_inputs() -> Vec<custos_messages::treasury::TreasuryInput> {
    use custos_messages::treasury::{AllocateAddress, TreasuryInput};
    let saga = kit::saga("client", "issue-address", "address");
    let allocate = AllocateAddress { saga, account: kit::account("client"), wallet: kit::wallet(), chain: kit::chain() };
    vec![TreasuryInput::Policy(policy()), TreasuryInput::AllocateAddress(allocate)]
}

fn held<M: Machine>(inputs: Vec<M::Input>) -> Vec<Vec<u8>> {
    let (mut base, mut at) = (std::collections::BTreeMap::new(), 1_790_000_000_000);
    for message in inputs {
        let mut overlay = custos_saga::machine::Touched::default();
        at += 1;
        let context = Context { at: Timestamp(at), partition: 0, partitions: 1, logic: M::LOGIC };
        let source =
            custos_messages::Source::ALL.into_iter().find(|source| source.may_say(custos_messages::Message::kind(&message)));
        let source = source.expect("somebody may say it");
        M::apply(&mut View::new(&base, &mut overlay), Cause::Message { source, message }, &context);
        for (key, entity) in overlay {
            match entity {
                Some(entity) => drop(base.insert(key, entity)),
                None => drop(base.remove(&key)),
            }
        }
    }
    base.iter().map(|(key, entity)| join(&[M::encode_key(key), M::encode_entity(entity)])).collect()
}

fn run(input: &[u8]) {
    let parts = split(input);
    let (Some(key), value) = (parts.first().copied(), parts.get(1).copied().unwrap_or_default()) else { return };
    machine::<Accounts>(key, value);
    machine::<Treasury>(key, value);
    machine::<Chain>(key, value);
    if let Ok(manifest) = Manifest::read(value) {
        let again = manifest.record().value.expect("a manifest has a value");
        assert_eq!(Manifest::read(&again).expect("it was read"), manifest);
    }
    // As a takeover loads it, the runtime's records included.
    let records = [(key.to_vec(), value.to_vec())].into();
    if let Ok(memory) = Memory::<Accounts>::load(&records) {
        let held = memory.entities.len()
            + memory.settled.len()
            + memory.timers.len()
            + memory.link_out.len()
            + memory.link_in.len()
            + memory.pending.len();
        assert!(held <= 1 && memory.due.len() == memory.timers.len());
    }
}

fn machine<M: Machine>(key: &[u8], value: &[u8]) {
    let Ok((name, entity)) = M::decode(key, value) else { return };
    let (key_again, value_again) = (M::encode_key(&name), M::encode_entity(&entity));
    assert_eq!(key_again, key, "two keys of one record");
    assert!(key.first().is_some_and(|first| *first > 0x0f), "the key belongs to the runtime");
    let (name_again, entity_again) = M::decode(&key_again, &value_again).expect("it was read");
    assert!(name_again == name && entity_again == entity, "a record survives its own bytes: {entity:?} {entity_again:?}");
    assert_eq!(M::encode_entity(&entity_again), value_again, "the same record always gives the same bytes");
}
