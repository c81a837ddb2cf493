//! Kafka brokers as plain processes of the broker's Java packages: one, or several that replicate, each of which can be killed.
//!
//! A broker has one listener that tests use themselves, and further ones, *lanes*, whose advertised address is somebody else's:
//! of a relay before it, so that the network between some clients and the brokers can be cut without touching others. What a
//! client learns of the other brokers on its lane are addresses of the same lane.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::PartError;
use crate::kafka::{READY, java};
use crate::place::{fetched, free_port, pin, wait_for};

const START: Duration = Duration::from_secs(120);

/// Running brokers; ended when dropped.
pub struct Cluster {
    libs: PathBuf,
    brokers: Vec<Broker>,
}

struct Broker {
    folder: TempDir,
    /// Of the listener without a relay.
    port: u16,
    /// Of each lane's listener.
    lanes: Vec<u16>,
    child: Option<Child>,
}

/// The ports that one broker will have.
struct Ports {
    host: u16,
    net: u16,
    controller: u16,
    lanes: Vec<u16>,
}

/// Starts as many brokers as there are rows, and waits until they serve. A row holds, for each lane, the port that the broker
/// advertises there.
///
/// # Errors
/// [`PartError`] if the broker's packages are not on this machine, or if a broker does not start.
pub fn start_cluster(advertised: &[Vec<u16>]) -> Result<Cluster, PartError> {
    start_cluster_with(advertised, &[])
}

/// As [`start_cluster`], with properties beyond what all brokers of tests have, names as in `server.properties`.
///
/// # Errors
/// As [`start_cluster`].
pub fn start_cluster_with(advertised: &[Vec<u16>], more: &[(&str, &str)]) -> Result<Cluster, PartError> {
    let begun = Instant::now();
    let libs = fetched("CUSTOS_TEST_KAFKA_LIBS", "kafka-libs")
        .ok_or(PartError::Missing("the broker's packages are not on this machine (up.sh kafka-libs)"))?;
    let mut ports = Vec::new();
    for lanes in advertised {
        let lanes = lanes.iter().map(|_| free_port()).collect::<Result<_, _>>()?;
        ports.push(Ports { host: free_port()?, net: free_port()?, controller: free_port()?, lanes });
    }
    let mut brokers = Vec::new();
    for (index, own) in ports.iter().enumerate() {
        let text = properties(index, &ports, advertised);
        let text = more.iter().fold(text, |text, (name, value)| format!("{text}{name}={value}\n"));
        brokers.push(Broker::prepare(&libs, &text, own)?);
    }
    let mut cluster = Cluster { libs, brokers };
    for broker in &mut cluster.brokers {
        broker.spawn(&cluster.libs)?;
    }
    for broker in &cluster.brokers {
        broker.await_ready()?;
    }
    eprintln!("kafka: {} broker processes at {} after {:?}", cluster.brokers.len(), cluster.bootstrap(), begun.elapsed());
    Ok(cluster)
}

impl Cluster {
    /// `host:port` of every broker, for clients without a relay.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        addresses.join(",")
    }

    /// How many brokers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.brokers.len()
    }

    /// Where the listener of a broker's lane really is.
    #[must_use]
    pub fn target(&self, broker: usize, lane: usize) -> Option<u16> {
        self.brokers.get(broker)?.lanes.get(lane).copied()
    }

    /// The folder with a broker's logs, to be changed only while the broker is down.
    #[must_use]
    pub fn data(&self, broker: usize) -> Option<PathBuf> {
        self.brokers.get(broker).map(|broker| broker.folder.path().join("data"))
    }

    /// Kills a broker as a power cut would. One that is down stays down.
    ///
    /// # Errors
    /// [`PartError`] if it cannot be killed.
    pub fn kill(&mut self, broker: usize) -> Result<(), PartError> {
        let Some(mut child) = self.brokers.get_mut(broker).and_then(|broker| broker.child.take()) else { return Ok(()) };
        let killed = child.kill().and_then(|()| child.wait());
        killed.map(|_| ()).map_err(|source| PartError::Program { program: "the broker", source })
    }

    /// Starts a killed broker again, at the same addresses with the same data, and waits until it serves.
    ///
    /// # Errors
    /// [`PartError`] if it does not come back.
    pub fn start_again(&mut self, broker: usize) -> Result<(), PartError> {
        let libs = self.libs.clone();
        match self.brokers.get_mut(broker) {
            Some(broker) if broker.child.is_none() => {
                broker.spawn(&libs)?;
                broker.await_ready()
            }
            _ => Ok(()),
        }
    }
}

