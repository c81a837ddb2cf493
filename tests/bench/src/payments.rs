//! Treasury's tape: payments of one wallet, from the order to finality, with everything that signer and node say meanwhile.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail, ensure};
use custos_domain::{Amount, AssetKind, Digest, SagaId, TxHash};
use custos_messages::Source;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{
    AddressDerived, Estimated, FeeQuote, SendOutcome, Sent, Signed, SpendFact, SpendNews, TakePayment, TreasuryInput,
    Watching,
};
use custos_messages::wallet::{WalletCommand, WalletOrder};
use custos_saga::machine::{Command, Effects};
use custos_testkit as kit;
use custos_treasury::{Entity, Treasury};

use crate::tape::Tape;

/// A tape with who still has to be answered.
struct Talk {
    tape: Tape<Treasury>,
    asked: VecDeque<Command>,
    /// Signed, and not yet in a block.
    flying: Vec<(u64, TxHash)>,
    /// Nonces that are final.
    mined: u64,
}

/// The tape of `rounds` rounds, in each of which `clients` payments are under way at once.
///
/// # Errors
/// A payment does not end.
pub fn payments(clients: u64, rounds: u64) -> Result<Tape<Treasury>> {
    let mut talk = Talk { tape: Tape::new(), asked: VecDeque::new(), flying: Vec::new(), mined: 0 };
    let policy = kit::policy().sign(&kit::policy_root()).context("the policy of the fixtures")?;
    talk.hear(Source::Operator, TreasuryInput::Policy(policy));
    talk.answer_all()?;
    let from = kit::block("main", 1);
    let watching = Watching { wallet: kit::wallet(), chain: kit::chain(), address: kit::address("hot"), from };
    talk.hear(Source::Blockchain, TreasuryInput::Watching(watching));
    for round in 0..rounds {
        for client in 0..clients {
            let account = kit::account(&format!("client-{client}"));
            let saga = SagaId::derive(&account, "withdrawal", &round.to_be_bytes());
            let intent = kit::intent(&saga, "ETH", kit::ether("1"), kit::address("shop"));
            let take = TakePayment { saga, wallet: kit::wallet(), intent, kind: AssetKind::Native, approvals: Vec::new() };
            talk.hear(Source::Accounts, TreasuryInput::TakePayment(Box::new(take)));
        }
        talk.answer_all()?;
        talk.mine(round);
        talk.answer_all()?;
    }
    let ended = talk.tape.state.values().filter(|entity| matches!(entity, Entity::Closed(_))).count();
    let wanted = clients.saturating_mul(rounds);
    ensure!(u64::try_from(ended)? == wanted, "{ended} of {wanted} payments of the tape ended");
    Ok(talk.tape)
}

impl Talk {
    fn hear(&mut self, source: Source, message: TreasuryInput) {
        let Effects { commands, .. } = self.tape.hear(source, message);
        self.asked.extend(commands.into_iter().map(|ordered| ordered.command));
    }

    fn answer_all(&mut self) -> Result<()> {
        while let Some(command) = self.asked.pop_front() {
            match command {
                Command::Wallet(command) => self.sign(command),
                Command::Blockchain(command) => self.ask_node(command),
                Command::Screen(_) => bail!("treasury screens nobody"),
            }
        }
        Ok(())
    }

    fn sign(&mut self, command: WalletCommand) {
        match command.order {
            WalletOrder::DeriveAddress { branch, index, .. } => {
                let mut derived = AddressDerived {
                    command: command.id,
                    wallet: command.wallet,
                    branch,
                    index,
                    address: kit::address("hot"),
                    path: format!("m/44'/60'/{branch}'/0/{index}"),
                    attestation: Vec::new(),
                };
                derived.attestation = kit::attestation(&derived);
                self.hear(Source::Wallet, TreasuryInput::AddressDerived(derived));
            }
            WalletOrder::Sign(order) => {
                // As long as a signed transfer of ether.
                let raw = [order.purpose.intent_id().as_bytes(), &[7; 80]].concat();
                let digest = Digest::of(&raw);
                let (nonce, tx) = (order.tx.nonce, TxHash(digest.0));
                self.flying.push((nonce, tx));
                let intent = order.purpose.intent_id();
                let signed = Signed { command: command.id, wallet: command.wallet, intent, nonce, tx, raw, digest };
                self.hear(Source::Wallet, TreasuryInput::Signed(signed));
            }
        }
    }

    fn ask_node(&mut self, BlockchainCommand { id, wallet, order, .. }: BlockchainCommand) {
        let answer = match order {
            BlockchainOrder::Estimate { intent, .. } => {
                let quote = FeeQuote::Quote {
                    gas_limit: 21_000,
                    max_fee_per_gas: Amount::new(2_000_000_000),
                    max_priority_fee_per_gas: Amount::new(1_000_000_000),
                    native_balance: kit::ether("100000000"),
                    asset_balance: kit::ether("100000000"),
                    next_nonce: self.mined,
                };
                TreasuryInput::Estimated(Estimated { command: id, wallet, intent, quote })
            }
            BlockchainOrder::Send { tx, .. } => {
                TreasuryInput::Sent(Sent { command: id, wallet, tx, outcome: SendOutcome::InPool })
            }
        };
        self.hear(Source::Blockchain, answer);
    }

    /// What flies is in a block, and then final.
    fn mine(&mut self, round: u64) {
        let block = kit::block("main", round.saturating_mul(10).saturating_add(100));
        let flying = std::mem::take(&mut self.flying);
        for news in [SpendNews::Seen, SpendNews::Final] {
            for (nonce, tx) in &flying {
                let (wallet, chain, fee) = (kit::wallet(), kit::chain(), Amount::new(21_000_000_000_000));
                let fact = SpendFact { wallet, chain, tx: *tx, nonce: *nonce, block, fee, succeeded: true, news };
                self.hear(Source::Chain, TreasuryInput::Spend(fact));
            }
        }
        self.mined = self.mined.saturating_add(u64::try_from(flying.len()).unwrap_or(0));
    }
}
