//! Counts of the messages in the spool.

use serde::Serialize;

use super::failed_deliveries::FAILING;
use super::id::MessageId;
use super::message_file::{FileName, MessageState};

/// How many messages the spool holds, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Messages that are not delivered.
    pub messages: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// When the oldest of them was pulled.
    pub oldest: Option<MessageId>,
    /// Of these, messages with five failed deliveries or more.
    pub failing: usize,
    /// Dead letters.
    pub set_aside: usize,
    /// The size of the retained messages in bytes.
    pub retained_bytes: u64,
    /// Pulls whose message may be lost.
    pub perhaps_lost: usize,
    /// Damaged files.
    pub damaged: usize,
}

impl Totals {
    pub(super) fn add(&mut self, name: FileName, bytes: u64) {
        match name.state {
            MessageState::Ready => {
                self.messages += 1;
                self.failing += usize::from(name.failures >= FAILING);
                self.bytes += bytes;
                self.oldest = Some(self.oldest.map_or(name.id, |oldest| oldest.min(name.id)));
            }
            MessageState::DeadLetter => self.set_aside += 1,
            MessageState::Lost => self.perhaps_lost += 1,
            MessageState::Damaged => self.damaged += 1,
            MessageState::Pulling | MessageState::Delivered => {}
        }
    }
}
