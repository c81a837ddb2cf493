//! The bytes of the measured machine's records: Protobuf with a schema number, as real machines have them.

use custos_domain::{AccountId, Amount, AssetId, CommandId, SagaId, Timestamp};
use custos_saga::machine::StateError;
use custos_saga::{Instance, Phase};
use prost::Message as _;

use crate::echo::{Account, Case, Entity, Key, Live};

const ACCOUNT: u8 = 0x10;
const SAGA: u8 = 0x11;
const SCHEMA: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct AccountRow {
    #[prost(uint32, tag = "1")]
    schema: u32,
    #[prost(bytes = "vec", tag = "2")]
    available: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    held: Vec<u8>,
    #[prost(uint64, tag = "4")]
    sequence: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SagaRow {
    #[prost(uint32, tag = "1")]
    schema: u32,
    #[prost(uint32, tag = "2")]
    phase: u32,
    #[prost(uint64, tag = "3")]
    step: u64,
    #[prost(uint32, tag = "4")]
    attempt: u32,
    #[prost(bytes = "vec", optional, tag = "5")]
    expected: Option<Vec<u8>>,
    #[prost(uint32, tag = "6")]
    done: u32,
    #[prost(uint64, optional, tag = "7")]
    due_ms: Option<u64>,
    #[prost(string, tag = "8")]
    number: String,
    #[prost(string, tag = "9")]
    asset: String,
    #[prost(bytes = "vec", tag = "10")]
    to: Vec<u8>,
}

/// The bytes of a key.
pub fn encode_key(key: &Key) -> Vec<u8> {
    match key {
        Key::Account(id) => [[ACCOUNT].as_slice(), id.as_bytes()].concat(),
        Key::Saga(id) => [[SAGA].as_slice(), &id.to_bytes()].concat(),
    }
}

/// The bytes of a record.
pub fn encode_entity(entity: &Entity) -> Vec<u8> {
    match entity {
        Entity::Account(account) => AccountRow {
            schema: SCHEMA,
            available: account.available.to_be_bytes().to_vec(),
            held: account.held.to_be_bytes().to_vec(),
            sequence: account.sequence,
        }
        .encode_to_vec(),
        Entity::Saga(live) => SagaRow {
            schema: SCHEMA,
            phase: if live.instance.phase == Phase::Waiting { 0 } else { 1 },
            step: u64::try_from(live.instance.step).unwrap_or(u64::MAX),
            attempt: live.instance.attempt,
            expected: live.instance.expected.map(|command| command.as_bytes().to_vec()),
            done: live.instance.done,
            due_ms: live.due.map(|due| due.0),
            number: live.case.number.clone(),
            asset: live.case.asset.as_str().to_owned(),
            to: live.case.to.as_bytes().to_vec(),
        }
        .encode_to_vec(),
    }
}

/// Reads a record back.
pub fn decode(key: &[u8], value: &[u8]) -> Result<(Key, Entity), StateError> {
    match key.split_first() {
        Some((&ACCOUNT, id)) => {
            let id = AccountId::from_slice(id).map_err(|_| field("account"))?;
            let row = AccountRow::decode(value).map_err(malformed)?;
            let account = Account {
                available: amount(&row.available, "available")?,
                held: amount(&row.held, "held")?,
                sequence: row.sequence,
            };
            Ok((Key::Account(id), Entity::Account(account)))
        }
        Some((&SAGA, id)) => {
            let id = SagaId::from_slice(id).map_err(|_| field("saga"))?;
            Ok((Key::Saga(id), Entity::Saga(Box::new(live(SagaRow::decode(value).map_err(malformed)?)?))))
        }
        _ => Err(StateError::Key("neither an account nor a saga".to_owned())),
    }
}

fn live(row: SagaRow) -> Result<Live, StateError> {
    let expected = row.expected.map(|bytes| CommandId::from_slice(&bytes)).transpose().map_err(|_| field("expected"))?;
    let instance = Instance {
        phase: if row.phase == 0 { Phase::Waiting } else { Phase::Parked },
        step: usize::try_from(row.step).map_err(|_| field("step"))?,
        attempt: row.attempt,
        expected,
        done: row.done,
    };
    let case = Case {
        number: row.number,
        asset: AssetId::new(&row.asset).map_err(|_| field("asset"))?,
        to: AccountId::from_slice(&row.to).map_err(|_| field("to"))?,
    };
    Ok(Live { instance, due: row.due_ms.map(Timestamp), case })
}

fn amount(bytes: &[u8], name: &'static str) -> Result<Amount, StateError> {
    bytes.try_into().map(Amount::from_be_bytes).map_err(|_| field(name))
}

fn field(field: &'static str) -> StateError {
    StateError::Field { key: "of the bench".to_owned(), field }
}

fn malformed(source: prost::DecodeError) -> StateError {
    StateError::Malformed { key: "of the bench".to_owned(), source }
}
