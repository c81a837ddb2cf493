//! The network between some clients and a server, which can be cut: bytes are passed on as they come.

use std::net::Ipv4Addr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const BUFFER: usize = 64 << 10;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It carries.
    Up,
    /// Nothing arrives, and nobody is told: neither side sees an end.
    Silent,
    /// Connections are broken, and new ones too.
    Broken,
}

/// A relay; its connections end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    waiting: Option<TcpListener>,
    link: watch::Sender<Link>,
    task: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay on a free port, which carries nothing yet.
    ///
    /// # Errors
    /// There is no port.
    pub async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a relay's port")?;
        let port = listener.local_addr()?.port();
        Ok(Self { port, waiting: Some(listener), link: watch::Sender::new(Link::Up), task: None })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on connections go to this port.
    pub fn carry_to(&mut self, target: u16) {
        if let Some(listener) = self.waiting.take() {
            self.task = Some(tokio::spawn(serve(listener, target, self.link.subscribe())));
        }
    }

    /// Changes the network, for old connections and new ones.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, target: u16, link: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connect(client, target, link.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, target: u16, mut link: watch::Receiver<Link>) {
    if !carries(&mut link).await {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    // Small requests must not wait for each other; a socket that refuses is only slower.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = carry(from_client, to_server, link.clone()) => {}
        () = carry(from_server, to_client, link) => {}
    }
}

/// Passes on until either end closes or the network breaks.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>) {
    let mut broken = link.clone();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = tokio::select! {
            _ = broken.wait_for(|link| *link == Link::Broken) => return,
            read = from.read(&mut buffer) => read,
        };
        let Some(bytes) = read.ok().and_then(|count| buffer.get(..count)).filter(|bytes| !bytes.is_empty()) else { return };
        if !carries(&mut link).await || to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Waits while the network is silent. Whether it carries then.
async fn carries(link: &mut watch::Receiver<Link>) -> bool {
    link.wait_for(|link| *link != Link::Silent).await.is_ok_and(|link| *link == Link::Up)
}
