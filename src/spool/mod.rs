//! The spool: what a pull takes off Cisco's queue is stored until it is delivered.
//!
//! A pull cannot be repeated. So it is written down before it is sent, its response is read to its end and stored before
//! a caller gets any of it, and the message is delivered again, oldest first, until a caller has all of it. Messages are
//! delivered at least once; delivered ones are retained for a while, so that an operator can requeue them. A message that
//! may have been lost before it was stored is reported.
//!
//! [`Spool::take`] (take.rs) decides what a request gets. A [`PullWriter`] stores the response to a pull, a
//! [`Delivery`] follows a message to its caller, and a [`PassThrough`] one that cannot be stored.

mod blocking;
mod caller_outcomes;
mod check;
mod contents;
mod delivery;
mod error;
mod failed_deliveries;
mod folders;
mod format;
mod id;
mod inspect;
mod lost_at_end;
mod lost_message;
mod memory;
mod message_file;
mod move_messages;
mod moved_from;
mod pass_through;
mod problems;
mod pull_writer;
mod queue;
mod queue_check;
mod requested;
mod retention;
mod spool_state;
mod store;
mod sweep;
mod take;
#[cfg(test)]
mod tests;
mod tidy;
mod totals;
mod unknown_files;
mod unrequested_queues;
mod unusable_paths;

pub use self::check::check;
pub use self::delivery::Delivery;
pub use self::error::{OpenError, SpoolError};
pub use self::format::Intent;
pub use self::id::{MessageId, QueueId};
pub use self::inspect::{InspectError, Listed, ListedUnknown};
pub use self::message_file::{FileName, MessageBody, MessageState};
pub use self::move_messages::{Move, MoveOutcome};
pub use self::pass_through::PassThrough;
pub use self::pull_writer::{PullWriter, WriteError};
pub use self::queue::{Caller, Leased};
pub use self::requested::{RequestedQueues, check_queues};
pub use self::spool_state::Spool;
pub use self::take::TakeOutcome;
pub use self::totals::Totals;
pub use self::unknown_files::{Unknown, check_files};
