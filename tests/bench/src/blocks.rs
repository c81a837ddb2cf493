//! Chain's tape: blocks of one node in order, with what moved in them, until each is final.

use anyhow::{Context as _, Result, ensure};
use custos_chain::Chain;
use custos_domain::{Amount, NodeName, Timestamp};
use custos_messages::Source;
use custos_messages::chain::{BlockReport, ChainInput, SpendSeen, TransferSeen};
use custos_saga::machine::Effects;
use custos_testkit as kit;

use crate::tape::Tape;

/// Transfers of one block.
const TRANSFERS: u64 = 4;
const FIRST: u64 = 100;

/// The tape of `clients` times `rounds` blocks, each with four deposits and one payment.
///
/// # Errors
/// The blocks do not become final.
pub fn blocks(clients: u64, rounds: u64) -> Result<Tape<Chain>> {
    let mut tape = Tape::new();
    let policy = kit::policy().sign(&kit::policy_root()).context("the policy of the fixtures")?;
    tape.hear(Source::Operator, ChainInput::Policy(policy));
    let count = clients.saturating_mul(rounds);
    let mut facts = 0;
    for number in 0..count {
        let Effects { messages, .. } = tape.hear(Source::Blockchain, ChainInput::Block(Box::new(report(number, clients))));
        facts += messages.len();
    }
    // Seen, and all but those of the last blocks final: two facts each, and the marks of each block.
    let least = count.saturating_sub(10).saturating_mul(2 * (TRANSFERS + 1));
    ensure!(u64::try_from(facts)? >= least, "{count} blocks said {facts} facts, fewer than {least}");
    Ok(tape)
}

fn report(number: u64, clients: u64) -> BlockReport {
    let transfer = |index: u64| {
        let client = format!("client-{}", number.saturating_mul(TRANSFERS).saturating_add(index) % clients.max(1));
        TransferSeen {
            tx: kit::tx(&format!("in-{number}-{index}")),
            index: 0,
            from: kit::address("payer"),
            to: kit::address(&client),
            account: kit::account(&client),
            asset: kit::asset("ETH"),
            amount: kit::ether("2"),
        }
    };
    let spend = SpendSeen {
        wallet: kit::wallet(),
        tx: kit::tx(&format!("out-{number}")),
        nonce: number,
        fee: Amount::new(21_000_000_000_000),
        succeeded: true,
    };
    let at = FIRST.saturating_add(number);
    BlockReport {
        node: NodeName::new("a").expect("a valid name"),
        chain: kit::chain(),
        block: kit::block("main", at),
        parent: kit::block("main", at.saturating_sub(1)).hash,
        time: Timestamp(1_700_000_000_000_u64.saturating_add(number.saturating_mul(12_000))),
        transfers: (0..TRANSFERS).map(transfer).collect(),
        spends: vec![spend],
    }
}
