//! The relay itself: what is cut is cut, and what was held arrives.

use std::net::Ipv4Addr;
use std::time::Duration;

use custos_e2e::{Link, Relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

#[tokio::test]
async fn bytes_pass_wait_while_the_network_is_silent_and_end_when_it_breaks() {
    let mut relay = Relay::bind().await.unwrap();
    relay.carry_to(echo().await);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).await.unwrap();
    let mut byte = [0];
    client.write_all(b"a").await.unwrap();
    client.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"a");
    relay.set(Link::Silent);
    client.write_all(b"b").await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(200), client.read_exact(&mut byte)).await;
    assert!(nothing.is_err(), "nothing arrives");
    relay.set(Link::Up);
    client.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"b");
    relay.set(Link::Broken);
    assert!(client.read_exact(&mut byte).await.is_err());
    let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).await.unwrap();
    assert!(refused.read_exact(&mut byte).await.is_err());
}
