//! Reports changes of state to the system's own log, where a service has no console: the lines of the log that name a state, a
//! problem or its end. The lines of single requests and connections stay in the log alone: a port scanner would fill the
//! system's log.

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::text_of;
use crate::platform::system_log::{self, SystemLog};

/// The fields of lines that report a change.
const OF_CHANGES: [&str; 3] = ["state", "problem", "was"];
/// The modules whose lines are of one request or connection each.
const OF_REQUESTS: [&str; 2] = ["bondgate::proxy", "bondgate::server"];

/// The layer that reports to the system's log.
pub(super) struct SystemLogLayer(pub(super) SystemLog);

impl<S: Subscriber> Layer<S> for SystemLogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if is_change(event.metadata()) {
            let level = match *event.metadata().level() {
                Level::ERROR => system_log::Level::Error,
                Level::WARN => system_log::Level::Warning,
                _ => system_log::Level::Information,
            };
            self.0.report(level, text_of(event).trim_start());
        }
    }
}

/// Whether a line names a state, a problem or its end, and is not of one request or connection.
pub(super) fn is_change(event: &Metadata<'_>) -> bool {
    let mut fields = event.fields().iter();
    let is_of_request = OF_REQUESTS
        .iter()
        .any(|module| event.target().starts_with(module));
    !is_of_request && fields.any(|field| OF_CHANGES.contains(&field.name()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Collects the texts of changes.
    struct Collector(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Collector {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            if is_change(event.metadata()) {
                self.0.lock().unwrap().push(text_of(event));
            }
        }
    }

    #[test]
    fn changes_of_state_are_reported_and_requests_and_connections_are_not() {
        let texts = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Collector(Arc::clone(&texts)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(upstream = "a", state = "fresh", "token acquired");
            tracing::error!(problem = "disk-full", "spool problem");
            tracing::info!(was = "disk-full", "spool problem is over");
            tracing::info!("listening");
            tracing::warn!(target: "bondgate::proxy::access_log", problem = "timeout", "request failed");
            tracing::info!(target: "bondgate::server::listener::accept", problem = "caller-handshake-failed", "TLS handshake failed");
        });
        assert_eq!(
            *texts.lock().unwrap(),
            [
                " token acquired upstream=\"a\" state=\"fresh\"",
                " spool problem problem=\"disk-full\"",
                " spool problem is over was=\"disk-full\""
            ]
        );
    }
}
