//! The read model's promises, each on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod support;

use std::io::Write as _;
use std::time::Duration;

use custos_domain::{Amount, Digest, EthAddress, IdempotencyKey, IntentId, OfficerId, SagaId, TxHash, WalletId};
use custos_messages::accounts::{AlarmCode, BlockMark, Deposit, HouseSpent, Inclusion, MarkPath, PaidFor, Verdict};
use custos_messages::events::{
    ClientBook, Ending, EntryReason, EventBody, HouseBook, JournalEntry, LedgerAccount, Leg, Position, Refusal, Request,
    Side, StepPhase,
};
use custos_readmodel::{
    Applied, Arrival, Cursor, DepositStatus, FeedId, Net, OperationFilter, OperationKind, OperationStatus, PageRequest,
    PaymentStatus, ReadError, ReadModel, Remedy,
};
use sqlx::Connection as _;
use support::{Database, Log, Postgres, asset, bank, block_ref, chain, client, custody, leg};

macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::Database::sqlite()).await;
            })+
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_same_holds_on_postgres() {
            let server = match Postgres::start() {
                Ok(server) => server,
                Err(reason) => {
                    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "postgres: not run: {reason}");
                    // Past the harness, which shows what a test prints only when it fails.
                    let _ = writeln!(std::io::stderr(), "postgres: not run: {reason}");
                    return;
                }
            };
            $(eprintln!("postgres: {}", stringify!($name));
            $name(&server.database(stringify!($name)).await).await;)+
        }
    };
}

on_both_databases!(
    entries_that_do_not_balance_are_refused_by_the_database_itself,
    open_entries_cannot_be_committed_and_sealed_ones_never_change,
    balances_are_exact_to_the_last_unit_of_128_bits,
    repeats_change_nothing,
    gaps_and_broken_chains_stop_the_fold,
    an_altered_row_changes_the_digest,
    a_rebuild_gives_the_same_content_however_it_is_cut,
    a_rebuild_puts_back_the_rules_that_somebody_took_away,
    projectors_that_race_fold_every_event_once,
    a_withdrawal_is_told_from_request_to_finality,
    a_refusal_after_rejection_ends_the_operation_for_good,
    deposits_follow_the_chain_and_custody_follows_the_blocks,
    a_settled_payment_mined_again_moves_custody_between_blocks_and_stays_settled,
    pages_neither_repeat_nor_skip,
    the_feed_is_read_in_order_and_goes_on_rising_after_a_rebuild,
    readers_wait_for_a_position,
    the_list_of_columns_is_that_of_the_database,
);

fn book(account: &str, book: ClientBook) -> LedgerAccount {
    LedgerAccount::Client { account: client(account), book }
}

async fn model(database: &Database) -> ReadModel {
    ReadModel::open(&database.url).await.unwrap()
}

async fn fold(model: &ReadModel, arrivals: &[Arrival]) -> Result<Applied, ReadError> {
    model.projection().apply(arrivals).await
}

/// Runs statements in one transaction past the read model, and gives what the database says.
async fn directly(database: &Database, statements: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&database.url).await?;
    let mut transaction = connection.begin().await?;
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn entries_that_do_not_balance_are_refused_by_the_database_itself(database: &Database) {
    let model = model(database).await;
    let usdc = |units, side| Leg { asset: asset("USDC"), ..leg(custody(0), units, side) };
    let (available, house) = (book("a", ClientBook::Available), custody(0));
    let wide = 1_u128 << 32;
    let cases: Vec<(Vec<Leg>, bool)> = vec![
        (vec![leg(house.clone(), 5, Side::Debit), leg(available.clone(), 5, Side::Credit)], true),
        (vec![leg(house.clone(), 5, Side::Debit), leg(available.clone(), 4, Side::Credit)], false),
        (vec![leg(house.clone(), 5, Side::Debit), leg(available.clone(), 5, Side::Debit)], false),
        (vec![leg(house.clone(), 5, Side::Debit)], false),
        // What is missing of one asset is not made up by another.
        (vec![leg(house.clone(), 5, Side::Debit), usdc(5, Side::Credit)], false),
        // Carries between limbs, upwards and downwards.
        (
            vec![
                leg(house.clone(), wide, Side::Debit),
                leg(available.clone(), wide - 1, Side::Credit),
                leg(available.clone(), 1, Side::Credit),
            ],
            true,
        ),
        (vec![leg(house.clone(), wide, Side::Debit), leg(available.clone(), 1, Side::Credit)], false),
        (vec![leg(house.clone(), wide << 64, Side::Debit), leg(available.clone(), wide, Side::Credit)], false),
        (
            vec![
                leg(house.clone(), u128::MAX, Side::Debit),
                leg(available.clone(), u128::MAX - 1, Side::Credit),
                leg(available.clone(), 1, Side::Credit),
            ],
            true,
        ),
        // Twice 2^128 - 1 against 2^128 - 2: the same low bits.
        (
            vec![
                leg(house.clone(), u128::MAX, Side::Debit),
                leg(house.clone(), u128::MAX, Side::Debit),
                leg(available.clone(), u128::MAX - 1, Side::Credit),
            ],
            false,
        ),
    ];
    let before = model.digest().await.unwrap();
    for (legs, balanced) in cases {
        let mut log = Log::default();
        log.post(0, client("a"), None, legs.clone());
        match fold(&model, &log.arrivals).await {
            Ok(_) => assert!(balanced, "taken: {legs:?}"),
            Err(refused) => {
                assert!(!balanced, "refused: {legs:?}: {refused:?}");
                assert_eq!(refused.remedy(), Remedy::Halt, "{refused:?}");
                assert_eq!(model.digest().await.unwrap(), before, "nothing of it is there");
            }
        }
        assert_eq!(model.discrepancies().await.unwrap(), vec![]);
        model.clear().await.unwrap();
        assert_eq!(model.digest().await.unwrap(), before, "cleared");
    }
}

