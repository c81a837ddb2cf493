//! The signer on the skeleton that all services share.

use custos_messages::wallet::WalletCommand;
use custos_messages::{Mail, Source, Topic};
use custos_runtime::service::{Service, Setback};

use crate::WalletError;
use crate::guard::Guard;
use crate::signer::Wallet;

impl<G: Guard> Service for Wallet<G> {
    type Command = WalletCommand;

    const NAME: &'static str = "wallet";
    const COMMANDS: Topic = Topic::WalletCommands;
    const SOURCE: Source = Source::Wallet;

    async fn handle(&self, command: WalletCommand) -> Result<Vec<Mail>, Setback> {
        let answer = self.answer(command).await.map_err(WalletError::into_setback)?;
        Ok(answer.into_iter().map(Mail::Treasury).collect())
    }
}
