//! What gets in: once for its key, exactly as it was asked, and answered with what is known and nothing more.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
#[allow(dead_code, reason = "each test file uses a part of the bench")]
mod fixture;

use std::sync::mpsc;
use std::time::Duration;

use custos_domain::{Digest, EthAddress};
use custos_messages::Source;
use custos_messages::accounts::{AccountsInput, OpenAccount, RequestTransfer, Verdict};
use custos_messages::events::{Ending, EventBody, Refusal, Request};
use custos_messages::gateway::Outcome;
use custos_testkit as kit;
use fixture::{Bench, Setup, accepted, send};
use serde_json::{Value, json};

const TO: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

fn withdrawal(amount: &str) -> Value {
    json!({ "asset": "ETH", "amount": amount, "to": TO, "fee_max": "0.01" })
}

fn out() -> String {
    format!("/v1/accounts/{}/withdrawals", kit::account("client"))
}

#[tokio::test]
async fn every_request_reaches_the_inbox_exactly_as_it_was_asked() {
    let bench = Bench::start().await;
    let account = kit::account("client");
    let opened = bench.post("/v1/accounts", "\"client\"", &json!({ "key": "client" })).await;
    assert_eq!((opened.status.as_u16(), opened.header("location")), (201, Some(&*format!("/v1/accounts/{account}"))));
    assert_eq!(opened.header("custos-position"), Some("0;1"));
    assert_eq!((&opened.body["id"], &opened.body["outcome"]), (&json!(account.to_string()), &json!("accepted")));

    let address = format!("/v1/accounts/{account}/addresses");
    assert_eq!(bench.post(&address, "a1", &json!({ "chain": "eip155:31337" })).await.status, 202);
    let paid = bench.post(&out(), "w1", &withdrawal("0.25")).await;
    let saga = kit::saga("client", "withdrawal", "w1");
    assert_eq!((paid.status.as_u16(), paid.header("location")), (202, Some(&*format!("/v1/operations/{saga}"))));
    let body = json!({ "to_account": kit::account("other").to_string(), "asset": "TUSD", "amount": "12.5" });
    assert_eq!(bench.post(&format!("/v1/accounts/{account}/transfers"), "t1", &body).await.status, 202);
    let intent = kit::intent(&saga, "ETH", kit::ether("0.25"), kit::address("to"));
    let decision = kit::decision(saga, &intent, "anna", Verdict::Approve);
    let body = json!({
        "officer": "anna", "verdict": "approve", "digest": intent.digest().to_string(),
        "signature": decision.signature.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    });
    assert_eq!(bench.post(&format!("/v1/approvals/{saga}"), "d1", &body).await.status, 202);

    let heard = bench.heard.lock().unwrap().clone();
    let open = OpenAccount { tenant: kit::tenant(), account, key: kit::key("client") };
    assert_eq!(heard[0], AccountsInput::OpenAccount(open));
    assert!(matches!(&heard[1], AccountsInput::RequestAddress(asked) if asked.chain == kit::chain()));
    let AccountsInput::RequestWithdrawal(asked) = &heard[2] else { panic!("{heard:?}") };
    let to = EthAddress::parse_checksummed(TO).unwrap();
    assert_eq!((asked.account, &asked.key, &asked.asset), (account, &kit::key("w1"), &kit::asset("ETH")));
    assert_eq!((asked.amount, asked.to, asked.fee_max), (kit::ether("0.25"), to, kit::ether("0.01")));
    let AccountsInput::RequestTransfer(RequestTransfer { to, amount, .. }) = &heard[3] else { panic!("{heard:?}") };
    assert_eq!((*to, *amount), (kit::account("other"), kit::tusd("12.5")));
    assert_eq!(heard[4], AccountsInput::Decide(decision));
}