async fn open_entries_cannot_be_committed_and_sealed_ones_never_change(database: &Database) {
    let model = model(database).await;
    let mut log = Log::default();
    log.post(
        0,
        client("a"),
        None,
        vec![leg(custody(0), 5, Side::Debit), leg(book("a", ClientBook::Available), 5, Side::Credit)],
    );
    fold(&model, &log.arrivals).await.unwrap();
    let before = model.digest().await.unwrap();
    let entry = "INSERT INTO journal_entries (partition, sequence, account, reason, happened_at, legs, sealed) \
                 SELECT partition, 99, account, reason, happened_at, 2, 0 FROM journal_entries";
    let legs = "INSERT INTO journal_legs SELECT partition, 99, leg, holder, book, asset, side, a0, a1, a2, a3, chain, \
                block_number FROM journal_legs WHERE sequence = 1";
    let seal = "UPDATE journal_entries SET sealed = 1 WHERE sequence = 99";
    // One unit more for the client than the house has.
    let another = "INSERT INTO journal_entries (partition, sequence, account, reason, happened_at, legs, sealed) \
                   SELECT partition, 98, account, reason, happened_at, 2, 0 FROM journal_entries WHERE sequence = 1";
    let unequal = "INSERT INTO journal_legs SELECT partition, 98, leg, holder, book, asset, side, a0 + leg, a1, a2, a3, chain, \
                   block_number FROM journal_legs WHERE sequence = 1";
    let again = "INSERT INTO journal_legs SELECT partition, sequence, leg + 10, holder, book, asset, side, a0, a1, a2, a3, chain, \
                 block_number FROM journal_legs WHERE sequence = 99";
    let seal_both = "UPDATE journal_entries SET sealed = 1 WHERE sequence IN (98, 99)";
    let cases: &[(&[&str], &str)] = &[
        (&[entry], "an open entry"),
        (&[entry, legs], "an open entry with balanced legs"),
        (&[entry, seal], "an entry without legs"),
        (&[entry, legs, "DELETE FROM journal_legs WHERE sequence = 99 AND leg = 1", seal], "half an entry"),
        (&[entry, legs, another, unequal, seal_both], "two entries, of which one does not balance"),
        (&[entry, legs, another, seal_both], "two entries, of which one has no legs"),
        (&[entry, legs, seal, "DELETE FROM journal_legs WHERE sequence = 99"], "legs taken out after sealing"),
        (
            &[entry, legs, again, "UPDATE journal_entries SET sealed = 1, legs = 4 WHERE sequence = 99"],
            "twice as many legs as it began with",
        ),
        (&[entry, legs, "DELETE FROM journal_legs WHERE leg = 1"], "legs taken out of an open entry and of a sealed one"),
        (&["UPDATE journal_legs SET a0 = 6"], "a changed leg"),
        (
            &["UPDATE journal_legs SET a0 = 6 WHERE leg = 0", "UPDATE journal_legs SET a0 = 6 WHERE leg = 1"],
            "two changed legs",
        ),
        (&["DELETE FROM journal_legs"], "legs taken out"),
        (&["UPDATE journal_entries SET sealed = 0"], "a seal broken"),
        (&["UPDATE journal_entries SET reason = 'hold'"], "a reason changed"),
        (&["UPDATE seals SET sealed = 0"], "another seal"),
        (&["INSERT INTO seals (sealed) VALUES (0)", entry], "a second seal"),
        (
            &[
                "INSERT INTO journal_legs SELECT partition, sequence, leg + 10, holder, book, asset, side, a0, a1, a2, a3, chain, \
               block_number FROM journal_legs",
            ],
            "more legs for a sealed entry",
        ),
    ];
    for (statements, what) in cases {
        assert!(directly(database, statements).await.is_err(), "{what} was taken");
        assert_eq!(model.digest().await.unwrap(), before, "{what}");
    }
    if !database.url.starts_with("sqlite") {
        assert!(directly(database, &["TRUNCATE journal_legs"]).await.is_err(), "all legs at once were taken out");
        let at_once = "WITH late AS (INSERT INTO journal_legs SELECT partition, 99, leg, holder, book, asset, side, a0 + leg, a1, a2, \
                       a3, chain, block_number FROM journal_legs WHERE sequence = 1 RETURNING 1) \
                       UPDATE journal_entries SET sealed = 1 WHERE sequence = 99";
        assert!(directly(database, &[entry, at_once]).await.is_err(), "unequal legs, put in by the statement that seals");
        assert_eq!(model.digest().await.unwrap(), before);
    }
    directly(database, &[entry, legs, seal]).await.expect("a whole, balanced, sealed entry is taken");
    assert_eq!(model.open_entries().await.unwrap(), 0);
    assert_eq!(model.discrepancies().await.unwrap().len(), 2, "two balances no longer are the sums of their legs");
}

