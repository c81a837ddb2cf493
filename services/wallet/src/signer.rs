//! The signer: an order in, signed bytes or a refusal out.
//!
//! The order of work matters. An attempt that is on record gives its old bytes before anything else is looked at: a repeated
//! order must never turn into a refusal because the policy or the clock moved on, for a refusal promises that no signature will
//! exist. Then come the checks, then the guard, and the bytes leave only when guard and checkpoint are durable. A refusal leaves when
//! the guard has it, too: of several signers, of which one may be set up otherwise, none signs what another has refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_domain::{ChainId, CommandId, Digest, TenantId, WalletId};
use custos_messages::treasury::{AddressDerived, SignRefusal, SignRefused, Signed, TreasuryInput};
use custos_messages::wallet::{SignOrder, WalletCommand, WalletOrder};
use ed25519_dalek::VerifyingKey;
use tokio::sync::Mutex;

use crate::checkpoint::{Checkpoint, Mark};
use crate::checks::{self, Place};
use crate::guard::{Claim, Grant, Guard, Outcome, SqlGuard, Verdict};
use crate::keystore::KeyStore;
use crate::settings::WalletConfig;
use crate::transaction::{self, SignedBytes};
use crate::{Keys, WalletError};

/// Called at named points of the work, so that a test or a demonstration can stop the process exactly there:
/// `before-sign` (granted, nothing recorded yet) and `guard-recorded` (record durable, bytes not yet released).
pub type Interruption = fn(&str);

/// The signer.
pub struct Wallet<G = SqlGuard> {
    keys: Arc<Keys>,
    wallets: BTreeMap<WalletId, ChainId>,
    tenant: TenantId,
    policy_root: VerifyingKey,
    house_intents_per_day: u32,
    guard: G,
    checkpoint: Mutex<Checkpoint>,
    interruption: Interruption,
}

impl Wallet<SqlGuard> {
    /// Opens keystore, guard and checkpoint.
    ///
    /// # Errors
    /// Any of them cannot be opened.
    pub async fn open(config: WalletConfig) -> Result<Self, WalletError> {
        let (path, passphrase) = (config.keystore.clone(), config.passphrase.clone());
        let keys = tokio::task::spawn_blocking(move || Keys::derive(&KeyStore::open(&path, &passphrase.read()?)?));
        let keys = keys.await.map_err(WalletError::Thread)??;
        let guard = SqlGuard::open(&config.guard).await?;
        Self::assemble(config, keys, guard).await
    }
}

impl<G: Guard> Wallet<G> {
    /// A signer of `keys` with a guard of its own; proves at once that the guard was not rolled back.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or the guard is behind it.
    pub async fn assemble(config: WalletConfig, keys: impl Into<Arc<Keys>>, guard: G) -> Result<Self, WalletError> {
        let checkpoint = Checkpoint::open(&config.checkpoint)?;
        Self::with_checkpoint(config, keys, guard, checkpoint).await
    }

    /// As [`Self::assemble`], with a checkpoint that is open already, wherever it is kept.
    ///
    /// # Errors
    /// The guard is behind the checkpoint, or of another history.
    pub async fn with_checkpoint(
        config: WalletConfig,
        keys: impl Into<Arc<Keys>>,
        guard: G,
        checkpoint: Checkpoint,
    ) -> Result<Self, WalletError> {
        let (_, head) = guard.recall(&Digest([0; 32]), &checkpoint.mark()).await?;
        if checkpoint.mark() == Mark::START && head.count > 0 {
            tracing::warn!(records = head.count, "no checkpoint yet: the guard's records are taken on trust this once");
        }
        let wallets = config.chains.into_iter().map(|chain| (WalletId::omnibus(&config.tenant, &chain), chain)).collect();
        let wallet = Self {
            keys: keys.into(),
            wallets,
            tenant: config.tenant,
            policy_root: config.policy_root,
            house_intents_per_day: config.house_intents_per_day,
            guard,
            checkpoint: Mutex::new(checkpoint),
            interruption: |_| (),
        };
        wallet.checkpoint.lock().await.advance(head).await?;
        Ok(wallet)
    }

    /// The same signer, calling `interruption` at its named points.
    #[must_use]
    pub fn interrupted_by(self, interruption: Interruption) -> Self {
        Self { interruption, ..self }
    }

    /// The keys, for addresses and the attestation's public key.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Answers `command`. `None` means that it makes no sense here (a wallet, chain or branch that this signer does not know): that is
    /// logged, and treasury asks again, another signer or this one after its configuration is put right.
    ///
    /// # Errors
    /// See [`WalletError`]; nothing was released.
    pub async fn answer(&self, command: WalletCommand) -> Result<Option<TreasuryInput>, WalletError> {
        let WalletCommand { id, wallet, order } = command;
        match order {
            WalletOrder::DeriveAddress { chain, branch, index } => self.derive(id, wallet, &chain, (branch, index)),
            WalletOrder::Sign(order) => {
                let Some(chain) = self.wallets.get(&wallet) else {
                    tracing::error!(%wallet, command = %id, "asked for a signature of a wallet that is not ours");
                    return Ok(None);
                };
                let outcome = self.sign(id, (&wallet, chain), &order).await?;
                Ok(Some(reply(id, wallet, &order, outcome)))
            }
        }
    }

