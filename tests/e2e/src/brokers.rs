//! Brokers of a test's own, and the network between them and the product: each can be taken away and given back.
//!
//! Processes are spread over lanes. All connections of a lane go through relays of its own, so that a cut of the lane cuts off
//! these processes from every broker, and nobody else.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use custos_parts::{Cluster, PartError, start_cluster};
use tokio::net::TcpStream;

use crate::relay::{Link, Relay};

/// Lanes besides the one that tests use themselves.
pub const LANES: usize = 4;

/// The brokers.
pub struct Brokers {
    cluster: Option<Cluster>,
    bootstrap: String,
    count: usize,
    /// By lane and broker.
    relays: Vec<Vec<Relay>>,
}

impl Brokers {
    pub(crate) async fn start(count: usize) -> anyhow::Result<Result<Self, PartError>> {
        let mut relays = Vec::new();
        for _ in 0..LANES {
            let mut lane = Vec::new();
            for _ in 0..count {
                lane.push(Relay::bind().await?);
            }
            relays.push(lane);
        }
        let shown: Vec<Vec<u16>> =
            (0..count).map(|broker| relays.iter().filter_map(|lane| Some(lane.get(broker)?.port())).collect()).collect();
        let started = tokio::task::spawn_blocking(move || start_cluster(&shown)).await?;
        let cluster = match started {
            Ok(cluster) => cluster,
            Err(error) => return Ok(Err(error)),
        };
        for (lane, relays) in relays.iter_mut().enumerate() {
            for (broker, relay) in relays.iter_mut().enumerate() {
                relay.carry_to(cluster.target(broker, lane).context("a broker's lane")?);
            }
        }
        let bootstrap = cluster.bootstrap();
        Ok(Ok(Self { cluster: Some(cluster), bootstrap, count, relays }))
    }

    /// Every broker's `host:port`, past all relays.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Every broker's `host:port` on a lane.
    #[must_use]
    pub fn lane(&self, lane: usize) -> String {
        let relays = self.relays.get(lane % LANES).map(Vec::as_slice).unwrap_or_default();
        relays.iter().map(|relay| format!("127.0.0.1:{}", relay.port())).collect::<Vec<_>>().join(",")
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Changes the network between a lane and all brokers.
    pub fn link(&self, lane: usize, link: Link) {
        self.relays.get(lane % LANES).into_iter().flatten().for_each(|relay| relay.set(link));
    }

    /// Kills a broker as a power cut would.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(&mut self, broker: usize) -> anyhow::Result<()> {
        self.blocking(move |cluster| cluster.kill(broker)).await
    }

    /// Starts a killed broker again, and waits until it serves.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn start_again(&mut self, broker: usize) -> anyhow::Result<()> {
        self.blocking(move |cluster| cluster.start_again(broker)).await?;
        let at: SocketAddr = self.bootstrap.split(',').nth(broker).context("a broker")?.parse()?;
        ensure!(TcpStream::connect(at).await.is_ok(), "broker {broker} does not listen");
        Ok(())
    }

    async fn blocking(
        &mut self,
        work: impl FnOnce(&mut Cluster) -> Result<(), PartError> + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut cluster = self.cluster.take().context("brokers that were lost")?;
        let (cluster, done) = tokio::task::spawn_blocking(move || {
            let done = work(&mut cluster);
            (cluster, done)
        })
        .await?;
        self.cluster = Some(cluster);
        Ok(done?)
    }
}
