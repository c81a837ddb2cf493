//! What an operator is told about a payment or a wallet: where it stands and why. Reads only.

use std::collections::BTreeMap;

use custos_domain::{IntentId, SagaId, WalletId};
use custos_saga::machine::Settled;

use crate::state::{Closed, Entity, Key, Payment, Stage, Wallet};

type Facts = Vec<(String, String)>;

/// What `state` knows about `subject`: a withdrawal's or an intent's id, or a wallet's; nothing if it is not of this shard.
#[must_use]
pub fn inspect(state: &BTreeMap<Key, Entity>, _: &Settled, subject: &str) -> Facts {
    let intent = SagaId::parse(subject).map(|saga| IntentId::of_saga(&saga)).or_else(|_| IntentId::parse(subject));
    if let Ok(intent) = intent {
        let found = state.iter().find_map(|(key, entity)| match (key, entity) {
            (Key::Payment(_, id), Entity::Payment(payment)) if *id == intent => Some(of_payment(payment)),
            (Key::Payment(_, id), Entity::Closed(closed)) if *id == intent => Some(of_closed(closed)),
            _ => None,
        });
        return found.unwrap_or_default();
    }
    match WalletId::parse(subject).ok().and_then(|wallet| state.get(&Key::Wallet(wallet))) {
        Some(Entity::Wallet(wallet)) => of_wallet(wallet),
        _ => Vec::new(),
    }
}

fn fact(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn of_payment(payment: &Payment) -> Facts {
    let mut facts = vec![
        fact("intent", payment.intent()),
        fact("wallet", payment.wallet),
        fact("fee envelope (wei)", payment.envelope()),
        fact("waits for fee or funds until (ms since 1970)", payment.deadline.0),
    ];
    facts.extend(of_stage(&payment.stage));
    facts
}

fn of_closed(closed: &Closed) -> Facts {
    vec![
        fact("intent", closed.intent),
        fact("wallet", closed.wallet),
        fact("stage", format!("{:?}", closed.ended.end)),
        fact("signatures made", closed.ended.signatures.len()),
    ]
}

fn of_stage(stage: &Stage) -> Facts {
    // The stage carries its data; its debug form names every field that it has.
    vec![fact("stage", format!("{stage:?}"))]
}

fn of_wallet(wallet: &Wallet) -> Facts {
    let mut facts = vec![
        fact("wallet", wallet.id),
        fact("chain", &wallet.chain),
        fact("next deposit index", wallet.next_index),
        fact("next nonce", wallet.next_nonce.map_or_else(|| "not asked yet".to_owned(), |nonce| nonce.to_string())),
    ];
    for (asset, reserved) in &wallet.reserved {
        facts.push(fact(&format!("reserved {asset} (base units)"), reserved));
    }
    facts
}
