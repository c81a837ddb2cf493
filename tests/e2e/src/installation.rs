//! An installation of the product in a folder of its own, and the configurations of its processes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use toml::{Table, Value};

use crate::process::{self, Finished, Process};

/// More than two clients are paid in a day of any load.
const PAYMENTS_A_DAY: i64 = 1_000_000;

/// What the product stands on.
#[derive(Clone, Debug)]
pub enum Ground {
    /// The embedded journal and SQLite, in the installation's folder.
    Embedded,
    /// Kafka at these brokers, and this PostgreSQL database.
    Servers {
        /// `host:port`.
        kafka: String,
        /// `postgres://…`.
        postgres: String,
        /// Copies of each record.
        replication: u16,
    },
}

/// The parts of the product, as `custos serve` names them.
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

/// An installation. Its folder is removed when dropped, but kept if a test is failing, or if somebody keeps it.
#[derive(Debug)]
pub struct Installation {
    folder: Option<TempDir>,
    path: PathBuf,
    program: PathBuf,
    gateway: SocketAddr,
    blockchain: SocketAddr,
    seats: BTreeMap<String, Seat>,
    /// Where some processes find the log, if not where all others do.
    lanes: BTreeMap<String, String>,
}

/// What a process has to itself that is the second of its kind: both listen, answer and remember for themselves.
#[derive(Clone, Copy, Debug)]
struct Seat {
    ops: SocketAddr,
    /// Where its gateway listens, and which instance of the gateways it is.
    gateway: Option<(SocketAddr, u32)>,
}

