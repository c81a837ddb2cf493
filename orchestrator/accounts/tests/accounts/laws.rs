//! The laws hold for every definition of this machine, and break when a definition is broken.

use custos_accounts::REGISTRY;
use custos_saga::laws::prove;
use custos_saga::{Flaw, Kind, Table, Undo, check};

#[test]
#[allow(clippy::print_stdout, reason = "the census is what one runs this for")]
fn every_definition_keeps_every_law() {
    for shape in REGISTRY.0 {
        check(*shape).unwrap_or_else(|flaw| panic!("{}: {flaw}", shape.name()));
        let census = prove(*shape).unwrap_or_else(|violation| panic!("{}: {violation}", shape.name()));
        println!("{} v{}: {census:?}", shape.name(), shape.version());
        assert!(census.completed > 0 && census.parked > 0 && census.pairs > 50, "{census:?}");
    }
}

#[test]
fn a_definition_that_loses_an_undo_breaks_a_rule_and_a_law() {
    let mut tried = 0;
    for shape in REGISTRY.0 {
        for index in 0..shape.len() {
            let mut table = Table::of(*shape);
            if table.rows[index].undo != Undo::None {
                tried += 1;
                table.rows[index].undo = Undo::None;
                assert_eq!(check(&table), Err(Flaw::NoUndo(table.rows[index].name)));
                let broken = prove(&table).expect_err("money would stay held");
                assert_eq!(broken.law, "unwinding takes back what was begun, each step once, in reverse order");
            }
        }
    }
    assert_eq!(tried, 3, "withdrawal and transfer hold funds, a deposit is recorded");
}

#[test]
fn a_definition_whose_pivot_moves_breaks_a_rule_or_a_law() {
    for shape in REGISTRY.0 {
        let table = Table::of(*shape);
        let Some(pivot) = table.rows.iter().position(|row| row.kind == Kind::Pivot) else { continue };
        for to in (0..table.rows.len()).filter(|to| *to != pivot) {
            let mut moved = table.clone();
            for (index, row) in moved.rows.iter_mut().enumerate() {
                row.kind = match index.cmp(&to) {
                    std::cmp::Ordering::Less => Kind::Reversible,
                    std::cmp::Ordering::Equal => Kind::Pivot,
                    std::cmp::Ordering::Greater => Kind::Forward,
                };
            }
            assert!(check(&moved).is_err(), "{} with its pivot at {}", shape.name(), moved.rows[to].name);
            if to > pivot {
                assert!(prove(&moved).is_err(), "{} with its pivot at {}", shape.name(), moved.rows[to].name);
            }
        }
    }
}

#[test]
fn a_definition_is_found_by_name_and_version_and_by_nothing_else() {
    assert_eq!(REGISTRY.resolve("withdrawal", 1).map(|shape| shape.len()), Some(7));
    assert!(REGISTRY.resolve("withdrawal", 2).is_none());
    assert!(REGISTRY.resolve("withdraw", 1).is_none());
}
