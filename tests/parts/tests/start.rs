//! Every part starts, serves on the loopback interface, and is gone when dropped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use custos_parts::{require, start_anvil, start_cluster, start_kafka, start_postgres};

fn refuses(address: &str) -> bool {
    TcpStream::connect(address).is_err()
}

#[test]
fn kafka_starts_survives_a_kill_and_goes() {
    let Some(mut kafka) = require("kafka", start_kafka()) else { return };
    let address = kafka.bootstrap().to_owned();
    TcpStream::connect(&address).expect("a broker accepts");
    if kafka.kind() == "external" {
        return;
    }
    kafka.kill().expect("kill");
    kafka.start_again().expect("start again");
    TcpStream::connect(&address).expect("a broker accepts again, at the same address");
    drop(kafka);
    assert!(refuses(&address), "the broker is still there");
}

#[test]
fn three_brokers_start_and_one_that_was_killed_comes_back() {
    let Some(mut cluster) = require("three brokers", start_cluster(&[vec![], vec![], vec![]])) else { return };
    let addresses: Vec<String> = cluster.bootstrap().split(',').map(str::to_owned).collect();
    assert_eq!((addresses.len(), cluster.count()), (3, 3));
    assert!(!addresses.iter().any(|address| refuses(address)), "a broker does not accept");
    cluster.kill(1).expect("kill");
    assert!(refuses(&addresses[1]) && !refuses(&addresses[0]), "one is gone, and only one");
    cluster.start_again(1).expect("start again");
    assert!(!refuses(&addresses[1]), "it is not back at its address");
    drop(cluster);
    assert!(addresses.iter().all(|address| refuses(address)), "a broker is still there");
}

#[test]
fn postgres_starts_and_goes() {
    let Some(postgres) = require("postgres", start_postgres()) else { return };
    if postgres.kind() == "external" {
        return;
    }
    let address = postgres.url().split(['@', '/']).nth(3).expect("host and port").to_owned();
    TcpStream::connect(&address).expect("a server accepts");
    drop(postgres);
    assert!(refuses(&address), "the server is still there");
}

#[test]
fn anvil_starts_answers_and_goes() {
    let Some(anvil) = require("anvil", start_anvil(&["--chain-id", "4242"])) else { return };
    let address = anvil.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("a node accepts");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("\"0x1092\""), "the node's chain is another: {answer}");
    drop(anvil);
    assert!(refuses(&address), "the node is still there");
}
