//! Answers that were handed to a connection, until it is known whether the caller has them.
//!
//! An answer counts as delivered when every byte of it was acknowledged by the caller's system, and then
//! a request came that was not here before, or the caller closed its side. A connection that stays open
//! and silent has it provisionally; a reset takes that back.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::super::listener::Wire;
use super::super::receipt::Receipt;

/// The answers of one connection whose fate is open, the oldest first.
#[derive(Default)]
pub(super) struct Handed {
    answers: Vec<Handing>,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Handing {
    receipt: Box<dyn Receipt>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Being written.
    Writing,
    /// Written; what the caller had sent before that is no sign.
    Written,
    /// Written and acknowledged, since then.
    Acknowledged(Instant),
    /// Acknowledged for a while, since then.
    Provisional(Instant),
}

/// How long an acknowledged answer stays open before it is provisionally delivered.
const PROVISIONAL: Duration = Duration::from_secs(5);
/// How long after its acknowledgement a reset takes a delivery back.
const FINAL: Duration = Duration::from_secs(75);
/// How often to look for the acknowledgement, of which nobody tells.
const LOOK: Duration = Duration::from_millis(100);

impl Handed {
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// An answer begins to be written.
    pub(super) fn begin(&mut self, receipt: Box<dyn Receipt>) {
        let stage = Stage::Writing;
        self.answers.push(Handing { receipt, stage });
    }

    /// The answer that was begun last is written to its end.
    pub(super) fn written(&mut self, wire: &impl Wire) {
        if let Some(last) = self.answers.last_mut()
            && last.stage == Stage::Writing
        {
            last.stage = Stage::Written;
            last.look(wire);
        }
    }

    /// The caller sent something that was not here before, or closed its side.
    pub(super) fn sign(&mut self, wire: &impl Wire) {
        if self.answers.is_empty() || wire.unacknowledged() > 0 {
            return;
        }
        let at = self
            .answers
            .iter()
            .position(|answer| answer.stage == Stage::Writing);
        for answer in self.answers.drain(..at.unwrap_or(self.answers.len())) {
            answer.receipt.delivered();
        }
    }

    /// The connection broke.
    pub(super) fn fail(&mut self) {
        self.answers.clear();
    }

    /// Answers who asks, and follows the time; called whenever the connection waits for its caller.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &impl Wire) {
        if self.answers.is_empty() {
            return;
        }
        if wire.is_reset() {
            return self.fail();
        }
        loop {
            let mut next: Option<Instant> = None;
            let mut index = 0;
            while let Some(answer) = self.answers.get_mut(index) {
                while answer.receipt.poll_asked(cx).is_ready() {
                    // Looked at after the question was heard: who asks knows of a reset before it.
                    if wire.is_reset() {
                        return self.fail();
                    }
                    answer.receipt.is_there();
                }
                answer.look(wire);
                if answer.is_final() {
                    self.answers.remove(index).receipt.delivered();
                    continue;
                }
                if let Some(due) = answer.due() {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
                index += 1;
            }
            let Some(next) = next else { return };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            timer.as_mut().reset(next);
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// The connection ends without a word of the caller: what its system has acknowledged is delivered,
    /// as far as anybody will ever know.
    pub(super) fn end(&mut self, wire: &impl Wire) {
        if wire.is_reset() || wire.unacknowledged() > 0 {
            return self.fail();
        }
        self.sign(wire);
        self.fail();
    }
}

impl Handing {
    fn look(&mut self, wire: &impl Wire) {
        let now = Instant::now();
        self.stage = match self.stage {
            Stage::Written if wire.unacknowledged() == 0 => Stage::Acknowledged(now),
            Stage::Acknowledged(since) if now - since >= PROVISIONAL => {
                self.receipt.provisional();
                Stage::Provisional(since)
            }
            stage => stage,
        };
    }

    fn is_final(&self) -> bool {
        matches!(self.stage, Stage::Provisional(since) if since.elapsed() >= FINAL)
    }

    fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Writing => None,
            Stage::Written => Some(Instant::now() + LOOK),
            Stage::Acknowledged(since) => Some(since + PROVISIONAL),
            Stage::Provisional(since) => Some(since + FINAL),
        }
    }
}