async fn balances_are_exact_to_the_last_unit_of_128_bits(database: &Database) {
    let model = model(database).await;
    let mut log = Log::default();
    let move_all = |log: &mut Log, units, from, to| {
        log.post(0, client("a"), None, vec![leg(from, units, Side::Debit), leg(to, units, Side::Credit)]);
    };
    let (available, held) = (book("a", ClientBook::Available), book("a", ClientBook::Held));
    move_all(&mut log, u128::MAX, custody(0), available.clone());
    move_all(&mut log, u128::MAX - 7, available.clone(), held.clone());
    move_all(&mut log, 1 << 64, held.clone(), available.clone());
    for arrival in &log.arrivals {
        fold(&model, std::slice::from_ref(arrival)).await.unwrap();
    }
    let balances = model.balances(&client("a")).await.unwrap();
    assert_eq!(balances.len(), 1);
    assert_eq!(balances[0].available, Amount::new(7 + (1 << 64)));
    assert_eq!(balances[0].held, Amount::new(u128::MAX - 7 - (1 << 64)));
    assert_eq!((balances[0].pending, balances[0].frozen), (Amount::ZERO, Amount::ZERO));
    let sheet = model.balance_sheet(&asset("ETH")).await.unwrap();
    assert_eq!(sheet.custody, Net { side: Side::Debit, amount: Amount::new(u128::MAX) });
    assert_eq!(sheet.total, Net::ZERO);
    // One more unit does not fit into an amount: an error, never a wrapped figure.
    move_all(&mut log, 1, custody(0), available.clone());
    fold(&model, &log.arrivals).await.unwrap();
    assert!(matches!(model.balance_sheet(&asset("ETH")).await, Err(ReadError::Amount { column: "custody", .. })));
    // A book below zero is never shown.
    move_all(&mut log, 1 << 100, available, held);
    fold(&model, &log.arrivals).await.unwrap();
    assert!(matches!(model.balances(&client("a")).await, Err(ReadError::Amount { .. })));
    assert_eq!(model.discrepancies().await.unwrap(), vec![]);
}

async fn repeats_change_nothing(database: &Database) {
    let model = model(database).await;
    let log = a_day(3);
    let all = u64::try_from(log.arrivals.len()).unwrap();
    assert_eq!(fold(&model, &log.arrivals).await.unwrap(), Applied { folded: all, repeated: 0 });
    let once = model.digest().await.unwrap();
    assert_eq!(fold(&model, &log.arrivals).await.unwrap(), Applied { folded: 0, repeated: all });
    let twice: Vec<Arrival> = [&log.arrivals[..7], &log.arrivals[..7]].concat();
    assert_eq!(fold(&model, &twice).await.unwrap(), Applied { folded: 0, repeated: 14 });
    assert_eq!(model.digest().await.unwrap(), once);
}

async fn gaps_and_broken_chains_stop_the_fold(database: &Database) {
    let model = model(database).await;
    let log = a_day(1);
    let mine: Vec<Arrival> = log.arrivals.iter().filter(|arrival| arrival.partition == 0).cloned().collect();
    fold(&model, &mine[..2]).await.unwrap();
    let before = model.digest().await.unwrap();
    let gap = fold(&model, &mine[3..]).await;
    assert!(matches!(gap, Err(ReadError::Gap { partition: 0, expected: 3, found: 4 })), "{gap:?}");
    let mut forged = mine[2].clone();
    forged.place.previous = Digest([9; 32]);
    let broken = fold(&model, &[forged]).await;
    assert!(matches!(broken, Err(ReadError::Broken { partition: 0, sequence: 3, .. })), "{broken:?}");
    let mut altered = mine[2].clone();
    altered.payload.push(0);
    let broken = fold(&model, &[altered]).await;
    assert!(matches!(broken, Err(ReadError::Broken { .. })), "{broken:?}");
    // What stands before the gap in the same batch is not folded either.
    let batch = [mine[2].clone(), mine[4].clone()];
    assert!(matches!(fold(&model, &batch).await, Err(ReadError::Gap { expected: 4, found: 5, .. })));
    assert_eq!(model.digest().await.unwrap(), before);
    fold(&model, &mine[2..]).await.unwrap();
}

