//! The laws hold for well-formed tables of every shape, and each way to break a table breaks a law or a rule.

use custos_domain::{CommandId, Millis};
use custos_saga::laws::prove;
use custos_saga::{Action, Flaw, Instance, Kind, Phase, Row, Said, Stimulus, Table, Undo, Wait, Work, check, interpret};

fn row(name: &'static str, kind: Kind, work: Work) -> Row {
    let wait = match (work, kind) {
        (Work::Local, _) => Wait::No,
        (Work::Asked, Kind::Reversible) => Wait::Within(Millis::minutes(5)),
        (Work::Asked, _) => Wait::ResendEvery(Millis::minutes(1)),
    };
    Row { name, about: "", kind, work, wait, ahead: false, undo: Undo::None, harmless: None }
}

fn local(name: &'static str, undo: &'static str) -> Row {
    Row { undo: Undo::Local(undo), ..row(name, Kind::Reversible, Work::Local) }
}

fn payment() -> Table {
    Table {
        name: "payment",
        no_pivot: None,
        rows: vec![
            local("hold", "release"),
            Row { ahead: true, ..row("screen", Kind::Reversible, Work::Asked) },
            Row { undo: Undo::Asked("free-line", Millis::minutes(1)), ..row("reserve-line", Kind::Reversible, Work::Asked) },
            row("pay", Kind::Pivot, Work::Asked),
            row("await", Kind::Forward, Work::Asked),
            row("settle", Kind::Forward, Work::Local),
        ],
    }
}

fn change(step: &str, change: impl FnOnce(&mut Row)) -> Table {
    let mut table = payment();
    change(table.rows.iter_mut().find(|row| row.name == step).expect("a step of the table"));
    table
}

#[test]
#[allow(clippy::print_stdout, reason = "the census is what one runs this for")]
fn a_well_formed_saga_keeps_every_law() {
    assert_eq!(check(&payment()), Ok(()));
    let census = prove(&payment()).unwrap();
    println!("{census:?}");
    assert!(census.pairs > 500 && census.completed > 0 && census.unwound > 0 && census.parked > 0);
}

#[test]
fn every_short_well_formed_table_keeps_every_law() {
    let reversible = [
        local("a", "undo-a"),
        Row { ahead: true, ..row("a", Kind::Reversible, Work::Asked) },
        Row { undo: Undo::Local("undo-a"), ..row("a", Kind::Reversible, Work::Asked) },
        Row { undo: Undo::Asked("undo-a", Millis::minutes(1)), ..row("a", Kind::Reversible, Work::Asked) },
        Row { wait: Wait::UntilTold("told"), harmless: Some("listens"), ..row("a", Kind::Reversible, Work::Asked) },
        Row { wait: Wait::ResendEvery(Millis::minutes(1)), ahead: true, ..row("a", Kind::Reversible, Work::Asked) },
    ];
    let pivots = [row("p", Kind::Pivot, Work::Local), row("p", Kind::Pivot, Work::Asked)];
    let forwards = [row("f", Kind::Forward, Work::Local), row("f", Kind::Forward, Work::Asked)];
    for first in &reversible {
        for second in &reversible {
            for pivot in &pivots {
                for forward in &forwards {
                    let rows = vec![*first, Row { name: "b", ..*second }, *pivot, *forward];
                    let table = Table { name: "short", no_pivot: None, rows };
                    assert_eq!(check(&table), Ok(()));
                    prove(&table).unwrap_or_else(|violation| panic!("{table:?}: {violation}"));
                }
            }
        }
    }
}

#[test]
fn a_deleted_undo_is_refused_and_breaks_a_law() {
    for step in ["hold", "reserve-line"] {
        let table = change(step, |row| row.undo = Undo::None);
        assert!(matches!(check(&table), Err(Flaw::NoUndo(name)) if name == step));
        assert_eq!(prove(&table).unwrap_err().law, "unwinding takes back what was begun, each step once, in reverse order");
    }
}

#[test]
fn a_moved_pivot_is_refused_and_breaks_a_law() {
    let mut later = change("pay", |row| row.kind = Kind::Reversible);
    later.rows[4].kind = Kind::Pivot;
    assert_eq!(check(&later), Err(Flaw::NoUndo("pay")));
    assert_eq!(prove(&later).unwrap_err().law, "unwinding takes back what was begun, each step once, in reverse order");
    let mut earlier = change("reserve-line", |row| row.kind = Kind::Pivot);
    earlier.rows[3].kind = Kind::Forward;
    assert_eq!(check(&earlier), Err(Flaw::UndoTooLate("reserve-line")));
    let second = change("await", |row| row.kind = Kind::Pivot);
    assert_eq!(check(&second), Err(Flaw::SecondPivot("await")));
    let none = Table { rows: payment().rows[..3].to_vec(), ..payment() };
    assert_eq!(check(&none), Err(Flaw::NoPivot));
}

#[test]
fn a_forward_question_that_gives_up_or_is_never_repeated_is_refused() {
    let gives_up = change("await", |row| row.wait = Wait::Within(Millis::minutes(1)));
    assert_eq!(check(&gives_up), Err(Flaw::NoResend("await")));
    let silent = change("pay", |row| row.wait = Wait::No);
    assert_eq!(check(&silent), Err(Flaw::NoResend("pay")));
    let endless = change("screen", |row| row.wait = Wait::No);
    assert_eq!(check(&endless), Err(Flaw::NoLimit("screen")));
}

#[test]
fn nothing_with_an_effect_leaves_ahead_of_the_commit() {
    for step in ["hold", "reserve-line", "pay", "await", "settle"] {
        assert_eq!(check(&change(step, |row| row.ahead = true)).err().map(|_| ()), Some(()), "{step}");
    }
    assert_eq!(check(&change("await", |row| row.name = "pay")), Err(Flaw::SameName("pay")));
}

#[test]
fn a_question_that_changed_when_it_is_sent_again_parks() {
    let table = payment();
    let first = Some(CommandId([1; 32]));
    let waiting = Instance { phase: Phase::Waiting, step: 3, attempt: 4, expected: first, done: 0b111 };
    let (repeating, actions) = interpret(&table, &waiting, Stimulus::Due(4));
    assert_eq!(actions, [Action::Ask(3, 4)]);
    let (same, actions) = interpret(&table, &repeating, Stimulus::Said(Said::Sent(first)));
    assert_eq!((same, actions), (waiting, vec![Action::Arm(3, 4)]));
    let (other, actions) = interpret(&table, &repeating, Stimulus::Said(Said::Sent(Some(CommandId([2; 32])))));
    assert_eq!((other.phase, actions), (Phase::Parked, vec![Action::Park(3, "question-changed")]));
}
