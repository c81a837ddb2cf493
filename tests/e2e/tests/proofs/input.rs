//! What a bank's program may send by mistake: each refused by its place and code, without an event and without a coin moved.

use anyhow::ensure;
use custos_e2e::{Balance, ETHER, Refused, SHORT, World, text, until};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};

use crate::Clients;

const RECEIVER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

/// Everything that a request could change: the number of events, and the clients' balances.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    events: i64,
    balances: Vec<Balance>,
}

async fn traces(world: &World, clients: &Clients) -> anyhow::Result<Traces> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&world.database()).await?;
    let events = sqlx::query_scalar("SELECT COUNT(*) FROM events").fetch_one(&mut connection).await?;
    let mut balances = Vec::new();
    for account in [&clients.giver, &clients.receiver] {
        for asset in ["ETH", "TUSD"] {
            balances.push(world.bank.balance(account, asset).await?);
        }
    }
    Ok(Traces { events, balances })
}

fn with(body: &Value, field: &str, value: Value) -> Value {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    body
}

pub async fn what_is_malformed_is_refused_exactly_and_leaves_no_trace(
    world: &World,
    clients: &Clients,
) -> anyhow::Result<()> {
    let withdrawal = json!({ "asset": "ETH", "amount": "1", "to": RECEIVER, "fee_max": "0.01" });
    let transfer = json!({ "to_account": clients.receiver, "asset": "TUSD", "amount": "1" });
    let amounts = [
        (json!(1), "not-a-string"),
        (json!(1.5), "not-a-string"),
        (json!("-1"), "malformed-amount"),
        (json!("+1"), "malformed-amount"),
        (json!("1e3"), "malformed-amount"),
        (json!("1,5"), "malformed-amount"),
        (json!(" 1"), "malformed-amount"),
        (json!(""), "malformed-amount"),
        (json!("0.0000000000000000001"), "too-many-decimals"),
        (json!("340282366920938463464"), "overflow"),
        (json!("0"), "zero-amount"),
        (json!("0.000000000000000000"), "zero-amount"),
    ];
    let mut cases = Vec::new();
    for (amount, code) in amounts {
        cases.push(("withdrawals", with(&withdrawal, "amount", amount.clone()), "amount", code));
        cases.push(("transfers", with(&transfer, "amount", amount), "amount", code));
    }
    let checksum = RECEIVER.replace("5aAeb", "5aaeb");
    for (field, value, code) in [
        ("asset", json!("DOGE"), "unknown-asset"),
        ("asset", json!("eth"), "malformed-asset"),
        ("to", json!(checksum), "malformed-address"),
        ("to", json!(RECEIVER.to_lowercase()), "malformed-address"),
        ("to", json!(format!("0x{}", "0".repeat(40))), "zero-address"),
        ("fee_max", json!(0.01), "not-a-string"),
        ("memo", json!("rent"), "unknown-field"),
    ] {
        cases.push(("withdrawals", with(&withdrawal, field, value), field, code));
    }
    cases.push(("transfers", with(&transfer, "to_account", json!(clients.giver)), "to_account", "same-account"));

    world.caught_up().await?;
    let before = traces(world, clients).await?;
    for (what, body, field, code) in cases {
        let path = format!("/accounts/{}/{what}", clients.giver);
        let (status, problem) = world.bank.ask(Method::POST, &path, Some("malformed"), Some(&body)).await?;
        let told = (status, text(&problem, "/code")?, text(&problem, "/outcome")?);
        ensure!(told == (400, "invalid-request", "none"), "{body}: {status} {problem}");
        let place = (text(&problem, "/errors/0/pointer")?, text(&problem, "/errors/0/code")?);
        ensure!(place == (format!("/{field}").as_str(), code), "{body}: {problem}");
        let errors = problem.get("errors").and_then(Value::as_array).map(Vec::len);
        ensure!(errors == Some(1), "one thing is wrong with {body}: {problem}");
    }
    ensure!(traces(world, clients).await? == before, "nothing was told, nothing was moved");

    // A key that only malformed requests used is not spent. What is told now is this transfer alone, so nothing was on its way.
    let good = world.bank.transfer(&clients.giver, "malformed", &clients.receiver, "TUSD", "2").await?;
    world.bank.done(&good).await?;
    until("the transfer alone is told", SHORT, || async {
        let after = traces(world, clients).await?;
        // Its story, and what the receiver's shard posts.
        let events = i64::try_from(world.bank.story(&good).await?.len())? + 1;
        ensure!(after.events == before.events + events, "{before:?} {after:?} {events}");
        ensure!(after.balances == moved(&before.balances, 2 * ETHER), "{before:?} {after:?}");
        Ok(Some(()))
    })
    .await
}

/// The balances after so much of the token has gone from the giver to the receiver.
fn moved(balances: &[Balance], amount: u128) -> Vec<Balance> {
    let mut after = balances.to_vec();
    if let [_, from, _, to] = after.as_mut_slice() {
        from.available -= amount;
        to.available += amount;
    }
    after
}

pub async fn a_key_is_good_for_one_request(world: &World, clients: &Clients) -> anyhow::Result<()> {
    let path = format!("/accounts/{}/transfers", clients.giver);
    let body = |amount: u32| json!({ "to_account": clients.receiver, "asset": "TUSD", "amount": amount.to_string() });
    let start = traces(world, clients).await?;
    let (bodies, key) = ([1, 2, 3, 4, 1, 2].map(body), "contested");
    let race = join_all(bodies.iter().map(|body| world.bank.ask(Method::POST, &path, Some(key), Some(body)))).await;
    for answer in race {
        let (status, said) = answer?;
        let code = said.get("code").and_then(Value::as_str).unwrap_or_default();
        let known = matches!((status, code), (202, "") | (409, "request-in-progress") | (422, "key-reused"));
        ensure!(known, "{status} {said}");
    }
    let mut won = Vec::new();
    for (amount, body) in (1_u128..).zip(bodies.iter().take(4)) {
        match world.bank.post(&path, key, body).await? {
            Ok(id) => won.push((amount, id)),
            Err(Refused { status, code, body }) => {
                ensure!((status, code.as_str()) == (422, "key-reused"), "{status} {body}");
                ensure!(text(&body, "/outcome")? == "refused", "{body}");
            }
        }
    }
    let [(amount, id)] = won.as_slice() else { anyhow::bail!("one body wins: {won:?}") };
    world.bank.done(id).await?;
    let expected = moved(&start.balances, amount * ETHER);
    let before = until("the winner's amount is moved, once", SHORT, || async {
        let now = traces(world, clients).await?;
        ensure!(now.balances == expected, "{start:?} {now:?}");
        Ok(Some(now))
    })
    .await?;

    for (asked, body) in (1_u128..).zip(bodies.iter().take(4)) {
        let (status, said) = world.bank.ask(Method::POST, &path, Some(key), Some(body)).await?;
        if asked == *amount {
            ensure!(status == 202 && text(&said, "/id")? == id, "the same request is the same transfer: {status} {said}");
        } else {
            ensure!((status, text(&said, "/code")?) == (422, "key-reused"), "{status} {said}");
        }
    }
    let after = traces(world, clients).await?;
    ensure!(after == before, "repeats leave no trace: {before:?} {after:?}");
    Ok(())
}
