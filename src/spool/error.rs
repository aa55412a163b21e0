//! Why the spool cannot be opened, and why a request gets no message.

use std::io;
use std::time::Duration;

use super::queue::Caller;
use crate::problems::Problem;

/// The spool's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("spool.directory cannot be used; create it, or make its parent writable")]
pub struct OpenError(#[from] io::Error);

/// Why a request gets no message.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// No more may be pulled.
    #[error("{0}")]
    Full(Problem),
    /// The oldest message, or a pull, is paused for this caller.
    #[error(
        "the next message is paused for caller {caller} after failed deliveries ({failures}): each time the connection \
         ended before the caller had the whole message"
    )]
    Paused {
        /// The caller.
        caller: Caller,
        /// Failed deliveries.
        failures: u32,
        /// How long the pause still lasts.
        left: Duration,
    },
    /// The spool's directory cannot be read or written.
    #[error("the spool's directory cannot be used ({0})")]
    Unusable(#[from] io::Error),
    /// The same, with its cause.
    #[error("{0}")]
    Failed(Problem),
    /// The folder of the queue, or of its retained messages, is a symbolic link.
    #[error("{0}")]
    Link(Problem),
    /// No pull is begun any more: bondgate stops.
    #[error("bondgate is stopping")]
    Stopping,
    /// The pull panicked.
    #[error("a bug in bondgate ended the pull")]
    Broken,
}
