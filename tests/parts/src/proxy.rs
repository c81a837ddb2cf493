//! A proxy that stands between clients and one Kafka broker, knows requests by kind and by the client's name, and can hold, delay, drop or
//! cut those that rules name.
//!
//! It changes nothing in what passes: a broker that advertises it on one of its lanes ([`crate::start_cluster`]) sends clients back to it. A request that
//! was stranded arrives later on the connection on which it was sent, after its client has connected anew and asked again, which is how
//! a slow network makes an `EndTxn` late.
//!
//! Deliberately absent: encryption, changes of contents, bytes held without regard to frames.

mod frame;
mod line;
mod rules;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use frame::Api;
pub use rules::{Deed, Rule, When};

use crate::PartError;
use frame::Request;
use line::Stranded;
use rules::Rules;

/// A proxy on a port of the loopback interface; it takes no new client once it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

/// What a proxy did with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Since the proxy was opened.
    pub at: Duration,
    /// The client's name.
    pub client: String,
    /// Which kind of request.
    pub api: Api,
    /// What was done.
    pub fate: Fate,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passed.
    Passed,
    /// A rule acted.
    Done(Deed),
    /// It was stranded, arrived late, and was answered; of an `EndTxn` the answer's error code is told, 0 for none.
    Arrived {
        /// The code.
        error: Option<i16>,
    },
    /// It was stranded, arrived late or not, and was not answered.
    Unanswered,
}

/// Between the arrivals of two requests that are released together, so that what the first one caused is done.
const BETWEEN: Duration = Duration::from_millis(50);
/// The newest observations are kept.
const OBSERVATIONS_MAX: usize = 100_000;

struct Shared {
    opened: Instant,
    upstream: AtomicU16,
    closed: AtomicBool,
    rules: Mutex<Rules>,
    stranded: Mutex<Vec<Stranded>>,
    observations: Mutex<VecDeque<Observation>>,
}

impl Proxy {
    /// Opens a port. Clients are served once [`Self::forward_to`] has said where the broker is.
    ///
    /// # Errors
    /// [`PartError`] if there is no free port.
    pub fn open() -> Result<Self, PartError> {
        let failed = |source| PartError::Program { program: "a proxy", source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let shared = Arc::new(Shared {
            opened: Instant::now(),
            upstream: AtomicU16::new(0),
            closed: AtomicBool::new(false),
            rules: Mutex::default(),
            stranded: Mutex::default(),
            observations: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&accepting, &listener));
        Ok(Self { shared, port })
    }

    /// The port of the loopback interface on which clients are awaited.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Names the broker's port on the loopback interface.
    pub fn forward_to(&self, port: u16) {
        self.shared.upstream.store(port, Ordering::Relaxed);
    }

    /// From now on this rule holds, too.
    pub fn rule(&self, rule: Rule) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).add(rule);
    }

    /// Forgets the rules of a client and what is stranded of it.
    pub fn forget(&self, client: &str) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).forget(client);
        self.shared.stranded.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept.client() != client);
    }

    /// Forgets the rules of a client, and keeps what is stranded of it.
    pub fn calm(&self, client: &str) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).forget(client);
    }

    /// Lets arrive what is stranded of a client, in order, and waits until it is answered. Returns how many requests that were.
    pub fn release(&self, client: &str) -> usize {
        self.shared.release(client)
    }

    /// What rules and releases have done so far with the requests of a client, in order, and takes it out of the memory. Requests that
    /// simply passed are among it when they write.
    #[must_use]
    pub fn take_observations(&self, client: &str) -> Vec<Observation> {
        let mut all = self.shared.observations.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, left): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut *all).into_iter().partition(|seen| seen.client == client);
        *all = left;
        taken.into()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; it ends when it sees that this proxy is closed.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn judge(&self, request: &Request) -> Option<Deed> {
        let deed = self.rules.lock().unwrap_or_else(PoisonError::into_inner).judge(&request.client, request.api);
        if deed.is_none() && request.api != Api::Other {
            self.observe(request, Fate::Passed);
        }
        deed
    }

    fn observe(&self, request: &Request, fate: Fate) {
        let Request { client, api, .. } = request;
        let seen = Observation { at: self.opened.elapsed(), client: client.clone(), api: *api, fate };
        let mut all = self.observations.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= OBSERVATIONS_MAX {
            all.pop_front();
        }
        all.push_back(seen);
    }

    fn keep(&self, stranded: Stranded) {
        self.stranded.lock().unwrap_or_else(PoisonError::into_inner).push(stranded);
    }

    fn release(&self, client: &str) -> usize {
        let mut kept = self.stranded.lock().unwrap_or_else(PoisonError::into_inner);
        let released: Vec<Stranded> = kept.extract_if(.., |one| one.client() == client).collect();
        drop(kept);
        let count = released.len();
        for (number, stranded) in released.into_iter().enumerate() {
            if number > 0 {
                std::thread::sleep(BETWEEN);
            }
            let (request, fate) = stranded.arrive();
            self.observe(&request, fate);
        }
        count
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((client, _)) = listener.accept() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        // A client whose broker does not answer is cut off, as by the broker itself.
        std::thread::spawn(move || drop(line::serve(&shared, client)));
    }
}