async fn an_altered_row_changes_the_digest(database: &Database) {
    let model = model(database).await;
    fold(&model, &a_day(2).arrivals).await.unwrap();
    let before = model.digest().await.unwrap();
    for (alter, restore) in [
        ("UPDATE deposits SET amount = '78' WHERE amount = '77'", "UPDATE deposits SET amount = '77' WHERE amount = '78'"),
        ("UPDATE balances SET d0 = d0 + 1", "UPDATE balances SET d0 = d0 - 1"),
        ("UPDATE accounts SET opened_at = opened_at + 1", "UPDATE accounts SET opened_at = opened_at - 1"),
        ("UPDATE positions SET next_offset = next_offset + 1", "UPDATE positions SET next_offset = next_offset - 1"),
    ] {
        directly(database, &[alter]).await.unwrap();
        assert_ne!(model.digest().await.unwrap(), before, "{alter}");
        directly(database, &[restore]).await.unwrap();
        assert_eq!(model.digest().await.unwrap(), before, "{restore}");
    }
}

async fn a_rebuild_gives_the_same_content_however_it_is_cut(database: &Database) {
    let model = model(database).await;
    let log = a_day(4);
    fold(&model, &log.arrivals).await.unwrap();
    let whole = model.digest().await.unwrap();
    for size in [1, 2, 5, 17] {
        model.clear().await.unwrap();
        assert_ne!(model.digest().await.unwrap(), whole);
        for batch in log.arrivals.chunks(size) {
            fold(&model, batch).await.unwrap();
        }
        assert_eq!(model.digest().await.unwrap(), whole, "batches of {size}");
    }
    // Partition after partition instead of interleaved.
    model.clear().await.unwrap();
    for partition in [1, 0] {
        let mine: Vec<Arrival> = log.arrivals.iter().filter(|arrival| arrival.partition == partition).cloned().collect();
        fold(&model, &mine).await.unwrap();
    }
    assert_eq!(model.digest().await.unwrap(), whole);
}

async fn a_rebuild_puts_back_the_rules_that_somebody_took_away(database: &Database) {
    let model = model(database).await;
    let log = a_day(4);
    fold(&model, &log.arrivals).await.unwrap();
    let whole = model.digest().await.unwrap();
    let alter: &[&str] =
        &["UPDATE journal_legs SET a0 = a0 + 1 WHERE leg = 0 AND sequence = (SELECT MIN(sequence) FROM journal_legs)"];
    let sqlite = database.url.starts_with("sqlite");
    // One rule dropped, one switched off or dropped too, and one of somebody's own put in.
    let tampering: &[&str] = if sqlite {
        &[
            "DROP TRIGGER journal_leg_updated",
            "DROP TRIGGER journal_entry_sealed",
            "CREATE TRIGGER \"a thief's\" AFTER INSERT ON balances BEGIN \
             UPDATE balances SET d0 = d0 + 1 WHERE rowid = NEW.rowid; END",
        ]
    } else {
        &[
            "DROP TRIGGER journal_legs_updated ON journal_legs",
            "ALTER TABLE journal_entries DISABLE TRIGGER journal_entries_updated",
            "CREATE FUNCTION thieve() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.d0 = NEW.d0 + 1; RETURN NEW; END $$",
            "CREATE TRIGGER \"a thief's\" BEFORE INSERT ON balances FOR EACH ROW EXECUTE FUNCTION thieve()",
        ]
    };
    assert!(directly(database, alter).await.is_err(), "the rules stand");
    directly(database, tampering).await.unwrap();
    directly(database, alter).await.unwrap();
    model.clear().await.unwrap();
    fold(&model, &log.arrivals).await.unwrap();
    assert_eq!(model.digest().await.unwrap(), whole, "folded by the schema's own rules");
    assert!(directly(database, alter).await.is_err(), "they stand again");
    let mut unbalanced = Log::default();
    unbalanced.post(0, client("a"), None, vec![leg(custody(0), 5, Side::Debit)]);
    model.clear().await.unwrap();
    assert!(fold(&model, &unbalanced.arrivals).await.is_err(), "and an entry must balance");
}

async fn projectors_that_race_fold_every_event_once(database: &Database) {
    let log = a_day(12);
    let first = model(database).await;
    fold(&first, &log.arrivals).await.unwrap();
    let expected = first.digest().await.unwrap();
    first.clear().await.unwrap();
    let racers = [3_usize, 5, 8].map(|size| {
        let (url, arrivals) = (database.url.clone(), log.arrivals.clone());
        tokio::spawn(async move {
            let model = ReadModel::open(&url).await.unwrap();
            let mut folded = 0;
            for batch in arrivals.chunks(size) {
                folded += loop {
                    match fold(&model, batch).await {
                        Ok(applied) => break applied.folded,
                        Err(cause) => assert_eq!(cause.remedy(), Remedy::Retry, "{cause:?}"),
                    }
                };
            }
            folded
        })
    });
    let mut folded = 0;
    for racer in racers {
        folded += racer.await.unwrap();
    }
    assert_eq!(folded, u64::try_from(log.arrivals.len()).unwrap(), "every event was folded by exactly one of them");
    assert_eq!(first.digest().await.unwrap(), expected);
    let feed = first.events(None, FeedId(0), 1_000).await.unwrap();
    assert_eq!(feed.len(), log.arrivals.len());
    assert!(feed.windows(2).all(|pair| pair[0].id < pair[1].id));
}

