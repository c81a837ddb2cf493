//! What an account sent lately: hourly sums per asset, kept for a day.
//!
//! A window of a day over hourly sums counts up to an hour too much, never too little.

use custos_domain::{Amount, AssetId, Timestamp};

use crate::state::{Account, SentHour};

const HOUR_MILLIS: u64 = 3_600_000;
/// The current hour and the 24 before it cover any day that ends now.
const HOURS_BACK: u64 = 24;

/// The hour of a moment.
pub(crate) fn hour_of(at: Timestamp) -> u64 {
    at.0 / HOUR_MILLIS
}

impl Account {
    /// Counts a payment as sent, and forgets hours that are too old to matter.
    pub(crate) fn count_sent(&mut self, asset: &AssetId, amount: Amount, at: Timestamp) {
        let now = hour_of(at);
        let hours = self.sent.entry(asset.clone()).or_default();
        hours.retain(|entry| entry.hour.saturating_add(HOURS_BACK) >= now);
        match hours.iter_mut().find(|entry| entry.hour == now) {
            Some(entry) => {
                entry.amount = entry.amount.plus(amount).unwrap_or(Amount::new(u128::MAX));
                entry.count = entry.count.saturating_add(1);
            }
            None => hours.push(SentHour { hour: now, amount, count: 1 }),
        }
    }

    /// Takes a payment back out of the hour in which it was counted.
    pub(crate) fn uncount_sent(&mut self, asset: &AssetId, amount: Amount, hour: u64) {
        let Some(hours) = self.sent.get_mut(asset) else { return };
        if let Some(entry) = hours.iter_mut().find(|entry| entry.hour == hour) {
            entry.amount = entry.amount.minus(amount).unwrap_or(Amount::ZERO);
            entry.count = entry.count.saturating_sub(1);
        }
        hours.retain(|entry| entry.count > 0);
        if hours.is_empty() {
            self.sent.remove(asset);
        }
    }

    /// Sum and number of what was sent in the last day, without a payment of `own` that was counted in `own_hour`.
    pub(crate) fn sent_last_day(&self, asset: &AssetId, own: Amount, own_hour: u64, at: Timestamp) -> (Amount, u32) {
        let now = hour_of(at);
        let window = self.sent.get(asset).into_iter().flatten().filter(|entry| entry.hour.saturating_add(HOURS_BACK) >= now);
        let (sum, count) = window.fold((Amount::ZERO, 0_u32), |(sum, count), entry| {
            (sum.plus(entry.amount).unwrap_or(Amount::new(u128::MAX)), count.saturating_add(entry.count))
        });
        if own_hour.saturating_add(HOURS_BACK) >= now {
            (sum.minus(own).unwrap_or(Amount::ZERO), count.saturating_sub(1))
        } else {
            (sum, count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use custos_domain::{IdempotencyKey, TenantId};
    use std::collections::BTreeMap;

    #[test]
    fn a_day_of_payments_counts_and_older_ones_do_not() {
        let mut account = Account {
            tenant: TenantId::new("bank").unwrap(),
            key: IdempotencyKey::new("one").unwrap(),
            sequence: 0,
            balances: BTreeMap::new(),
            sent: BTreeMap::new(),
        };
        let eth = AssetId::new("ETH").unwrap();
        let hour = |n: u64| Timestamp(n * HOUR_MILLIS);
        account.count_sent(&eth, Amount::new(5), hour(100));
        account.count_sent(&eth, Amount::new(7), hour(110));
        let sent = |account: &Account, at| account.sent_last_day(&eth, Amount::new(7), 110, hour(at));
        assert_eq!(sent(&account, 110), (Amount::new(5), 1));
        assert_eq!(sent(&account, 124), (Amount::new(5), 1));
        assert_eq!(sent(&account, 125), (Amount::ZERO, 0));
        account.uncount_sent(&eth, Amount::new(7), 110);
        account.uncount_sent(&eth, Amount::new(5), 100);
        assert!(account.sent.is_empty());
    }
}
