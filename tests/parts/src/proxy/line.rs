//! One client's connection and the one to the broker that belongs to it, each read by a thread of its own.

use std::collections::BTreeSet;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::frame::{self, Request};
use super::rules::Deed;
use super::{Fate, Shared};

/// How long an answer to what was released is waited for.
const ANSWER: Duration = Duration::from_secs(20);

/// A request that was kept, with the connection on which it is to arrive.
pub(super) struct Stranded {
    request: Request,
    line: Arc<Line>,
    answers: Receiver<Vec<u8>>,
}

/// Both ends of what passes.
pub(super) struct Line {
    client: TcpStream,
    broker: TcpStream,
    /// Numbers of requests whose answers do not arrive.
    lost: Mutex<BTreeSet<i32>>,
    /// Where answers go once the client is gone.
    late: Mutex<Option<Sender<Vec<u8>>>>,
    /// The connection to the broker outlives that of the client.
    kept: AtomicBool,
}

/// Whether the line goes on.
enum Next {
    Goes,
    Ends,
}

/// Serves one client until either side ends.
pub(super) fn serve(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let address = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, shared.upstream.load(Ordering::Relaxed)));
    let broker = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let line =
        Arc::new(Line { client, broker, lost: Mutex::default(), late: Mutex::default(), kept: AtomicBool::new(false) });
    let back = Arc::clone(&line);
    std::thread::spawn(move || back.answers());
    line.requests(shared);
    line.end();
    Ok(())
}

impl Line {
    fn requests(self: &Arc<Self>, shared: &Shared) {
        while let Ok(Some(bytes)) = frame::read(&mut &self.client) {
            let Some(request) = frame::request(bytes) else { return };
            let deed = shared.judge(&request);
            match self.act(shared, request, deed) {
                Ok(Next::Goes) => {}
                Ok(Next::Ends) | Err(_) => return,
            }
        }
    }

    fn act(self: &Arc<Self>, shared: &Shared, request: Request, deed: Option<Deed>) -> io::Result<Next> {
        if let Some(deed) = deed {
            shared.observe(&request, Fate::Done(deed));
        }
        match deed {
            None => frame::write(&mut &self.broker, &request.bytes)?,
            Some(Deed::Delay(pause)) => {
                std::thread::sleep(pause);
                frame::write(&mut &self.broker, &request.bytes)?;
            }
            Some(Deed::ReleaseFirst(pause)) => {
                shared.release(&request.client);
                std::thread::sleep(pause);
                frame::write(&mut &self.broker, &request.bytes)?;
            }
            Some(Deed::LoseAnswer) => {
                self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(request.correlation);
                frame::write(&mut &self.broker, &request.bytes)?;
            }
            Some(Deed::Drop) => {}
            Some(Deed::Cut) => return Ok(Next::Ends),
            Some(Deed::Strand) => {
                let (late, answers) = channel();
                *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(late);
                self.kept.store(true, Ordering::Relaxed);
                shared.keep(Stranded { request, line: Arc::clone(self), answers });
                return Ok(Next::Ends);
            }
        }
        Ok(Next::Goes)
    }

    /// Passes answers on, until the broker ends.
    fn answers(&self) {
        while let Ok(Some(answer)) = frame::read(&mut &self.broker) {
            let number = frame::correlation(&answer).unwrap_or_default();
            let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            let late = self.late.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Nobody may wait for it any more; then it is gone.
            match late {
                Some(late) => drop(late.send(answer)),
                None if lost => self.end(),
                None if frame::write(&mut &self.client, &answer).is_err() => break,
                None => {}
            }
        }
        drop(self.late.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.client.shutdown(Shutdown::Both));
    }

    /// Ends the client's connection, and the broker's unless something is still to arrive on it.
    fn end(&self) {
        drop(self.client.shutdown(Shutdown::Both));
        if !self.kept.load(Ordering::Relaxed) {
            drop(self.broker.shutdown(Shutdown::Both));
        }
    }
}

impl Stranded {
    pub(super) fn client(&self) -> &str {
        &self.request.client
    }

    /// Lets it arrive, and tells what became of it.
    pub(super) fn arrive(self) -> (Request, Fate) {
        let sent = frame::write(&mut &self.line.broker, &self.request.bytes);
        let mut fate = Fate::Unanswered;
        while sent.is_ok() {
            let Ok(answer) = self.answers.recv_timeout(ANSWER) else { break };
            if frame::correlation(&answer) == Some(self.request.correlation) {
                fate = Fate::Arrived { error: frame::end_error(&self.request, &answer) };
                break;
            }
        }
        (self.request.clone(), fate)
    }
}

impl Drop for Stranded {
    fn drop(&mut self) {
        drop(self.line.broker.shutdown(Shutdown::Both));
    }
}
