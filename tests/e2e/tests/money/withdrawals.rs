//! Withdrawals and transfers: every way in which money leaves, waits, is refused or comes back.
//!
//! Blocks come only where a scenario mines, so a payment waits in the pool as long as a scenario wants.

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::primitives::{Address, Bytes, TxHash};
use anyhow::{Context, ensure};
use custos_e2e::{
    APPROVAL_LIMIT, Balance, CONFIRMATIONS, ETHER, GWEI, LONG, Refused, SHORT, Withdrawal, World, base_units, decimal, fees,
    text, until,
};
use serde_json::Value;

/// What every client begins with, of ether and of the token.
const FUNDS: u128 = 20 * ETHER;
const FEE_MAX: &str = "0.01";
/// Base fees that fit the envelopes of these tests, and one that fits none.
const CALM: u128 = GWEI;
const SPIKE: u128 = 500 * GWEI;

struct Clients {
    payer: String,
    poor: String,
    screened: String,
    approved: String,
    rejected: String,
    giver: String,
    receiver: String,
    late: String,
}

pub async fn all(world: &World) -> anyhow::Result<()> {
    let clients = clients(world).await?;
    tokio::try_join!(
        ether_and_tokens_are_paid_once(world, &clients.payer),
        what_is_not_there_is_not_paid(world, &clients.poor),
        what_screening_refuses_is_released(world, &clients.screened),
        above_the_limit_a_quorum_of_officers_decides(world, &clients.approved),
        one_officer_can_stop_a_payment(world, &clients.rejected),
        a_transfer_moves_between_accounts(world, &clients.giver, &clients.receiver),
    )?;
    stuck_in_the_pool_it_is_replaced_with_a_tenth_more(world, &clients.late).await?;
    outbid_by_every_block_it_is_replaced_and_paid_once(world, &clients.late).await?;
    dropped_by_the_node_it_is_sent_again_byte_for_byte(world, &clients.late).await?;
    a_reverted_token_transfer_comes_back_with_proof_and_its_gas_is_the_houses(world, &clients.late).await?;
    a_fee_above_the_envelope_waits_and_is_refused(world, &clients.late).await
}

async fn clients(world: &World) -> anyhow::Result<Clients> {
    let names = ["payer", "poor", "screened", "approved", "rejected", "giver", "receiver", "late"];
    let opened = futures::future::try_join_all(names.map(|name| world.client(name))).await?;
    for (_, address) in &opened {
        world.chain.pay(*address, FUNDS).await?;
        world.chain.pay_token(world.token, *address, FUNDS).await?;
    }
    world.chain.mine(CONFIRMATIONS).await?;
    for (account, _) in &opened {
        for asset in ["ETH", "TUSD"] {
            world.bank.has(account, asset, Balance::available(FUNDS)).await?;
        }
    }
    let mut accounts = opened.into_iter().map(|(account, _)| account);
    let mut next = || accounts.next().context("an account for every name");
    Ok(Clients {
        payer: next()?,
        poor: next()?,
        screened: next()?,
        approved: next()?,
        rejected: next()?,
        giver: next()?,
        receiver: next()?,
        late: next()?,
    })
}

fn wish<'a>(key: &'a str, asset: &'a str, amount: &'a str, to: Address) -> Withdrawal<'a> {
    Withdrawal { key, asset, amount, to, fee_max: FEE_MAX }
}

async fn accepted(world: &World, account: &str, wish: &Withdrawal<'_>) -> anyhow::Result<String> {
    let answer = world.bank.withdraw(account, wish).await?;
    answer.map_err(|refused| anyhow::anyhow!("refused: {} {}", refused.status, refused.body))
}

fn completed(operation: &Value) -> anyhow::Result<()> {
    ensure!(text(operation, "/metadata/status")? == "completed", "{operation}");
    Ok(())
}

fn refused_as(operation: &Value, code: &str) -> anyhow::Result<()> {
    ensure!(text(operation, "/metadata/status")? == "refused" && text(operation, "/error/code")? == code, "{operation}");
    Ok(())
}

/// The transactions that were signed for a withdrawal, in order.
async fn signatures(world: &World, id: &str) -> anyhow::Result<Vec<TxHash>> {
    let view = world.bank.withdrawal(id).await?;
    let records = view.get("signatures").and_then(Value::as_array).context("no signatures")?;
    records.iter().map(|record| Ok(text(record, "/tx")?.parse()?)).collect()
}

