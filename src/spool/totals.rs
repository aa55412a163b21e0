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
    /// When the oldest of them was pulled.
    pub oldest_set_aside: Option<MessageId>,
    /// The size of the retained messages in bytes.
    pub retained_bytes: u64,
    /// Pulls whose message may be lost.
    pub perhaps_lost: usize,
    /// When the oldest of them was sent.
    pub oldest_perhaps_lost: Option<MessageId>,
    /// Damaged files.
    pub damaged: usize,
    /// When the oldest of their messages was pulled.
    pub oldest_damaged: Option<MessageId>,
}

impl Totals {
    pub(super) fn add(&mut self, name: FileName, bytes: u64) {
        let (count, oldest) = match name.state {
            MessageState::Ready => {
                self.failing += usize::from(name.failures >= FAILING);
                self.bytes += bytes;
                (&mut self.messages, &mut self.oldest)
            }
            MessageState::DeadLetter => (&mut self.set_aside, &mut self.oldest_set_aside),
            MessageState::Lost => (&mut self.perhaps_lost, &mut self.oldest_perhaps_lost),
            MessageState::Damaged => (&mut self.damaged, &mut self.oldest_damaged),
            MessageState::Pulling | MessageState::Delivered => return,
        };
        *count += 1;
        *oldest = Some(oldest.map_or(name.id, |oldest| oldest.min(name.id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_by_its_state_and_a_delivered_one_does_not_wait() {
        let mut totals = Totals::default();
        let mut add = |id, state| totals.add(FileName::new(MessageId::for_test(id), state), 10);
        for id in [7, 5, 6] {
            add(id, MessageState::Ready);
        }
        add(1, MessageState::Delivered);
        add(2, MessageState::Pulling);
        for (id, state) in [
            (4, MessageState::DeadLetter),
            (3, MessageState::DeadLetter),
            (8, MessageState::Lost),
            (9, MessageState::Damaged),
        ] {
            add(id, state);
        }
        let oldest = |id| Some(MessageId::for_test(id));
        let expected = Totals {
            messages: 3,
            bytes: 30,
            oldest: oldest(5),
            set_aside: 2,
            oldest_set_aside: oldest(3),
            perhaps_lost: 1,
            oldest_perhaps_lost: oldest(8),
            damaged: 1,
            oldest_damaged: oldest(9),
            ..Totals::default()
        };
        assert_eq!(totals, expected);
    }
}