impl Installation {
    /// `custos init` with the short waits, then `custos topics`. `more` are further arguments of `init`.
    ///
    /// # Errors
    /// One of the commands fails.
    pub async fn new(ground: &Ground, more: &[String]) -> anyhow::Result<Self> {
        let program = program().await?;
        let folder = tempfile::Builder::new().prefix("custos-e2e-").tempdir()?;
        let path = folder.path().join("bank");
        let (gateway, health, blockchain) = (free_address()?, free_address()?, free_address()?);
        let mut arguments = vec!["init".to_owned(), path.display().to_string(), "--fast".to_owned()];
        for (name, value) in [("gateway", gateway), ("health", health), ("ops", blockchain)] {
            arguments.extend([format!("--{name}"), value.to_string()]);
        }
        if let Ground::Servers { kafka, postgres, .. } = ground {
            arguments.extend(["--kafka", kafka, "--postgres", postgres].map(str::to_owned));
        }
        arguments.extend_from_slice(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        process::run(folder.path(), &program, &arguments).await?.success().context("custos init")?;
        if let Ground::Servers { replication, .. } = ground {
            replicate(&path.join("custos.toml"), *replication)?;
        }
        unhurried(&path.join("list.toml"))?;
        let (seats, lanes) = (BTreeMap::new(), BTreeMap::new());
        let installation = Self { folder: Some(folder), path, program, gateway, blockchain, seats, lanes };
        installation.run("topics", &[]).await?.success().context("custos topics")?;
        Ok(installation)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Where REST listens.
    #[must_use]
    pub fn gateway(&self) -> String {
        format!("http://{}", self.gateway)
    }

    /// The bank's API key.
    ///
    /// # Errors
    /// The file is not there.
    pub fn api_key(&self) -> anyhow::Result<String> {
        let path = self.path.join("api-key.txt");
        Ok(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
    }

    /// The API key under which officers hand in decisions: the bank's own may not.
    ///
    /// # Errors
    /// The file is not there.
    pub fn officers_api_key(&self) -> anyhow::Result<String> {
        let path = self.path.join("officer-api-key.txt");
        Ok(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
    }

    /// An officer's secret: 64 hexadecimal digits.
    ///
    /// # Errors
    /// There is no such officer.
    pub fn officer_key(&self, officer: &str) -> anyhow::Result<String> {
        let path = self.path.join("officers").join(format!("{officer}.key"));
        Ok(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
    }

    /// Gives the process `name` a seat of its own, beside another with the same parts: its own ports, its own partition of
    /// gateway's answers and its own checkpoint of the signing guard. Gives where its REST listens, if it holds `gateway`.
    ///
    /// # Errors
    /// There is no free port.
    pub fn seat(&mut self, name: &str, parts: &[Part]) -> anyhow::Result<Option<String>> {
        let instance = 1 + u32::try_from(self.seats.values().filter(|seat| seat.gateway.is_some()).count())?;
        let gateway = if parts.contains(&Part::Gateway) { Some((free_address()?, instance)) } else { None };
        self.seats.insert(name.to_owned(), Seat { ops: free_address()?, gateway });
        Ok(gateway.map(|(at, _)| format!("http://{at}")))
    }

    /// The process `name` finds the log at these brokers, from its next start on.
    pub fn lead(&mut self, name: &str, kafka: &str) {
        self.lanes.insert(name.to_owned(), kafka.to_owned());
    }

    /// A setting of the process `name` as it was last started, such as `process.health`.
    ///
    /// # Errors
    /// It was never started, or has no such setting.
    pub fn setting(&self, name: &str, path: &str) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.path.join(format!("custos-{name}.toml")))?;
        let mut value = Value::Table(text.parse()?);
        for step in path.split('.') {
            value = value.get(step).cloned().with_context(|| format!("no setting {path} of {name}"))?;
        }
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Runs `custos COMMAND --config custos.toml ARGUMENTS` to its end.
    ///
    /// # Errors
    /// It does not start.
    pub async fn run(&self, command: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
        let config = self.path.join("custos.toml").display().to_string();
        let mut all = vec![command, "--config", &config];
        all.extend_from_slice(arguments);
        process::run(&self.path, &self.program, &all).await
    }

    /// Runs `custos audit --copy ARGUMENTS` to its end on the embedded log in `folder` instead of the installation's own.
    ///
    /// # Errors
    /// It does not start.
    pub async fn audit_of(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
        let mut config: Table = std::fs::read_to_string(self.path.join("custos.toml"))?.parse()?;
        let log = section(&mut config, "log")?;
        log.remove("kafka");
        log.insert("embedded".to_owned(), Value::from(folder.display().to_string()));
        // Paths are relative to the configuration, so it stands where the installation's own does.
        let path = self.path.join(format!("audit-of-{}.toml", folder.file_name().unwrap_or_default().display()));
        std::fs::write(&path, toml::to_string(&config)?)?;
        let config = path.display().to_string();
        let mut all = vec!["audit", "--config", &config, "--copy"];
        all.extend_from_slice(arguments);
        process::run(&self.path, &self.program, &all).await
    }

    /// Starts `custos serve PARTS` as the process `name` with a configuration of its own, and waits until it serves. Parts that
    /// hold `blockchain` serve operators where every other process looks for them.
    ///
    /// # Errors
    /// It does not start or does not serve.
    pub async fn serve(&self, name: &str, parts: &[Part], more: &[&str]) -> anyhow::Result<Process> {
        let mut process = self.launch(name, parts, more)?;
        process.says("serving ").await?;
        Ok(process)
    }

    /// As [`Self::serve`], without waiting.
    ///
    /// # Errors
    /// It does not start.
    pub fn launch(&self, name: &str, parts: &[Part], more: &[&str]) -> anyhow::Result<Process> {
        let config = self.configure(name, parts)?.display().to_string();
        let mut arguments = vec!["serve"];
        arguments.extend(parts.iter().map(|part| part.name()));
        arguments.extend(["--config", &config]);
        arguments.extend_from_slice(more);
        Process::start(name, &self.path, &self.program, &arguments)
    }

    /// What the process `name` counts.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self, name: &str) -> anyhow::Result<String> {
        let config: Table = std::fs::read_to_string(self.path.join(format!("custos-{name}.toml")))?.parse()?;
        let health = config.get("process").and_then(|process| process.get("health")).and_then(Value::as_str);
        let address = health.with_context(|| format!("{name} has no address for health"))?;
        Ok(reqwest::get(format!("http://{address}/metrics")).await?.error_for_status()?.text().await?)
    }

    /// Keeps its folder beyond this value's end, and says where it is.
    pub fn keep(&mut self) -> &Path {
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
        &self.path
    }

    fn configure(&self, name: &str, parts: &[Part]) -> anyhow::Result<PathBuf> {
        let mut config: Table = std::fs::read_to_string(self.path.join("custos.toml"))?.parse()?;
        config.insert("member".to_owned(), Value::from(name));
        if let Some(kafka) = self.lanes.get(name) {
            section(&mut config, "log")?.insert("kafka".to_owned(), Value::from(kafka.as_str()));
        }
        let seat = self.seats.get(name);
        let ops = match seat {
            Some(seat) => seat.ops,
            None if parts.contains(&Part::Blockchain) => self.blockchain,
            None => free_address()?,
        };
        let process = section(&mut config, "process")?;
        process.insert("health".to_owned(), Value::from(free_address()?.to_string()));
        process.insert("ops".to_owned(), Value::from(ops.to_string()));
        process.remove("advertise");
        if seat.is_some() || parts.len() == Part::ALL.len() {
            // Others keep none, so that takeovers from a checkpoint, from a standby and from nothing are all met.
            process.insert("checkpoint_dir".to_owned(), Value::from(format!("checkpoints-{name}")));
        }
        let gateway = section(&mut config, "gateway")?;
        gateway.insert("blockchain".to_owned(), Value::from(self.blockchain.to_string()));
        if let Some(seat) = seat {
            if let Some((at, instance)) = seat.gateway {
                gateway.insert("listen".to_owned(), Value::from(at.to_string()));
                gateway.insert("instance".to_owned(), Value::from(i64::from(instance)));
            }
            let checkpoint = format!("guard-{name}.checkpoint");
            section(&mut config, "wallet")?.insert("checkpoint".to_owned(), Value::from(checkpoint));
        }
        let path = self.path.join(format!("custos-{name}.toml"));
        std::fs::write(&path, toml::to_string(&config)?)?;
        Ok(path)
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the installation and what its processes said: {}", self.keep().display());
        }
    }
}

/// So many copies of each record from the topics' creation on.
fn replicate(config: &Path, replication: u16) -> anyhow::Result<()> {
    let mut table: Table = std::fs::read_to_string(config)?.parse()?;
    section(&mut table, "log")?.insert("replication".to_owned(), Value::from(i64::from(replication)));
    Ok(std::fs::write(config, toml::to_string(&table)?)?)
}

/// Lets a client pay out more often in a day than any load asks for.
fn unhurried(list: &Path) -> anyhow::Result<()> {
    let mut table: Table = std::fs::read_to_string(list)?.parse()?;
    let limits = table.get_mut("velocity").and_then(Value::as_array_mut).context("the list limits how often is paid out")?;
    for limit in limits {
        limit.as_table_mut().context("a limit")?.insert("max_count".to_owned(), Value::from(PAYMENTS_A_DAY));
    }
    Ok(std::fs::write(list, toml::to_string(&table)?)?)
}

fn section<'c>(config: &'c mut Table, name: &str) -> anyhow::Result<&'c mut Table> {
    config.get_mut(name).and_then(Value::as_table_mut).with_context(|| format!("no section `{name}`"))
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, custos_parts::free_port()?)))
}

/// The product's program: the one that `CUSTOS_TEST_BINARY` names, else the one that cargo builds beside this test.
async fn program() -> anyhow::Result<PathBuf> {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    let program = PROGRAM.get_or_try_init(|| async {
        if let Some(named) = std::env::var_os("CUSTOS_TEST_BINARY") {
            return Ok(PathBuf::from(named));
        }
        tokio::task::spawn_blocking(build).await?
    });
    program.await.cloned()
}

fn build() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("a test stands in <target>/<profile>/deps")?;
    let target = profile.parent().context("a profile stands in a target folder")?;
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--package", "custos", "--bin", "custos", "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status().context("cargo")?.success() {
        bail!("the product was not built");
    }
    Ok(profile.join("custos"))
}
