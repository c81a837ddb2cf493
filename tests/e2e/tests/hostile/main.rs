//! Somebody inside writes into the log: copies, garbage, orders of their own, with every secret that the installation keeps on disk. And
//! a node that takes a payment and says nothing. Whatever they do, each payment is made once, to whom it was meant for.

mod copies;
mod fixed;
mod garbage;
mod signer;

use anyhow::ensure;
use custos_e2e::{Balance, CONFIRMATIONS, ETHER, LONG, Withdrawal, World, until};

use fixed::{Fixed, Picture};

/// The payment arrives once, although the node never says that it has taken it.
async fn accepted_in_silence_is_paid_once(world: &World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("paid in silence");
    let mined = world.chain.mined_of(world.hot).await?;
    world.chain.accept_and_time_out(1);
    let wish = Withdrawal { key: "in silence", asset: "ETH", amount: "1", to, fee_max: "0.01" };
    let id = world.bank.withdraw(account, &wish).await?.map_err(|refused| anyhow::anyhow!("{}", refused.body))?;
    until("it is sent again after the silence", LONG, || async {
        let sends = world.chain.sends(world.hot)?.into_iter().filter(|(_, tx)| pays(tx, to)).count();
        Ok((sends > 1).then_some(()))
    })
    .await?;
    world.mine_until_done(&[&id]).await?;
    ensure!(world.chain.balance(to).await? == ETHER, "one payment");
    ensure!(world.chain.mined_of(world.hot).await? == mined + 1, "in one transaction");
    world.books_match().await
}

fn pays(tx: &alloy::consensus::TxEnvelope, to: alloy::primitives::Address) -> bool {
    alloy::consensus::Transaction::to(tx) == Some(to)
}

/// What is said once, and then what somebody inside does to the same world.
async fn plain_and_attacked(world: &mut World) -> anyhow::Result<Picture> {
    let fixed = Fixed::begin(world, "fixed").await?;
    fixed.finish(world).await?;
    let picture = fixed.picture(world).await?;
    let (account, address) = world.client("victim").await?;
    world.chain.pay(address, 10 * ETHER).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", Balance::available(10 * ETHER)).await?;
    accepted_in_silence_is_paid_once(world, &account).await?;
    signer::a_second_transaction_of_an_intent_is_refused(world, &account).await?;
    signer::two_signers_race_and_one_signs(world).await?;
    garbage::garbage_is_put_aside_and_holds_nothing_up(world).await?;
    let said = world.audit_healthy().await?;
    ensure!(said.contains("are no sealed events and are put aside") && said.ends_with("audit: proven\n"), "{said}");
    eprintln!("{said}");
    world.stop().await?;
    Ok(picture)
}

/// Fails while the world still stands, so that what its processes said is kept.
async fn attacked(mut world: World) -> Picture {
    plain_and_attacked(&mut world).await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// As [`attacked`], for everything said twice.
async fn doubled(mut world: World, plain: &Picture) {
    if let Err(error) = copies::everything_said_twice_changes_nothing(&mut world, plain).await {
        panic!("{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_into_the_embedded_log_pays_nobody_and_stops_nothing() {
    let plain = attacked(World::embedded().await.unwrap_or_else(|error| panic!("{error:?}"))).await;
    doubled(World::embedded().await.unwrap_or_else(|error| panic!("{error:?}")), &plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_into_kafka_pays_nobody_and_stops_nothing() {
    let world = World::on_servers("hostile on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    let Some(world) = world else { return };
    let plain = attacked(world).await;
    let other = World::on_servers("copies on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some(other) = other {
        doubled(other, &plain).await;
    }
}
