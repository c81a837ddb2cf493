//! One Kafka broker: one that the environment names, else a container, else a plain process of the broker's Java packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

use crate::PartError;
use crate::docker::{self, Running};
use crate::place::{accepts, fetched, free_port, pin, wait_for};

pub(crate) const READY: &str = "Kafka Server started";
const START: Duration = Duration::from_secs(90);
/// What every broker of tests has; names as in `server.properties`.
const PROPERTIES: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "NET"),
    ("listener.security.protocol.map", "HOST:PLAINTEXT,NET:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
    // A broker that was killed is let in again soon.
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "500"),
];

/// A running broker; removed when dropped, unless the environment named it.
pub struct Kafka {
    bootstrap: String,
    kind: String,
    host: Host,
}

enum Host {
    External,
    Container { running: Box<Running>, port: u16 },
    Process(Box<Process>),
}

struct Process {
    child: Child,
    libs: PathBuf,
    folder: TempDir,
}

/// Starts a broker and waits until it serves.
///
/// # Errors
/// [`PartError`] if there is neither an address in `CUSTOS_TEST_KAFKA`, nor a Docker daemon with the image, nor the broker's
/// packages with Java; or if what is there does not start.
pub fn start_kafka() -> Result<Kafka, PartError> {
    let begun = Instant::now();
    let kafka = launch()?;
    eprintln!("kafka: {} at {} after {:?}", kafka.kind, kafka.bootstrap, begun.elapsed());
    Ok(kafka)
}

fn launch() -> Result<Kafka, PartError> {
    if let Ok(bootstrap) = std::env::var("CUSTOS_TEST_KAFKA") {
        return Ok(Kafka { bootstrap, kind: "external".to_owned(), host: Host::External });
    }
    let tag = pin("KAFKA_IMAGE");
    if let Some(kind) = docker::image(tag) {
        let port = free_port()?;
        let running = Box::new(Running::start(tag, request(tag, port))?);
        let host = Host::Container { running, port };
        return Ok(Kafka { bootstrap: format!("127.0.0.1:{port}"), kind: format!("container {kind}"), host });
    }
    launch_process("neither the Kafka image nor the broker's packages are on this machine")
}

/// Starts a broker as a plain process of its Java packages, whatever else is there: for figures, which a container would blur.
///
/// # Errors
/// [`PartError`] if the broker's packages or Java are not on this machine, or the broker does not start.
pub fn start_kafka_process() -> Result<Kafka, PartError> {
    launch_process("the broker's packages are not on this machine: `tests/containers/up.sh kafka-libs` fetches them")
}

fn launch_process(missing: &'static str) -> Result<Kafka, PartError> {
    let libs = fetched("CUSTOS_TEST_KAFKA_LIBS", "kafka-libs").ok_or(PartError::Missing(missing))?;
    let (process, port) = Process::start(&libs)?;
    let host = Host::Process(Box::new(process));
    Ok(Kafka { bootstrap: format!("127.0.0.1:{port}"), kind: "plain broker process".to_owned(), host })
}

