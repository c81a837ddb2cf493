//! Everything together: a chain, an installation on it, its processes, the bank, and a hot wallet with funds.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use anyhow::{Context, bail};
use custos_parts::{Kafka, Postgres, require, start_kafka, start_postgres};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::bank::Bank;
use crate::brokers::Brokers;
use crate::door::Door;
use crate::ethereum::{ETHER, Ethereum};
use crate::hand::Hand;
use crate::installation::{Ground, Installation, Part};
use crate::ledger::text;
use crate::process::Process;
use crate::wait::{LONG, SHORT, until};

/// Blocks until money is final.
pub const CONFIRMATIONS: u64 = 3;
/// How often a block is mined while somebody waits for what needs blocks.
const BLOCK_EVERY: Duration = Duration::from_millis(250);
/// From so many ether on, a withdrawal needs officers.
pub const APPROVAL_LIMIT: &str = "5";
/// What the bank puts into the hot wallet, of ether and of the token.
const FUNDS: u128 = 1_000 * ETHER;

/// What is ended with the world.
#[derive(Default)]
struct Servers {
    _kafka: Option<Kafka>,
    _postgres: Option<Postgres>,
}

/// A bank with its chain.
pub struct World {
    /// The chain.
    pub chain: Ethereum,
    /// The installation.
    pub installation: Installation,
    /// The bank's client.
    pub bank: Bank,
    /// The client through which officers hand in decisions.
    pub officers: Bank,
    /// The listed token, `TUSD`, of 18 decimals.
    pub token: Address,
    /// The hot wallet's address.
    pub hot: Address,
    /// An address that screening refuses.
    pub refused: Address,
    /// What each of the chain's nodes stands behind, in policy's order; none if the product asks the chain's one node itself.
    pub doors: Vec<Door>,
    /// When a block was mined last because somebody waits.
    mined: Mutex<Option<Instant>>,
    ground: Ground,
    processes: BTreeMap<String, (Process, Vec<Part>)>,
    _servers: Servers,
}

