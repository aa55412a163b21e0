//! What asks the daemon to stop or to reload: the console's keys and its end, or the service control manager.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use super::service_process::{Control, Controls, take_controls};

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An orderly stop; the second time at once.
    Stop,
    /// To reload the configuration and reopen the log file.
    Reload,
    /// To reopen the log file, which nothing asks for on Windows.
    ReopenLog,
}

/// The signals that the daemon handles.
#[derive(Default)]
pub struct Signals {
    console: Option<Console>,
    /// Of the service control manager, in a service.
    service: Option<Controls>,
}

/// Ctrl-C, Ctrl-Break, a closed console window, after which the system leaves 5 s, and the end of the system.
struct Console(CtrlC, CtrlBreak, CtrlClose, CtrlShutdown);

impl Signals {
    /// Handles what must not end a daemon that is starting: a service's controls. Ctrl-C does end it: there is nothing to
    /// finish yet. Called first of all, within a runtime.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            console: None,
            service: take_controls(),
        })
    }

    /// Handles what stops a console program, too. A service gets that from its manager alone.
    pub fn handle_stop(&mut self) -> io::Result<()> {
        if self.service.is_none() {
            self.console = Some(Console::new()?);
        }
        Ok(())
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let console = self.console.as_mut();
            if console.is_some_and(|console| console.poll(context).is_ready()) {
                return Poll::Ready(Signal::Stop);
            }
            match &mut self.service {
                Some(controls) => poll_control(controls, context),
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn poll_control(controls: &mut Controls, context: &mut Context<'_>) -> Poll<Signal> {
    match controls.poll_recv(context) {
        Poll::Ready(Some(Control::Stop)) => Poll::Ready(Signal::Stop),
        Poll::Ready(Some(Control::Reload)) => Poll::Ready(Signal::Reload),
        // The sender is never dropped.
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    }
}

impl Console {
    fn new() -> io::Result<Self> {
        Ok(Self(ctrl_c()?, ctrl_break()?, ctrl_close()?, ctrl_shutdown()?))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let polled = [
            self.0.poll_recv(context),
            self.1.poll_recv(context),
            self.2.poll_recv(context),
            self.3.poll_recv(context),
        ];
        if polled.iter().any(Poll::is_ready) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Waits for what ends a program which has nothing to finish. Handled from the call on; within a runtime.
pub fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let mut console = Console::new()?;
    Ok(async move { poll_fn(|context| console.poll(context)).await })
}