/// Waits until the first signature of a withdrawal is in the pool.
async fn in_the_pool(world: &World, id: &str) -> anyhow::Result<TxHash> {
    until(&format!("the payment of {id} is in the pool"), LONG, || async {
        let Some(tx) = signatures(world, id).await?.last().copied() else { return Ok(None) };
        Ok(world.chain.in_pool(tx).await?.then_some(tx))
    })
    .await
}

/// Of the signatures of a withdrawal, exactly one was mined: whether it succeeded, and what it cost.
async fn mined_once(world: &World, id: &str) -> anyhow::Result<(bool, u128)> {
    let mut mined = Vec::new();
    for tx in signatures(world, id).await? {
        mined.extend(world.chain.receipt(tx).await?);
    }
    ensure!(mined.len() == 1, "one transaction of {id} is mined, not {mined:?}");
    mined.pop().context("a receipt")
}

async fn fee_of(world: &World, id: &str) -> anyhow::Result<u128> {
    let view = world.bank.withdrawal(id).await?;
    base_units(view.pointer("/payment/fee").context("a payment without a fee")?)
}

/// What the node was given, as often as it was given, of these transactions.
fn given(world: &World, txs: &[TxHash]) -> anyhow::Result<Vec<(Bytes, TxEnvelope)>> {
    let mut sends = world.chain.sends(world.hot)?;
    sends.retain(|(_, tx)| txs.contains(tx.tx_hash()));
    Ok(sends)
}

async fn ether_and_tokens_are_paid_once(world: &World, account: &str) -> anyhow::Result<()> {
    let (to, to_tokens) = (World::stranger("paid"), World::stranger("paid in tokens"));
    let ether = accepted(world, account, &wish("pay-ether", "ETH", "1.5", to)).await?;
    let tokens = accepted(world, account, &wish("pay-tokens", "TUSD", "12.25", to_tokens)).await?;
    for done in world.mine_until_done(&[&ether, &tokens]).await? {
        completed(&done)?;
    }
    let (succeeded, cost) = mined_once(world, &ether).await?;
    ensure!(succeeded && cost == fee_of(world, &ether).await?, "the client's fee is what the chain took, {cost}");
    ensure!(mined_once(world, &tokens).await?.0);
    ensure!(world.chain.balance(to).await? == 3 * ETHER / 2);
    ensure!(world.chain.token_balance(world.token, to_tokens).await? == 49 * ETHER / 4);
    world.bank.has(account, "ETH", Balance::available(FUNDS - 3 * ETHER / 2 - cost)).await?;
    world.bank.has(account, "TUSD", Balance::available(FUNDS - 49 * ETHER / 4)).await?;
    let again = accepted(world, account, &wish("pay-ether", "ETH", "1.5", to)).await?;
    ensure!(again == ether, "the same key is the same payment");
    Ok(())
}

async fn what_is_not_there_is_not_paid(world: &World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("never paid");
    for (asset, amount) in [("ETH", "20"), ("ETH", "400"), ("TUSD", "20.000000000000000001")] {
        let answer = world.bank.withdraw(account, &wish(&format!("poor-{asset}-{amount}"), asset, amount, to)).await?;
        let Err(Refused { status, code, .. }) = answer else { anyhow::bail!("{amount} {asset} were accepted") };
        ensure!((status, code.as_str()) == (422, "insufficient-funds"), "{status} {code}");
        world.bank.has(account, asset, Balance::available(FUNDS)).await?;
    }
    Ok(())
}

async fn what_screening_refuses_is_released(world: &World, account: &str) -> anyhow::Result<()> {
    let id = accepted(world, account, &wish("screened", "ETH", "2", world.refused)).await?;
    refused_as(&world.bank.done(&id).await?, "screening")?;
    ensure!(signatures(world, &id).await?.is_empty(), "nothing was signed");
    let screening = world.bank.withdrawal(&id).await?;
    ensure!(text(&screening, "/screenings/0/versions/0")?.starts_with("house-list"), "{screening}");
    world.bank.has(account, "ETH", Balance::available(FUNDS)).await
}

/// Waits until officers are asked.
async fn asked(world: &World, id: &str) -> anyhow::Result<()> {
    until(&format!("officers are asked about {id}"), SHORT, || async {
        let waits = world.bank.operation(id).await?.pointer("/metadata/awaits_approval").and_then(Value::as_bool);
        Ok((waits == Some(true)).then_some(()))
    })
    .await
}

