//! `custos books`: the books against the chains, an asset a line.

use std::process::ExitCode;

use anyhow::Context;
use custos_gateway::views::{AlarmLine, BooksLine, BooksView};
use custos_gateway::{Books, reconcile};

use crate::config::Config;
use crate::policy::read_signed;
use crate::{ConfigArgs, say, stage};

/// Compares and prints.
///
/// # Errors
/// The read model or the blockchain service cannot be reached.
pub async fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let (_, policy) = read_signed(&config.policy, &config.policy_root)?;
    let model = stage::read_model(&config).await?;
    let reader = config.balances_at.as_deref().context("the section `gateway` of the configuration is missing")?;
    let books = reconcile(&model, reader, &policy).await?;
    print(&books);
    Ok(if books.matches() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(books: &Books) {
    for line in sheet(books) {
        say(&line);
    }
    say(&format!("books match the chains: {}", if books.matches() { "yes" } else { "no" }));
}

/// The balance sheet as lines of text: a column for each asset.
pub fn sheet(books: &Books) -> Vec<String> {
    let view = BooksView::from(books);
    let row = |name: &str, value: &dyn Fn(&BooksLine) -> String| {
        let cells: String = view.assets.iter().map(|line| format!("{:>28}", value(line))).collect();
        format!("{name:<26}{cells}")
    };
    let absent = || "-".to_owned();
    let mut lines = vec![
        row("", &|line| line.asset.clone()),
        row("clients: available", &|line| line.available.clone()),
        row("clients: held", &|line| line.held.clone()),
        row("clients: pending", &|line| line.pending.clone()),
        row("clients: frozen", &|line| line.frozen.clone()),
        row("fees earned", &|line| line.fees.clone()),
        row("house funding", &|line| line.funding.clone()),
        row("between shards", &|line| line.in_transit.clone()),
        row("unattributed", &|line| line.suspense.clone()),
        row("less gas of the house", &|line| line.gas.clone()),
        row("less in flight", &|line| line.in_flight.clone()),
        row("coins by the books", &|line| line.custody.clone()),
        row("  at block", &|line| line.block.as_ref().map_or_else(absent, |block| block.number.to_string())),
        row("  coins by the books there", &|line| line.custody_at_block.clone().unwrap_or_else(absent)),
        row("  coins on chain there", &|line| line.on_chain.clone().unwrap_or_else(absent)),
        row("  difference", &|line| line.difference.clone().unwrap_or_else(absent)),
    ];
    for row in &view.altered {
        lines.push(format!("altered row: {} {} {}", row.holder, row.book, row.asset));
    }
    for AlarmLine { code, subject, at, .. } in &view.alarms {
        lines.push(format!("alarm: {code} about {subject} at {at}"));
    }
    lines
}
