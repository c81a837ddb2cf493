//! The topic table: every stream of the system, with the properties that its promises rest on.

/// The three deterministic machines of the orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Machine {
    /// Sagas and ledger, keyed by account.
    Accounts,
    /// Nonces, fees and outgoing transactions, keyed by wallet.
    Treasury,
    /// Fork tree and confirmations, keyed by chain.
    Chain,
}

/// A stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What a machine consumes. Broker time; plain idempotent producers only.
    Inbox(Machine),
    /// A machine's compacted changelog, with header and manifest of each transaction.
    State(Machine),
    /// Questions to the compliance service.
    ComplianceCommands,
    /// Orders to the signer.
    WalletCommands,
    /// Orders to the chain adapter.
    BlockchainCommands,
    /// The public feed and audit log, kept for ever.
    Events,
    /// The compacted watch list of addresses, and the follower's cursor.
    Addresses,
    /// Answers to requests that wait at a gateway instance; the partition is the instance.
    GatewayReplies,
    /// Undecodable or poisonous records, with where they came from and why.
    Quarantine,
}

impl Machine {
    /// All machines.
    pub const ALL: [Self; 3] = [Self::Accounts, Self::Treasury, Self::Chain];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Treasury => "treasury",
            Self::Chain => "chain",
        }
    }

    /// The machine of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|machine| machine.name() == name)
    }
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 13] = [
        Self::Inbox(Machine::Accounts),
        Self::Inbox(Machine::Treasury),
        Self::Inbox(Machine::Chain),
        Self::State(Machine::Accounts),
        Self::State(Machine::Treasury),
        Self::State(Machine::Chain),
        Self::ComplianceCommands,
        Self::WalletCommands,
        Self::BlockchainCommands,
        Self::Events,
        Self::Addresses,
        Self::GatewayReplies,
        Self::Quarantine,
    ];

    /// The name on the wire. Names and partition counts never change.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbox(Machine::Accounts) => "custos.accounts.inbox.v1",
            Self::Inbox(Machine::Treasury) => "custos.treasury.inbox.v1",
            Self::Inbox(Machine::Chain) => "custos.chain.inbox.v1",
            Self::State(Machine::Accounts) => "custos.accounts.state.v1",
            Self::State(Machine::Treasury) => "custos.treasury.state.v1",
            Self::State(Machine::Chain) => "custos.chain.state.v1",
            Self::ComplianceCommands => "custos.compliance.commands.v1",
            Self::WalletCommands => "custos.wallet.commands.v1",
            Self::BlockchainCommands => "custos.blockchain.commands.v1",
            Self::Events => "custos.events.v1",
            Self::Addresses => "custos.addresses.v1",
            Self::GatewayReplies => "custos.gateway.replies.v1",
            Self::Quarantine => "custos.quarantine.v1",
        }
    }

    /// The topic of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether old records of a key give way to its newest.
    #[must_use]
    pub const fn compacted(self) -> bool {
        matches!(self, Self::State(_) | Self::Addresses)
    }
}
