//! Somebody with every secret of the installation but the signer's own writes orders straight to the signer's topic.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use custos_domain::{Amount, CommandId, EthAddress, IntentId};
use custos_e2e::{ETHER, Ground, Hand, LONG, Part, Withdrawal, World, until};
use custos_messages::treasury::{SignRefusal, TreasuryInput};
use custos_messages::wallet::{Purpose, SignOrder, WalletCommand, WalletOrder};
use custos_messages::{Machine, Postmark, Record, Source, Topic};

const INBOX: Topic = Topic::Inbox(Machine::Treasury);
/// What the ids of forged commands are filled with.
const FORGED: u8 = 0xee;
const RACES: u8 = 12;
/// Far from any nonce that the hot wallet comes to: what is signed here is never sent.
const NONCES: u64 = 1_000_000;

/// What the signer said to a command: the digest of the bytes, or why not.
type Answer = Result<(u64, String), SignRefusal>;

/// Every answer of the signer so far, by command.
fn answers(hand: &Hand) -> anyhow::Result<BTreeMap<CommandId, BTreeSet<Answer>>> {
    let mut answers: BTreeMap<CommandId, BTreeSet<Answer>> = BTreeMap::new();
    for entry in hand.read_all(INBOX)? {
        let Ok((_, input)) = hand.keyring().open_message::<TreasuryInput>(INBOX, &entry.record) else { continue };
        let (command, answer) = match input {
            TreasuryInput::Signed(signed) => (signed.command, Ok((signed.nonce, signed.digest.to_string()))),
            TreasuryInput::SignRefused(refused) => (refused.command, Err(refused.reason)),
            _ => continue,
        };
        answers.entry(command).or_default().insert(answer);
    }
    Ok(answers)
}

/// The last order of the log to sign a payment to `to`, as treasury gave it.
fn genuine(hand: &Hand, to: EthAddress) -> anyhow::Result<(Record, WalletCommand, SignOrder)> {
    for entry in hand.read_all(Topic::WalletCommands)?.into_iter().rev() {
        let (_, command) = hand.keyring().open_message::<WalletCommand>(Topic::WalletCommands, &entry.record)?;
        let WalletOrder::Sign(order) = &command.order else { continue };
        let is_forged = command.id.0.iter().skip(1).all(|byte| *byte == FORGED);
        if order.tx.to == to && !is_forged {
            let order = SignOrder::clone(order);
            return Ok((entry.record, command, order));
        }
    }
    bail!("no order to pay {to}")
}

/// Treasury's seal under whatever is said.
fn forged(hand: &Hand, template: &WalletCommand, id: u8, order: SignOrder) -> (CommandId, Record) {
    let mut name = [FORGED; 32];
    name[0] = id;
    let command = WalletCommand { id: CommandId(name), order: WalletOrder::Sign(Box::new(order)), ..template.clone() };
    let record = hand.keyring().seal_message(Topic::WalletCommands, Source::Treasury, &command, Postmark::default());
    (command.id, record)
}

fn paying(order: &SignOrder, intent: IntentId, to: EthAddress, nonce: u64) -> anyhow::Result<SignOrder> {
    let mut order = order.clone();
    let Purpose::Pay { intent: asked, .. } = &mut order.purpose else { bail!("not a payment") };
    (asked.id, asked.to) = (intent, to);
    (order.tx.to, order.tx.nonce) = (to, nonce);
    Ok(order)
}

/// Every way to ask for a second, different transaction, with what the signer must say.
fn contradictions(order: &SignOrder) -> anyhow::Result<Vec<(SignOrder, SignRefusal)>> {
    let (intent, thief, nonce) = (order.purpose.intent_id(), EthAddress([0xab; 20]), order.tx.nonce);
    let honest = order.tx.to;
    let mut other_gas = order.clone();
    other_gas.tx.gas_limit += 1;
    let mut hidden = order.clone();
    hidden.tx.to = thief;
    let mut dearer = order.clone();
    dearer.tx.value = Amount::new(order.tx.value.base_units() + 1);
    let mut thirsty = order.clone();
    thirsty.tx.max_fee_per_gas = Amount::new(u128::from(u64::MAX));
    let mut house = order.clone();
    house.tx.to = thief;
    house.purpose = Purpose::NoOp { intent: IntentId([9; 32]), fee_max: Amount::new(ETHER) };
    Ok(vec![
        (paying(order, intent, thief, nonce)?, SignRefusal::IntentTaken),
        (paying(order, intent, honest, nonce + 1)?, SignRefusal::IntentTaken),
        (paying(order, intent, thief, nonce + 1)?, SignRefusal::IntentTaken),
        (paying(order, IntentId([8; 32]), thief, nonce)?, SignRefusal::NonceTaken),
        (other_gas, SignRefusal::WeakReplacement),
        (hidden, SignRefusal::OutsideIntent),
        (dearer, SignRefusal::OutsideIntent),
        (thirsty, SignRefusal::OutsideEnvelope),
        (house, SignRefusal::HouseRefused),
    ])
}

