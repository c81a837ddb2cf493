//! Callers who hold the door open and do nothing: with half a head, with nothing at all, or with an answer that they do not take.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
#[allow(dead_code, reason = "each test file uses a part of the bench")]
mod fixture;

use std::time::Duration;

use custos_messages::accounts::AlarmCode;
use custos_messages::events::EventBody;
use fixture::{Bench, Setup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longer than any patience below, and far shorter than for ever.
const SOON: Duration = Duration::from_secs(20);

async fn impatient() -> Bench {
    let short = Duration::from_millis(300);
    Bench::with(Setup { patience: short, head_wait: short, ..Setup::default() }).await
}

async fn connected(bench: &Bench) -> TcpStream {
    TcpStream::connect(bench.base.trim_start_matches("http://")).await.unwrap()
}

/// Everything that comes until the door closes the connection.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A connection may also be reset; either way it is over.
    let _ = timeout(SOON, stream.read_to_end(&mut said)).await.expect("the door closes the connection");
    said
}

#[tokio::test]
async fn a_caller_who_never_ends_his_head_is_left() {
    let bench = impatient().await;
    let (mut silent, mut half, mut done) = (connected(&bench).await, connected(&bench).await, connected(&bench).await);
    half.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: bank\r\nX-Slow: ").await.unwrap();
    done.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: bank\r\n\r\n").await.unwrap();
    until_closed(&mut silent).await;
    until_closed(&mut half).await;
    let answered = until_closed(&mut done).await;
    assert!(
        answered.starts_with(b"HTTP/1.1 200 "),
        "a whole request is answered, and its connection rests no longer than others"
    );
    assert_eq!(bench.get("/v1/accounts").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let bench = impatient().await;
    for head in ["X-Long: ".to_owned() + &"x".repeat(64 * 1024), "X-Many: 1\r\n".repeat(1_000)] {
        let mut stream = connected(&bench).await;
        // The door may close before it has taken all.
        let _ = stream.write_all(format!("GET /openapi.json HTTP/1.1\r\nHost: bank\r\n{head}\r\n\r\n").as_bytes()).await;
        let said = until_closed(&mut stream).await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(bench.get("/v1/accounts").await.status, 200);
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait_until_the_silent_ones_are_left() {
    let bench = impatient().await;
    let mut held = Vec::new();
    for _ in 0..700 {
        held.push(connected(&bench).await);
    }
    assert_eq!(timeout(SOON, bench.get("/v1/accounts")).await.expect("the bank is served").status, 200);
    drop(held);
}

/// A reader who takes nothing fills the kernel's buffers; the door must not keep the connection for as long as he likes.
#[tokio::test]
async fn a_reader_who_takes_nothing_of_a_stream_loses_his_connection() {
    let bench = impatient().await;
    let account = bench.open("client").await;
    // Together more than the buffers of both ends hold.
    for number in 0..250 {
        let subject = format!("{number} {}", "x".repeat(40_000));
        bench.tell(0, account, None, EventBody::Alarm { code: AlarmCode::NodeSilent, subject }).await;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(bench.base.trim_start_matches("http://").parse().unwrap()).await.unwrap();
    let key = &bench.keys["read"];
    let request =
        format!("GET /v1/events/stream HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {key}\r\nLast-Event-ID: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    // He takes nothing more. Whoever writes into a connection that was given up is told so.
    let given_up = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, given_up).await.expect("the door gives the connection up");
    assert_eq!(bench.get("/v1/accounts").await.status, 200);
}