fn withdrawal(key: &str) -> (SagaId, Request) {
    let account = client("a");
    let saga = SagaId::derive(&account, "withdrawal", key.as_bytes());
    let request = Request::Withdrawal {
        key: IdempotencyKey::new(key).unwrap(),
        asset: asset("ETH"),
        amount: Amount::new(1_000),
        to: EthAddress([4; 20]),
        fee_max: Amount::new(50),
        fee_asset: asset("ETH"),
        intent: IntentId::of_saga(&saga),
    };
    (saga, request)
}

fn moved(step: &str, phase: StepPhase) -> EventBody {
    EventBody::Moved { step: step.to_owned(), phase }
}

fn included(tx: u8, number: u64) -> Inclusion {
    Inclusion { tx: TxHash([tx; 32]), nonce: 7, block: block_ref(number), fee: Amount::new(21), succeeded: true }
}

/// From the request to the officers' question.
fn asked_officers(log: &mut Log, key: &str) -> SagaId {
    let (saga, request) = withdrawal(key);
    let mut tell = |body| {
        log.tell(0, client("a"), Some(saga), body);
    };
    tell(EventBody::Started(request));
    tell(moved("hold-funds", StepPhase::Done));
    tell(moved("screen", StepPhase::Asked));
    let versions = vec!["eu@2".to_owned(), "ofac@9".to_owned()];
    tell(EventBody::Screened { step: "screen".to_owned(), clear: true, codes: vec![], versions });
    tell(moved("screen", StepPhase::Done));
    tell(EventBody::ApprovalAsked { intent: vec![1, 2, 3], digest: Digest::of(&[1, 2, 3]), quorum: 2 });
    tell(moved("approve", StepPhase::Asked));
    saga
}

fn decided(officer: &str, verdict: Verdict) -> EventBody {
    let officer = OfficerId::new(officer).unwrap();
    EventBody::Decided { officer, verdict, digest: Digest::of(&[1, 2, 3]), policy_version: 1 }
}

async fn a_withdrawal_is_told_from_request_to_finality(database: &Database) {
    let model = model(database).await;
    let mut log = Log::default();
    let saga = asked_officers(&mut log, "w-1");
    fold(&model, &log.arrivals).await.unwrap();
    let waiting = model.awaiting_approval(PageRequest::first(10)).await.unwrap();
    assert_eq!(waiting.items.iter().map(|operation| operation.saga).collect::<Vec<_>>(), vec![saga]);
    let asked = model.approvals(&saga).await.unwrap();
    assert_eq!((asked[0].quorum, asked[0].intent.clone(), asked[0].digest), (2, vec![1, 2, 3], Digest::of(&[1, 2, 3])));
    let mut tell = |body| {
        log.tell(0, client("a"), Some(saga), body);
    };
    tell(decided("anna", Verdict::Approve));
    tell(decided("ben", Verdict::Approve));
    tell(moved("approve", StepPhase::Done));
    tell(EventBody::PaymentTaken { intent: IntentId::of_saga(&saga) });
    let sign = |tx, attempt| EventBody::PaymentSigned { tx: TxHash([tx; 32]), nonce: 7, digest: Digest::of(&[tx]), attempt };
    tell(sign(1, 1));
    tell(sign(2, 2));
    tell(EventBody::PaymentSeen(included(1, 30)));
    tell(EventBody::PaymentUnseen(included(1, 30)));
    tell(EventBody::PaymentSeen(included(2, 31)));
    tell(EventBody::PaymentFinal(included(2, 31)));
    tell(EventBody::Ended(Ending::Completed));
    fold(&model, &log.arrivals).await.unwrap();
    assert_eq!(model.awaiting_approval(PageRequest::first(10)).await.unwrap().items, vec![]);
    let operation = model.operation(&saga).await.unwrap().unwrap();
    assert_eq!((operation.kind, operation.status), (OperationKind::Withdrawal, OperationStatus::Completed));
    assert_eq!(operation.request, withdrawal("w-1").1);
    assert_eq!((operation.refusal, operation.position), (None, Position { partition: 0, sequence: 18 }));
    let payment = model.payment(&saga).await.unwrap().unwrap();
    assert_eq!((payment.status, payment.attempts, payment.included), (PaymentStatus::Final, 2, Some(included(2, 31))));
    assert_eq!(
        model.payment_of_tx(&TxHash([1; 32])).await.unwrap().map(|found| found.saga),
        Some(saga),
        "by an old attempt"
    );
    assert_eq!(model.signatures(&saga).await.unwrap().iter().map(|s| s.attempt).collect::<Vec<_>>(), vec![1, 2]);
    let decisions = model.decisions(&saga).await.unwrap();
    assert_eq!(decisions.iter().map(|d| d.officer.as_str()).collect::<Vec<_>>(), vec!["anna", "ben"]);
    let screenings = model.screenings(&saga).await.unwrap();
    assert_eq!((screenings[0].clear, screenings[0].codes.len(), screenings[0].versions.len()), (true, 0, 2));
    let steps = model.steps(&saga).await.unwrap();
    assert_eq!(
        steps.iter().map(|s| s.step.as_str()).collect::<Vec<_>>(),
        ["hold-funds", "screen", "screen", "approve", "approve"]
    );
    let story = model.story(&saga).await.unwrap();
    assert_eq!(
        story.iter().map(|e| &e.event).collect::<Vec<_>>(),
        log.arrivals.iter().map(|a| &a.event).collect::<Vec<_>>()
    );
}