/// Waits until the signer has said something to all of `commands`, in a log that may only be looked at while the product stands.
async fn heard(world: &mut World, commands: &[CommandId]) -> anyhow::Result<BTreeMap<CommandId, BTreeSet<Answer>>> {
    let all = |found: &BTreeMap<CommandId, BTreeSet<Answer>>| commands.iter().all(|command| found.contains_key(command));
    if matches!(world.ground(), Ground::Servers { .. }) {
        let hand = world.hand()?;
        return until("the signer answers every order", LONG, || async {
            let found = tokio::task::block_in_place(|| answers(&hand))?;
            Ok(all(&found).then_some(found))
        })
        .await;
    }
    for _ in 0..10 {
        world.chain.mine(1).await?;
        world.caught_up().await?;
        let found = world.in_the_log(answers).await?;
        if all(&found) {
            return Ok(found);
        }
    }
    bail!("the signer does not answer")
}

fn only(found: &BTreeMap<CommandId, BTreeSet<Answer>>, command: &CommandId) -> anyhow::Result<Answer> {
    let answers = found.get(command).with_context(|| format!("no answer to {command}"))?;
    ensure!(answers.len() == 1, "one answer however often it is asked: {answers:?}");
    answers.first().cloned().context("an answer")
}

/// Nothing but the first transaction of an intent is ever signed, before and after the signer was restarted.
pub async fn a_second_transaction_of_an_intent_is_refused(world: &mut World, account: &str) -> anyhow::Result<()> {
    let to = World::stranger("paid beside a thief");
    let wish = Withdrawal { key: "beside a thief", asset: "ETH", amount: "1", to, fee_max: "0.01" };
    let id = world.bank.withdraw(account, &wish).await?.map_err(|refused| anyhow::anyhow!("{}", refused.body))?;
    until("it is signed", LONG, || async {
        let view = world.bank.withdrawal(&id).await?;
        Ok(view.pointer("/signatures/0").map(drop))
    })
    .await?;
    // The thief is at work while the payment waits for its block.
    let receiver = EthAddress(to.into_array());
    let (copied, orders) = world.in_the_log(|hand| ask_again(hand, receiver)).await?;
    let commands: Vec<CommandId> = orders.keys().copied().collect();
    let found = heard(world, &commands).await?;
    let first = only(&found, &copied)?;
    ensure!(first.is_ok(), "{first:?}");
    for (command, (what, expected)) in &orders {
        let said = only(&found, command)?;
        ensure!(said == Err(*expected), "{what}: {said:?} instead of {expected:?}");
    }
    world.mine_until_done(&[&id]).await?;
    ensure!(world.chain.balance(to).await? == ETHER, "one payment");
    ensure!(world.chain.balance(alloy::primitives::Address::from([0xab; 20])).await? == 0, "and none to the thief");

    world.power_cut().await?;
    let (_, again) = world.in_the_log(|hand| ask_again(hand, receiver)).await?;
    ensure!(again == orders, "the same orders");
    world.chain.mine(1).await?;
    let found = heard(world, &commands).await?;
    ensure!(only(&found, &copied)? == first, "the very same bytes as before");
    for (command, (what, expected)) in &orders {
        ensure!(only(&found, command)? == Err(*expected), "{what}, after a restart");
    }
    world.books_match().await
}

type Orders = BTreeMap<CommandId, (usize, SignRefusal)>;

/// Writes the genuine order once more and every contradiction of it, and names them.
fn ask_again(hand: &Hand, receiver: EthAddress) -> anyhow::Result<(CommandId, Orders)> {
    let (record, command, order) = genuine(hand, receiver)?;
    hand.append(Topic::WalletCommands, 0, record)?;
    let mut orders = Orders::new();
    for (what, (order, expected)) in contradictions(&order)?.into_iter().enumerate() {
        let (id, record) = forged(hand, &command, u8::try_from(what)?, order);
        hand.append(Topic::WalletCommands, u32::try_from(what % 2)?, record)?;
        orders.insert(id, (what, expected));
    }
    Ok((command.id, orders))
}

