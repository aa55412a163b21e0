//! A pull under way: what comes of it is written down before anybody gets it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use super::claim::{Claim, Content};
use super::file::Draft;
use super::memory::Share;
use super::queue::Queue;
use super::record::{Head, Intent};
use super::writer::{Writer, off_thread};

/// Takes one answer in. Dropped without a verdict, as at the end of a process, its intent stays on disk,
/// and the next start reports it.
pub struct Intake {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    intent: Intent,
    head: Option<Head>,
    sink: Sink,
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

/// The answer is larger than the spool can hold.
#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than the spool can hold")]
pub struct TooLarge {
    /// The body as far as it came.
    pub begun: Bytes,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>, intent: Intent, draft: Option<Draft>) -> Self {
        let sink = match draft {
            Some(draft) => Sink::Disk(Writer::new(draft, &intent)),
            None => Sink::in_memory(&shared, None),
        };
        Self {
            shared,
            queue,
            intent,
            head: None,
            sink,
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
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), TooLarge> {
        let Sink::Disk(writer) = &mut self.sink else {
            return self.keep(piece);
        };
        match writer.write(piece).await {
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
    pub async fn finish(mut self) -> Result<Claim, TooLarge> {
        let head = self.head.take().expect("an answer's head comes before its end");
        let mut sink = std::mem::replace(&mut self.sink, Sink::Nothing);
        if let Sink::Disk(writer) = sink {
            match writer.finish(&self.intent, &head).await {
                Ok(message) => return Ok(self.claim(Content::File(Box::new(message)))),
                Err(unwritten) => {
                    let (writer, error) = *unwritten;
                    self.sink = Sink::Disk(writer);
                    self.fall_back(error).await?;
                    sink = std::mem::replace(&mut self.sink, Sink::Nothing);
                }
            }
        }
        let Sink::Memory { body, share, draft } = sink else {
            unreachable!("what is not on disk is in memory");
        };
        let message = self
            .shared
            .memory
            .insert(self.intent.clone(), head, Bytes::from(body), draft, share);
        Ok(self.claim(Content::Memory(message)))
    }

    fn claim(self, content: Content) -> Claim {
        self.shared.metrics.spool.pulled.inc();
        self.shared.metrics.spool.messages.inc();
        Claim::new(&self.shared, &self.queue, content, false)
    }

    /// The pull brought no message: it is forgotten.
    pub async fn discard(self) {
        if let Some(draft) = self.into_draft() {
            let removed = off_thread(move || draft.discard()).await;
            if let Err(error) = removed.flatten() {
                tracing::warn!(%error, "the file of a pull that brought no message cannot be removed");
            }
        }
    }

    /// The pull may have taken a message that never came, or not whole.
    pub async fn lose(self, why: &str) {
        super::tell_lost(&self.shared.metrics, self.intent.pulled, Some(&self.intent), why);
        if let Some(draft) = self.into_draft() {
            let noted = off_thread(move || draft.lose()).await;
            if let Err(error) = noted.flatten() {
                tracing::warn!(%error, "a pull that was perhaps lost cannot be noted in the spool's directory");
            }
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

    fn into_draft(self) -> Option<Draft> {
        match self.sink {
            Sink::Disk(writer) => Some(writer.into_draft()),
            Sink::Memory { draft, .. } => draft,
            Sink::Nothing => None,
        }
    }

    /// The disk takes no more: what there is of the message goes on in memory.
    async fn fall_back(&mut self, error: io::Error) -> Result<(), TooLarge> {
        tracing::error!(
            %error,
            queue = %self.intent.key,
            "the spool's directory takes no more of a message that is being pulled: it is held in memory"
        );
        let Sink::Disk(writer) = std::mem::replace(&mut self.sink, Sink::Nothing) else {
            return Ok(());
        };
        let (begun, draft) = match off_thread(move || writer.give_up()).await.flatten() {
            Ok((begun, draft)) => (begun, Some(draft)),
            Err(error) => {
                // Its first part is gone: what the caller gets would not be the message.
                tracing::error!(%error, "what was written of it cannot be read back");
                return Err(TooLarge { begun: Bytes::new() });
            }
        };
        self.sink = Sink::in_memory(&self.shared, draft);
        self.keep(&begun)
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        let Sink::Memory { body, share, .. } = &mut self.sink else {
            return Ok(());
        };
        body.extend_from_slice(piece);
        if share.grow(piece.len() as u64) {
            Ok(())
        } else {
            let begun = Bytes::from(std::mem::take(body));
            Err(TooLarge { begun })
        }
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
