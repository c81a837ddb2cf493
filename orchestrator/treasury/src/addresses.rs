//! Deposit addresses: an index per saga, derived and attested by the signer, handed out only once a follower watches it.
//!
//! Deliberately absent: an attestation of the hot address, which the signed policy names itself.

use custos_domain::{CommandId, Digest, Millis, WalletId};
use custos_messages::accounts::{AccountsInput, AddressReady, AlarmCode};
use custos_messages::treasury::{AddressDerived, AllocateAddress, Watching};
use custos_messages::wallet::WalletCommand;
use custos_messages::watch::{AddressRole, WatchRecord, WatchedAddress};
use custos_policy::attested;

use crate::desk::{Desk, Timer, derive_address};
use crate::state::{Allocation, AllocationStatus, Entity, Key};

const DEPOSIT_BRANCH: u32 = 0;
/// BIP32: indexes from here on are hardened.
const HIGHEST_INDEX: u32 = 0x7fff_ffff;

impl Desk<'_, '_> {
    /// Idempotent by saga: a repeat is answered again when the answer is known.
    pub(crate) fn allocate(&mut self, request: &AllocateAddress) {
        if !self.open(request.wallet, &request.chain) {
            return self.drop("unknown-wallet");
        }
        if let Some(Entity::Index(index)) = self.state.get(&Key::SagaIndex(request.wallet, request.saga)) {
            let index = *index;
            return self.answer_again(request, index);
        }
        let Some(wallet) = self.wallet_mut(request.wallet) else { return self.drop("unknown-wallet") };
        let index = wallet.next_index;
        if index > HIGHEST_INDEX {
            return self.drop("addresses-exhausted");
        }
        wallet.next_index = index.saturating_add(1);
        let allocation = Allocation {
            chain: request.chain.clone(),
            saga: request.saga,
            account: request.account,
            status: AllocationStatus::Deriving,
        };
        self.state.put(Key::SagaIndex(request.wallet, request.saga), Entity::Index(index));
        self.state.put(Key::Allocation(request.wallet, index), Entity::Allocation(allocation));
        self.address_due(request.wallet, index);
    }

    fn answer_again(&mut self, request: &AllocateAddress, index: u32) {
        match self.allocation(request.wallet, index) {
            Some(known) if known.account != request.account => self.drop("saga-contradicts"),
            Some(Allocation { status: AllocationStatus::Ready { .. }, .. }) => self.hand_out(request.wallet, index),
            // The saga asks now and then: so is the signer asked, and a human called, until its answer can be believed.
            Some(known @ Allocation { status: AllocationStatus::Unattested, .. }) => {
                let known = Allocation { status: AllocationStatus::Deriving, ..known };
                self.state.put(Key::Allocation(request.wallet, index), Entity::Allocation(known));
                self.address_due(request.wallet, index);
            }
            _ => self.drop("repeat"),
        }
    }

    /// Asks again for what is missing: the address, or that it is watched.
    pub(crate) fn address_due(&mut self, wallet: WalletId, index: u32) {
        let Some(known) = self.allocation(wallet, index) else { return self.drop("unknown-address") };
        match &known.status {
            AllocationStatus::Deriving => self.ask_signer(WalletCommand {
                id: question(&known, index),
                wallet,
                order: derive_address(&known.chain, DEPOSIT_BRANCH, index),
            }),
            AllocationStatus::Watching { address, .. } => {
                self.effects.watch.push(WatchRecord::Address(WatchedAddress {
                    chain: known.chain.clone(),
                    address: *address,
                    account: known.account,
                    wallet,
                    role: AddressRole::Deposit,
                }));
            }
            AllocationStatus::Ready { .. } | AllocationStatus::Unattested => return,
        }
        let again = self.chain_policy(&known.chain).map(|entry| entry.resend_every).unwrap_or_default();
        self.arm(Timer::Address(wallet, index), again.max(Millis::seconds(1)));
    }

    /// The signer's answer.
    pub(crate) fn derived(&mut self, derived: AddressDerived) {
        if derived.branch != DEPOSIT_BRANCH {
            return self.hot_derived(&derived);
        }
        let (wallet, index) = (derived.wallet, derived.index);
        let Some(mut known) = self.allocation(wallet, index) else { return self.drop("unknown-address") };
        if known.status != AllocationStatus::Deriving || question(&known, index) != derived.command {
            return self.drop("stale-reply");
        }
        if !attested(self.policy(), &derived) {
            known.status = AllocationStatus::Unattested;
            self.state.put(Key::Allocation(wallet, index), Entity::Allocation(known));
            self.disarm(Timer::Address(wallet, index));
            return self.alarm(AlarmCode::AddressUnattested, format!("{wallet}/{index}"));
        }
        known.status = AllocationStatus::Watching { address: derived.address, path: derived.path };
        self.state.put(Key::AddressIndex(wallet, derived.address), Entity::Index(index));
        self.state.put(Key::Allocation(wallet, index), Entity::Allocation(known));
        self.address_due(wallet, index);
    }

    /// A follower's word that it watches an address: only now is the address handed out.
    pub(crate) fn watching(&mut self, watching: &Watching) {
        let wallet = watching.wallet;
        let Some(Entity::Index(index)) = self.state.get(&Key::AddressIndex(wallet, watching.address)) else {
            if !self.hot_watched(wallet, watching.address) {
                self.drop("unknown-address");
            }
            return;
        };
        let index = *index;
        let Some(mut known) = self.allocation(wallet, index) else { return self.drop("unknown-address") };
        match known.status {
            AllocationStatus::Watching { address, path } if watching.chain == known.chain => {
                known.status = AllocationStatus::Ready { address, path, from: watching.from };
                self.state.put(Key::Allocation(wallet, index), Entity::Allocation(known));
                self.disarm(Timer::Address(wallet, index));
                self.hand_out(wallet, index);
            }
            _ => self.drop("repeat"),
        }
    }

    fn hand_out(&mut self, wallet: WalletId, index: u32) {
        let Some(known) = self.allocation(wallet, index) else { return };
        if let AllocationStatus::Ready { address, path, from } = known.status {
            let ready = AddressReady { saga: known.saga, wallet, chain: known.chain, address, path, watched_from: from };
            self.post(None, AccountsInput::AddressReady(ready));
        }
    }

    fn allocation(&self, wallet: WalletId, index: u32) -> Option<Allocation> {
        match self.state.get(&Key::Allocation(wallet, index)) {
            Some(Entity::Allocation(known)) => Some(known.clone()),
            _ => None,
        }
    }
}

fn question(known: &Allocation, index: u32) -> CommandId {
    let parts: [&[u8]; 3] = [known.chain.as_str().as_bytes(), &DEPOSIT_BRANCH.to_be_bytes(), &index.to_be_bytes()];
    let content = Digest::of_parts("custos 2026 deposit address question", &parts);
    CommandId::derive(&known.saga.to_bytes(), "derive-address", 1, &content)
}