async fn decided(world: &World, id: &str, officer: &str, verdict: &str) -> anyhow::Result<()> {
    let key = world.installation.officer_key(officer)?;
    let taken = world.officers.decide(id, (officer, &key), verdict).await?;
    taken.map(drop).map_err(|refused| anyhow::anyhow!("{officer}: {} {}", refused.status, refused.body))
}

async fn above_the_limit_a_quorum_of_officers_decides(world: &World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("approved");
    let id = accepted(world, account, &wish("approved", "ETH", APPROVAL_LIMIT, to)).await?;
    asked(world, &id).await?;
    let limit = decimal(APPROVAL_LIMIT, 18)?;
    let held = limit + decimal(FEE_MAX, 18)?;
    world.bank.has(account, "ETH", Balance { available: FUNDS - held, held, ..Balance::default() }).await?;
    let key = world.installation.officer_key("bert")?;
    let forged = world.officers.decide(&id, ("anna", &key), "approve").await?;
    ensure!(forged.is_err(), "another's signature is no approval: {forged:?}");
    let by_the_bank = world.bank.decide(&id, ("bert", &key), "approve").await?;
    ensure!(by_the_bank.is_err_and(|refused| refused.status == 403), "the back office hands in no decisions");
    decided(world, &id, "anna", "approve").await?;
    ensure!(signatures(world, &id).await?.is_empty(), "one officer is no quorum");
    decided(world, &id, "bert", "approve").await?;
    completed(&world.mine_until_done(&[&id]).await?[0])?;
    ensure!(world.chain.balance(to).await? == limit);
    let cost = mined_once(world, &id).await?.1;
    world.bank.has(account, "ETH", Balance::available(FUNDS - limit - cost)).await
}

async fn one_officer_can_stop_a_payment(world: &World, account: &str) -> anyhow::Result<()> {
    let id = accepted(world, account, &wish("rejected", "ETH", "6", World::stranger("rejected"))).await?;
    asked(world, &id).await?;
    decided(world, &id, "anna", "approve").await?;
    decided(world, &id, "cora", "reject").await?;
    refused_as(&world.bank.done(&id).await?, "rejected")?;
    world.bank.has(account, "ETH", Balance::available(FUNDS)).await
}

async fn a_transfer_moves_between_accounts(world: &World, giver: &str, receiver: &str) -> anyhow::Result<()> {
    let there = world.bank.transfer(giver, "there", receiver, "TUSD", "7").await?;
    completed(&world.bank.done(&there).await?)?;
    let back = world.bank.transfer(receiver, "back", giver, "TUSD", "2.5").await?;
    completed(&world.bank.done(&back).await?)?;
    world.bank.has(giver, "TUSD", Balance::available(FUNDS - 9 * ETHER / 2)).await?;
    world.bank.has(receiver, "TUSD", Balance::available(FUNDS + 9 * ETHER / 2)).await
}

async fn stuck_in_the_pool_it_is_replaced_with_a_tenth_more(world: &World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("stuck");
    let before = world.bank.balance(account, "ETH").await?.available;
    let id = accepted(world, account, &wish("stuck", "ETH", "1", to)).await?;
    in_the_pool(world, &id).await?;
    until("it is signed again with higher fees, and the node has it", LONG, || async {
        let signed = signatures(world, &id).await?;
        let Some(newest) = signed.last().filter(|_| signed.len() > 1) else { return Ok(None) };
        Ok(world.chain.in_pool(*newest).await?.then_some(()))
    })
    .await?;
    completed(&world.mine_until_done(&[&id]).await?[0])?;
    each_attempt_is_a_tenth_dearer(world, &id).await?;
    let cost = mined_once(world, &id).await?.1;
    ensure!(world.chain.balance(to).await? == ETHER, "one payment");
    world.bank.has(account, "ETH", Balance::available(before - ETHER - cost)).await
}