impl World {
    /// The embedded journal, SQLite and the development chain; every part in one process.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn embedded() -> anyhow::Result<Self> {
        Self::embedded_with(0).await
    }

    /// As [`Self::embedded`], with two nodes of the chain.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn embedded_with_two_nodes() -> anyhow::Result<Self> {
        Self::embedded_with(2).await
    }

    async fn embedded_with(doors: usize) -> anyhow::Result<Self> {
        let world = Self::empty(Ethereum::dev().await?, Ground::Embedded, Servers::default(), doors).await?;
        world.up(&[("all", &Part::ALL)]).await
    }

    /// Kafka, PostgreSQL and a development node; every part a process of its own. None, said aloud, where a server is missing.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn on_servers(test: &str) -> anyhow::Result<Option<Self>> {
        Self::on_servers_with(test, 0).await
    }

    /// As [`Self::on_servers`], with two nodes of the chain.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn on_servers_with_two_nodes(test: &str) -> anyhow::Result<Option<Self>> {
        Self::on_servers_with(test, 2).await
    }

    async fn on_servers_with(test: &str, doors: usize) -> anyhow::Result<Option<Self>> {
        let Some(world) = Self::servers(test, doors).await? else { return Ok(None) };
        let processes = Part::ALL.each_ref().map(|part| (part.name(), std::slice::from_ref(part)));
        Ok(Some(world.up(&processes).await?))
    }

    /// Starts these processes and funds the house. Where that fails, what the processes said is kept and their last words are told:
    /// nobody else has the world yet.
    async fn up(mut self, processes: &[(&str, &[Part])]) -> anyhow::Result<Self> {
        let coming = async {
            for (name, parts) in processes {
                self.start(name, parts).await?;
            }
            self.fund().await
        };
        match coming.await {
            Ok(()) => Ok(self),
            Err(error) => Err(error.context(self.last_words())),
        }
    }

    /// What each process said last, and where all that they said is kept from now on.
    fn last_words(&mut self) -> String {
        let said = self.processes.values().map(|(process, _)| format!("{}:\n{}", process.name(), process.last_words()));
        let said: String = said.collect();
        format!("{said}what the processes said: {}", self.installation.keep().display())
    }

    /// As [`Self::on_servers`], without a process and without funds.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn on_servers_alone(test: &str) -> anyhow::Result<Option<Self>> {
        Self::servers(test, 0).await
    }

    /// As [`Self::on_servers_alone`], on so many brokers of its own, which can be killed and cut off; see [`Brokers`].
    ///
    /// # Errors
    /// It does not come up.
    pub async fn on_brokers(test: &str, count: usize) -> anyhow::Result<Option<(Self, Brokers)>> {
        let brokers = Brokers::start(count).await?;
        let (postgres, node) = started(|| (start_postgres(), Ethereum::start_node())).await?;
        let (Some(brokers), Some(postgres), Some(node)) =
            (require(test, brokers), require(test, postgres), require(test, node))
        else {
            return Ok(None);
        };
        let replication = u16::try_from(count.min(3))?;
        let ground = Ground::Servers { kafka: brokers.bootstrap(), postgres: postgres.url().to_owned(), replication };
        let servers = Servers { _kafka: None, _postgres: Some(postgres) };
        Ok(Some((Self::empty(Ethereum::of(node).await?, ground, servers, 0).await?, brokers)))
    }

    async fn servers(test: &str, doors: usize) -> anyhow::Result<Option<Self>> {
        let (kafka, postgres, node) = started(|| (start_kafka(), start_postgres(), Ethereum::start_node())).await?;
        let (Some(kafka), Some(postgres), Some(node)) = (require(test, kafka), require(test, postgres), require(test, node))
        else {
            return Ok(None);
        };
        let (at, url) = (kafka.bootstrap().to_owned(), postgres.url().to_owned());
        let ground = Ground::Servers { kafka: at, postgres: url, replication: 1 };
        let servers = Servers { _kafka: Some(kafka), _postgres: Some(postgres) };
        Ok(Some(Self::empty(Ethereum::of(node).await?, ground, servers, doors).await?))
    }

    async fn empty(chain: Ethereum, ground: Ground, servers: Servers, count: usize) -> anyhow::Result<Self> {
        let token = chain.deploy_token().await?;
        let refused = Self::stranger("refused");
        let mut doors = Vec::new();
        for _ in 0..count {
            doors.push(Door::before(chain.url()).await?);
        }
        let mut nodes: Vec<String> = doors.iter().map(|door| door.url().to_owned()).collect();
        if nodes.is_empty() {
            nodes.push(chain.url());
        }
        let nodes = ["a", "b"].iter().zip(nodes).flat_map(|(name, url)| ["--node".to_owned(), format!("{name}={url}")]);
        let more = [
            ("--token", format!("TUSD={}:18", token.to_checksum(None))),
            ("--refuse", refused.to_checksum(None)),
            ("--confirmations", CONFIRMATIONS.to_string()),
        ];
        let more = more.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let installation = Installation::new(&ground, &nodes.chain(more).collect::<Vec<_>>()).await?;
        let bank = Bank::new(&installation.gateway(), &installation.api_key()?)?;
        let officers = Bank::new(&installation.gateway(), &installation.officers_api_key()?)?;
        let processes = BTreeMap::new();
        Ok(Self {
            chain,
            installation,
            bank,
            officers,
            token,
            hot: Address::ZERO,
            refused,
            doors,
            mined: Mutex::default(),
            ground,
            processes,
            _servers: servers,
        })
    }

    /// The name of the chain.
    #[must_use]
    pub const fn chain_name() -> &'static str {
        "eip155:31337"
    }

    /// What the installation stands on.
    #[must_use]
    pub const fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Starts the process `name` beside another with the same parts. The bank and its officers use its gateway, too, if it has one.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_beside(&mut self, name: &str, parts: &[Part]) -> anyhow::Result<()> {
        if let Some(door) = self.installation.seat(name, parts)? {
            self.bank = self.bank.clone().with_door(&door);
            self.officers = self.officers.clone().with_door(&door);
        }
        self.start(name, parts).await
    }

    /// An address that nobody else has, the same for the same name.
    #[must_use]
    pub fn stranger(name: &str) -> Address {
        Address::from_word(keccak256(format!("stranger {name}")))
    }

    /// Starts the process `name` with these parts, and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn start(&mut self, name: &str, parts: &[Part]) -> anyhow::Result<()> {
        let process = self.installation.serve(name, parts, &[]).await?;
        self.processes.insert(name.to_owned(), (process, parts.to_vec()));
        Ok(())
    }

    /// A running process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn process(&self, name: &str) -> anyhow::Result<&Process> {
        self.processes.get(name).map(|(process, _)| process).with_context(|| format!("no process `{name}`"))
    }

    /// The running processes, and how the kernel calls them.
    #[must_use]
    pub fn pids(&self) -> Vec<(String, u32)> {
        let processes = self.processes.iter();
        processes.filter_map(|(name, (process, _))| Some((name.clone(), process.id()?))).collect()
    }

    /// Takes the process out of the world, to stop or kill it.
    ///
    /// # Errors
    /// There is no such process.
    pub fn take(&mut self, name: &str) -> anyhow::Result<Process> {
        self.processes.remove(name).map(|(process, _)| process).with_context(|| format!("no process `{name}`"))
    }

    /// Kills every process at once, as a power cut would, and starts each again with the parts that it had.
    ///
    /// # Errors
    /// One does not come back.
    pub async fn power_cut(&mut self) -> anyhow::Result<()> {
        let mut gone = Vec::new();
        for (name, (process, parts)) in std::mem::take(&mut self.processes) {
            process.kill().await?;
            gone.push((name, parts));
        }
        for (name, parts) in gone {
            self.start(&name, &parts).await?;
        }
        Ok(())
    }

    /// Lets somebody inside work in the log. The embedded log has one owner, so there every process is killed before and started
    /// again after it; on Kafka they go on meanwhile.
    ///
    /// # Errors
    /// The work fails, or a process does not come back.
    pub async fn in_the_log<T>(&mut self, work: impl FnOnce(&Hand) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut gone = Vec::new();
        if matches!(self.ground, Ground::Embedded) {
            for (name, (process, parts)) in std::mem::take(&mut self.processes) {
                process.kill().await?;
                gone.push((name, parts));
            }
        }
        let done = tokio::task::block_in_place(|| work(&Hand::open(&self.ground, self.installation.folder())?))?;
        for (name, parts) in gone {
            self.start(&name, &parts).await?;
        }
        Ok(done)
    }

    /// A way into the log beside the running product, for as long as a test wants; on Kafka alone.
    ///
    /// # Errors
    /// The log does not answer.
    pub fn hand(&self) -> anyhow::Result<Hand> {
        tokio::task::block_in_place(|| Hand::open(&self.ground, self.installation.folder()))
    }

    /// The read model's database.
    #[must_use]
    pub fn database(&self) -> String {
        match &self.ground {
            Ground::Embedded => format!("sqlite://{}", self.installation.folder().join("read-model.sqlite").display()),
            Ground::Servers { postgres, .. } => postgres.clone(),
        }
    }

    /// What all running processes together count under a name with these labels, since each was started.
    ///
    /// # Errors
    /// One does not answer.
    pub async fn counted(&self, name: &str, labels: &str) -> anyhow::Result<u64> {
        let line = format!("{name}{{{labels}}} ");
        let mut sum = 0;
        for process in self.processes.keys() {
            let text = self.installation.metrics(process).await?;
            let figures = text.lines().filter_map(|known| known.strip_prefix(&line));
            for figure in figures {
                sum += figure.trim().parse::<u64>()?;
            }
        }
        Ok(sum)
    }

    /// Opens the house's way: waits until the hot wallet is watched, and puts coins and tokens into it.
    ///
    /// # Errors
    /// They are not in the books in time.
    pub async fn fund(&mut self) -> anyhow::Result<()> {
        let policy = until("the policy can be read", SHORT, || async { self.bank.get("/policy").await.map(Some) }).await?;
        self.hot = text(&policy, "/chains/0/hot")?.parse()?;
        // An address that is handed out is watched, and the hot wallet's was asked for before it.
        let probe = self.bank.open("probe").await?;
        self.bank.address(&probe, Self::chain_name()).await?;
        self.chain.pay(self.hot, FUNDS).await?;
        self.chain.pay_token(self.token, self.hot, FUNDS).await?;
        self.mine_until("the hot wallet's funds are in the books", || async {
            let funded = |books: &Value| text(books, "/funding").is_ok_and(|funding| funding.starts_with("1000"));
            Ok((funded(&self.bank.books("ETH").await?) && funded(&self.bank.books("TUSD").await?)).then_some(()))
        })
        .await
    }

    /// Opens an account with a watched address.
    ///
    /// # Errors
    /// It is not opened in time.
    pub async fn client(&self, key: &str) -> anyhow::Result<(String, Address)> {
        let account = self.bank.open(key).await?;
        let address = self.bank.address(&account, Self::chain_name()).await?;
        Ok((account, address))
    }

    /// Mines blocks and asks, again and again, until `probe` gives something. However many wait so at the same time, the chain goes
    /// at the pace of one: followers must keep up.
    ///
    /// # Errors
    /// The deadline has passed.
    pub async fn mine_until<T, F>(&self, what: &str, mut probe: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<Option<T>>>,
    {
        until(what, LONG, || {
            let asked = probe();
            async move {
                self.mine_at_pace().await?;
                asked.await
            }
        })
        .await
    }

    async fn mine_at_pace(&self) -> anyhow::Result<()> {
        let mut last = self.mined.lock().await;
        if last.is_none_or(|last| last.elapsed() >= BLOCK_EVERY) {
            self.chain.mine(1).await?;
            *last = Some(Instant::now());
        }
        Ok(())
    }

    /// Mines until all of these operations are done, and gives them.
    ///
    /// # Errors
    /// The deadline has passed.
    pub async fn mine_until_done(&self, operations: &[&str]) -> anyhow::Result<Vec<Value>> {
        let mut done = Vec::new();
        for id in operations {
            done.push(self.mine_until(&format!("operation {id} is done"), || self.bank.ended(id)).await?);
        }
        Ok(done)
    }

    /// Waits until every shard's books are complete up to the newest block.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn caught_up(&self) -> anyhow::Result<()> {
        let head = self.chain.head().await?;
        until(&format!("the books are complete up to block {head}"), LONG, || async {
            let marked = self.bank.books("ETH").await?.pointer("/block/number").and_then(Value::as_u64);
            if marked == Some(head) { Ok(Some(())) } else { bail!("they are complete up to {marked:?}") }
        })
        .await
    }

    /// `custos books` must find that books and chain are the same.
    ///
    /// # Errors
    /// They are not, with what it says.
    pub async fn books_match(&self) -> anyhow::Result<()> {
        self.caught_up().await?;
        let said = self.installation.run("books", &[]).await?.success().context("custos books")?;
        if said.contains("books match the chains: yes") { Ok(()) } else { bail!("custos books: {said}") }
    }

    /// Stops every process, orderly, and starts each again with the parts that it had.
    ///
    /// # Errors
    /// One does not stop well, or does not come back.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let parts = self.processes.iter().map(|(name, (_, parts))| (name.clone(), parts.clone()));
        let gone: Vec<(String, Vec<Part>)> = parts.collect();
        self.stop().await?;
        for (name, parts) in gone {
            self.start(&name, &parts).await?;
        }
        Ok(())
    }

    /// Stops every process, orderly.
    ///
    /// # Errors
    /// One does not stop, or not well.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for (name, (process, _)) in std::mem::take(&mut self.processes) {
            let errors = process.errors();
            let status = process.stop().await?;
            if !status.success() {
                bail!("{name} ended with {status}\n{errors}");
            }
        }
        Ok(())
    }

    /// `custos audit` must find nothing. The embedded journal has one owner, so everything is stopped before.
    ///
    /// # Errors
    /// It finds something, with what it says.
    pub async fn audit_healthy(&mut self) -> anyhow::Result<String> {
        if matches!(self.ground, Ground::Embedded) {
            self.stop().await?;
        }
        self.installation.run("audit", &[]).await?.success().context("custos audit")
    }
}

/// Starts servers on a thread of their own, which may block.
async fn started<T: Send + 'static>(launch: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let launching = tokio::task::spawn_blocking(move || std::thread::spawn(launch).join()).await?;
    launching.map_err(|_| anyhow::anyhow!("the servers' launcher panicked"))
}
