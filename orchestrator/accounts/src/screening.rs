//! What every saga that screens shares: telling the finding, and reading it as a yes or no.

use custos_domain::AccountId;
use custos_messages::accounts::{Finding, Screened};
use custos_messages::events::EventBody;

use crate::desk::Desk;

/// Tells the finding on `account`, with what it rests on; the codes are empty when nothing was found.
pub(crate) fn tell_finding(desk: &mut Desk<'_>, account: &AccountId, screened: &Screened) -> Vec<String> {
    let codes = match &screened.finding {
        Finding::Clear => Vec::new(),
        Finding::Hit { codes } if codes.is_empty() => vec!["unnamed".to_owned()],
        Finding::Hit { codes } => codes.clone(),
    };
    let body = EventBody::Screened {
        step: desk.step.to_owned(),
        clear: codes.is_empty(),
        codes: codes.clone(),
        versions: screened.versions.clone(),
    };
    desk.tell(account, body);
    codes
}
