//! Wallets: the policy that they stand under, their hot address, their nonces, and what unmined signatures may still spend.

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_domain::{AccountId, ChainId, CommandId, Digest, EthAddress, WalletId, partition_of};
use custos_messages::SignedPolicy;
use custos_messages::accounts::AlarmCode;
use custos_messages::treasury::AddressDerived;
use custos_messages::wallet::WalletCommand;
use custos_messages::watch::{AddressRole, WatchRecord, WatchedAddress};
use custos_policy::read_trusted;
use custos_saga::machine::{Context, Effects, View};

use crate::desk::{Desk, Timer, derive_address};
use crate::state::{Entity, Hot, InForce, Key, Outlay, Payment, Wallet};

const HOT_BRANCH: u32 = 1;

/// Puts a policy in force, and opens the wallets of its chains that live in this shard. Versions only rise.
pub(crate) fn adopt(
    state: &mut View<'_, Key, Entity>,
    held: Option<&InForce>,
    signed: SignedPolicy,
    context: &Context,
) -> Effects {
    let refused = |code| Effects { dropped: Some(code), ..Effects::default() };
    let Ok(policy) = read_trusted(&signed) else { return refused("unreadable-policy") };
    if held.is_some_and(|held| held.policy.version >= policy.version) {
        return refused("old-policy");
    }
    let held = Arc::new(InForce { signed, policy });
    state.put(Key::Policy, Entity::Policy(Arc::clone(&held)));
    let mut desk = Desk { state, held: Arc::clone(&held), at: context.at, context: *context, effects: Effects::default() };
    for (chain, entry) in &held.policy.chains {
        let wallet = WalletId::omnibus(&held.policy.tenant, chain);
        if partition_of(wallet.as_bytes(), held.policy.partitions) == context.partition {
            desk.open(wallet, chain);
            desk.judge_hot(wallet, entry.hot);
        }
    }
    desk.effects
}

impl Desk<'_, '_> {
    /// Whether `wallet` is the tenant's on a chain of the policy; opens its record if it has none.
    pub(crate) fn open(&mut self, wallet: WalletId, chain: &ChainId) -> bool {
        if !self.policy().chains.contains_key(chain) || wallet != WalletId::omnibus(&self.policy().tenant, chain) {
            return false;
        }
        if self.state.get(&Key::Wallet(wallet)).is_none() {
            let fresh = Wallet {
                id: wallet,
                chain: chain.clone(),
                next_index: 0,
                next_nonce: None,
                reserved: BTreeMap::new(),
                hot: Hot::Deriving,
            };
            self.state.put(Key::Wallet(wallet), Entity::Wallet(fresh));
            self.hot_due(wallet);
        }
        true
    }

    /// Asks again for what is missing until the hot address is watched.
    pub(crate) fn hot_due(&mut self, wallet: WalletId) {
        let Some(record) = self.wallet_mut(wallet) else { return self.drop("unknown-wallet") };
        let (chain, hot) = (record.chain.clone(), record.hot);
        match hot {
            Hot::Deriving => self.ask_signer(WalletCommand {
                id: hot_question(wallet, &chain),
                wallet,
                order: derive_address(&chain, HOT_BRANCH, 0),
            }),
            Hot::Watching(address) => self.watch_hot(wallet, &chain, address),
            Hot::Watched(_) | Hot::Wrong(_) => return,
        }
        let again = self.chain_policy(&chain).map(|entry| entry.resend_every).unwrap_or_default();
        self.arm(Timer::Hot(wallet), again.max(custos_domain::Millis::seconds(1)));
    }

    /// The signer's answer for branch 1: it must be the policy's address.
    pub(crate) fn hot_derived(&mut self, derived: &AddressDerived) {
        let Some(record) = self.wallet_mut(derived.wallet) else { return self.drop("unknown-wallet") };
        let chain = record.chain.clone();
        if record.hot != Hot::Deriving || derived.index != 0 || derived.command != hot_question(derived.wallet, &chain) {
            return self.drop("stale-reply");
        }
        record.hot = Hot::Watching(derived.address);
        let Some(entry) = self.chain_policy(&chain) else { return self.drop("unknown-chain") };
        self.judge_hot(derived.wallet, entry.hot);
        self.hot_due(derived.wallet);
    }

    /// Holds a derived hot address against the policy's.
    fn judge_hot(&mut self, wallet: WalletId, named: EthAddress) {
        let Some(record) = self.wallet_mut(wallet) else { return };
        let judged = match record.hot {
            Hot::Deriving => return,
            Hot::Watching(address) | Hot::Watched(address) if address != named => Hot::Wrong(address),
            Hot::Wrong(address) if address == named => Hot::Watching(address),
            unchanged => unchanged,
        };
        let changed = judged != record.hot;
        record.hot = judged;
        match judged {
            Hot::Wrong(_) if changed => self.alarm(AlarmCode::SagaParked, format!("{wallet}/hot-address")),
            Hot::Watching(_) if changed => self.hot_due(wallet),
            _ => {}
        }
    }

    fn watch_hot(&mut self, wallet: WalletId, chain: &ChainId, address: EthAddress) {
        let account = AccountId::house(&self.policy().tenant, 0);
        let role = AddressRole::Hot;
        let watched = WatchedAddress { chain: chain.clone(), address, account, wallet, role };
        self.effects.watch.push(WatchRecord::Address(watched));
    }

    /// A follower watches the hot address. Whether that is what the message was about.
    pub(crate) fn hot_watched(&mut self, wallet: WalletId, address: EthAddress) -> bool {
        match self.wallet_mut(wallet) {
            Some(record) if record.hot == Hot::Watching(address) => {
                record.hot = Hot::Watched(address);
                self.disarm(Timer::Hot(wallet));
                true
            }
            Some(record) => record.hot == Hot::Watched(address),
            None => false,
        }
    }

    /// Notes what a payment's newest signature may spend, in place of what was noted before.
    pub(crate) fn reserve(&mut self, payment: &mut Payment, outlay: Option<Outlay>) {
        let Some(native) = self.chain_policy(&payment.chain).map(|entry| entry.native) else { return };
        let paid = match &payment.purpose {
            crate::state::Purpose::Client(take) => take.intent.asset.clone(),
            crate::state::Purpose::NoOp { .. } => native.clone(),
        };
        let before = std::mem::replace(&mut payment.outlay, outlay);
        let Some(record) = self.wallet_mut(payment.wallet) else { return };
        let mut change = |asset: &custos_domain::AssetId, less, more| {
            let held = record.reserved.get(asset).copied().unwrap_or_default();
            // Sums of outlays that were checked against balances: an overflow is out of reach, and would only withhold more.
            let rest = held.minus(less).unwrap_or_default();
            match rest.plus(more).unwrap_or(custos_domain::Amount::new(u128::MAX)) {
                none if none.is_zero() => record.reserved.remove(asset),
                sum => record.reserved.insert(asset.clone(), sum),
            };
        };
        let [old, new] = [before, payment.outlay].map(|outlay| outlay.unwrap_or(Outlay::NONE));
        change(&native, old.native, new.native);
        if paid != native {
            change(&paid, old.token, new.token);
        }
    }
}

impl Outlay {
    /// Nothing.
    pub(crate) const NONE: Self = Self { native: custos_domain::Amount::ZERO, token: custos_domain::Amount::ZERO };
}

fn hot_question(wallet: WalletId, chain: &ChainId) -> CommandId {
    let content = Digest::of_parts("custos 2026 hot address question", &[chain.as_str().as_bytes()]);
    CommandId::derive(wallet.as_bytes(), "derive-hot-address", 1, &content)
}
