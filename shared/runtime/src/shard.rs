//! One shard of one machine: its memory, its transactions, its takeover and its loop.

mod batch;
mod courier;
mod defences;
mod fold;
mod herald;
mod memory;
mod progress;
mod records;
mod root;
mod run;
mod takeover;

pub use batch::{Batch, Identity, Poison, Tally, UnknownLogic};
pub(crate) use courier::chain;
pub use custos_saga::machine::LOGIC;
pub use defences::{Defence, Defences};
pub use fold::{Folded, Seated, fold};
pub use herald::Herald;
pub use memory::{Memory, Overlay};
pub use progress::{Condition, Place, Progress, Standing};
pub use records::{LastInput, Manifest, PendingId, PendingMessage, is_header, is_manifest, is_outbox_key};
pub use root::{Roots, StateRoot};
pub use run::{HeadStart, Interrupt, Running, ShardContext, ShardSettings, ShardStop, describe, run_shard};
pub use takeover::{Opening, Taken, TakeoverError, input_digest, knows, provision_shard, take_over, take_over_from};

/// A question to the state as of the last commit, asked on the shard's own thread.
pub type Question<M> = Box<dyn FnOnce(&Memory<M>) + Send>;