/// Of what the node was given for a withdrawal, each attempt is the same payment at the same nonce, and raises both fee fields.
async fn each_attempt_is_a_tenth_dearer(world: &World, id: &str) -> anyhow::Result<()> {
    let signed = signatures(world, id).await?;
    let given = given(world, &signed)?;
    let mut attempts: Vec<TxEnvelope> = Vec::new();
    for tx in &signed {
        attempts.extend(given.iter().map(|(_, sent)| sent).find(|sent| sent.tx_hash() == tx).cloned());
    }
    ensure!(attempts.len() > 1, "the node was given {} of {signed:?}", attempts.len());
    for pair in attempts.windows(2) {
        let [old, new] = pair else { continue };
        ensure!(new.nonce() == old.nonce(), "a replacement keeps the nonce");
        ensure!((new.to(), new.value(), new.input()) == (old.to(), old.value(), old.input()), "and pays the same");
        let ((old_fee, old_tip), (new_fee, new_tip)) = (fees(old), fees(new));
        let tenth_more = |old: u128| old + old.div_ceil(10);
        ensure!(new_fee >= tenth_more(old_fee) && new_tip >= tenth_more(old_tip), "{old_fee} {old_tip} {new_fee} {new_tip}");
        ensure!(new_fee * u128::from(new.gas_limit()) <= decimal(FEE_MAX, 18)?, "within the envelope");
    }
    Ok(())
}

async fn outbid_by_every_block_it_is_replaced_and_paid_once(world: &World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("outbid");
    let before = world.bank.balance(account, "ETH").await?.available;
    let id = accepted(world, account, &wish("outbid", "ETH", "1", to)).await?;
    let first = in_the_pool(world, &id).await?;
    let (_, tx) = given(world, &[first])?.pop().context("the node was given it")?;
    // Blocks keep coming, and each asks for more than it offers.
    let price = fees(&tx).0 + GWEI;
    world.chain.set_base_fee(price).await?;
    world
        .mine_until("it is signed again for the new price", || async {
            world.chain.set_base_fee(price).await?;
            Ok((signatures(world, &id).await?.len() > 1).then_some(()))
        })
        .await?;
    ensure!(world.chain.receipt(first).await?.is_none(), "the first was too cheap for every block");
    completed(&world.mine_until_done(&[&id]).await?[0])?;
    each_attempt_is_a_tenth_dearer(world, &id).await?;
    let cost = mined_once(world, &id).await?.1;
    ensure!(world.chain.balance(to).await? == ETHER, "one payment");
    world.bank.has(account, "ETH", Balance::available(before - ETHER - cost)).await?;
    world.chain.set_base_fee(CALM).await?;
    world.chain.mine(1).await
}

async fn dropped_by_the_node_it_is_sent_again_byte_for_byte(world: &World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("dropped");
    let id = accepted(world, account, &wish("dropped", "ETH", "1", to)).await?;
    let tx = in_the_pool(world, &id).await?;
    let before = given(world, &[tx])?.len();
    ensure!(world.chain.drop_transaction(tx).await?, "it was in the pool");
    until("the node was given it again", LONG, || async { Ok((given(world, &[tx])?.len() > before).then_some(())) }).await?;
    until("it is in the pool again", LONG, || async { Ok(world.chain.in_pool(tx).await?.then_some(())) }).await?;
    let sends = given(world, &[tx])?;
    let bytes: Vec<&Bytes> = sends.iter().map(|(raw, _)| raw).collect();
    ensure!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "byte for byte");
    completed(&world.mine_until_done(&[&id]).await?[0])?;
    mined_once(world, &id).await?;
    ensure!(world.chain.balance(to).await? == ETHER, "one payment");
    Ok(())
}

async fn a_reverted_token_transfer_comes_back_with_proof_and_its_gas_is_the_houses(
    world: &World,
    account: &str,
) -> anyhow::Result<()> {
    let to = World::stranger("not to be paid while the token stands still");
    let gas_before = decimal(text(&world.bank.books("ETH").await?, "/gas")?, 18)?;
    let (ether, tokens) = (world.bank.balance(account, "ETH").await?, world.bank.balance(account, "TUSD").await?);
    let id = accepted(world, account, &wish("reverted", "TUSD", "3", to)).await?;
    in_the_pool(world, &id).await?;
    world.chain.pause_token(world.token).await?;
    world.chain.mine(1).await?;
    world.caught_up().await?;
    let (succeeded, cost) = mined_once(world, &id).await?;
    ensure!(!succeeded, "the token stood still");
    ensure!(world.bank.ended(&id).await?.is_none(), "there is no proof before finality");
    ensure!(world.bank.balance(account, "TUSD").await?.held == 3 * ETHER, "and nothing is released");
    refused_as(&world.mine_until_done(&[&id]).await?[0], "impossible")?;
    world.bank.has(account, "TUSD", tokens).await?;
    world.bank.has(account, "ETH", ether).await?;
    ensure!(world.chain.token_balance(world.token, to).await? == 0);
    let gas = decimal(text(&world.bank.books("ETH").await?, "/gas")?, 18)?;
    ensure!(gas == gas_before + cost, "the house paid {cost}: {gas_before} became {gas}");
    world.chain.unpause_token(world.token).await?;
    world.chain.mine(1).await
}