async fn a_refusal_after_rejection_ends_the_operation_for_good(database: &Database) {
    let model = model(database).await;
    let mut log = Log::default();
    let saga = asked_officers(&mut log, "w-2");
    let mut tell = |body| {
        log.tell(0, client("a"), Some(saga), body);
    };
    tell(decided("anna", Verdict::Reject));
    tell(EventBody::Parked { step: "approve".to_owned(), code: "looked-at".to_owned() });
    fold(&model, &log.arrivals).await.unwrap();
    let parked = model.operation(&saga).await.unwrap().unwrap();
    assert_eq!((parked.status, parked.parked.as_deref()), (OperationStatus::Parked, Some("looked-at")));
    let mut tell = |body| {
        log.tell(0, client("a"), Some(saga), body);
    };
    tell(moved("hold-funds", StepPhase::Undone));
    tell(EventBody::Ended(Ending::Refused(Refusal::Screening { codes: vec!["sanctioned-address".to_owned()] })));
    tell(moved("too-late", StepPhase::Done));
    fold(&model, &log.arrivals).await.unwrap();
    let refused = model.operation(&saga).await.unwrap().unwrap();
    let codes = vec!["sanctioned-address".to_owned()];
    assert_eq!((refused.status, refused.refusal), (OperationStatus::Refused, Some(Refusal::Screening { codes })));
    assert_eq!((refused.step.as_deref(), refused.parked), (Some("hold-funds"), None), "terminal states absorb");
    let filter = OperationFilter { status: Some(OperationStatus::Refused), ..OperationFilter::default() };
    assert_eq!(model.operations(filter, PageRequest::first(5)).await.unwrap().items.len(), 1);
    let filter = OperationFilter { kind: Some(OperationKind::Transfer), ..OperationFilter::default() };
    assert_eq!(model.operations(filter, PageRequest::first(5)).await.unwrap().items.len(), 0);
}

fn deposit(tx: u8, number: u64, units: u128) -> Deposit {
    Deposit {
        chain: chain(),
        tx: TxHash([tx; 32]),
        index: 1_000_000,
        block: block_ref(number),
        from: EthAddress([1; 20]),
        to: EthAddress([2; 20]),
        asset: asset("ETH"),
        amount: Amount::new(units),
    }
}

async fn deposits_follow_the_chain_and_custody_follows_the_blocks(database: &Database) {
    let model = model(database).await;
    let mut log = Log::default();
    let saga = SagaId::derive(&client("a"), "deposit", b"1");
    let arrive = |log: &mut Log, number, body: fn(Deposit) -> EventBody, sides: Option<[Side; 2]>| {
        log.tell(0, client("a"), Some(saga), body(deposit(9, number, 77)));
        if let Some([house, owed]) = sides {
            let pending = book("a", ClientBook::Pending);
            log.post(0, client("a"), Some(number), vec![leg(custody(0), 77, house), leg(pending, 77, owed)]);
        }
    };
    arrive(&mut log, 10, EventBody::DepositSeen, Some([Side::Debit, Side::Credit]));
    arrive(&mut log, 10, EventBody::DepositUnseen, Some([Side::Credit, Side::Debit]));
    arrive(&mut log, 12, EventBody::DepositSeen, Some([Side::Debit, Side::Credit]));
    fold(&model, &log.arrivals).await.unwrap();
    arrive(&mut log, 12, EventBody::DepositCredited, None);
    for (partition, path, number) in
        [(0, MarkPath::Deposits, 20), (0, MarkPath::Payments, 18), (1, MarkPath::Deposits, 19), (0, MarkPath::Payments, 19)]
    {
        let mark = BlockMark { chain: chain(), path, block: block_ref(number), partition };
        log.tell(partition, custos_domain::AccountId::house(&bank(), partition), None, EventBody::Marked(mark));
    }
    fold(&model, &log.arrivals).await.unwrap();
    let found = model.deposits(Some(&client("a")), PageRequest::first(10)).await.unwrap().items;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].status, &found[0].deposit, found[0].saga),
        (DepositStatus::Credited, &deposit(9, 12, 77), Some(saga))
    );
    assert_eq!(found[0].position, Position { partition: 0, sequence: 1 }, "where it was first told");
    for (block, units) in [(9, 0), (10, 0), (11, 0), (12, 77), (u64::from(u32::MAX), 77)] {
        let held = model.custody_at(&chain(), &asset("ETH"), block).await.unwrap();
        assert_eq!(held, Net { side: Side::Debit, amount: Amount::new(units) }, "at block {block}");
    }
    assert_eq!(model.marks(&chain(), 2).await.unwrap().complete_up_to, None, "shard 1 has no mark of payments");
    let marks = model.marks(&chain(), 1).await.unwrap();
    assert_eq!((marks.marks.len(), marks.complete_up_to), (3, Some(block_ref(19))));
    assert_eq!(model.assets().await.unwrap(), vec![asset("ETH")]);
}

