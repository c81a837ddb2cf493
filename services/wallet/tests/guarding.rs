//! The signing guard, through the signer: repeats, restarts, replacements, races, crashes and restored backups, on every database.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on panics; what was not run is printed")]

mod fixture;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use custos_domain::{Amount, EthAddress};
use custos_messages::treasury::SignRefusal;
use custos_messages::wallet::SignOrder;
use custos_runtime::service::Setback;
use custos_wallet::{Wallet, WalletError};
use ed25519_dalek::SigningKey;
use fixture::*;

fn fees(mut order: SignOrder, fee: u128, tip: u128) -> SignOrder {
    order.tx.max_fee_per_gas = Amount::new(fee);
    order.tx.max_priority_fee_per_gas = Amount::new(tip);
    order
}

#[tokio::test]
async fn the_same_order_gives_the_same_bytes_for_ever() {
    let world = World::new();
    for url in databases(&world, "same").await {
        let wallet = world.open(&url, "a").await;
        let first = ask(&wallet, world.order(1, 0)).await.unwrap();
        assert_eq!(ask(&wallet, world.order(1, 0)).await.unwrap(), first);
        let first = (first.tx, first.raw);
        // Later, after a restart, and at another signer.
        let mut late = world.order(1, 0);
        late.at.0 = 99_999_999;
        for signer in ["a", "b"] {
            let again = ask(&world.open(&url, signer).await, late.clone()).await.unwrap();
            assert_eq!((again.tx, again.raw), first);
        }
        std::fs::remove_file(world.path("a")).unwrap();
        std::fs::remove_file(world.path("b")).unwrap();
    }
}

#[tokio::test]
async fn a_second_transaction_of_an_intent_is_refused_by_every_signer_for_ever() {
    let world = World::new();
    for url in databases(&world, "second").await {
        let wallet = world.open(&url, "a").await;
        ask(&wallet, world.order(1, 0)).await.unwrap();
        let mut altered = fees(world.order(1, 0), 200 * GWEI, 20 * GWEI);
        intent_of(&mut altered).to = EthAddress([2; 20]);
        altered.tx.to = EthAddress([2; 20]);
        for (name, order, expected) in [
            ("at another nonce", world.order(1, 1), SignRefusal::IntentTaken),
            ("as another payment", altered, SignRefusal::IntentTaken),
            ("the nonce for another intent", world.order(2, 0), SignRefusal::NonceTaken),
            ("the nonce for a no-op that does not outbid", world.no_op(0), SignRefusal::WeakReplacement),
        ] {
            assert_eq!(ask(&wallet, order.clone()).await.unwrap_err(), expected, "{name}");
            assert_eq!(ask(&world.open(&url, "a").await, order.clone()).await.unwrap_err(), expected, "{name}, restarted");
            assert_eq!(ask(&world.open(&url, "b").await, order).await.unwrap_err(), expected, "{name}, other signer");
        }
        std::fs::remove_file(world.path("a")).unwrap();
        std::fs::remove_file(world.path("b")).unwrap();
    }
}

#[tokio::test]
async fn a_no_op_takes_a_clients_nonce_once_if_it_outbids_and_nothing_else_ever_does() {
    let world = World::new();
    for url in databases(&world, "no_op").await {
        let wallet = world.open(&url, "a").await;
        let payment = ask(&wallet, fees(world.order(1, 0), 20 * GWEI, 2 * GWEI)).await.unwrap();
        let no_op = fees(world.no_op(0), 22 * GWEI, 22 * GWEI / 10);
        let taken = ask(&wallet, no_op.clone()).await.unwrap();
        assert_ne!(taken, payment);
        assert_eq!(ask(&world.open(&url, "b").await, no_op).await.unwrap(), taken, "the same again");
        let other = fees(world.order(2, 0), 90 * GWEI, 9 * GWEI);
        assert_eq!(ask(&wallet, other).await.unwrap_err(), SignRefusal::NonceTaken);
        let elsewhere = fees(world.order(1, 1), 90 * GWEI, 9 * GWEI);
        assert_eq!(ask(&wallet, elsewhere).await.unwrap_err(), SignRefusal::IntentTaken, "the payment stays where it was");
        std::fs::remove_file(world.path("a")).unwrap();
        std::fs::remove_file(world.path("b")).unwrap();
    }
}