fn request(tag: &str, port: u16) -> ContainerRequest<GenericImage> {
    let (name, version) = tag.split_once(':').unwrap_or((tag, "latest"));
    let image = GenericImage::new(name, version).with_wait_for(WaitFor::message_on_stdout(READY));
    let mut request = image
        .with_mapped_port(port, 9092.tcp())
        .with_startup_timeout(START)
        .with_env_var("CLUSTER_ID", pin("KAFKA_CLUSTER_ID"))
        .with_env_var("KAFKA_HEAP_OPTS", "-Xms256m -Xmx512m")
        .with_env_var("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
        .with_env_var("KAFKA_LISTENERS", "HOST://0.0.0.0:9092,NET://0.0.0.0:19092,CONTROLLER://localhost:9093")
        .with_env_var("KAFKA_ADVERTISED_LISTENERS", format!("HOST://127.0.0.1:{port},NET://localhost:19092"));
    for (name, value) in PROPERTIES {
        request = request.with_env_var(format!("KAFKA_{}", name.replace('.', "_").to_uppercase()), *value);
    }
    request
}

impl Kafka {
    /// `host:port` for clients.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What runs: which image, official or not, or which process.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The broker's process, if it is a plain one that was started here.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        match &self.host {
            Host::Process(process) => Some(process.child.id()),
            Host::External | Host::Container { .. } => None,
        }
    }

    /// Kills the broker as a power cut would. Does nothing to a broker that the environment named.
    ///
    /// # Errors
    /// [`PartError`] if it cannot be killed.
    pub fn kill(&mut self) -> Result<(), PartError> {
        match &mut self.host {
            Host::External => Ok(()),
            Host::Container { running, .. } => docker::kill(running.id()),
            Host::Process(process) => {
                let killed = process.child.kill().and_then(|()| process.child.wait());
                killed.map(|_| ()).map_err(|source| PartError::Program { program: "the broker", source })
            }
        }
    }

    /// Starts a killed broker again, at the same address with the same data, and waits until it accepts connections.
    ///
    /// # Errors
    /// [`PartError`] if it does not come back.
    pub fn start_again(&mut self) -> Result<(), PartError> {
        let not_ready = || PartError::NotReady { program: "the broker", within: START, said: String::new() };
        match &mut self.host {
            Host::External => Ok(()),
            Host::Container { running, port } => {
                running.start_again(&self.kind)?;
                if accepts(*port, START) { Ok(()) } else { Err(not_ready()) }
            }
            Host::Process(process) => process.run(),
        }
    }
}

impl Process {
    fn start(libs: &Path) -> Result<(Self, u16), PartError> {
        let folder = tempfile::tempdir().map_err(|source| PartError::File { path: PathBuf::from("a folder"), source })?;
        let (client, net, controller) = (free_port()?, free_port()?, free_port()?);
        let mut text = PROPERTIES.iter().fold(String::new(), |text, (name, value)| format!("{text}{name}={value}\n"));
        text.push_str(&format!(
            "controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=HOST://127.0.0.1:{client},NET://127.0.0.1:{net},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=HOST://127.0.0.1:{client},NET://127.0.0.1:{net}\nlog.dirs={}\n",
            folder.path().join("data").display()
        ));
        let properties = folder.path().join("server.properties");
        fs::write(&properties, text).map_err(|source| PartError::File { path: properties.clone(), source })?;
        let format = java(libs, folder.path(), "kafka.tools.StorageTool")
            .args(["format", "-t", pin("KAFKA_CLUSTER_ID"), "-c"])
            .arg(&properties)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        format.map_err(|source| PartError::Program { program: "java", source })?;
        let child = spawn(libs, folder.path())?;
        let process = Self { child, libs: libs.to_path_buf(), folder };
        process.await_ready()?;
        Ok((process, client))
    }

    fn run(&mut self) -> Result<(), PartError> {
        self.child = spawn(&self.libs, self.folder.path())?;
        self.await_ready()
    }

    fn await_ready(&self) -> Result<(), PartError> {
        let log = self.folder.path().join("broker.log");
        if wait_for(START, || fs::read_to_string(&log).is_ok_and(|said| said.contains(READY))) {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        let said = said.lines().rev().take(5).collect::<Vec<_>>().join(" | ");
        Err(PartError::NotReady { program: "the broker", within: START, said })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A broker that has ended already is what is wanted.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("kafka: the broker's process {} was not ended: {error}", self.child.id());
        }
    }
}

fn spawn(libs: &Path, folder: &Path) -> Result<Child, PartError> {
    let path = folder.join("broker.log");
    let log = fs::File::create(&path).map_err(|source| PartError::File { path, source })?;
    java(libs, folder, "kafka.Kafka")
        .arg(folder.join("server.properties"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(log)
        .spawn()
        .map_err(|source| PartError::Program { program: "java", source })
}

pub(crate) fn java(libs: &Path, folder: &Path, class: &str) -> Command {
    let logging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/kafka/log4j2.yaml");
    let mut command = Command::new("java");
    command
        .current_dir(folder)
        .args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-cp"])
        .arg(libs.join("*"))
        .arg(format!("-Dlog4j2.configurationFile=file:{}", logging.display()))
        .arg(class);
    command
}
