//! Money comes in and goes out: the whole product on one machine, and the same on real servers with every part a process of its
//! own. Each test is one world in which many clients do many things.

mod deposits;
mod withdrawals;

use custos_e2e::World;

/// Everything that must hold, in the order in which a bank would meet it.
async fn money(world: &mut World) -> anyhow::Result<()> {
    deposits::credited_once_at_finality_and_not_before(world).await?;
    deposits::a_reorganisation_before_credit_takes_back_silently(world).await?;
    deposits::a_reorganisation_after_credit_is_a_visible_reversal_and_mined_again_a_new_credit(world).await?;
    world.books_match().await?;
    withdrawals::all(world).await?;
    world.books_match().await?;
    withdrawals::settled_and_mined_again_under_another_base_fee_the_difference_is_the_houses(world).await?;
    deposits::a_power_cut_changes_nothing_and_a_deposit_goes_on_where_it_stood(world).await?;
    world.books_match().await?;
    let said = world.audit_healthy().await?;
    eprintln!("{said}");
    world.stop().await
}

/// Fails with the whole chain of causes while the world still stands, so that what its processes said is kept.
async fn holds(mut world: World) {
    if let Err(error) = money(&mut world).await {
        panic!("{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_comes_in_and_goes_out_in_one_process_on_the_embedded_journal() {
    let world = World::embedded().await.unwrap_or_else(|error| panic!("{error:?}"));
    holds(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_comes_in_and_goes_out_between_processes_on_kafka_postgresql_and_a_node() {
    let world = World::on_servers("money on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some(world) = world {
        holds(world).await;
    }
}
