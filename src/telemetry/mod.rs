//! What the daemon reports to its operator: the log, numbers in [`metrics`], and recent requests in [`activity`].

pub mod activity;
mod excerpt;
mod lasting_problems;
mod line;
mod log_rotation;
mod log_sink;
mod log_writer;
mod logging;
pub mod metrics;
pub mod program;
mod recent;
mod spool_metrics;
mod system_log;

pub use self::excerpt::excerpt;
pub use self::lasting_problems::{Lasting, LastingProblems};
pub use self::line::{is_obeyed, log_line_time, with_causes};
pub use self::log_writer::{DroppedLines, LogThread};
pub use self::logging::{LogError, LogHandle, check_file, check_level, init};
pub use self::recent::RecentLog;
