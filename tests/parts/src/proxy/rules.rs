//! What a proxy does with which request: rules are values, and a rule acts once unless it says always.

use std::collections::BTreeMap;
use std::time::Duration;

use super::frame::Api;

/// Which requests of a client a rule is about. Requests are counted from the moment at which the rule was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The request of this kind with this number, beginning with 0.
    Nth(Api, u64),
    /// The request with this number, beginning with 0, of all that write: everything but [`Api::Other`].
    Point(u64),
    /// Every request of any kind.
    Always,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The request is kept and its client is cut off, so that it connects and asks again; the connection to the broker stays open.
    /// What was kept arrives when something releases it: late, on the connection on which it was sent.
    Strand,
    /// What is stranded of this client arrives, in order, and is answered; after this pause the request itself goes on.
    ReleaseFirst(Duration),
    /// The request goes on after this pause.
    Delay(Duration),
    /// The request is swallowed, and the client waits.
    Drop,
    /// The request is swallowed, and both connections are closed.
    Cut,
    /// The request arrives, and the client is cut off instead of being answered.
    LoseAnswer,
}

/// A rule for the client that names itself so.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The client's own name (`client.id`).
    pub client: String,
    /// Which of its requests.
    pub when: When,
    /// What is done.
    pub deed: Deed,
}

/// The rules in force.
#[derive(Default)]
pub(super) struct Rules {
    standing: Vec<Standing>,
}

struct Standing {
    rule: Rule,
    kinds: BTreeMap<Api, u64>,
    points: u64,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) {
        self.standing.push(Standing { rule, kinds: BTreeMap::new(), points: 0 });
    }

    pub(super) fn forget(&mut self, client: &str) {
        self.standing.retain(|standing| standing.rule.client != client);
    }

    /// What is done with the next request of a client; the oldest rule that fits decides, and every rule counts.
    pub(super) fn judge(&mut self, client: &str, api: Api) -> Option<Deed> {
        let mut found = None;
        for (index, standing) in self.standing.iter_mut().enumerate() {
            if standing.rule.client == client && standing.meets(api) && found.is_none() {
                found = Some(index);
            }
        }
        let index = found?;
        let standing = self.standing.get(index)?;
        let (deed, once) = (standing.rule.deed, standing.rule.when != When::Always);
        if once {
            self.standing.remove(index);
        }
        Some(deed)
    }
}

impl Standing {
    fn meets(&mut self, api: Api) -> bool {
        let kind = self.kinds.entry(api).or_default();
        let (of_kind, of_all) = (*kind, self.points);
        *kind = kind.saturating_add(1);
        let writes = api != Api::Other;
        if writes {
            self.points = self.points.saturating_add(1);
        }
        match self.rule.when {
            When::Nth(wanted, number) => wanted == api && number == of_kind,
            When::Point(number) => writes && number == of_all,
            When::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: When, deed: Deed) -> Rule {
        Rule { client: "lane".to_owned(), when, deed }
    }

    #[test]
    fn a_rule_acts_once_on_the_request_that_it_names() {
        let mut rules = Rules::default();
        rules.add(rule(When::Nth(Api::EndTxn, 1), Deed::Strand));
        rules.add(rule(When::Point(3), Deed::Cut));
        let mut judge = |api| rules.judge("lane", api);
        assert_eq!([judge(Api::EndTxn), judge(Api::Other), judge(Api::Produce)], [None; 3]);
        assert_eq!(judge(Api::EndTxn), Some(Deed::Strand));
        assert_eq!(judge(Api::Produce), Some(Deed::Cut));
        assert_eq!([judge(Api::EndTxn), judge(Api::Produce)], [None; 2]);
    }

    #[test]
    fn another_client_is_not_meant_and_always_is_always() {
        let mut rules = Rules::default();
        rules.add(rule(When::Always, Deed::Cut));
        assert_eq!(rules.judge("other", Api::Produce), None);
        assert_eq!([rules.judge("lane", Api::Other), rules.judge("lane", Api::Other)], [Some(Deed::Cut); 2]);
        rules.forget("lane");
        assert_eq!(rules.judge("lane", Api::Other), None);
    }
}
