//! The books against the chain, and against themselves.

use anyhow::{Context, ensure};
use custos_e2e::{Balance, Ground, World};
use sqlx::{AnyConnection, Connection};

use crate::Clients;

const ONE_WEI: &str = "0.000000000000000001";
const SUBTRACT_FROM_LEG: &str = "UPDATE journal_legs SET a0 = CASE a0 WHEN 0 THEN 1 ELSE a0 - 1 END \
     WHERE (partition, sequence, leg) = (SELECT partition, sequence, leg FROM journal_legs \
     WHERE holder = (SELECT account FROM accounts WHERE client_key = 'giver') AND book = 'available' AND asset = 'TUSD' \
     ORDER BY partition, sequence, leg LIMIT 1)";
const ADD_TO_BALANCE: &str = "UPDATE balances SET d0 = d0 - 1 WHERE book = 'available' AND asset = 'ETH' \
     AND holder = (SELECT account FROM accounts WHERE client_key = 'giver')";

/// What `custos books` says; it must end with 1.
async fn differing(world: &World) -> anyhow::Result<String> {
    world.caught_up().await?;
    let books = world.installation.run("books", &[]).await?;
    ensure!(books.code == Some(1), "the exit code is {:?}\n{}{}", books.code, books.out, books.err);
    ensure!(books.out.contains("books match the chains: no"), "{}", books.out);
    Ok(books.out)
}

/// The figure of a line of the balance sheet, for an asset.
fn figure<'s>(sheet: &'s str, line: &str, asset: &str) -> anyhow::Result<&'s str> {
    let assets = sheet.lines().next().context("an empty balance sheet")?;
    let column = assets.split_whitespace().position(|name| name == asset).with_context(|| format!("no {asset}: {sheet}"))?;
    let figures = sheet.lines().find_map(|candidate| candidate.trim_start().strip_prefix(line));
    let figures = figures.with_context(|| format!("no line `{line}`: {sheet}"))?;
    figures.split_whitespace().nth(column).with_context(|| format!("no figure of {asset} in `{line}`: {sheet}"))
}

pub async fn one_wei_that_was_moved_unseen_is_a_difference(world: &World) -> anyhow::Result<()> {
    let right = world.chain.balance(world.hot).await?;
    for (moved, difference) in [(right + 1, ONE_WEI.to_owned()), (right - 1, format!("-{ONE_WEI}"))] {
        world.chain.set_balance(world.hot, moved).await?;
        world.chain.mine(1).await?;
        let sheet = differing(world).await?;
        ensure!(figure(&sheet, "difference", "ETH")? == difference, "not exactly {difference}: {sheet}");
        let of_the_token = figure(&sheet, "difference", "TUSD")?;
        ensure!(of_the_token.chars().all(|digit| digit == '0' || digit == '.'), "the token's books are right: {sheet}");
        world.chain.set_balance(world.hot, right).await?;
        world.chain.mine(1).await?;
        world.books_match().await?;
    }
    Ok(())
}

/// As somebody does who has the read model's database.
async fn open(world: &World) -> anyhow::Result<AnyConnection> {
    sqlx::any::install_default_drivers();
    Ok(AnyConnection::connect(&world.database()).await?)
}

/// Takes away the rule that a leg never changes.
const fn drop_rule(ground: &Ground) -> &'static str {
    match ground {
        Ground::Embedded => "DROP TRIGGER journal_leg_updated",
        Ground::Servers { .. } => "DROP TRIGGER journal_legs_updated ON journal_legs",
    }
}

async fn altered(connection: &mut AnyConnection, sql: &'static str) -> anyhow::Result<()> {
    let rows = sqlx::query(sql).execute(connection).await?.rows_affected();
    ensure!(rows == 1, "{rows} rows instead of one: {sql}");
    Ok(())
}

pub async fn a_row_that_was_altered_is_named_and_made_anew_from_the_log(
    world: &World,
    clients: &Clients,
) -> anyhow::Result<()> {
    let giver = &clients.giver;
    let before = (world.bank.balance(giver, "ETH").await?, world.bank.balance(giver, "TUSD").await?);
    let mut connection = open(world).await?;

    altered(&mut connection, ADD_TO_BALANCE).await?;
    let richer = Balance { available: before.0.available + 1, ..before.0 };
    ensure!(world.bank.balance(giver, "ETH").await? == richer, "a read model tells what stands in it");
    let sheet = differing(world).await?;
    let row = |asset: &str| format!("altered row: {giver} available {asset}\n");
    ensure!(sheet.contains(&row("ETH")) && !sheet.contains(&row("TUSD")), "the balance is named, and it alone: {sheet}");

    let refused = sqlx::query(SUBTRACT_FROM_LEG).execute(&mut connection).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("a leg never changes")), "the database keeps its legs");
    sqlx::query(drop_rule(world.ground())).execute(&mut connection).await?;
    altered(&mut connection, SUBTRACT_FROM_LEG).await?;
    connection.close().await?;
    let sheet = differing(world).await?;
    ensure!(sheet.contains(&row("ETH")) && sheet.contains(&row("TUSD")), "both are named: {sheet}");

    // The projector runs, and nothing new comes to show it that the read model went back.
    world.installation.run("rebuild", &[]).await?.success().context("custos rebuild")?;
    world.bank.has(giver, "ETH", before.0).await?;
    world.bank.has(giver, "TUSD", before.1).await?;
    world.books_match().await?;
    let mut connection = open(world).await?;
    let refused = sqlx::query(SUBTRACT_FROM_LEG).execute(&mut connection).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("a leg never changes")), "the rule is back");
    Ok(connection.close().await?)
}
