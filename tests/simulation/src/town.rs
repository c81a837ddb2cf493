//! A whole installation: topics, policy, orchestrators and services, and who uses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use custos_accounts::Accounts;
use custos_blockchain::{Adapter, FollowSettings, LEAD_MAX, followers};
use custos_chain::Chain;
use custos_compliance::Compliance;
use custos_journal::{Journal, JournalError, Provision, SimulatedCluster};
use custos_messages::accounts::AccountsInput;
use custos_messages::chain::ChainInput;
use custos_messages::compliance::{Direction, Screen};
use custos_messages::treasury::TreasuryInput;
use custos_messages::{Keyring, Machine as Kind, Mail, Postmark, ShardName, SignedPolicy, Source, Topic};
use custos_runtime::host::{Host, HostSettings, Inspect};
use custos_runtime::metrics::Metrics;
use custos_runtime::ops::Desk;
use custos_runtime::pace::{Clock, Hands};
use custos_runtime::serve::{ServeSettings, Serving, Work};
use custos_runtime::service::{Service, Setback};
use custos_runtime::shard::{ShardSettings, provision_shard};
use custos_runtime::standby::StandbySettings;
use custos_saga::machine::Machine;
use custos_treasury::Treasury;

use crate::chance::Chance;
use crate::diary::Diary;
use crate::process::{Build, Part, Start};
use crate::profile::Profile;
use crate::release::{NEXT, Next};
use crate::surroundings::chain::SharedNetwork;
use crate::surroundings::guard::{CheckpointPaper, GuardBase};
use crate::surroundings::house::House;

/// Commands that a service deals with at the same time.
const PARALLEL: usize = 16;

/// The policy, as an input of `machine`.
#[must_use]
pub fn policy_for(machine: Kind, policy: &SignedPolicy) -> Mail {
    match machine {
        Kind::Accounts => Mail::Accounts(AccountsInput::Policy(policy.clone())),
        Kind::Treasury => Mail::Treasury(TreasuryInput::Policy(policy.clone())),
        Kind::Chain => Mail::Chain(ChainInput::Policy(policy.clone())),
    }
}

/// Makes topics and shards, and publishes the policy.
///
/// # Errors
/// The log refuses: nothing goes wrong with it yet.
pub fn provision(
    cluster: &SimulatedCluster,
    keyring: &Keyring,
    policy: &SignedPolicy,
    partitions: u32,
) -> Result<(), JournalError> {
    let journal = cluster.process();
    journal.provision(&Provision { partitions, gateways: 1, replication: 1 })?;
    let appender = journal.appender()?;
    for machine in Kind::ALL {
        let mail = policy_for(machine, policy);
        for partition in 0..partitions {
            let mut log = journal.acquire(machine, partition)?;
            provision_shard(ShardName { machine, partition }, &mut *log)
                .map_err(|error| JournalError::Misconfigured(error.to_string()))?;
            appender.append(mail.topic(), partition, mail.seal(keyring, Source::Operator, Postmark::default()))?;
        }
    }
    Ok(())
}

/// A process that hosts all three machines. Its checkpoints, if it keeps any, are in a folder that outlives it.
/// A file may have suffered meanwhile.
pub fn orchestrator(
    name: String,
    profile: &Profile,
    keyring: Arc<Keyring>,
    checkpoints: Option<PathBuf>,
    diary: Diary,
) -> Build {
    let profile = profile.clone();
    let mut chance = Chance::new(profile.seed).fork(&name).fork("disk");
    Box::new(move |start| {
        if let Some(folder) = &checkpoints
            && chance.once_in(2)
            && damage(folder, &mut chance)
        {
            diary.sometimes("a checkpoint is damaged");
        }
        let shard = ShardSettings {
            batch_records: profile.batch_records,
            idle_wait: Duration::ZERO,
            hold_time: Duration::ZERO,
            ahead: profile.ahead,
            interrupt: Some(Arc::clone(&start.interrupt)),
            clock: start.clock.clone(),
            hands: Hands::Own,
            defences: profile.shards,
            ..ShardSettings::new(name.clone())
        };
        let standby = |machine: Kind| StandbySettings {
            follow: profile.follow,
            checkpoints: checkpoints.as_ref().map(|folder| folder.join(machine.name())),
            checkpoint_every: Duration::from_secs(5),
            checkpoint_records: 20,
            settle: Duration::ZERO,
            clock: start.clock.clone(),
            hands: Hands::Own,
        };
        let of = Hosting { start, name: &name, profile: &profile, keyring: &keyring, shard };
        let [accounts, treasury, chain] = [Kind::Accounts, Kind::Treasury, Kind::Chain].map(standby);
        if start.logic == NEXT {
            return Ok(vec![
                of.host::<Next<Accounts>>(custos_accounts::inspect, accounts)?,
                of.host::<Next<Treasury>>(custos_treasury::inspect, treasury)?,
                of.host::<Next<Chain>>(custos_chain::inspect, chain)?,
            ]);
        }
        Ok(vec![
            of.host::<Accounts>(custos_accounts::inspect, accounts)?,
            of.host::<Treasury>(custos_treasury::inspect, treasury)?,
            of.host::<Chain>(custos_chain::inspect, chain)?,
        ])
    })
}

