//! What the bank reads: pages, positions, operations, approvals, events, and the books against a chain.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
#[allow(dead_code, reason = "each test file uses a part of the bench")]
mod fixture;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use custos_domain::{Amount, BlockHash, ChainId, Digest, EthAddress, IntentId};
use custos_gateway::{BooksError, Difference, reconcile};
use custos_messages::accounts::{BlockMark, MarkPath};
use custos_messages::events::{
    ClientBook, EntryReason, EventBody, HouseBook, JournalEntry, LedgerAccount, Leg, Request, Side, StepPhase,
};
use custos_runtime::ops::{ChainReader, Desk, Holding, serve_desk};
use custos_testkit as kit;
use fixture::{Bench, send};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn pages_follow_one_another_and_a_cursor_serves_its_own_list_only() {
    let bench = Bench::start().await;
    for name in ["a", "b", "c"] {
        bench.open(name).await;
    }
    let keys = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect()
    };
    let first = bench.get("/v1/accounts?limit=2").await;
    let cursor = first.body["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(keys(&first.body), ["a", "b"]);
    let last = bench.get(&format!("/v1/accounts?limit=2&cursor={cursor}")).await;
    assert_eq!((keys(&last.body), last.body.get("next_cursor")), (vec!["c".to_owned()], None));
    assert_eq!(
        keys(&bench.get("/v1/accounts?limit=100000").await.body).len(),
        3,
        "a limit beyond the largest is taken as it"
    );

    let tampered = format!("{}A", &cursor[..cursor.len() - 1]);
    for path in [
        format!("/v1/approvals?cursor={cursor}"),
        format!("/v1/events?cursor={cursor}"),
        format!("/v1/operations?cursor={cursor}"),
        format!("/v1/accounts?cursor={tampered}"),
        "/v1/accounts?cursor=1-0-1".to_owned(),
    ] {
        let answered = bench.get(&path).await;
        assert_eq!((answered.status.as_u16(), answered.code()), (400, "invalid-cursor"), "{path}");
    }
    let events = bench.get("/v1/events?limit=1").await.body["next_cursor"].as_str().unwrap().to_owned();
    let other = format!("/v1/events?account={}&cursor={events}", kit::account("a"));
    assert_eq!(bench.get(&other).await.code(), "invalid-cursor", "other filters, another list");
    for (query, pointer) in
        [("?limit=x", "query:limit"), ("?colour=red", "query:colour"), ("?limit=1&limit=2", "query:limit")]
    {
        let answered = bench.get(&format!("/v1/accounts{query}")).await;
        assert_eq!((answered.status.as_u16(), &answered.body["errors"][0]["pointer"]), (400, &json!(pointer)), "{query}");
    }
}

#[tokio::test]
async fn a_read_is_as_new_as_the_position_that_it_names_or_says_that_it_is_not() {
    let bench = Bench::start().await;
    let account = bench.open("client").await;
    let reading = |position: &'static str| {
        bench.request(Method::GET, &format!("/v1/accounts/{account}"), "read").header("Custos-Position", position)
    };
    assert_eq!(send(reading("0;1")).await.body["key"], json!("client"));
    let behind = send(reading("0;2")).await;
    assert_eq!((behind.status.as_u16(), behind.code()), (503, "read-model-behind"));
    assert_eq!((&behind.body["retryable"], &behind.body["outcome"]), (&json!(true), &json!("none")));
    assert_eq!(send(reading("soon")).await.body["errors"][0]["pointer"], json!("header:custos-position"));
    let later = tokio::spawn(send(reading("0;2")));
    bench.open("second").await;
    assert_eq!(later.await.unwrap().status, 200);
    assert_eq!(bench.get(&format!("/v1/accounts/{}", kit::account("none"))).await.code(), "unknown-account");
}

