//! Two nodes of one chain that disagree, about which blocks there are or about what is in them: no credit and a call for a human; and
//! one credit once they agree about the blocks.

use anyhow::{Context, ensure};
use custos_e2e::{Balance, Branch, CONFIRMATIONS, ETHER, SHORT, World, text, until};
use serde_json::Value;

/// Which node leaves the chain, what it shows instead, and whether the deposit is seen meanwhile: the first node's branch is shown.
const LIES: [(usize, Branch, bool); 3] = [(1, Branch::Empty, true), (1, Branch::Elsewhere, true), (0, Branch::Empty, false)];

pub async fn while_two_nodes_disagree_nothing_is_credited(world: &World) -> anyhow::Result<()> {
    for (node, branch, seen) in LIES {
        disagree(world, node, branch, seen).await.with_context(|| format!("node {node} shows a branch: {branch:?}"))?;
    }
    for node in [1, 0] {
        conceal(world, node).await.with_context(|| format!("node {node} conceals what is in the blocks"))?;
    }
    world.books_match().await
}

/// Both nodes have the same blocks, and one of them says that there is nothing in them.
async fn conceal(world: &World, node: usize) -> anyhow::Result<()> {
    let door = world.doors.get(node).context("no such node")?;
    let (account, address) = world.client(&format!("concealed-{node}")).await?;
    let pending = Balance { pending: ETHER, ..Balance::default() };
    let block = world.chain.head().await? + 1;
    door.leave(block, Branch::Concealed);
    world.chain.pay(address, ETHER).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    until("what one node conceals is alarmed", SHORT, || async { Ok((alarms(world, block).await? == 1).then_some(())) })
        .await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.caught_up().await?;
    ensure!(world.bank.balance(&account, "ETH").await? == pending, "nothing is credited that one node alone says");
    // It is honest again about later blocks, which takes nothing back of what it said.
    door.return_to_the_chain();
    let (_, other) = world.client(&format!("open-{node}")).await?;
    world.chain.pay(other, ETHER).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.caught_up().await?;
    ensure!(world.bank.balance(&account, "ETH").await? == pending, "what was concealed stays for a human");
    ensure!(alarms(world, block).await? == 1, "alarmed once");
    Ok(())
}

async fn disagree(world: &World, node: usize, branch: Branch, seen: bool) -> anyhow::Result<()> {
    let door = world.doors.get(node).context("no such node")?;
    let (account, address) = world.client(&format!("in-doubt-{node}-{branch:?}")).await?;
    let fork = world.chain.head().await? + 1;
    let expected = if seen { Balance { pending: ETHER, ..Balance::default() } } else { Balance::default() };

    door.leave(fork, branch);
    world.chain.pay(address, ETHER).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    until("the nodes' disagreement is alarmed", SHORT, || async { Ok((alarms(world, fork).await? == 1).then_some(())) })
        .await?;
    world.bank.has(&account, "ETH", expected).await?;
    // However deep: both branches grow, and one call is enough.
    world.chain.mine(CONFIRMATIONS).await?;
    world.caught_up().await?;
    ensure!(world.bank.balance(&account, "ETH").await? == expected, "nothing is credited while one node alone says so");
    ensure!(world.bank.deposits(&account).await?.len() == usize::from(seen), "what the first node shows is seen");
    ensure!(alarms(world, fork).await? == 1, "alarmed once");

    door.return_to_the_chain();
    world.bank.has(&account, "ETH", Balance::available(ETHER)).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.caught_up().await?;
    let balance = world.bank.balance(&account, "ETH").await?;
    ensure!(balance == Balance::available(ETHER), "credited once: {balance:?}");
    let deposits = world.bank.deposits(&account).await?;
    let [deposit] = deposits.as_slice() else { anyhow::bail!("one deposit is expected: {deposits:?}") };
    ensure!(text(deposit, "/status")? == "credited", "{deposit}");
    let story = world.bank.story(text(deposit, "/operation")?).await?;
    ensure!(story.iter().filter(|event| event.contains("deposit.credited")).count() == 1, "told once: {story:?}");
    ensure!(alarms(world, fork).await? == 1, "to agree again is no alarm");
    Ok(())
}

/// How often a human was called because the nodes went different ways at this height.
async fn alarms(world: &World, fork: u64) -> anyhow::Result<usize> {
    let books = world.bank.get("/reconciliation").await?;
    let alarms = books.get("alarms").and_then(Value::as_array).context("books without alarms")?;
    let subject = format!("{}/{fork}/", World::chain_name());
    let ours = alarms.iter().filter(|alarm| {
        text(alarm, "/code").is_ok_and(|code| code == "nodes-disagree")
            && text(alarm, "/subject").is_ok_and(|about| about.starts_with(&subject))
    });
    Ok(ours.count())
}