/// Two signers on one guard are given contradicting orders at once: of each pair one is signed, the same one for ever.
pub async fn two_signers_race_and_one_signs(world: &mut World) -> anyhow::Result<()> {
    if matches!(world.ground(), Ground::Embedded) {
        return Ok(());
    }
    world.start_beside("second-signer", &[Part::Wallet]).await?;
    let hand = world.hand()?;
    let (_, template, order) =
        tokio::task::block_in_place(|| genuine(&hand, EthAddress(World::stranger("paid beside a thief").into_array())))?;
    let mut pairs = Vec::new();
    for race in 0..RACES {
        let (intent, nonce) = (IntentId([0x50 + race; 32]), NONCES + u64::from(race));
        // Every second race is for one nonce, the others for one intent.
        let (other_intent, other_nonce) =
            if race % 2 == 0 { (intent, nonce + 500) } else { (IntentId([0xa0 + race; 32]), nonce) };
        let one = paying(&order, intent, EthAddress([0x11; 20]), nonce)?;
        let other = paying(&order, other_intent, EthAddress([0x11; 20]), other_nonce)?;
        pairs.push([forged(&hand, &template, 0x50 + race, one), forged(&hand, &template, 0xa0 + race, other)]);
    }
    let shared = until("both signers have a share of the orders", LONG, || async {
        let fresh = paying(&order, IntentId([0x4f; 32]), EthAddress([0x11; 20]), NONCES - 1)?;
        let (id, record) = forged(&hand, &template, 0x4f, fresh);
        tokio::task::block_in_place(|| {
            (0..2).try_for_each(|part| hand.append(Topic::WalletCommands, part, record.clone()).map(drop))
        })?;
        let mut answered = Vec::new();
        for name in [Part::Wallet.name(), "second-signer"] {
            answered.push(world.installation.metrics(name).await?.contains("custos_commands_total{part=\"wallet\"}"));
        }
        Ok(answered.into_iter().all(|has| has).then_some(id))
    })
    .await?;
    let commands: Vec<CommandId> = pairs.iter().flatten().map(|(id, _)| *id).chain([shared]).collect();
    give(&hand, &pairs)?;
    let first = heard(world, &commands).await?;
    let mut winners = BTreeMap::new();
    for [(one, _), (other, _)] in &pairs {
        let (said, to_other) = (only(&first, one)?, only(&first, other)?);
        let taken = [SignRefusal::IntentTaken, SignRefusal::NonceTaken];
        let one_signs = match (&said, &to_other) {
            (Ok(_), Err(reason)) | (Err(reason), Ok(_)) => taken.contains(reason),
            _ => false,
        };
        ensure!(one_signs, "one of two is signed: {said:?}, {to_other:?}");
        winners.insert(*one, said.is_ok());
    }
    eprintln!("{RACES} races of two signers; the first of the pair won {}", winners.values().filter(|won| **won).count());
    one_digest_for_each_nonce(&first)?;

    for name in [Part::Wallet.name(), "second-signer"] {
        world.take(name)?.kill().await?;
        world.start(name, &[Part::Wallet]).await?;
    }
    let swapped: Vec<[(CommandId, Record); 2]> = pairs.iter().cloned().map(|[one, other]| [other, one]).collect();
    let before = answered(world).await?;
    give(&hand, &swapped)?;
    let given = u64::try_from(2 * pairs.len())?;
    until("the restarted signers answer again", LONG, || async {
        Ok((answered(world).await? >= before + given).then_some(()))
    })
    .await?;
    let again = heard(world, &commands).await?;
    for command in &commands {
        ensure!(only(&again, command)? == only(&first, command)?, "a restart changes nothing");
    }
    one_digest_for_each_nonce(&again)?;
    world.take("second-signer")?.stop().await.map(drop)
}

/// The pair's one order to one partition and the other to the other, so that both signers have one.
fn give(hand: &Hand, pairs: &[[(CommandId, Record); 2]]) -> anyhow::Result<()> {
    tokio::task::block_in_place(|| {
        for pair in pairs {
            for (partition, (_, record)) in (0..).zip(pair) {
                hand.append(Topic::WalletCommands, partition, record.clone())?;
            }
        }
        Ok(())
    })
}

async fn answered(world: &World) -> anyhow::Result<u64> {
    world.counted("custos_commands_total", r#"part="wallet""#).await
}

/// At none of the nonces that were raced for was more than one digest signed.
fn one_digest_for_each_nonce(found: &BTreeMap<CommandId, BTreeSet<Answer>>) -> anyhow::Result<()> {
    let mut digests: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (nonce, digest) in found.values().flatten().flatten() {
        digests.entry(*nonce).or_default().insert(digest);
    }
    for (nonce, signed) in digests.range(NONCES - 1..) {
        ensure!(signed.len() == 1, "nonce {nonce}: {signed:?}");
    }
    ensure!(digests.range(NONCES..).count() == usize::from(RACES), "one for each race: {digests:?}");
    Ok(())
}