#[tokio::test]
async fn a_withdrawal_that_waits_for_officers_shows_what_they_sign() {
    let bench = Bench::start().await;
    let account = bench.open("client").await;
    let saga = kit::saga("client", "withdrawal", "k");
    let intent = kit::intent(&saga, "ETH", kit::ether("7.5"), kit::address("to"));
    let request = Request::Withdrawal {
        key: kit::key("k"),
        asset: kit::asset("ETH"),
        amount: kit::ether("7.5"),
        to: kit::address("to"),
        fee_max: kit::ether("0.01"),
        fee_asset: kit::asset("ETH"),
        intent: IntentId::of_saga(&saga),
    };
    bench.tell(0, account, Some(saga), EventBody::Started(request)).await;
    let moved = EventBody::Moved { step: "approve".to_owned(), phase: StepPhase::Asked };
    bench.tell(0, account, Some(saga), moved).await;
    let asked = EventBody::ApprovalAsked { intent: intent.canonical(), digest: intent.digest(), quorum: 2 };
    bench.tell(0, account, Some(saga), asked).await;

    let pending = bench.get("/v1/approvals").await;
    assert_eq!(pending.body["items"][0]["operation"], json!(saga.to_string()));
    assert_eq!(pending.body["items"][0]["request"]["money"]["amount"], json!("7.5"));
    let approval = bench.get(&format!("/v1/approvals/{saga}")).await.body;
    assert_eq!((&approval["pending"], &approval["quorum"]), (&json!(true), &json!(2)));
    assert_eq!(approval["digest"], json!(intent.digest().to_string()));
    let bytes: Vec<u8> = approval["intent"].as_str().unwrap().as_bytes().chunks(2).map(hex_byte).collect();
    assert_eq!((Digest::of(&bytes), bytes), (intent.digest(), intent.canonical()));
    assert!(approval["approve_bytes"].as_str().unwrap().ends_with(&format!("01{}", intent.digest())));

    let operation = bench.get(&format!("/v1/operations/{saga}")).await.body;
    assert_eq!((&operation["done"], &operation["metadata"]["step"]), (&json!(false), &json!("approve")));
    assert_eq!(operation["metadata"]["steps"][0]["phase"], json!("asked"));
    let whole = bench.get(&format!("/v1/withdrawals/{saga}")).await.body;
    assert_eq!(whole["approval"]["digest"], approval["digest"]);
    assert_eq!(bench.get(&format!("/v1/withdrawals?account={account}")).await.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(bench.get("/v1/operations?kind=transfer").await.body["items"], json!([]));
    let story = bench.get(&format!("/v1/operations/{saga}/story")).await.body;
    assert_eq!(story["items"].as_array().unwrap().len(), 3);
    let unknown = kit::saga("client", "withdrawal", "none");
    assert_eq!(bench.get(&format!("/v1/operations/{unknown}")).await.code(), "unknown-operation");
    assert_eq!(bench.get("/v1/policy").await.body["assets"][0]["approval_from"]["amount"], json!("5"));
}

fn hex_byte(digits: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
}

/// The next event of a stream: its id and its data.
async fn next_event(stream: &mut (impl futures::Stream<Item = String> + Unpin), text: &mut String) -> (u64, Value) {
    loop {
        if let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                return (id.parse().unwrap(), serde_json::from_str(data).unwrap());
            }
            continue;
        }
        text.push_str(&stream.next().await.expect("the stream goes on"));
    }
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event_that_was_read() {
    let bench = Bench::start().await;
    for name in ["a", "b", "c"] {
        bench.open(name).await;
    }
    let open = async |query: &str, last: Option<&str>| {
        let request = bench.request(Method::GET, &format!("/v1/events/stream{query}"), "read");
        let request = last.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Box::pin(response.bytes_stream().map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()))
    };
    let (mut all, mut text) = (open("", Some("0")).await, String::new());
    let (first, data) = next_event(&mut all, &mut text).await;
    assert_eq!((&data["data"]["key"], &data["type"]), (&json!("a"), &json!("custos.account.opened.v1")));
    drop(all);
    let (mut resumed, mut text) = (open("", Some(&first.to_string())).await, String::new());
    for expected in ["b", "c"] {
        assert_eq!(next_event(&mut resumed, &mut text).await.1["data"]["key"], json!(expected));
    }
    bench.open("d").await;
    assert_eq!(next_event(&mut resumed, &mut text).await.1["data"]["key"], json!("d"), "and goes on with what comes");
    let (mut one, mut text) = (open(&format!("?account={}", kit::account("c")), Some("0")).await, String::new());
    assert_eq!(next_event(&mut one, &mut text).await.1["data"]["key"], json!("c"), "of one account");
    let refused = bench.request(Method::GET, "/v1/events/stream", "read").header("Last-Event-ID", "x");
    assert_eq!(send(refused).await.status, 400);
}

/// A chain that holds what it is told.
#[derive(Default)]
struct Chain(Mutex<BTreeMap<(EthAddress, Option<EthAddress>), Amount>>);

