//! A pull under way: what comes of it is written down before anybody gets it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use super::claim::{Claim, Content};
use super::file::Draft;
use super::memory::Share;
use super::queue::Recipient;
use super::record::{Head, Intent};
use super::writer::{Unwritten, Writer, off_thread};

/// Takes one answer in. Dropped without a verdict, as at the end of a process, its message is reported as
/// perhaps lost.
pub struct Intake {
    shared: Arc<Shared>,
    recipient: Recipient,
    intent: Intent,
    head: Option<Head>,
    sink: Sink,
    is_judged: bool,
}

enum Sink {
    Disk(Writer),
    Memory {
        body: Vec<u8>,
        share: Share,
        /// What the disk took before it took no more.
        draft: Option<Draft>,
    },
    /// Given up.
    Nothing,
}

/// Why an answer cannot be kept.
#[derive(Debug)]
pub enum Unkept {
    /// Memory has no room for it; this is its body as far as it came.
    TooLarge(Bytes),
    /// A part of it is gone, or it has no end: there is nothing that could be passed on.
    Gone(&'static str),
}

impl Intake {
    pub(super) fn new(
        shared: Arc<Shared>,
        recipient: Recipient,
        intent: Intent,
        draft: Option<Draft>,
    ) -> Self {
        let sink = match draft {
            Some(draft) => Sink::Disk(Writer::new(draft, &intent)),
            None => Sink::in_memory(&shared, None),
        };
        Self {
            shared,
            recipient,
            intent,
            head: None,
            sink,
            is_judged: false,
        }
    }

    /// Notes the answer's head, made ready for a caller; before the body.
    pub fn head(&mut self, head: Head) {
        if let Sink::Disk(writer) = &mut self.sink {
            writer.head(&head);
        }
        self.head = Some(head);
    }

    /// Takes a piece of the body in.
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), Unkept> {
        let Sink::Disk(writer) = &mut self.sink else {
            return self.keep(piece);
        };
        if writer.length() + piece.len() as u64 > self.shared.bounds.bytes {
            return Err(Unkept::Gone("its answer is larger than spool.bytes"));
        }
        let written = match writer.write(piece).await {
            // What was not written is still there, and written now.
            Err(error) if self.shared.makes_room(&error).await => writer.write(&Bytes::new()).await,
            written => written,
        };
        match written {
            Ok(()) => Ok(()),
            Err(error) => self.fall_back(error).await,
        }
    }

    /// The body so far, where it is short.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        match &self.sink {
            Sink::Disk(writer) => writer.body(),
            Sink::Memory { body, .. } => Some(body),
            Sink::Nothing => None,
        }
    }

    /// The answer is whole, and a message: from when this returns, nothing loses it that leaves the disk
    /// alone. It is leased to whoever pulled it.
    pub async fn finish(&mut self) -> Result<Claim, Unkept> {
        let head = self.head.clone().expect("an answer's head comes before its end");
        if matches!(self.sink, Sink::Disk(_))
            && let Sink::Disk(writer) = self.take_sink()
        {
            let finished = match writer.finish(&self.intent, &head).await {
                Err(Unwritten {
                    writer: Some(writer),
                    error,
                }) if self.shared.makes_room(&error).await => writer.finish(&self.intent, &head).await,
                finished => finished,
            };
            match finished {
                Ok(message) => return Ok(self.claim(Content::File(Box::new(message)))),
                Err(Unwritten { writer: None, .. }) => return Err(Unkept::Gone(ENDED)),
                Err(Unwritten {
                    writer: Some(writer),
                    error,
                }) => {
                    self.sink = Sink::Disk(*writer);
                    self.fall_back(error).await?;
                }
            }
        }
        let Sink::Memory { body, share, draft } = self.take_sink() else {
            return Err(Unkept::Gone(ENDED));
        };
        let body = Bytes::from(body.into_boxed_slice());
        let memory = &self.shared.memory;
        let message = memory.insert(self.intent.clone(), head, body, draft, share);
        Ok(self.claim(Content::Memory(message)))
    }

    fn claim(&mut self, content: Content) -> Claim {
        self.is_judged = true;
        self.shared.metrics.spool.pulled.inc();
        Claim::new(&self.shared, self.recipient.clone(), content, false)
    }

    /// The pull brought no message: it is forgotten.
    pub async fn discard(mut self) {
        self.is_judged = true;
        if let Some(draft) = self.take_draft() {
            let removed = off_thread(move || draft.discard()).await;
            if let Err(error) = removed.flatten() {
                tracing::warn!(%error, "the file of a pull that brought no message cannot be removed");
            }
        }
    }

    /// The pull may have taken a message that never came, or not whole.
    pub async fn lose(mut self, why: &str) {
        if let Some(draft) = self.tell_lost(why) {
            note_lost(off_thread(move || draft.lose()).await.flatten());
        }
    }

    /// The answer goes to its caller without being kept, since there is no room for it.
    pub async fn pass_through(self) {
        self.shared.metrics.spool.passed_through.inc();
        tracing::warn!(
            queue = %self.intent.key,
            pulled = %self.intent.pulled,
            "a message is too large to be held in memory (spool.memory) and goes to its caller alone: it is lost if \
             that one leaves"
        );
        self.discard().await;
    }

    fn tell_lost(&mut self, why: &str) -> Option<Draft> {
        self.is_judged = true;
        super::tell_lost(&self.shared.metrics, self.intent.pulled, Some(&self.intent), why);
        self.take_draft()
    }

    fn take_sink(&mut self) -> Sink {
        std::mem::replace(&mut self.sink, Sink::Nothing)
    }

    fn take_draft(&mut self) -> Option<Draft> {
        match self.take_sink() {
            Sink::Disk(writer) => Some(writer.into_draft()),
            Sink::Memory { draft, .. } => draft,
            Sink::Nothing => None,
        }
    }

    /// The disk takes no more: what there is of the message goes on in memory.
    async fn fall_back(&mut self, error: io::Error) -> Result<(), Unkept> {
        tracing::error!(
            %error,
            queue = %self.intent.key,
            "the spool's directory takes no more of a message that is being pulled: it is held in memory"
        );
        let Sink::Disk(writer) = self.take_sink() else {
            return Ok(());
        };
        let bound = self.shared.memory.bound();
        let Ok((begun, draft)) = off_thread(move || writer.give_up(bound)).await else {
            return Err(Unkept::Gone(ENDED));
        };
        self.sink = Sink::in_memory(&self.shared, Some(draft));
        match begun {
            Ok(begun) => self.keep(&begun),
            Err(error) => {
                tracing::error!(%error, "what was written of it cannot be taken back");
                Err(Unkept::Gone("neither disk nor memory took it"))
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), Unkept> {
        let Sink::Memory { body, share, .. } = &mut self.sink else {
            return Ok(());
        };
        body.extend_from_slice(piece);
        if share.grow(piece.len() as u64) {
            Ok(())
        } else {
            Err(Unkept::TooLarge(Bytes::from(std::mem::take(body))))
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if !self.is_judged
            && let Some(draft) = self.tell_lost(ENDED)
        {
            note_lost(draft.lose());
        }
    }
}

const ENDED: &str = "bondgate ended before its answer was written down";

fn note_lost(noted: io::Result<()>) {
    if let Err(error) = noted {
        tracing::warn!(%error, "a pull that was perhaps lost cannot be noted in the spool's directory");
    }
}

impl Sink {
    fn in_memory(shared: &Arc<Shared>, draft: Option<Draft>) -> Self {
        Self::Memory {
            body: Vec::new(),
            share: shared.memory.share(),
            draft,
        }
    }
}