impl Broker {
    fn prepare(libs: &Path, properties: &str, ports: &Ports) -> Result<Self, PartError> {
        let folder = tempfile::tempdir().map_err(|source| PartError::File { path: PathBuf::from("a folder"), source })?;
        let path = folder.path().join("server.properties");
        let data = folder.path().join("data");
        fs::write(&path, format!("{properties}log.dirs={}\n", data.display()))
            .map_err(|source| PartError::File { path: path.clone(), source })?;
        let format = java(libs, folder.path(), "kafka.tools.StorageTool")
            .args(["format", "-t", pin("KAFKA_CLUSTER_ID"), "-c"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        format.map_err(|source| PartError::Program { program: "java", source })?;
        Ok(Self { folder, port: ports.host, lanes: ports.lanes.clone(), child: None })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    fn spawn(&mut self, libs: &Path) -> Result<(), PartError> {
        let path = self.log();
        let log = fs::File::create(&path).map_err(|source| PartError::File { path, source })?;
        let child = java(libs, self.folder.path(), "kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(log)
            .spawn()
            .map_err(|source| PartError::Program { program: "java", source })?;
        self.child = Some(child);
        Ok(())
    }

    fn await_ready(&self) -> Result<(), PartError> {
        let said = || fs::read_to_string(self.log()).unwrap_or_default();
        if wait_for(START, || said().contains(READY)) {
            return Ok(());
        }
        let said = said().lines().rev().take(5).collect::<Vec<_>>().join(" | ");
        Err(PartError::NotReady { program: "the broker", within: START, said })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in 0..self.brokers.len() {
            // A broker that has ended already is what is wanted.
            if let Err(error) = self.kill(broker) {
                eprintln!("kafka: broker {broker} was not ended: {error}");
            }
        }
    }
}

/// The configuration of one broker among all.
fn properties(index: usize, all: &[Ports], advertised: &[Vec<u16>]) -> String {
    let voters: Vec<String> =
        all.iter().enumerate().map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller)).collect();
    let replicas = all.len().min(3);
    let mut text = String::from(
        "process.roles=broker,controller\ncontroller.listener.names=CONTROLLER\ninter.broker.listener.name=NET\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\noffsets.topic.num.partitions=4\n\
         transaction.state.log.num.partitions=4\nbroker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500\n\
         controller.quorum.election.timeout.ms=1000\ncontroller.quorum.fetch.timeout.ms=2000\n",
    );
    let quorum = if replicas > 1 { 2 } else { 1 };
    // Writing into a text does not fail.
    let _ = writeln!(
        text,
        "node.id={}\ncontroller.quorum.voters={}\noffsets.topic.replication.factor={replicas}\n\
         transaction.state.log.replication.factor={replicas}\ntransaction.state.log.min.isr={quorum}\n\
         min.insync.replicas={quorum}",
        index + 1,
        voters.join(",")
    );
    let Some(own) = all.get(index) else { return text };
    let mut listeners = format!("HOST://127.0.0.1:{},NET://127.0.0.1:{}", own.host, own.net);
    let mut public = listeners.clone();
    let mut protocols = String::from("HOST:PLAINTEXT,NET:PLAINTEXT,CONTROLLER:PLAINTEXT");
    for (lane, port) in own.lanes.iter().enumerate() {
        let shown = advertised.get(index).and_then(|lanes| lanes.get(lane)).copied().unwrap_or(*port);
        let _ = write!(listeners, ",LANE{lane}://127.0.0.1:{port}");
        let _ = write!(public, ",LANE{lane}://127.0.0.1:{shown}");
        let _ = write!(protocols, ",LANE{lane}:PLAINTEXT");
    }
    let _ = writeln!(
        text,
        "listeners={listeners},CONTROLLER://127.0.0.1:{}\nadvertised.listeners={public}\n\
         listener.security.protocol.map={protocols}",
        own.controller
    );
    text
}