async fn a_fee_above_the_envelope_waits_and_is_refused(world: &World, account: &str) -> anyhow::Result<()> {
    let before = world.bank.balance(account, "ETH").await?;
    world.chain.set_base_fee(SPIKE).await?;
    world.chain.mine(1).await?;
    let id = accepted(world, account, &wish("too dear", "ETH", "1", World::stranger("too dear"))).await?;
    until("it waits for its fee", SHORT, || async {
        let waits = text(&world.bank.operation(&id).await?, "/metadata/step")? == "pay";
        let taken = world.bank.story(&id).await?.iter().any(|event| event.contains("payment.taken"));
        Ok((waits && taken).then_some(()))
    })
    .await?;
    ensure!(world.bank.balance(account, "ETH").await?.held > ETHER, "its hold stands while it waits");
    let done = world.bank.done(&id).await?;
    refused_as(&done, "payment-refused")?;
    ensure!(done.pointer("/error/because").is_some_and(|because| because.to_string().contains("fee")), "{done}");
    ensure!(signatures(world, &id).await?.is_empty(), "nothing was signed");
    world.bank.has(account, "ETH", before).await?;
    world.chain.set_base_fee(CALM).await?;
    world.chain.mine(1).await
}

/// What stands in a house's book as the gas that it paid; a gain is below zero.
async fn gas_of_the_house(world: &World) -> anyhow::Result<i128> {
    let books = world.bank.books("ETH").await?;
    let shown = text(&books, "/gas")?;
    let units = i128::try_from(decimal(shown.trim_start_matches('-'), 18)?)?;
    Ok(if shown.starts_with('-') { -units } else { units })
}

/// Settled, its block leaves the chain below finality, and the same bytes are mined again under another base fee: the client's books
/// stay as they are, and the house bears the difference, whichever way it goes. At no block do books and chain differ.
pub async fn settled_and_mined_again_under_another_base_fee_the_difference_is_the_houses(
    world: &World,
) -> anyhow::Result<()> {
    let (account, address) = world.client("settled-twice").await?;
    world.chain.pay(address, FUNDS).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", Balance::available(FUNDS)).await?;
    for (key, base_fee) in [("dearer", CALM * 3 / 2), ("cheaper", CALM / 4)] {
        world.chain.set_base_fee(CALM).await?;
        world.chain.mine(1).await?;
        let to = World::stranger(key);
        let id = accepted(world, &account, &wish(key, "ETH", "1", to)).await?;
        completed(&world.mine_until_done(&[&id]).await?[0])?;
        world.books_match().await?;
        let (client, gas) = (world.bank.balance(&account, "ETH").await?, gas_of_the_house(world).await?);
        let (first, block) = (mined_once(world, &id).await?.1, included_at(world, &id).await?);

        let depth = world.chain.head().await? - block + 1;
        ensure!(depth >= CONFIRMATIONS, "its block was final");
        world.chain.reorganise(depth).await?;
        until("its bytes are in the pool again", LONG, || async {
            for tx in signatures(world, &id).await? {
                if world.chain.in_pool(tx).await? {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await?;
        world.books_match().await.context("while no block holds it")?;
        ensure!(world.chain.balance(to).await? == 0, "it is in no block");

        world.chain.set_base_fee(base_fee).await?;
        world.chain.mine(CONFIRMATIONS).await?;
        world.books_match().await.context("mined again")?;
        let second = mined_once(world, &id).await?.1;
        ensure!(second != first && world.chain.balance(to).await? == ETHER, "{first} became {second}");
        let more = i128::try_from(second)? - i128::try_from(first)?;
        let now = gas_of_the_house(world).await?;
        ensure!(now - gas == more, "the house bears {more}, but {gas} became {now}");
        world.bank.has(&account, "ETH", client).await?;
        let story = world.bank.story(&id).await?;
        ensure!(story.iter().filter(|event| event.contains("house.spent")).count() == 2, "told in its story: {story:?}");
    }
    world.chain.set_base_fee(CALM).await?;
    world.chain.mine(1).await
}

async fn included_at(world: &World, id: &str) -> anyhow::Result<u64> {
    let view = world.bank.withdrawal(id).await?;
    view.pointer("/payment/block/number").and_then(Value::as_u64).with_context(|| format!("a payment in no block: {view}"))
}