async fn a_settled_payment_mined_again_moves_custody_between_blocks_and_stays_settled(database: &Database) {
    let model = model(database).await;
    let mut log = Log::default();
    let (saga, request) = withdrawal("w");
    let house = custos_domain::AccountId::house(&bank(), 1);
    let of_house = |book| LedgerAccount::House { partition: 1, book };
    log.tell(0, client("a"), Some(saga), EventBody::Started(request));
    log.tell(0, client("a"), Some(saga), EventBody::PaymentFinal(included(9, 10)));
    log.post(
        0,
        client("a"),
        Some(10),
        vec![leg(custody(0), 105, Side::Credit), leg(book("a", ClientBook::Held), 105, Side::Debit)],
    );
    log.tell(0, client("a"), Some(saga), EventBody::Ended(Ending::Completed));
    // Its block leaves below finality, and it is mined again: another shard's house tells it, in the payment's own story.
    let first = included(9, 10);
    let mut tell = |version, now: Option<Inclusion>, reason, block, units: [u128; 2]| {
        let payment = Some(PaidFor { saga, asset: asset("ETH"), amount: Amount::new(100) });
        let (wallet, gas_asset) = (WalletId::omnibus(&bank(), &chain()), asset("ETH"));
        let settled = Some(first.clone());
        let spent = HouseSpent { wallet, chain: chain(), nonce: 3, version, gas_asset, payment, settled, now };
        log.tell(1, house, Some(saga), EventBody::HouseSpent(spent));
        let [gas, amount] = units;
        let (out, back) =
            if reason == EntryReason::HouseSpent { (Side::Debit, Side::Credit) } else { (Side::Credit, Side::Debit) };
        let legs = vec![
            leg(of_house(HouseBook::Gas), gas, out),
            leg(of_house(HouseBook::InFlight), amount, out),
            leg(custody(1), gas + amount, back),
        ];
        let entry = JournalEntry { reason, block: Some((chain(), block_ref(block))), legs };
        log.tell(1, house, Some(saga), EventBody::Posted(entry));
    };
    tell(1, None, EntryReason::HouseUnspent, 10, [5, 100]);
    tell(2, Some(included(9, 14)), EntryReason::HouseSpent, 14, [8, 100]);
    fold(&model, &log.arrivals).await.unwrap();
    for (block, units) in [(9, 0), (10, 0), (13, 0), (14, 108)] {
        let held = model.custody_at(&chain(), &asset("ETH"), block).await.unwrap();
        assert_eq!(held.amount, Amount::new(units), "at block {block}");
    }
    let sheet = model.balance_sheet(&asset("ETH")).await.unwrap();
    assert_eq!((sheet.gas.amount, sheet.in_flight.amount), (Amount::new(3), Amount::ZERO), "the house bears the difference");
    assert!(sheet.total.amount.is_zero() && model.discrepancies().await.unwrap().is_empty());
    let payment = model.payment(&saga).await.unwrap().unwrap();
    assert_eq!(
        (payment.status, payment.included),
        (PaymentStatus::Final, Some(included(9, 10))),
        "what is settled stays so"
    );
    let story = model.story(&saga).await.unwrap();
    assert_eq!(story.iter().filter(|told| told.kind == "custos.house.spent.v1").count(), 2);
}

async fn pages_neither_repeat_nor_skip(database: &Database) {
    let model = model(database).await;
    let log = a_day(5);
    fold(&model, &log.arrivals).await.unwrap();
    let mut seen = Vec::new();
    let mut request = PageRequest::first(2);
    loop {
        let page = model.deposits(None, request).await.unwrap();
        seen.extend(page.items.iter().map(|view| (view.seen_at, view.position)));
        let Some(next) = page.next else { break };
        request.after = Some(next.to_string().parse::<Cursor>().unwrap());
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "newest first: {seen:?}");
    let accounts = model.accounts(PageRequest::first(100)).await.unwrap();
    assert_eq!((accounts.items.len(), accounts.next), (5, None));
    assert!(accounts.items.windows(2).all(|pair| pair[0].opened_at < pair[1].opened_at), "oldest first");
    assert_eq!(model.account(&client("c0")).await.unwrap().unwrap().key, "c0");
    assert_eq!(model.account(&client("nobody")).await.unwrap(), None);
    let address = model.addresses(&client("c0")).await.unwrap();
    assert_eq!(address[0].path, "m/44'/60'/0'/0/0");
    assert_eq!(model.address(&chain(), &address[0].address).await.unwrap().map(|row| row.account), Some(client("c0")));
    assert_eq!(model.alarms(PageRequest::first(10)).await.unwrap().items.len(), 1);
    assert_eq!(model.policy(2).await.unwrap(), Some((1, Digest([3; 32]))));
    assert_eq!(model.policy(3).await.unwrap(), None, "one shard has none yet");
    assert_eq!(model.transfers_received(&client("c1"), PageRequest::first(9)).await.unwrap().items.len(), 1);
    assert!("1-2".parse::<Cursor>().is_err() && "1-2-x".parse::<Cursor>().is_err() && "1-2-3-4".parse::<Cursor>().is_err());
}

