//! Connections to the door: how many there are, and that none of them is held by a caller who does nothing.
//!
//! Invariants: a connection that sends no whole request head in time, or takes nothing of an answer in time, is closed; beyond
//! [`AT_ONCE`] the next caller waits in the kernel's queue, so that file handles are left for the log and the databases. The time of
//! a request itself is bounded by its layers. Deliberately absent: TLS, limits for each address (all callers may come through one
//! proxy) and HTTP/2.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// Connections at once.
const AT_ONCE: u32 = 512;
/// The most headers of a request, and the most bytes of its head.
const HEADERS: usize = 64;
const HEAD_BYTES: usize = 32 * 1024;
/// The pause after the kernel gave no connection, such as for want of file handles.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests in progress are waited for at the end: a little longer than any may take.
const DRAIN: Duration = Duration::from_secs(50);

/// How long callers may do nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a request's head, counted from the connection or the answer before it.
    pub(crate) head: Duration,
    /// For any byte of an answer to be taken.
    pub(crate) answer: Duration,
}

/// Answers connections with `routes` until `stop`; then finishes the requests in progress.
pub(crate) async fn serve(listener: TcpListener, routes: Router, patience: Patience, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(usize::try_from(AT_ONCE).unwrap_or(usize::MAX)));
    while let Some((stream, place)) = next(&listener, &places, &stop).await {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(patience.head);
        http.max_headers(HEADERS).max_buf_size(HEAD_BYTES).half_close(false);
        let io = TokioIo::new(Impatient { stream, limit: patience.answer, waits: None });
        let connection = http.serve_connection(io, TowerToHyperService::new(routes.clone()));
        tokio::spawn(until_over(connection, stop.clone(), place));
    }
    drop(listener);
    // Every place is free again once every connection has ended.
    if tokio::time::timeout(DRAIN, places.acquire_many(AT_ONCE)).await.is_err() {
        tracing::warn!("requests in progress are not finished and are given up");
    }
}

type Connection = http1::Connection<TokioIo<Impatient>, TowerToHyperService<Router>>;

/// Serves a connection to its end; at the stop it finishes the request in progress and takes no other.
async fn until_over(connection: Connection, stop: CancellationToken, place: Place) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ends");
    }
    drop(place);
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is room for it; none at the stop.
async fn next(listener: &TcpListener, places: &Arc<Semaphore>, stop: &CancellationToken) -> Option<(TcpStream, Place)> {
    let mut stopped = pin!(stop.cancelled());
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => return None,
            accepted = async {
                let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>((stream, place))
            } => accepted,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection that is given up when its other end takes nothing for too long.
struct Impatient {
    stream: TcpStream,
    limit: Duration,
    /// Runs while bytes wait to be taken.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    /// What a write came to; one that waits too long is an error.
    fn bounded<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let limit = self.limit;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waits.as_mut().poll(context));
        // Whatever asks again finds the same.
        waits.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing of an answer is taken")))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(context, ended)
    }
}