#[tokio::test]
async fn what_one_signer_has_refused_none_signs_and_what_one_has_signed_none_refuses() {
    let world = World::new();
    for url in databases(&world, "refused").await {
        let right = world.open(&url, "a").await;
        let mut config = world.config(&url, &world.path("b"));
        config.policy_root = SigningKey::from_bytes(&[77; 32]).verifying_key();
        let wrong = Wallet::open(config).await.unwrap();
        let refused = world.order(1, 0);
        assert_eq!(ask(&wrong, refused.clone()).await, Err(SignRefusal::PolicyRefused));
        assert_eq!(ask(&right, refused.clone()).await, Err(SignRefusal::PolicyRefused), "the client has the money back");
        let mut anew = refused;
        anew.at.0 += 1;
        let signed = ask(&right, anew.clone()).await.unwrap();
        assert_eq!(ask(&wrong, anew).await.unwrap(), signed, "another order of the same bytes");
        // What the guard's own rule refuses stays refused, too.
        let taken = world.order(2, 0);
        assert_eq!(ask(&right, taken.clone()).await, Err(SignRefusal::NonceTaken));
        assert_eq!(ask(&wrong, taken).await, Err(SignRefusal::NonceTaken));
        std::fs::remove_file(world.path("a")).unwrap();
        std::fs::remove_file(world.path("b")).unwrap();
    }
}

#[tokio::test]
async fn a_database_of_an_older_schema_is_refused_untouched() {
    let world = World::new();
    for url in databases(&world, "older").await {
        drop(world.open(&url, "a").await);
        let pool = pool(&url).await;
        execute(&pool, "DROP TABLE signing_refusals".to_owned()).await;
        execute(&pool, "UPDATE signing_state SET schema_version = 2".to_owned()).await;
        let refused = world.try_open(&url, "a").await.err().unwrap();
        assert!(matches!(refused, WalletError::GuardSchema { found: 2, known: 3 }), "{refused}");
        let again = sqlx::query("SELECT reason FROM signing_refusals").fetch_optional(&pool).await;
        assert!(again.is_err(), "a table was made in a database of another version");
        pool.close().await;
    }
}

