//! Somebody inside: has treasury's secret, orders a second signature for what is signed already, and sends what he gets.
//!
//! The signer trusts nothing that the rest of the system says, so with its guard nothing comes of it. Without, money is paid twice.

use std::time::Duration;

use alloy::primitives::Bytes;
use custos_domain::{CommandId, Digest};
use custos_messages::treasury::TreasuryInput;
use custos_messages::wallet::{Purpose, WalletCommand, WalletOrder};
use custos_messages::{Machine, Postmark, Source, Topic};

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::chain::SharedNetwork;
use crate::surroundings::guard::GuardBase;
use crate::surroundings::outside::Outside;

const LOOK: Duration = Duration::from_secs(3);
/// How far the forged nonce lies from the true one, at most.
const FURTHER: u64 = 3;

/// The forger.
pub struct Forger {
    network: SharedNetwork,
    guard: GuardBase,
    diary: Diary,
    log: Outside,
    chance: Chance,
    /// An order is forged once in so many.
    rate: u64,
    /// Orders that he has seen and not forged yet.
    seen: Vec<WalletCommand>,
    forged: Vec<CommandId>,
}

impl Forger {
    /// A forger of one order in `rate`.
    #[must_use]
    pub const fn new(
        network: SharedNetwork,
        guard: GuardBase,
        diary: Diary,
        log: Outside,
        chance: Chance,
        rate: u64,
    ) -> Self {
        Self { network, guard, diary, log, chance, rate, seen: Vec::new(), forged: Vec::new() }
    }

    /// He is caught.
    pub const fn heal(&mut self) {
        self.rate = 0;
    }

    fn spy(&mut self) -> bool {
        let mut news = false;
        for partition in 0..self.log.partitions() {
            for entry in self.log.look(Topic::WalletCommands, partition) {
                news = true;
                let opened = self.log.keyring().open_message::<WalletCommand>(Topic::WalletCommands, &entry.record);
                if let Ok((_, command)) = opened
                    && !self.forged.contains(&command.id)
                    && let WalletOrder::Sign(order) = &command.order
                    && matches!(order.purpose, Purpose::Pay { .. })
                    && self.chance.once_in(self.rate)
                {
                    self.seen.push(command);
                }
            }
            for entry in self.log.look(Topic::Inbox(Machine::Treasury), partition) {
                let opened =
                    self.log.keyring().open_message::<TreasuryInput>(Topic::Inbox(Machine::Treasury), &entry.record);
                if let Ok((_, TreasuryInput::Signed(signed))) = opened
                    && self.forged.contains(&signed.command)
                {
                    self.diary
                        .note("forger", format_args!("has a signature of {} at nonce {}", signed.intent, signed.nonce));
                    self.network.lock().smuggle(&Bytes::from(signed.raw));
                }
            }
        }
        news
    }

    /// Forges one order whose true one is on record: before, the signer would take the forged one for the true one.
    fn forge(&mut self) -> bool {
        let records = self.guard.records();
        let on_record = |command: &WalletCommand| match &command.order {
            WalletOrder::Sign(order) => records.iter().any(|record| record.intent == order.purpose.intent_id()),
            WalletOrder::DeriveAddress { .. } => false,
        };
        let Some(place) = self.seen.iter().position(on_record) else { return false };
        let mut command = self.seen.remove(place);
        let WalletOrder::Sign(order) = &mut command.order else { return true };
        order.tx.nonce = order.tx.nonce.saturating_add(self.chance.between(1, FURTHER));
        command.id = CommandId(Digest::of_parts("forged", &[command.id.as_bytes(), &order.tx.nonce.to_be_bytes()]).0);
        if self.forged.contains(&command.id) {
            // The same forgery again would look like an output of the product that stands in the log twice.
            return true;
        }
        self.diary.note("forger", format_args!("orders {} at nonce {}", order.purpose.intent_id(), order.tx.nonce));
        self.diary.sometimes("a forged order reaches the signer");
        self.forged.push(command.id);
        let keyring = std::sync::Arc::clone(self.log.keyring());
        let record = keyring.seal_message(Topic::WalletCommands, Source::Treasury, &command, Postmark::default());
        let partition = custos_domain::partition_of(&command.wallet.0, self.log.partitions());
        self.log.write(Topic::WalletCommands, partition, record);
        true
    }
}

impl Actor for Forger {
    fn name(&self) -> &str {
        "forger"
    }

    fn step(&mut self) -> Step {
        if self.spy() || (self.rate > 0 && self.forge()) { Step::Busy } else { Step::Idle(LOOK) }
    }
}
