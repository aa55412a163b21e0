//! Tells the spool what became of a message on its caller's connection.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::server::{DeliveryObserver, Recording};
use crate::spool::{Delivery, Leased, PassThrough};

/// Connects the spool's delivery with the connection that observes it.
pub(super) struct Observer {
    pub(super) message: Message,
    pub(super) settle: Duration,
    pub(super) is_relayed: bool,
}

/// A message on its way to its caller.
pub(super) enum Message {
    Stored(Delivery),
    PassedThrough(Box<PassThrough>),
}

impl Message {
    pub(super) fn lease(&mut self) -> &mut Leased {
        match self {
            Self::Stored(delivery) => &mut delivery.lease,
            Self::PassedThrough(passing) => &mut passing.lease,
        }
    }
}

impl DeliveryObserver for Observer {
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.message.lease().poll_asked(cx)
    }

    fn is_connected(&mut self) {
        self.message.lease().confirm();
    }

    fn settle(&self) -> Duration {
        self.settle
    }

    fn is_relayed(&self) -> bool {
        self.is_relayed
    }

    fn is_repeatable(&self) -> bool {
        matches!(self.message, Message::Stored(_))
    }

    fn record(self: Box<Self>, is_delivered: bool) -> Recording {
        match self.message {
            Message::Stored(delivery) => Box::pin(delivery.record(is_delivered)),
            Message::PassedThrough(passing) => Box::pin(passing.record(is_delivered)),
        }
    }
}
