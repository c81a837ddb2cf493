//! What an operator is told about a saga or an account: where it stands and why. Reads only.

use std::collections::BTreeMap;

use custos_domain::{AccountId, SagaId};
use custos_saga::Phase;
use custos_saga::machine::{Settled, Touched, View};

use crate::cases::REGISTRY;
use crate::ended::ended;
use crate::state::{Account, Case, Entity, Key, SagaRecord};

type Facts = Vec<(String, String)>;

/// What `state` knows about `subject`: a saga's or an account's id; nothing if it is neither, or not of this shard.
#[must_use]
pub fn inspect(state: &BTreeMap<Key, Entity>, settled: &Settled, subject: &str) -> Facts {
    if let Ok(saga) = SagaId::parse(subject) {
        let mut untouched = Touched::default();
        let rows = View::beside(settled, state, &mut untouched);
        return match (rows.get(&Key::Saga(saga)), ended(&rows, &saga)) {
            (Some(Entity::Saga(record)), _) => running(record),
            (_, Some(ended)) => {
                let how = if ended.completed() { "completed" } else { "refused: everything it held was given back" };
                vec![fact("status", how)]
            }
            _ => Vec::new(),
        };
    }
    match AccountId::parse(subject).ok().and_then(|account| state.get(&Key::Account(account))) {
        Some(Entity::Account(account)) => balances(account),
        _ => Vec::new(),
    }
}

fn fact(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn running(record: &SagaRecord) -> Facts {
    let name = kind(&record.case);
    let instance = &record.instance;
    let step = REGISTRY.resolve(name, record.version).and_then(|shape| shape.row(instance.step));
    let mut facts = vec![
        fact("saga", format!("{name} v{}", record.version)),
        fact("status", status(instance.phase)),
        fact("step", step.map_or("none", |row| row.name)),
        fact("attempt", instance.attempt),
    ];
    if let Some(command) = instance.expected {
        facts.push(fact("waits for the answer to", command));
    }
    if let Some(due) = record.due {
        facts.push(fact("timer due at (ms since 1970)", due.0));
    }
    if let Some(refusal) = &record.refusal {
        facts.push(fact("why it unwinds", format!("{refusal:?}")));
    }
    facts.extend(case(&record.case));
    facts
}

const fn kind(case: &Case) -> &'static str {
    match case {
        Case::Withdrawal(_) => "withdrawal",
        Case::Deposit(_) => "deposit",
        Case::Transfer(_) => "transfer",
        Case::IssueAddress(_) => "issue-address",
    }
}

const fn status(phase: Phase) -> &'static str {
    match phase {
        Phase::New | Phase::Entering => "beginning",
        Phase::Waiting | Phase::Repeating => "waiting for an answer",
        Phase::Undoing | Phase::UndoWaiting | Phase::UndoRepeating => "taking back",
        Phase::Completed => "completed",
        Phase::Unwound => "refused: everything it held was given back",
        Phase::Parked => "parked: a human must look",
    }
}

fn case(case: &Case) -> Facts {
    match case {
        Case::Withdrawal(withdrawal) => {
            let intent = &withdrawal.intent;
            let mut facts = vec![
                fact("pays", format!("{} base units of {} to {}", intent.amount, intent.asset, intent.to)),
                fact("fee at most", format!("{} base units of {}", intent.fee.max, intent.fee.asset)),
                fact("intent", intent.id),
                fact("intent digest", intent.digest()),
                fact("approvals", format!("{} of {}", withdrawal.approvals.len(), withdrawal.quorum)),
                fact("taken by treasury", withdrawal.taken),
                fact("signatures made", withdrawal.attempt),
            ];
            if let Some(seen) = &withdrawal.seen {
                facts.push(fact("in block", format!("{} {}", seen.block.number, seen.block.hash)));
            }
            facts
        }
        Case::Deposit(deposit) => vec![
            fact("arrived", format!("{} base units of {}", deposit.deposit.amount, deposit.deposit.asset)),
            fact("transaction", deposit.deposit.tx),
            fact("in block", format!("{} {}", deposit.deposit.block.number, deposit.deposit.block.hash)),
            fact("final", deposit.is_final),
        ],
        Case::Transfer(transfer) => {
            vec![fact("moves", format!("{} base units of {} to {}", transfer.amount, transfer.asset, transfer.to))]
        }
        Case::IssueAddress(request) => vec![fact("on", &request.chain), fact("wallet", request.wallet)],
    }
}

fn balances(account: &Account) -> Facts {
    let mut facts = vec![fact("account", account.key.as_str()), fact("events", account.sequence)];
    for (asset, own) in &account.balances {
        let line = format!(
            "available {} held {} pending {} frozen {} owed {} (base units)",
            own.available, own.held, own.pending, own.frozen, own.owed
        );
        facts.push(fact(asset.as_str(), line));
    }
    facts
}
