//! Worker threads. Each has its own runtime, accepts from clones of the listening sockets, and serves the connections
//! that it accepted to their end.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::accept::{Connections, accept};
use super::bind::Listener;
use crate::platform::socket::Acceptor;
use crate::server::active_settings::ActiveSettings;
use crate::server::context::ServerContext;
use crate::server::stopping::{Phase, Stopping};

/// Starts a worker thread, which ends when it has drained. `listeners` come with this worker's settings;
/// `background` runs beside them on the worker's runtime.
pub fn start(
    number: usize,
    listeners: Vec<(Listener, ActiveSettings)>,
    background: impl Future<Output = ()> + Send + 'static,
    context: ServerContext,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async move {
                tokio::spawn(background);
                accept_all(listeners, context).await
            })
        })
}

/// Serves one listener within the current runtime, until it has drained.
pub async fn serve(listener: &Listener, settings: ActiveSettings, context: ServerContext) -> io::Result<()> {
    accept_all(vec![(listener.clone(), settings)], context).await
}

async fn accept_all(listeners: Vec<(Listener, ActiveSettings)>, context: ServerContext) -> io::Result<()> {
    let (context, tasks, accepting) = (Arc::new(context), TaskTracker::new(), TaskTracker::new());
    for (listener, settings) in listeners {
        let is_inherited = listener.is_inherited();
        let connections = Connections {
            settings,
            context: context.clone(),
            tasks: tasks.clone(),
        };
        for socket in &listener.sockets {
            let acceptor = Acceptor::new(socket.try_clone()?)?;
            accepting.spawn(accept(acceptor, is_inherited, connections.clone()));
        }
    }
    accepting.close();
    accepting.wait().await;
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = after_deadline(context.stop.clone()) => {}
    }
    Ok(())
}

/// Resolves when the requests that had no response at the deadline had the time to get one.
async fn after_deadline(mut stop: Stopping) {
    stop.reached(Phase::Deadline).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::any;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Config;
    use crate::problems::request::too_many_connections;
    use crate::server::{ConnectionLimit, ListenerSettings, stopping};
    use crate::telemetry::metrics::Metrics;

    #[tokio::test]
    async fn connections_that_wait_in_the_backlog_when_a_drain_begins_are_served() {
        let text = "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n\
                    [[listener]]\naddress = \"127.0.0.1:0\"\n";
        let config = Config::parse(text, "test.toml", []).unwrap();
        let listener = Listener::bind(&config.listeners[0].address, 0o660, None, false).unwrap();
        let mut caller = tokio::net::TcpStream::connect(listener.addresses()[0])
            .await
            .unwrap();
        caller
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let (stop, stopping) = stopping();
        stop.send_replace(Phase::Draining);
        let context = ServerContext {
            limits: Arc::new(config.limits),
            connections: ConnectionLimit::new(
                config.limits.connections,
                config.limits.refusals,
                too_many_connections,
            ),
            metrics: Metrics::new(),
            activity: Arc::default(),
            stop: stopping,
        };
        let settings = ActiveSettings::new(ListenerSettings {
            router: any(async || "served"),
            ..ListenerSettings::default()
        });

        serve(&listener, settings, context).await.unwrap();
        drop(listener);

        let mut response = String::new();
        caller.read_to_string(&mut response).await.unwrap();
        assert!(
            response.contains("Connection: close") && response.ends_with("served"),
            "{response}"
        );
    }
}
