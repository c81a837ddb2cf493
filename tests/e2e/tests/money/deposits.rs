//! Deposits: credited once, at finality and not before; what a reorganisation takes back, and what it gives again.

use anyhow::{Context, ensure};
use custos_e2e::{Balance, CONFIRMATIONS, ETHER, SHORT, World, text, until};
use serde_json::Value;

/// The only deposit of the account.
async fn only(world: &World, account: &str) -> anyhow::Result<Value> {
    let mut deposits = world.bank.deposits(account).await?;
    ensure!(deposits.len() == 1, "one deposit is expected: {deposits:?}");
    deposits.pop().context("a deposit")
}

async fn has_status(world: &World, account: &str, status: &str) -> anyhow::Result<Value> {
    until(&format!("the deposit of {account} is {status}"), SHORT, || async {
        let deposit = only(world, account).await?;
        let told = text(&deposit, "/status")?;
        ensure!(told == status, "it is {told}");
        Ok(Some(deposit))
    })
    .await
}

fn count(story: &[String], kind: &str) -> usize {
    story.iter().filter(|event| event.contains(kind)).count()
}

fn pending(amount: u128) -> Balance {
    Balance { pending: amount, ..Balance::default() }
}

pub async fn credited_once_at_finality_and_not_before(world: &World) -> anyhow::Result<()> {
    let (ether, tokens, inside) =
        tokio::try_join!(world.client("in-ether"), world.client("in-tokens"), world.client("in-from-a-contract"))?;
    let forwarder = world.chain.in_process().map(|chain| chain.deploy_forwarder(inside.1)).transpose()?;
    world.chain.pay(ether.1, 3 * ETHER).await?;
    world.chain.pay_token(world.token, tokens.1, 250 * ETHER).await?;
    if let Some(forwarder) = forwarder {
        world.chain.pay_contract(forwarder, ETHER).await?;
    }
    let mut expected = vec![(&ether.0, "ETH", 3 * ETHER), (&tokens.0, "TUSD", 250 * ETHER)];
    if forwarder.is_some() {
        expected.push((&inside.0, "ETH", ETHER));
    }
    for depth in 1..CONFIRMATIONS {
        world.chain.mine(1).await?;
        world.caught_up().await?;
        for (account, asset, amount) in &expected {
            let balance = world.bank.balance(account, asset).await?;
            ensure!(balance == pending(*amount), "{depth} deep, {account} has {balance:?} {asset}");
        }
    }
    world.chain.mine(1).await?;
    for (account, asset, amount) in &expected {
        world.bank.has(account, asset, Balance::available(*amount)).await?;
    }
    world.chain.mine(CONFIRMATIONS).await?;
    world.caught_up().await?;
    for (account, asset, amount) in &expected {
        let balance = world.bank.balance(account, asset).await?;
        ensure!(balance == Balance::available(*amount), "credited once: {balance:?} {asset}");
        let deposit = has_status(world, account, "credited").await?;
        let story = world.bank.story(text(&deposit, "/operation")?).await?;
        ensure!(count(&story, "deposit.credited") == 1, "told once: {story:?}");
    }
    Ok(())
}

pub async fn a_reorganisation_before_credit_takes_back_silently(world: &World) -> anyhow::Result<()> {
    let (account, address) = world.client("in-taken-back-early").await?;
    let tx = world.chain.pay(address, 2 * ETHER).await?;
    world.chain.mine(1).await?;
    world.bank.has(&account, "ETH", pending(2 * ETHER)).await?;
    let first = text(&only(world, &account).await?, "/operation")?.to_owned();
    world.chain.reorganise(1).await?;
    world.bank.has(&account, "ETH", Balance::default()).await?;
    has_status(world, &account, "unseen").await?;
    let story = world.bank.story(&first).await?;
    ensure!(count(&story, "deposit.credited") + count(&story, "deposit.reversed") == 0, "silently: {story:?}");

    world.chain.send_again(tx).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", Balance::available(2 * ETHER)).await?;
    let again = has_status(world, &account, "credited").await?;
    ensure!(text(&again, "/operation")? != first, "each inclusion in a block is an operation of its own");
    Ok(())
}

pub async fn a_reorganisation_after_credit_is_a_visible_reversal_and_mined_again_a_new_credit(
    world: &World,
) -> anyhow::Result<()> {
    let (account, address) = world.client("in-taken-back-late").await?;
    let tx = world.chain.pay(address, 4 * ETHER).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", Balance::available(4 * ETHER)).await?;
    let first = text(&has_status(world, &account, "credited").await?, "/operation")?.to_owned();
    world.chain.reorganise(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", Balance::default()).await?;
    has_status(world, &account, "reversed").await?;
    let story = world.bank.story(&first).await?;
    ensure!(count(&story, "deposit.credited") == 1, "the credit stays told: {story:?}");
    ensure!(count(&story, "deposit.reversed") == 1, "and so is its reversal: {story:?}");
    until("an alarm says that the chain went back behind what was final", SHORT, || async {
        let books = world.bank.get("/reconciliation").await?;
        let alarms = books.get("alarms").and_then(Value::as_array).context("books without alarms")?;
        Ok(alarms.iter().any(|alarm| alarm.get("code").and_then(Value::as_str) == Some("deep-reorg")).then_some(()))
    })
    .await?;

    world.chain.send_again(tx).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", Balance::available(4 * ETHER)).await?;
    let again = text(&has_status(world, &account, "credited").await?, "/operation")?.to_owned();
    ensure!(again != first, "a new credit is an operation of its own");
    let story = world.bank.story(&again).await?;
    ensure!(count(&story, "deposit.credited") == 1, "told once: {story:?}");
    Ok(())
}

pub async fn a_power_cut_changes_nothing_and_a_deposit_goes_on_where_it_stood(world: &mut World) -> anyhow::Result<()> {
    let (account, address) = world.client("in-the-dark").await?;
    world.chain.pay(address, ETHER).await?;
    world.chain.mine(CONFIRMATIONS - 1).await?;
    world.bank.has(&account, "ETH", pending(ETHER)).await?;
    world.power_cut().await?;
    world.caught_up().await?;
    ensure!(world.bank.balance(&account, "ETH").await? == pending(ETHER), "a power cut is no confirmation");
    world.chain.mine(1).await?;
    world.bank.has(&account, "ETH", Balance::available(ETHER)).await?;
    let deposit = has_status(world, &account, "credited").await?;
    let story = world.bank.story(text(&deposit, "/operation")?).await?;
    ensure!(count(&story, "deposit.credited") == 1, "told once: {story:?}");
    Ok(())
}