async fn the_feed_is_read_in_order_and_goes_on_rising_after_a_rebuild(database: &Database) {
    let model = model(database).await;
    let log = a_day(3);
    fold(&model, &log.arrivals).await.unwrap();
    let mut last = FeedId::default();
    let mut read = Vec::new();
    loop {
        let some = model.events(None, last, 4).await.unwrap();
        let Some(newest) = some.last() else { break };
        last = newest.id;
        read.extend(some);
    }
    assert_eq!(read.len(), log.arrivals.len());
    assert_eq!(last, model.feed_head().await.unwrap());
    assert!(read.iter().zip(&log.arrivals).all(|(event, arrival)| event.payload == arrival.payload));
    let mine = model.events(Some(&client("c1")), FeedId(0), 100).await.unwrap();
    assert!(!mine.is_empty() && mine.iter().all(|event| event.event.account == client("c1")));
    let place = mine[0].position;
    assert_eq!(model.event(place).await.unwrap().as_ref(), Some(&mine[0]));
    model.clear().await.unwrap();
    fold(&model, &log.arrivals).await.unwrap();
    let again = model.events(None, last, 1_000).await.unwrap();
    assert_eq!(again.len(), log.arrivals.len(), "an old cursor sees all of it again and misses nothing");
    assert!(model.wait_for_feed(last, Duration::from_secs(5)).await.unwrap() > last);
}

async fn readers_wait_for_a_position(database: &Database) {
    let model = model(database).await;
    let log = a_day(2);
    let mine: Vec<Arrival> = log.arrivals.iter().filter(|arrival| arrival.partition == 0).cloned().collect();
    let wanted = Position { partition: 0, sequence: 3 };
    fold(&model, &mine[..2]).await.unwrap();
    let late = model.wait_for(wanted, Duration::from_millis(30)).await;
    assert!(matches!(late, Err(ReadError::Behind { partition: 0, sequence: 3 })), "{late:?}");
    // Folded by another process: no notice reaches the waiting one.
    let elsewhere = ReadModel::open(&database.url).await.unwrap();
    let waiting = tokio::spawn({
        let model = model.clone();
        async move { model.wait_for(wanted, Duration::from_secs(20)).await }
    });
    fold(&elsewhere, &mine).await.unwrap();
    waiting.await.unwrap().unwrap();
    let place = model.place(0).await.unwrap().unwrap();
    let last = mine.last().unwrap();
    assert_eq!(
        (place.position.sequence, place.next_offset, place.hash),
        (last.place.sequence, last.offset + 1, last.place.hash)
    );
    assert_eq!(model.place(5).await.unwrap(), None);
}

async fn the_list_of_columns_is_that_of_the_database(database: &Database) {
    let model = model(database).await;
    assert_eq!(model.unlisted_columns().await.unwrap(), Vec::<String>::new());
}

/// `clients` clients in two partitions: each is opened, gets an address and a deposit; some things beside.
fn a_day(clients: u8) -> Log {
    let mut log = Log::default();
    for partition in [0, 1] {
        let house = custos_domain::AccountId::house(&bank(), partition);
        log.tell(partition, house, None, EventBody::PolicyAdopted { version: 1, digest: Digest([3; 32]) });
    }
    for n in 0..clients {
        let (name, partition) = (format!("c{n}"), u32::from(n) % 2);
        let account = client(&name);
        let key = IdempotencyKey::new(&name).unwrap();
        log.tell(partition, account, None, EventBody::AccountOpened { tenant: bank(), key: key.clone() });
        let issue = SagaId::derive(&account, "issue-address", b"1");
        log.tell(partition, account, Some(issue), EventBody::Started(Request::Address { key, chain: chain() }));
        log.tell(
            partition,
            account,
            Some(issue),
            EventBody::AddressIssued {
                chain: chain(),
                address: EthAddress([n; 20]),
                wallet: WalletId::omnibus(&bank(), &chain()),
                path: format!("m/44'/60'/0'/0/{n}"),
                watched_from: block_ref(5),
            },
        );
        log.tell(partition, account, Some(issue), EventBody::Ended(Ending::Completed));
        let saga = SagaId::derive(&account, "deposit", b"1");
        log.tell(partition, account, Some(saga), EventBody::Started(Request::Deposit(deposit(n, 10, 77))));
        log.tell(partition, account, Some(saga), EventBody::DepositSeen(deposit(n, 10, 77)));
        let pending = LedgerAccount::Client { account, book: ClientBook::Pending };
        log.post(
            partition,
            account,
            Some(10),
            vec![leg(custody(partition), 77, Side::Debit), leg(pending, 77, Side::Credit)],
        );
    }
    let house = custos_domain::AccountId::house(&bank(), 1);
    let subject = chain().to_string();
    log.tell(1, house, None, EventBody::Alarm { code: AlarmCode::DeepReorg, subject });
    let from = SagaId::derive(&client("c0"), "transfer", b"t");
    let received = EventBody::TransferReceived { from, asset: asset("ETH"), amount: Amount::new(3) };
    log.tell(1, client("c1"), None, received);
    log
}
