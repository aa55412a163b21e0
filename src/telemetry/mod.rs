//! What the daemon reports to its operator: the log, and numbers in [`metrics`].

mod line;
mod logging;
pub mod metrics;
mod spool_metrics;
mod writer;

pub use self::line::with_causes;
pub use self::logging::{LogError, LogHandle, check_file, check_level, init};
pub use self::writer::{DroppedLines, LogThread};
