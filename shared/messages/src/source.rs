//! Who speaks: each source authenticates its records, and may say only what its row allows.

use crate::streams::{self, Row};
use crate::{Machine, outward};

/// A writer of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The bank's door: requests.
    Gateway,
    /// The accounts machine.
    Accounts,
    /// The treasury machine.
    Treasury,
    /// The chain machine.
    Chain,
    /// The signer.
    Wallet,
    /// The screener.
    Compliance,
    /// The chain adapter.
    Blockchain,
    /// `custos` run by an operator: policy records.
    Operator,
}

impl Source {
    /// All sources.
    pub const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Accounts,
        Self::Treasury,
        Self::Chain,
        Self::Wallet,
        Self::Compliance,
        Self::Blockchain,
        Self::Operator,
    ];

    /// The name in `ce_source`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Accounts => "accounts",
            Self::Treasury => "treasury",
            Self::Chain => "chain",
            Self::Wallet => "wallet",
            Self::Compliance => "compliance",
            Self::Blockchain => "blockchain",
            Self::Operator => "operator",
        }
    }

    /// The source of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    /// The machine that speaks as this source.
    #[must_use]
    pub const fn machine(self) -> Option<Machine> {
        match self {
            Self::Accounts => Some(Machine::Accounts),
            Self::Treasury => Some(Machine::Treasury),
            Self::Chain => Some(Machine::Chain),
            Self::Gateway | Self::Wallet | Self::Compliance | Self::Blockchain | Self::Operator => None,
        }
    }

    /// Whether this is a service that answers commands.
    #[must_use]
    pub const fn is_service(self) -> bool {
        matches!(self, Self::Wallet | Self::Compliance | Self::Blockchain)
    }

    /// As which source a machine speaks.
    #[must_use]
    pub const fn of_machine(machine: Machine) -> Self {
        match machine {
            Machine::Accounts => Self::Accounts,
            Machine::Treasury => Self::Treasury,
            Machine::Chain => Self::Chain,
        }
    }

    /// Whether this source may say messages of type `kind`.
    #[must_use]
    pub fn may_say(self, kind: &str) -> bool {
        rows().any(|(known, speakers)| *known == kind && speakers.contains(&self))
    }
}

/// Every protocol name with its speakers.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    [
        streams::ACCOUNTS,
        streams::TREASURY,
        streams::CHAIN,
        streams::RUNTIME,
        outward::COMPLIANCE,
        outward::WALLET,
        outward::BLOCKCHAIN,
        outward::WATCH_ADDRESS,
        outward::WATCH_CURSOR,
        outward::REPLIES,
        outward::EVENTS,
    ]
    .into_iter()
    .flatten()
}
