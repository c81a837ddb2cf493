//! What an auditor relies on: nothing malformed leaves a trace, one node's word is no deposit, books that differ from the chain by
//! the smallest unit are seen, a read model that somebody wrote into is seen and made anew, and a log that is not the one which
//! was noted is found.

mod audit;
mod books;
mod copies;
mod input;
mod nodes;
mod rewritten;

use anyhow::Context;
use custos_e2e::{Balance, CONFIRMATIONS, ETHER, Part, Withdrawal, World};

/// What the two clients begin with, of ether and of the token.
const FUNDS: u128 = 20 * ETHER;

/// Two clients with funds.
struct Clients {
    giver: String,
    receiver: String,
}

async fn clients(world: &World) -> anyhow::Result<Clients> {
    let (giver, receiver) = tokio::try_join!(world.client("giver"), world.client("receiver"))?;
    for (_, address) in [&giver, &receiver] {
        world.chain.pay(*address, FUNDS).await?;
        world.chain.pay_token(world.token, *address, FUNDS).await?;
    }
    world.chain.mine(CONFIRMATIONS).await?;
    for (account, _) in [&giver, &receiver] {
        for asset in ["ETH", "TUSD"] {
            world.bank.has(account, asset, Balance::available(FUNDS)).await?;
        }
    }
    Ok(Clients { giver: giver.0, receiver: receiver.0 })
}

/// A withdrawal from its request to its finality.
async fn pay(world: &World, account: &str, key: &str) -> anyhow::Result<()> {
    let wish = Withdrawal { key, asset: "ETH", amount: "1", to: World::stranger(key), fee_max: "0.01" };
    let id = world.bank.withdraw(account, &wish).await?.map_err(|refused| anyhow::anyhow!("{}", refused.body))?;
    world.mine_until_done(&[&id]).await?;
    anyhow::ensure!(world.chain.balance(wish.to).await? == ETHER, "`{key}` is paid once");
    Ok(())
}

async fn proofs(world: &mut World) -> anyhow::Result<()> {
    let clients = clients(world).await?;
    pay(world, &clients.giver, "the first payment").await?;
    input::what_is_malformed_is_refused_exactly_and_leaves_no_trace(world, &clients).await.context("malformed")?;
    input::a_key_is_good_for_one_request(world, &clients).await.context("one key")?;
    world.books_match().await?;
    nodes::while_two_nodes_disagree_nothing_is_credited(world).await.context("two nodes")?;
    books::one_wei_that_was_moved_unseen_is_a_difference(world).await.context("one wei")?;
    books::a_row_that_was_altered_is_named_and_made_anew_from_the_log(world, &clients).await.context("altered rows")?;
    let earlier = audit::earlier(world).await.context("an audit beside the worker")?;
    pay(world, &clients.giver, "the second payment").await?;
    world.books_match().await?;
    world.stop().await?;
    audit::a_log_that_is_not_the_one_which_was_noted_is_found(world, &earlier).await.context("audit")?;
    copies::what_was_done_to_a_copy_is_found_and_named(world, &earlier).await.context("tampered copies")
}

/// The world still stands while this fails, so that what its processes said is kept.
async fn holds(mut world: World) {
    if let Err(error) = proofs(&mut world).await {
        panic!("{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_altered_or_lost_goes_unseen_on_the_embedded_log() {
    holds(World::embedded_with_two_nodes().await.unwrap_or_else(|error| panic!("{error:?}"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_altered_or_lost_goes_unseen_on_kafka_and_postgresql() {
    let world = World::on_servers_with_two_nodes("proofs on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some(mut world) = world {
        // One account behind two doors: what is refused, and which of two wishes under one key wins, does not depend on the door.
        let second = world.start_beside("second-gateway", &[Part::Gateway]).await;
        second.unwrap_or_else(|error| panic!("{error:?}"));
        holds(world).await;
    }
}
