//! A definition prints itself: the page that a bank engineer reads, and that a test keeps equal to the code.

use std::fmt::Write;

use crate::step::{Kind, Row, Shape, Undo, Wait, Work};

/// The page of a definition: a table and a diagram, in Markdown.
#[must_use]
pub fn page(table: &dyn Shape) -> String {
    let mut out = format!("# {} (version {})\n\n{}\n\n", table.name(), table.version(), table.purpose());
    if let Some(why) = table.no_pivot() {
        out.push_str(&format!("No pivot: {why}\n\n"));
    }
    out.push_str("| step | kind | what it does | waits | taken back by |\n|---|---|---|---|---|\n");
    for row in rows(table) {
        let ahead = if row.ahead { ", ahead of the commit" } else { "" };
        let work = match row.work {
            Work::Local => "here",
            Work::Asked => "asks",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {}: {}{} | {} | {} |",
            row.name,
            kind(row.kind),
            work,
            row.about,
            ahead,
            wait(row),
            undo(row)
        );
    }
    out.push('\n');
    out.push_str(&diagram(table));
    out
}

fn rows(table: &dyn Shape) -> impl Iterator<Item = &Row> {
    (0..table.len()).filter_map(|index| table.row(index))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Reversible => "reversible",
        Kind::Pivot => "**pivot**",
        Kind::Forward => "forward",
    }
}

fn wait(row: &Row) -> String {
    match row.wait {
        Wait::No => "–".to_owned(),
        Wait::Within(span) => format!("{span}, then unwinds"),
        Wait::WithinPolicy(name) => format!("policy: {name}, then unwinds"),
        Wait::ResendEvery(span) => format!("until answered, asks again every {span}"),
        Wait::UntilTold(why) => format!("until told: {why}"),
    }
}

fn undo(row: &Row) -> String {
    match (row.undo, row.harmless) {
        (Undo::Local(name), _) => name.to_owned(),
        (Undo::Asked(name, every), _) => format!("{name}, asked again every {every}"),
        (Undo::None, Some(why)) => format!("nothing: {why}"),
        (Undo::None, None) if row.ahead => "nothing: a question without effect".to_owned(),
        (Undo::None, None) => "–".to_owned(),
    }
}

fn diagram(table: &dyn Shape) -> String {
    let mut out = String::from("```mermaid\nstateDiagram-v2\n");
    let id = |name: &str| name.replace('-', "_");
    for row in rows(table) {
        let mark = if row.kind == Kind::Pivot { " (pivot)" } else { "" };
        let _ = writeln!(out, "    state \"{}{}\" as {}", row.name, mark, id(row.name));
    }
    for row in rows(table) {
        if let Undo::Local(name) | Undo::Asked(name, _) = row.undo {
            let _ = writeln!(out, "    state \"{name}\" as {}", id(name));
        }
    }
    let mut before: Option<&str> = None;
    // What an unwinding saga does next, from the step that stands above.
    let mut back: Option<&str> = None;
    for row in rows(table) {
        let from = before.map_or("[*]".to_owned(), id);
        let _ = writeln!(out, "    {from} --> {}", id(row.name));
        if row.kind != Kind::Forward {
            let target = back.map_or("[*]".to_owned(), id);
            match row.undo {
                Undo::Local(name) | Undo::Asked(name, _) => {
                    let from_step = if row.work == Work::Asked { Some(id(name)) } else { None };
                    let _ = writeln!(out, "    {} --> {}: no", id(row.name), from_step.unwrap_or_else(|| target.clone()));
                    let _ = writeln!(out, "    {} --> {target}", id(name));
                    back = Some(name);
                }
                Undo::None => {
                    let said =
                        if matches!(row.wait, Wait::Within(_) | Wait::WithinPolicy(_)) { "no, or too late" } else { "no" };
                    let _ = writeln!(out, "    {} --> {target}: {said}", id(row.name));
                }
            }
        }
        before = Some(row.name);
    }
    if let Some(last) = before {
        let _ = writeln!(out, "    {} --> [*]", id(last));
    }
    out.push_str("```\n");
    out
}