#[tonic::async_trait]
impl ChainReader for Chain {
    async fn balances(&self, chain: &ChainId, block: &BlockHash, holdings: &[Holding]) -> Result<Vec<Amount>, String> {
        if (chain, *block) != (&kit::chain(), kit::block("main", 7).hash) {
            return Err("the block is not on the canonical chain".to_owned());
        }
        let held = self.0.lock().unwrap();
        let of = |asked: &Holding| held.get(&(asked.address, asked.contract)).copied().unwrap_or(Amount::ZERO);
        Ok(holdings.iter().map(of).collect())
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Money that arrived in block 5, and marks up to block 7 of both shards and paths.
async fn books_of_one_deposit(bench: &Bench) {
    let account = bench.open("client").await;
    let address = EventBody::AddressIssued {
        chain: kit::chain(),
        address: kit::address("deposit"),
        wallet: kit::wallet(),
        path: "m/44'/60'/0'/0/0".to_owned(),
        watched_from: kit::block("main", 1),
    };
    bench.tell(0, account, None, address).await;
    let leg = |ledger, side| Leg { ledger, asset: kit::asset("ETH"), amount: kit::ether("2.5"), side };
    let legs = vec![
        leg(LedgerAccount::House { partition: 0, book: HouseBook::Custody }, Side::Debit),
        leg(LedgerAccount::Client { account, book: ClientBook::Pending }, Side::Credit),
    ];
    let block = Some((kit::chain(), kit::block("main", 5)));
    bench.tell(0, account, None, EventBody::Posted(JournalEntry { reason: EntryReason::DepositSeen, block, legs })).await;
    for partition in [0, 1] {
        for path in [MarkPath::Deposits, MarkPath::Payments] {
            let mark = BlockMark { chain: kit::chain(), path, block: kit::block("main", 7), partition };
            let house = custos_domain::AccountId::house(&kit::tenant(), partition);
            bench.tell(partition, house, None, EventBody::Marked(mark)).await;
        }
    }
}

#[tokio::test]
async fn the_books_are_compared_with_the_chain_at_the_block_up_to_which_they_are_complete() {
    let (chain, address, stop) = (Arc::new(Chain::default()), free_port(), CancellationToken::new());
    let reader: Arc<dyn ChainReader> = Arc::<Chain>::clone(&chain);
    let desk = tokio::spawn(serve_desk(Desk::default(), Some(reader), address, stop.clone()));
    let bench = Bench::with(fixture::Setup { blockchain: address.to_string(), ..fixture::Setup::default() }).await;
    let before = bench.get("/v1/reconciliation").await.body;
    assert_eq!((&before["matches"], before["assets"][0].get("block")), (&json!(false), None), "no block is complete yet");

    books_of_one_deposit(&bench).await;
    chain.0.lock().unwrap().insert((kit::address("deposit"), None), kit::ether("2"));
    chain.0.lock().unwrap().insert((kit::address("hot"), None), kit::ether("0.5"));
    let even = bench.get("/v1/reconciliation").await.body;
    let line = &even["assets"][0];
    assert_eq!(
        (&even["matches"], &line["asset"], &line["difference"]),
        (&json!(true), &json!("ETH"), &json!("0")),
        "{even}"
    );
    assert_eq!((&line["custody_at_block"], &line["on_chain"]), (&json!("2.5"), &json!("2.5")));
    assert_eq!((&line["pending"], &line["claims"], &line["block"]["number"]), (&json!("2.5"), &json!("2.5"), &json!(7)));

    chain.0.lock().unwrap().insert((kit::address("hot"), None), kit::ether("0.4"));
    let less = bench.get("/v1/reconciliation").await.body;
    assert_eq!((&less["matches"], &less["assets"][0]["difference"]), (&json!(false), &json!("-0.1")));
    let books = reconcile(&bench.model, &address.to_string(), &kit::policy()).await.unwrap();
    assert_eq!(books.assets[0].difference, Some(Difference::BooksHaveMore(kit::ether("0.1"))));

    stop.cancel();
    desk.await.unwrap().unwrap();
    assert_eq!(bench.get("/v1/reconciliation").await.code(), "blockchain-unavailable");
    let asked = reconcile(&bench.model, &address.to_string(), &kit::policy()).await;
    assert!(matches!(asked, Err(BooksError::Ask { .. })));
}