    fn derive(
        &self,
        command: CommandId,
        wallet: WalletId,
        chain: &ChainId,
        (branch, index): (u32, u32),
    ) -> Result<Option<TreasuryInput>, WalletError> {
        let derived = match self.wallets.get(&wallet) {
            Some(own) if own == chain => self.keys.address(branch, index)?,
            _ => None,
        };
        let Some(derived) = derived else {
            tracing::error!(%wallet, %chain, branch, index, "asked for an address that is not ours to derive");
            return Ok(None);
        };
        let attestation = self.keys.attest(&wallet, branch, index, &derived.address);
        let (address, path) = (derived.address, derived.path);
        Ok(Some(TreasuryInput::AddressDerived(AddressDerived {
            command,
            wallet,
            branch,
            index,
            address,
            path,
            attestation,
        })))
    }

    async fn sign(
        &self,
        command: CommandId,
        (wallet, chain): (&WalletId, &ChainId),
        order: &SignOrder,
    ) -> Result<Result<SignedBytes, SignRefusal>, WalletError> {
        let (intent, content) = (order.purpose.intent_id(), checks::content(&order.purpose));
        let hash = transaction::signing_hash(&order.tx);
        let parts: [&[u8]; 5] = [&intent.0, &content.0, &wallet.0, chain.as_str().as_bytes(), &hash];
        let attempt = Digest::of_parts("custos 2026 signing attempt", &parts);
        let seen = self.checkpoint.lock().await.mark();
        if let (Some(signed), head) = self.guard.recall(&attempt, &seen).await? {
            self.checkpoint.lock().await.advance(head).await?;
            return Ok(Ok(signed));
        }
        let refused = async |reason| self.settle(self.guard.refuse(&command, &attempt, reason, &seen).await?).await;
        let Ok(policy) = custos_policy::verify(&order.policy, &self.policy_root) else {
            return refused(SignRefusal::PolicyRefused).await;
        };
        let highest = self.guard.policy_shown(policy.version, &seen).await?;
        if highest > policy.version {
            return refused(SignRefusal::PolicyRefused).await;
        }
        let place = Place {
            tenant: &self.tenant,
            wallet,
            chain,
            hot: self.keys.payer(),
            house_intents_per_day: self.house_intents_per_day,
        };
        let first = match checks::admit(place, order, &policy) {
            Ok(first) => first,
            Err(reason) => return refused(reason).await,
        };
        let claim = Claim {
            order: command,
            intent,
            content,
            wallet: *wallet,
            chain: chain.clone(),
            nonce: order.tx.nonce,
            attempt,
            max_fee_per_gas: order.tx.max_fee_per_gas,
            max_priority_fee_per_gas: order.tx.max_priority_fee_per_gas,
            policy_version: policy.version,
            at: order.at,
            first,
        };
        self.claim(&claim, &seen, order).await
    }

    async fn claim(
        &self,
        claim: &Claim,
        seen: &Mark,
        order: &SignOrder,
    ) -> Result<Result<SignedBytes, SignRefusal>, WalletError> {
        let sign = || {
            (self.interruption)("before-sign");
            transaction::sign(&self.keys, &order.tx)
        };
        self.settle(self.guard.claim(claim, seen, sign).await?).await
    }

    /// Lets go what the guard has on record.
    async fn settle(&self, verdict: Verdict) -> Result<Result<SignedBytes, SignRefusal>, WalletError> {
        let (grant, signed) = match verdict.outcome {
            Outcome::Granted(grant, signed) => (grant, signed),
            Outcome::Refused(reason) => return Ok(Err(reason)),
        };
        if grant != Grant::Same {
            (self.interruption)("guard-recorded");
        }
        self.checkpoint.lock().await.advance(verdict.head).await?;
        Ok(Ok(signed))
    }
}

fn reply(
    command: CommandId,
    wallet: WalletId,
    order: &SignOrder,
    outcome: Result<SignedBytes, SignRefusal>,
) -> TreasuryInput {
    let (intent, nonce) = (order.purpose.intent_id(), order.tx.nonce);
    match outcome {
        Ok(SignedBytes { tx, raw }) => {
            let digest = Digest::of(&raw);
            TreasuryInput::Signed(Signed { command, wallet, intent, nonce, tx, raw, digest })
        }
        Err(reason) => {
            tracing::warn!(%command, %wallet, %intent, nonce, ?reason, "refused to sign");
            TreasuryInput::SignRefused(SignRefused { command, wallet, intent, nonce, reason })
        }
    }
}
