//! Every message of every stream: a name, a line's end, and the bytes of whoever holds the sender's key.
//!
//! The key is held here: a source that was taken over can say whatever its row of the table allows, and no more.

use std::fmt::Debug;
use std::sync::OnceLock;

use custos_messages::accounts::AccountsInput;
use custos_messages::blockchain::BlockchainCommand;
use custos_messages::chain::ChainInput;
use custos_messages::compliance::Screen;
use custos_messages::events::Event;
use custos_messages::gateway::GatewayReply;
use custos_messages::treasury::TreasuryInput;
use custos_messages::wallet::WalletCommand;
use custos_messages::watch::WatchRecord;
use custos_messages::{Activate, Envelope, Keyring, Machine, Message, MessageId, Rejection, Source, TimerDue, Topic};
use custos_testkit as kit;

use super::Target;
use super::envelope::CODES;

pub const TARGET: Target = Target { name: "message", seeds, run, words: &[], mutations: 1_500 };

/// One of each kind is written by the tests of `custos-messages`, which can draw them; here are the runtime's own.
fn seeds() -> Vec<Vec<u8>> {
    let timer = TimerDue { timer: b"timer".to_vec(), due: custos_domain::Timestamp(7) };
    let activate = Activate { logic: 2 };
    vec![
        [TimerDue::KIND.as_bytes(), b"\n", &timer.encode()].concat(),
        [Activate::KIND.as_bytes(), b"\n", &activate.encode()].concat(),
    ]
}

fn run(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let Some(Ok(kind)) = lines.next().map(std::str::from_utf8) else { return };
    let payload = lines.next().unwrap_or_default();
    read::<AccountsInput>(Topic::Inbox(Machine::Accounts), kind, payload);
    read::<TreasuryInput>(Topic::Inbox(Machine::Treasury), kind, payload);
    read::<ChainInput>(Topic::Inbox(Machine::Chain), kind, payload);
    read::<TimerDue>(Topic::Inbox(Machine::Chain), kind, payload);
    read::<Activate>(Topic::Inbox(Machine::Chain), kind, payload);
    read::<Screen>(Topic::ComplianceCommands, kind, payload);
    read::<WalletCommand>(Topic::WalletCommands, kind, payload);
    read::<BlockchainCommand>(Topic::BlockchainCommands, kind, payload);
    read::<Event>(Topic::Events, kind, payload);
    read::<WatchRecord>(Topic::Addresses, kind, payload);
    read::<GatewayReply>(Topic::GatewayReplies, kind, payload);
}

fn keyring() -> &'static Keyring {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    KEYRING.get_or_init(kit::keyring)
}

fn read<M: Message + PartialEq + Debug>(topic: Topic, kind: &str, payload: &[u8]) {
    if let Ok(message) = M::decode(kind, payload) {
        assert_eq!(message.kind(), kind);
        let bytes = message.encode();
        assert_eq!(M::decode(kind, &bytes).ok().as_ref(), Some(&message), "a message survives its own bytes");
        assert_eq!(message.id(), M::decode(kind, &bytes).expect("it was read").id());
    }
    // Sealed over these very bytes by whoever may say it, and by somebody who may not.
    let entitled = Source::ALL.into_iter().find(|source| source.may_say(kind));
    let other = Source::ALL.into_iter().find(|source| !source.may_say(kind));
    for source in [entitled, other].into_iter().flatten() {
        let envelope = Envelope {
            id: MessageId::derive(kind, "subject", payload),
            kind: kind.to_owned(),
            source,
            subject: "subject".to_owned(),
            time: None,
            trace: None,
            link: None,
            reply_to: None,
        };
        let record = keyring().seal(&envelope, topic, b"key".to_vec(), Some(payload.to_vec()));
        match keyring().open_message::<M>(topic, &record) {
            Ok((opened, message)) => {
                assert!(source.may_say(kind), "{} said {kind}", source.name());
                assert_eq!(opened, envelope);
                assert_eq!(message.kind(), kind);
            }
            Err(rejection) => {
                assert!(CODES.contains(&rejection.code()), "{}", rejection.code());
                assert!(!matches!(rejection, Rejection::Unauthenticated(_)), "the seal is true");
            }
        }
    }
}
