//! The parts of Custos as they run in a process: which there are, and how each is started.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use custos_accounts::Accounts;
use custos_blockchain::{Adapter, BalanceReader, FollowSettings, LEAD_MAX, Nodes, followers};
use custos_chain::Chain;
use custos_compliance::Compliance;
use custos_gateway::Gateway;
use custos_projector::Projector;
use custos_runtime::health::Condition;
use custos_runtime::host::{HostSettings, Inspect, run_host};
use custos_runtime::ops::ChainReader;
use custos_runtime::pace::Clock;
use custos_runtime::serve::{ServeSettings, Work, run_service};
use custos_runtime::service::Service;
use custos_runtime::shard::ShardSettings;
use custos_saga::machine::Machine;
use custos_treasury::Treasury;
use custos_wallet::Wallet;
use tokio::sync::mpsc::Sender;

use crate::interrupt;
use crate::policy::{fits, read_signed};
use crate::stage::Stage;

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
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
    /// The bank's door.
    Gateway,
    /// The projector.
    Projector,
}

/// How a part ended.
pub struct Ended {
    /// Which.
    pub part: Part,
    /// Why; `Ok` when it was told to.
    pub how: anyhow::Result<()>,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 8] = [
        Self::Accounts,
        Self::Treasury,
        Self::Chain,
        Self::Wallet,
        Self::Compliance,
        Self::Blockchain,
        Self::Gateway,
        Self::Projector,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Treasury => "treasury",
            Self::Chain => "chain",
            Self::Wallet => "wallet",
            Self::Compliance => "compliance",
            Self::Blockchain => "blockchain",
            Self::Gateway => "gateway",
            Self::Projector => "projector",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| anyhow!("`{name}` is not a part"))
    }
}

/// Starts `part`; it tells `ended` when it is over. The chain adapter gives what reads balances for operators.
///
/// # Errors
/// Its section of the configuration is missing, or what it needs cannot be opened.
pub async fn start(part: Part, stage: &Stage, ended: &Sender<Ended>) -> anyhow::Result<Option<Arc<dyn ChainReader>>> {
    stage.health.set(part.name(), Condition::Starting);
    let missing = || anyhow!("the section `{part}` of the configuration is missing");
    let mut reader: Option<Arc<dyn ChainReader>> = None;
    match part {
        Part::Accounts => host::<Accounts>(part, stage, ended, custos_accounts::inspect),
        Part::Treasury => host::<Treasury>(part, stage, ended, custos_treasury::inspect),
        Part::Chain => host::<Chain>(part, stage, ended, custos_chain::inspect),
        Part::Wallet => {
            let config = stage.config.wallet.clone().ok_or_else(missing)?;
            let wallet = Wallet::open(config).await.context("the signer")?.interrupted_by(interrupt::pass);
            service(part, stage, ended, wallet);
        }
        Part::Compliance => {
            let lists = stage.config.lists.clone().ok_or_else(missing)?;
            service(part, stage, ended, Compliance::open(lists).context("the screener")?);
        }
        Part::Blockchain => {
            let config = stage.config.blockchain.as_ref().ok_or_else(missing)?;
            let nodes = Nodes::connect(config).await.context("the chain adapter")?;
            follow(part, stage, ended, &nodes).context("the chain adapter")?;
            service(part, stage, ended, Adapter::new(nodes.clone()));
            reader = Some(Arc::new(BalanceReader::new(nodes)));
        }
        Part::Gateway => {
            let checked = stage.config.gateway.clone().ok_or_else(missing)?;
            let (_, policy) = read_signed(&stage.config.policy, &stage.config.policy_root)?;
            fits(&policy, &stage.config.tenant, stage.config.provision.partitions)?;
            let (journal, keyring) = (Arc::clone(&stage.journal), Arc::clone(&stage.keyring));
            let model = stage.read_model().await?;
            let gateway = Gateway::bind(
                checked.under(policy).counted_in(stage.metrics.clone()),
                journal,
                keyring,
                model,
                stage.token(),
            );
            let gateway = gateway.await.context("the gateway")?;
            task(part, ended, async move { gateway.run().await.map_err(anyhow::Error::from) });
        }
        Part::Projector => {
            let projector =
                Projector::new(Arc::clone(&stage.journal), Arc::clone(&stage.keyring), stage.read_model().await?)
                    .counted_in(stage.metrics.clone());
            let token = stage.token();
            task(part, ended, async move { projector.run(token).await.map_err(anyhow::Error::from) });
        }
    }
    stage.health.set(part.name(), Condition::Ready);
    Ok(reader)
}

fn follow(part: Part, stage: &Stage, ended: &Sender<Ended>, nodes: &Nodes) -> anyhow::Result<()> {
    let settings = FollowSettings {
        journal: Arc::clone(&stage.journal),
        keyring: Arc::clone(&stage.keyring),
        partitions: stage.config.provision.partitions,
        metrics: stage.metrics.clone(),
        work: Work::Tokio(stage.handle.clone()),
        lead_max: LEAD_MAX,
    };
    for follower in followers(nodes, &settings)? {
        let stop = stage.flag();
        thread(part, ended, move || follower.run(stop).map_err(anyhow::Error::from));
    }
    Ok(())
}

fn host<M: Machine>(part: Part, stage: &Stage, ended: &Sender<Ended>, inspect: Inspect<M>) {
    let settings = HostSettings::<M> {
        journal: Arc::clone(&stage.journal),
        keyring: Arc::clone(&stage.keyring),
        member: stage.config.member.clone(),
        partitions: stage.config.provision.partitions,
        shard: ShardSettings { interrupt: stage.interrupt.clone(), ..ShardSettings::new(stage.config.advertise.clone()) },
        standby: stage.config.standby.clone(),
        metrics: stage.metrics.clone(),
        inspect,
    };
    let (desk, stop) = (stage.desk.clone(), stage.flag());
    thread(part, ended, move || run_host(&settings, &desk, &stop).map_err(anyhow::Error::from));
}

/// Commands that a service deals with at the same time.
const PARALLEL: usize = 16;

fn service<S: Service>(part: Part, stage: &Stage, ended: &Sender<Ended>, service: S)
where
    S::Command: Clone,
{
    let settings = ServeSettings {
        journal: Arc::clone(&stage.journal),
        keyring: Arc::clone(&stage.keyring),
        partitions: stage.config.provision.partitions,
        metrics: stage.metrics.clone(),
        work: Work::Tokio(stage.handle.clone()),
        clock: Clock::HOST,
        parallel: PARALLEL,
    };
    let (service, stop) = (Arc::new(service), stage.flag());
    thread(part, ended, move || run_service(&service, &settings, &stop).map_err(anyhow::Error::from));
}

/// How a part ends that should never end so: nobody may believe that it goes on.
const PANICKED: &str = "it panicked, and said why on standard error";

fn thread(part: Part, ended: &Sender<Ended>, work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
    let ended = ended.clone();
    std::thread::spawn(move || {
        let worked = std::panic::catch_unwind(AssertUnwindSafe(work));
        let how = worked.unwrap_or_else(|_| Err(anyhow!(PANICKED)));
        // The process is ending if nobody listens any more.
        drop(ended.blocking_send(Ended { part, how }));
    });
}

fn task(part: Part, ended: &Sender<Ended>, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
    let ended = ended.clone();
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        let how = work.await.unwrap_or_else(|_| Err(anyhow!(PANICKED)));
        // The process is ending if nobody listens any more.
        drop(ended.send(Ended { part, how }).await);
    });
}