#[tokio::test]
async fn a_repeat_carries_the_same_fingerprint_however_it_is_spelled_and_another_body_another() {
    let bench = Bench::start().await;
    for (key, body) in [("k", withdrawal("1")), ("\"k\"", withdrawal("1.000")), ("k", withdrawal("01"))] {
        assert_eq!(bench.post(&out(), key, &body).await.status, 202);
    }
    assert_eq!(bench.post(&out(), "k", &withdrawal("2")).await.status, 202);
    let other = json!({ "asset": "ETH", "amount": "1", "to": TO, "fee_max": "0.02" });
    assert_eq!(bench.post(&out(), "k", &other).await.status, 202);
    let prints: Vec<Digest> = bench
        .heard
        .lock()
        .unwrap()
        .iter()
        .map(|input| match input {
            AccountsInput::RequestWithdrawal(asked) => asked.fingerprint,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((prints[0], prints[0]), (prints[1], prints[2]), "one request in three spellings");
    assert!(prints[3] != prints[0] && prints[4] != prints[0] && prints[3] != prints[4]);
}

#[tokio::test]
async fn a_no_of_accounts_is_a_problem_with_its_own_code() {
    let refusals = [
        (Some(Refusal::InsufficientFunds), 422, "insufficient-funds"),
        (Some(Refusal::UnknownAccount), 404, "unknown-account"),
        (Some(Refusal::FeeAbovePolicy), 422, "fee-above-policy"),
        (Some(Refusal::NothingToDecide), 409, "nothing-to-decide"),
        (Some(Refusal::BadDecision), 422, "bad-decision"),
        (Some(Refusal::NoPolicy), 409, "no-policy"),
        (None, 422, "key-reused"),
    ];
    let mut answers = refusals.clone().into_iter();
    let answering = move |_: &AccountsInput| {
        let (refusal, ..) = answers.next().unwrap();
        Some(refusal.map_or(Outcome::KeyReused, Outcome::Refused))
    };
    let bench = Bench::with(Setup { answering: Box::new(answering), ..Setup::default() }).await;
    for (_, status, code) in refusals {
        let answered = bench.post(&out(), "k", &withdrawal("1")).await;
        assert_eq!((answered.status.as_u16(), answered.code()), (status, code));
        assert_eq!((&answered.body["outcome"], &answered.body["retryable"]), (&json!("refused"), &json!(false)));
        assert_eq!(answered.body["type"], json!(format!("/problems/{code}")));
    }
}

#[tokio::test]
async fn a_second_request_with_a_key_that_is_being_accepted_waits_for_nobody_and_is_told_so() {
    let (reached, reaching) = mpsc::channel();
    let (go, going) = mpsc::channel::<()>();
    let answering = move |input: &AccountsInput| {
        // Nobody listens for the last one any more.
        let _ = reached.send(());
        going.recv().unwrap();
        Some(accepted(input))
    };
    let bench = Bench::with(Setup { answering: Box::new(answering), ..Setup::default() }).await;
    let first = tokio::spawn(send(bench.posting(&out(), "k", &withdrawal("1"))));
    tokio::task::spawn_blocking(move || reaching.recv().unwrap()).await.unwrap();
    let second = bench.post(&out(), "\"k\"", &withdrawal("1")).await;
    assert_eq!((second.status.as_u16(), second.code()), (409, "request-in-progress"));
    assert_eq!((&second.body["retryable"], second.header("retry-after")), (&json!(true), Some("1")));
    assert_eq!(bench.posted(), 1, "the second did not reach the inbox");
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().status, 202);
    go.send(()).unwrap();
    assert_eq!(bench.post(&out(), "k", &withdrawal("1")).await.status, 202, "afterwards a repeat is answered as before");
}

#[tokio::test]
async fn without_an_answer_in_time_the_outcome_is_unknown_and_the_operation_is_named() {
    let setup = Setup { answering: Box::new(|_| None), reply_wait: Duration::from_millis(20), ..Setup::default() };
    let bench = Bench::with(setup).await;
    let answered = bench.post(&out(), "k", &withdrawal("1")).await;
    let saga = kit::saga("client", "withdrawal", "k");
    assert_eq!((answered.status.as_u16(), &answered.body["outcome"]), (202, &json!("unknown")));
    assert_eq!((&answered.body["id"], &answered.body["retryable"]), (&json!(saga.to_string()), &json!(true)));
    assert!(answered.header("custos-position").is_none());
    assert_eq!(bench.posted(), 1);
}

#[tokio::test]
async fn an_answer_that_accounts_did_not_seal_is_no_answer() {
    for forger in [Source::Treasury, Source::Compliance] {
        let setup = Setup { answers_as: forger, reply_wait: Duration::from_millis(300), ..Setup::default() };
        let bench = Bench::with(setup).await;
        let answered = bench.post(&out(), "k", &withdrawal("1")).await;
        assert_eq!(answered.body["outcome"], json!("unknown"), "{forger:?}");
    }
}

#[tokio::test]
async fn whoever_prefers_to_wait_is_answered_when_the_operation_is_done() {
    let bench = Bench::start().await;
    let account = bench.open("client").await;
    let saga = kit::saga("client", "withdrawal", "k");
    let request = Request::Withdrawal {
        key: kit::key("k"),
        asset: kit::asset("ETH"),
        amount: kit::ether("1"),
        to: kit::address("to"),
        fee_max: kit::ether("0.01"),
        fee_asset: kit::asset("ETH"),
        intent: custos_domain::IntentId::of_saga(&saga),
    };
    bench.tell(0, account, Some(saga), EventBody::Started(request)).await;
    let waiting = tokio::spawn(send(bench.posting(&out(), "k", &withdrawal("1")).header("Prefer", "wait=20")));
    let refused = Ending::Refused(Refusal::Screening { codes: vec!["sanctioned-address".to_owned()] });
    bench.tell(0, account, Some(saga), EventBody::Ended(refused)).await;
    let answered = waiting.await.unwrap();
    assert_eq!((answered.status.as_u16(), answered.header("preference-applied")), (200, Some("wait=20")));
    let operation = &answered.body["operation"];
    assert_eq!((&operation["done"], &operation["error"]["code"]), (&json!(true), &json!("screening")));
    assert_eq!(operation["error"]["because"], json!(["sanctioned-address"]));

    let slow = bench.posting(&out(), "other", &withdrawal("1")).header("Prefer", "wait=1");
    let unfinished = send(slow).await;
    assert_eq!((unfinished.status.as_u16(), &unfinished.body["outcome"]), (202, &json!("accepted")));
}

#[tokio::test]
async fn a_gateway_stops_when_it_is_told_to() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/v1/accounts").await.status, 200);
    let waiting = send(bench.posting(&out(), "k", &withdrawal("1")).header("Prefer", "wait=30"));
    let stopping = async {
        while bench.posted() == 0 {
            tokio::task::yield_now().await;
        }
        bench.stop().await
    };
    let (answered, stopped) = tokio::join!(waiting, stopping);
    assert!(stopped.is_ok());
    assert_eq!((answered.status.as_u16(), &answered.body["outcome"]), (202, &json!("accepted")), "its request is finished");
}
