//! What a node's words about our bytes mean. Nodes agree on no codes, so texts decide; both nodes' texts stand in the test.
//!
//! Whatever is not known means *try again*: the bytes are the same, so trying again is harmless, and treasury's own limits end it.

use custos_messages::treasury::SendOutcome;

/// Rows are tried in order; the first whose text occurs in the node's words, in lower case, decides.
const TEXTS: &[(&str, SendOutcome)] = &[
    ("already known", SendOutcome::InPool),
    ("already imported", SendOutcome::InPool),
    ("alreadyknown", SendOutcome::InPool),
    ("known transaction", SendOutcome::InPool),
    ("nonce too low", SendOutcome::NonceSpent),
    ("nonce_too_low", SendOutcome::NonceSpent),
    ("oldnonce", SendOutcome::NonceSpent),
    ("replacement transaction underpriced", SendOutcome::Underpriced),
    ("replacementnotallowed", SendOutcome::Underpriced),
    ("max fee per gas less than block base fee", SendOutcome::FeeTooLow),
    ("gas price below minimum", SendOutcome::FeeTooLow),
    ("transaction underpriced", SendOutcome::FeeTooLow),
    ("feetoolow", SendOutcome::FeeTooLow),
    ("insufficient funds", SendOutcome::InsufficientFunds),
    ("insufficientfunds", SendOutcome::InsufficientFunds),
    ("intrinsic gas too low", SendOutcome::Invalid),
    ("insufficient gas for floor data", SendOutcome::Invalid),
    ("gas limit too high", SendOutcome::Invalid),
    ("exceeds block gas limit", SendOutcome::Invalid),
    ("max priority fee per gas higher than max fee per gas", SendOutcome::Invalid),
    ("invalid chain id", SendOutcome::Invalid),
    ("invalid sender", SendOutcome::Invalid),
    ("invalid signature", SendOutcome::Invalid),
    ("only replay-protected", SendOutcome::Invalid),
    ("transaction type not supported", SendOutcome::Invalid),
    ("rlp:", SendOutcome::Invalid),
    ("typed transaction too short", SendOutcome::Invalid),
    ("failed to decode", SendOutcome::Invalid),
];

/// What the node's error text says of the bytes.
pub(crate) fn verdict(text: &str) -> SendOutcome {
    let text = text.to_ascii_lowercase();
    TEXTS.iter().find(|(part, _)| text.contains(part)).map_or(SendOutcome::Retry, |(_, outcome)| *outcome)
}

/// One outcome for several nodes: the one that tells most. Only what every node refuses for ever is invalid.
pub(crate) fn together(outcomes: impl IntoIterator<Item = SendOutcome>) -> SendOutcome {
    let weight = |outcome: &SendOutcome| match outcome {
        SendOutcome::InPool => 0,
        SendOutcome::NonceSpent => 1,
        SendOutcome::Underpriced => 2,
        SendOutcome::FeeTooLow => 3,
        SendOutcome::InsufficientFunds => 4,
        SendOutcome::Retry => 5,
        SendOutcome::Invalid => 6,
    };
    outcomes.into_iter().min_by_key(weight).unwrap_or(SendOutcome::Retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts_of_both_nodes_mean_the_same() {
        use SendOutcome::{FeeTooLow, InPool, InsufficientFunds, Invalid, NonceSpent, Retry, Underpriced};
        let table = [
            ("already known", InPool),
            ("transaction already imported", InPool),
            ("nonce too low: next nonce 1, tx nonce 0", NonceSpent),
            ("nonce too low", NonceSpent),
            ("replacement transaction underpriced", Underpriced),
            ("max fee per gas less than block base fee", FeeTooLow),
            ("max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 7", FeeTooLow),
            ("transaction gas price below minimum: gas tip cap 0, minimum needed 1", FeeTooLow),
            ("transaction underpriced: tip needed 2, tip permitted 1", FeeTooLow),
            ("insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1", InsufficientFunds),
            ("Insufficient funds for gas * price + value", InsufficientFunds),
            ("intrinsic gas too low: gas 20999, minimum needed 21000", Invalid),
            ("intrinsic gas too low", Invalid),
            ("insufficient gas for floor data gas cost: gas 37000, minimum needed 61000", Invalid),
            ("max priority fee per gas higher than max fee per gas", Invalid),
            ("transaction gas limit too high (cap: 16777216, tx: 20000000)", Invalid),
            ("exceeds block gas limit", Invalid),
            ("invalid sender: invalid chain id for signer: have 1 want 1337", Invalid),
            ("invalid chain id for signer", Invalid),
            ("rlp: too few elements for types.DynamicFeeTx", Invalid),
            ("Failed to decode transaction", Invalid),
            ("only replay-protected (EIP-155) transactions allowed over RPC", Invalid),
            ("tx fee (2.10 ether) exceeds the configured cap (1.00 ether)", Retry),
            ("txpool is full", Retry),
            ("transaction indexing is in progress", Retry),
            ("internal error", Retry),
            ("", Retry),
        ];
        for (text, expected) in table {
            assert_eq!(verdict(text), expected, "{text}");
        }
    }

    #[test]
    fn several_nodes_tell_the_most_useful_answer_and_only_all_of_them_refuse_for_ever() {
        use SendOutcome::{FeeTooLow, InPool, Invalid, NonceSpent, Retry};
        let table: [(&[SendOutcome], SendOutcome); 5] = [
            (&[Retry, InPool], InPool),
            (&[Invalid, Retry], Retry),
            (&[Invalid, Invalid], Invalid),
            (&[NonceSpent, FeeTooLow], NonceSpent),
            (&[], Retry),
        ];
        for (outcomes, expected) in table {
            assert_eq!(together(outcomes.iter().copied()), expected);
        }
    }
}