#[tokio::test]
async fn a_replacement_raises_both_fees_by_ten_percent_over_the_highest_attempt() {
    let world = World::new();
    for url in databases(&world, "replacement").await {
        let wallet = world.open(&url, "a").await;
        let order = || world.order(1, 0);
        ask(&wallet, fees(order(), 100_000_001, 1_001)).await.unwrap();
        for (fee, tip, granted) in [
            (110_000_001, 1_102, false),
            (110_000_002, 1_101, false),
            (110_000_002, 1_102, true),
            // Now measured against the second attempt.
            (120_000_000, 2_000, false),
            (130_000_000, 1_212, false),
            (121_000_003, 1_213, true),
        ] {
            let answer = ask(&wallet, fees(order(), fee, tip)).await;
            assert_eq!(answer.is_ok(), granted, "{fee} {tip} {answer:?}");
            assert!(granted || answer == Err(SignRefusal::WeakReplacement));
        }
        // A replacement is signed even after the intent expired: at this nonce only one of them can be mined.
        let mut late = fees(order(), 200_000_000, 2_000);
        late.at.0 = 10_001;
        assert!(ask(&wallet, late).await.is_ok());
        assert!(ask(&wallet, fees(order(), 100_000_001, 1_001)).await.is_ok(), "the first attempt repeats");
        std::fs::remove_file(world.path("a")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_signers_that_race_one_signs() {
    let world = World::new();
    for url in databases(&world, "race").await {
        let (one, two) = tokio::join!(world.open(&url, "a"), world.open(&url, "b"));
        let (one, two) = (std::sync::Arc::new(one), std::sync::Arc::new(two));
        let race = async |left: SignOrder, right: SignOrder| {
            let (one, two) = (one.clone(), two.clone());
            let left = tokio::spawn(async move { ask(&one, left).await });
            let right = tokio::spawn(async move { ask(&two, right).await });
            [left.await.unwrap(), right.await.unwrap()]
        };
        for round in 0..20_u8 {
            let (nonce, seed) = (u64::from(round) * 4, round * 3);
            let for_nonce = race(world.order(seed, nonce), world.order(seed + 1, nonce)).await;
            assert_eq!(for_nonce.iter().filter(|answer| answer.is_ok()).count(), 1, "one nonce: {for_nonce:?}");
            assert!(for_nonce.contains(&Err(SignRefusal::NonceTaken)));
            let for_intent = race(world.order(seed + 2, nonce + 1), world.order(seed + 2, nonce + 2)).await;
            assert_eq!(for_intent.iter().filter(|answer| answer.is_ok()).count(), 1, "one intent: {for_intent:?}");
            assert!(for_intent.contains(&Err(SignRefusal::IntentTaken)));
            let twins = race(world.order(200 + round, nonce + 3), world.order(200 + round, nonce + 3)).await;
            assert!(twins[0].is_ok() && twins[0] == twins[1], "the same order twice: {twins:?}");
        }
        std::fs::remove_file(world.path("a")).unwrap();
        std::fs::remove_file(world.path("b")).unwrap();
    }
}

fn stop_after_record(point: &str) {
    assert_ne!(point, "guard-recorded", "stopped by the test");
}

fn stop_before_signing(point: &str) {
    assert_ne!(point, "before-sign", "stopped by the test");
}

#[tokio::test]
async fn a_crash_after_the_record_answers_the_repeat_and_refuses_anything_else() {
    let world = World::new();
    for url in databases(&world, "crash").await {
        let wallet = world.open(&url, "a").await.interrupted_by(stop_after_record);
        let order = world.order(1, 0);
        assert!(tokio::spawn(async move { ask(&wallet, order).await }).await.is_err());
        let wallet = world.open(&url, "a").await;
        assert_eq!(ask(&wallet, world.order(1, 1)).await.unwrap_err(), SignRefusal::IntentTaken);
        assert!(ask(&wallet, world.order(1, 0)).await.is_ok());
        std::fs::remove_file(world.path("a")).unwrap();
    }
}

#[tokio::test]
async fn a_crash_before_signing_leaves_the_intent_free() {
    let world = World::new();
    for url in databases(&world, "early_crash").await {
        let wallet = world.open(&url, "a").await.interrupted_by(stop_before_signing);
        let order = world.order(1, 0);
        assert!(tokio::spawn(async move { ask(&wallet, order).await }).await.is_err());
        let wallet = world.open(&url, "a").await;
        assert!(ask(&wallet, world.order(1, 1)).await.is_ok());
        std::fs::remove_file(world.path("a")).unwrap();
    }
}

static HANGS: AtomicBool = AtomicBool::new(false);
static WAKES: AtomicBool = AtomicBool::new(false);

fn hang_before_signing(point: &str) {
    if point == "before-sign" {
        HANGS.store(true, Ordering::Release);
        while !WAKES.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_signer_that_hangs_before_signing_holds_up_no_other_and_signs_nothing_when_it_wakes() {
    let world = World::new();
    for url in databases(&world, "hang").await.into_iter().filter(|url| url.starts_with("postgres")) {
        let wallet = world.open(&url, "a").await.interrupted_by(hang_before_signing);
        let order = world.order(1, 0);
        let hanging = tokio::spawn(async move { ask(&wallet, order).await });
        while !HANGS.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        let other = world.open(&url, "b").await;
        let other = tokio::time::timeout(Duration::from_secs(30), ask(&other, world.order(1, 1))).await;
        WAKES.store(true, Ordering::Release);
        assert!(other.expect("the other signer goes on").is_ok());
        assert!(hanging.await.is_err(), "what it was about to sign is bound to another nonce by now");
    }
}

#[tokio::test]
async fn yesterdays_database_is_refused() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "a").await;
    ask(&wallet, world.order(1, 0)).await.unwrap();
    let backup = world.path("backup");
    std::fs::create_dir(&backup).unwrap();
    for file in ["guard.db", "guard.db-wal"] {
        std::fs::copy(world.path(file), backup.join(file)).unwrap();
    }
    ask(&wallet, world.order(2, 1)).await.unwrap();
    drop(wallet);
    let restored = format!("sqlite://{}", backup.join("guard.db").display());
    let refused = world.try_open(&restored, "a").await.err().unwrap();
    assert!(matches!(refused, WalletError::RolledBack { checkpoint: 2, database: 1 }), "{refused}");
    assert!(matches!(refused.into_setback(), Setback::Halt(_)));
    let empty = format!("sqlite://{}", world.path("empty.db").display());
    assert!(matches!(world.try_open(&empty, "a").await, Err(WalletError::RolledBack { checkpoint: 2, database: 0 })));
    // The real one goes on.
    assert!(ask(&world.open(&world.sqlite(), "a").await, world.order(3, 2)).await.is_ok());
}

#[tokio::test]
async fn a_database_that_loses_its_records_under_a_running_signer_stops_it() {
    let world = World::new();
    for (number, url) in databases(&world, "loss").await.into_iter().enumerate() {
        for (case, damage) in [
            "DELETE FROM signing_attempts WHERE seq = 2",
            "UPDATE signing_attempts SET running = (SELECT running FROM signing_attempts WHERE seq = 1) WHERE seq = 2",
            "UPDATE signing_state SET policy_version = 0",
        ]
        .into_iter()
        .enumerate()
        {
            let checkpoint = format!("checkpoint-{number}-{case}");
            let wallet = world.open(&url, &checkpoint).await;
            let (seed, nonce) = (u8::try_from(case).unwrap() * 10, u64::try_from(case).unwrap() * 10);
            let tables = pool(&url).await;
            if case == 0 {
                ask(&wallet, world.order(seed + 1, nonce)).await.unwrap();
            }
            ask(&wallet, world.order(seed + 2, nonce + 1)).await.unwrap();
            execute(&tables, damage.to_owned()).await;
            let answer = wallet.answer(command(world.order(seed + 3, nonce + 2))).await;
            let stopped = answer.err().unwrap();
            assert!(!stopped.retryable(), "{stopped}");
            match case {
                0 => assert!(matches!(stopped, WalletError::RolledBack { checkpoint: 2, database: 1 }), "{stopped}"),
                1 => assert!(matches!(stopped, WalletError::OtherHistory { checkpoint: 2 }), "{stopped}"),
                _ => assert!(matches!(stopped, WalletError::PolicyRolledBack { checkpoint: 1, database: 0 }), "{stopped}"),
            }
        }
    }
}

#[tokio::test]
async fn a_torn_checkpoint_stops_the_signer_before_it_signs() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "a").await;
    ask(&wallet, world.order(1, 0)).await.unwrap();
    drop(wallet);
    let whole = std::fs::read(world.path("a")).unwrap();
    std::fs::write(world.path("a"), &whole[..whole.len() / 2]).unwrap();
    let refused = world.try_open(&world.sqlite(), "a").await;
    assert!(matches!(refused, Err(WalletError::CheckpointTorn { .. })));
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_keeps_the_signature_inside() {
    let world = World::new();
    std::fs::create_dir(world.path("disk")).unwrap();
    let wallet = world.open(&world.sqlite(), "disk/a").await;
    std::fs::remove_dir_all(world.path("disk")).unwrap();
    let stopped = wallet.answer(command(world.order(1, 0))).await.err().unwrap();
    assert!(matches!(stopped, WalletError::Checkpoint { operation: "write", .. }), "{stopped}");
    assert!(!stopped.retryable());
}
