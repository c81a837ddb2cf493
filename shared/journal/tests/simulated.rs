//! The simulated log keeps the contract.

#![expect(clippy::print_stdout, reason = "the names of the checks that passed are what a reader of the test's output wants")]

use std::error::Error;
use std::sync::Arc;

use custos_journal::{Journal, SimulatedCluster, SimulatedSettings, SimulatedTime, contract};

type Outcome = Result<(), Box<dyn Error>>;

#[test]
fn it_keeps_the_contract() -> Outcome {
    let settings = SimulatedSettings { time: SimulatedTime::Real, ..SimulatedSettings::new(1) };
    let cluster = SimulatedCluster::new(settings);
    let journal = cluster.process();
    journal.provision(&contract::PROVISION)?;
    for (name, check) in contract::CHECKS {
        println!("{name}");
        check(&journal).map_err(|problem| format!("{name}: {problem}"))?;
    }
    for (name, check) in contract::REOPEN_CHECKS {
        println!("{name}");
        check(&|| Ok(Arc::new(cluster.process()))).map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}