/// Cuts a checkpoint short, or changes a byte of it. Whether there was one.
fn damage(folder: &Path, chance: &mut Chance) -> bool {
    let folder = folder.join(chance.pick(&Kind::ALL).map_or("", |machine| machine.name()));
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = listed.collect();
    files.sort();
    let Some(path) = chance.pick(&files) else { return false };
    let Ok(mut bytes) = std::fs::read(path) else { return false };
    let place = chance.place(bytes.len());
    if chance.coin() {
        bytes.truncate(place);
    } else if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1;
    }
    std::fs::write(path, bytes).is_ok()
}

struct Hosting<'a> {
    start: &'a Start,
    name: &'a str,
    profile: &'a Profile,
    keyring: &'a Arc<Keyring>,
    shard: ShardSettings,
}

impl Hosting<'_> {
    fn host<M: Machine>(&self, inspect: Inspect<M>, standby: StandbySettings) -> Result<Box<dyn Part>, String> {
        let settings = HostSettings::<M> {
            journal: Arc::<custos_journal::SimulatedJournal>::clone(&self.start.journal),
            keyring: Arc::clone(self.keyring),
            member: self.name.to_owned(),
            partitions: self.profile.partitions,
            shard: self.shard.clone(),
            standby,
            metrics: Metrics::default(),
            inspect,
        };
        let host = Host::open(settings, Desk::default()).map_err(|error| error.to_string())?;
        Ok(Box::new(host))
    }
}

/// A part that runs a service.
///
/// # Errors
/// The log does not answer.
pub fn serving<S: Service>(
    service: S,
    start: &Start,
    keyring: &Arc<Keyring>,
    partitions: u32,
) -> Result<Box<dyn Part>, String>
where
    S::Command: Clone,
{
    let settings = ServeSettings {
        journal: Arc::<custos_journal::SimulatedJournal>::clone(&start.journal),
        keyring: Arc::clone(keyring),
        partitions,
        metrics: Metrics::default(),
        work: Work::Own,
        clock: Clock::clone(&start.clock),
        parallel: PARALLEL,
    };
    let stop: Arc<AtomicBool> = Arc::clone(&start.stop);
    let serving = Serving::open(Arc::new(service), settings, stop).map_err(|stop| stop.to_string())?;
    Ok(Box::new(serving))
}

/// A process that screens, and never answers one question in so many.
pub fn screener(
    compliance: impl Fn() -> Compliance + Send + 'static,
    (unanswered, diary): (u64, Diary),
    keyring: Arc<Keyring>,
    partitions: u32,
) -> Build {
    Box::new(move |start| {
        let service = Taciturn { compliance: compliance(), unanswered, diary: diary.clone() };
        Ok(vec![serving(service, start, &keyring, partitions)?])
    })
}

/// A screener that never answers some questions about what is sent, whoever of its kind is asked, and however often.
struct Taciturn {
    compliance: Compliance,
    /// One in so many; none if zero.
    unanswered: u64,
    diary: Diary,
}

impl Service for Taciturn {
    type Command = Screen;

    const NAME: &'static str = Compliance::NAME;
    const COMMANDS: Topic = Compliance::COMMANDS;
    const SOURCE: Source = Compliance::SOURCE;

    async fn handle(&self, command: Screen) -> Result<Vec<Mail>, Setback> {
        let [first, second, ..] = command.id.0;
        let drawn = u64::from(u16::from_be_bytes([first, second]));
        if command.direction != Direction::In && drawn.checked_rem(self.unanswered) == Some(0) {
            self.diary.sometimes("a question is never answered");
            return Ok(Vec::new());
        }
        self.compliance.handle(command).await
    }
}

/// A process that signs. Its checkpoint outlives it.
pub fn signer(house: House, guard: GuardBase, keyring: Arc<Keyring>, partitions: u32) -> Build {
    let paper = CheckpointPaper::default();
    Box::new(move |start| {
        let wallet = guard.signer(&house, &paper).map_err(|error| error.to_string())?;
        Ok(vec![serving(wallet, start, &keyring, partitions)?])
    })
}

/// A process that talks to the nodes when it is told to.
pub fn adapter(house: House, network: SharedNetwork, keyring: Arc<Keyring>, partitions: u32) -> Build {
    Box::new(move |start| Ok(vec![serving(Adapter::new(house.nodes(&network)), start, &keyring, partitions)?]))
}

/// A process that follows every node.
pub fn follower(house: House, network: SharedNetwork, keyring: Arc<Keyring>, partitions: u32) -> Build {
    Box::new(move |start| {
        let settings = FollowSettings {
            journal: Arc::<custos_journal::SimulatedJournal>::clone(&start.journal),
            keyring: Arc::clone(&keyring),
            partitions,
            metrics: Metrics::default(),
            work: Work::Own,
            lead_max: LEAD_MAX,
        };
        let all = followers(&house.nodes(&network), &settings).map_err(|error| error.to_string())?;
        Ok(all.into_iter().map(|follower| -> Box<dyn Part> { Box::new(follower) }).collect())
    })
}
