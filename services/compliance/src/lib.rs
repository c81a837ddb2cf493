//! The screener: answers whether an address and an amount may pass, by list files that carry a version.
//!
//! Invariants: every answer names the versions of all lists that it rests on; nothing is answered from a list that cannot be read
//! whole (it fails closed: the question waits). Address matches are exact, by chain. Deliberately absent: names, scores, providers
//! of chain analytics and cases, which come with the full service behind the same contract.

mod lists;
mod screen;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use custos_messages::accounts::{AccountsInput, Screened};
use custos_messages::compliance::Screen;
use custos_messages::{Mail, Source, Topic};
use custos_runtime::service::{Service, Setback};

pub use lists::{ListError, ListFile, Lists};
pub use screen::screen;

/// The service.
pub struct Compliance {
    paths: Vec<PathBuf>,
    lists: Mutex<Arc<Lists>>,
}

impl Compliance {
    /// Reads all lists.
    ///
    /// # Errors
    /// A list that cannot be read, or no list at all: screening by nothing is not screening.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self, ListError> {
        let lists = Lists::read(&paths)?;
        tracing::info!(versions = ?lists.versions(), "lists are in force");
        Ok(Self { paths, lists: Mutex::new(Arc::new(lists)) })
    }

    /// A screener by lists that are in memory already and never change.
    #[must_use]
    pub fn of(lists: Lists) -> Self {
        Self { paths: Vec::new(), lists: Mutex::new(Arc::new(lists)) }
    }

    /// The lists in force, read again when a file has changed.
    ///
    /// # Errors
    /// A changed list that cannot be read: no question is answered until it can.
    pub fn lists(&self) -> Result<Arc<Lists>, ListError> {
        let mut current = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if current.changed(&self.paths)? {
            let lists = Lists::read(&self.paths)?;
            tracing::info!(versions = ?lists.versions(), "changed lists are in force");
            *current = Arc::new(lists);
        }
        Ok(Arc::clone(&current))
    }
}

impl Service for Compliance {
    type Command = Screen;

    const NAME: &'static str = "compliance";
    const COMMANDS: Topic = Topic::ComplianceCommands;
    const SOURCE: Source = Source::Compliance;
    // Before a payment nobody asks twice, and what makes one question wait, lists that cannot be read, makes all of them wait.
    const PATIENCE: Option<Duration> = None;

    async fn handle(&self, command: Screen) -> Result<Vec<Mail>, Setback> {
        let lists = self.lists().map_err(Setback::retry)?;
        let finding = screen(&lists, &command);
        let answer = Screened { command: command.id, saga: command.saga, finding, versions: lists.versions() };
        Ok(vec![Mail::Accounts(AccountsInput::Screened(answer))])
    }
}
