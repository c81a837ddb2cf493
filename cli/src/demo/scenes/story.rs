//! One payment's whole story, in words: who asked, what screening said by which list, who approved, what was signed, where it stands
//! on chain, and what it did to the books.

use serde_json::Value;

use super::{Client, Scenes, items, text};
use crate::say;

impl Scenes {
    pub(super) async fn story(&self, withdrawal: &str, clients: &[&Client]) -> anyhow::Result<()> {
        say(&format!("operation {withdrawal}"));
        let story = self.bank.get(&format!("/operations/{withdrawal}/story")).await?;
        for event in items(&story) {
            let data = event.get("data").cloned().unwrap_or_default();
            let (subject, words) = told(text(event, "/type"), &data, clients);
            let time = text(event, "/time").get(11..23).unwrap_or("?").to_owned();
            let mut lines = words.lines();
            say(&format!("  {time}  {subject:<9} {}", lines.next().unwrap_or_default()));
            for line in lines {
                say(&format!("  {:<12}  {:<9} {line}", "", ""));
            }
        }
        say(&format!("  all of it as JSON: GET /v1/operations/{withdrawal}/story"));
        Ok(())
    }
}

/// An event in words: what it is about, and what it says. What has no words here is shown as it is.
fn told(kind: &str, data: &Value, clients: &[&Client]) -> (&'static str, String) {
    let it = |pointer: &str| said(data, pointer);
    match kind {
        "custos.operation.started.v1" => (
            "asked",
            format!(
                "by the bank under its key `{}`: {} to {}, fee at most {}\nintent {}",
                it("/key"),
                money(data, "/money"),
                it("/to"),
                money(data, "/fee_max"),
                it("/intent")
            ),
        ),
        "custos.operation.moved.v1" => ("step", format!("{} {}", it("/step"), it("/phase"))),
        "custos.operation.screened.v1" => {
            let clear = data.get("clear") == Some(&Value::Bool(true));
            let finding = if clear { "clear".to_owned() } else { format!("found {}", list(data, "/codes")) };
            ("screened", format!("{finding}, resting on {}", list(data, "/versions")))
        }
        "custos.approval.asked.v1" => {
            ("approval", format!("asked of {} officers, for the intent's digest\n{}", it("/quorum"), it("/digest")))
        }
        "custos.approval.decided.v1" => {
            let words = format!(
                "{}: {}, signed over that digest, under policy {}",
                it("/officer"),
                it("/verdict"),
                it("/policy_version")
            );
            ("approval", words)
        }
        "custos.payment.taken.v1" => ("payment", "treasury takes it over".to_owned()),
        "custos.payment.signed.v1" => (
            "payment",
            format!(
                "signed: nonce {}, attempt {}\ndigest {}\ntransaction {}",
                it("/nonce"),
                it("/attempt"),
                it("/digest"),
                it("/tx")
            ),
        ),
        "custos.payment.seen.v1" => ("payment", format!("seen in block {} {}", it("/block/number"), it("/block/hash"))),
        "custos.payment.final.v1" => {
            ("payment", format!("final in block {}, fee {} wei", it("/block/number"), it("/fee_base_units")))
        }
        "custos.journal.posted.v1" => ("books", posted(data, clients)),
        "custos.operation.ended.v1" => ("ended", it("/ending")),
        _ => ("event", format!("{kind} {data}")),
    }
}

fn posted(data: &Value, clients: &[&Client]) -> String {
    let mut words = said(data, "/reason");
    for leg in data.get("legs").and_then(Value::as_array).into_iter().flatten() {
        let account = text(leg, "/holder/account");
        let name = clients.iter().find(|client| client.id == account).map(|client| client.name);
        let holder = match (name, leg.pointer("/holder/house")) {
            (Some(name), _) => name.to_owned(),
            (None, Some(shard)) => format!("house/{shard}"),
            (None, None) => account.to_owned(),
        };
        let side = said(leg, "/side");
        words.push_str(&format!("\n{side:<6} {:<22} {}", format!("{holder} {}", said(leg, "/book")), money(leg, "/money")));
    }
    words
}

fn money(value: &Value, pointer: &str) -> String {
    format!("{} {}", said(value, &format!("{pointer}/amount")), said(value, &format!("{pointer}/asset")))
}

fn list(value: &Value, pointer: &str) -> String {
    let words = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(", ")
}

fn said(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_without_words_is_shown_as_it_is() {
        let (subject, words) = told("custos.new.thing.v1", &json!({ "a": 1 }), &[]);
        assert_eq!((subject, words.as_str()), ("event", "custos.new.thing.v1 {\"a\":1}"));
    }

    #[test]
    fn a_journal_entry_names_the_house_and_each_leg() {
        let leg = |side: &str, holder: Value| {
            let money = json!({ "asset": "ETH", "amount": "1.5" });
            json!({ "side": side, "holder": holder, "book": "custody", "money": money })
        };
        let entry = json!({
            "reason": "hold",
            "legs": [leg("debit", json!({ "house": 1 })), leg("credit", json!({ "account": "somebody" }))],
        });
        let words = posted(&entry, &[]);
        assert!(words.contains("debit  house/1 custody") && words.contains("credit somebody custody"), "{words}");
    }
}
